//! What an application has left to be done after responses, until it is done: how much of it there may be, and how
//! many threads do it.
//!
//! Decides only. Whoever owns it starts the threads, and wakes them.

use std::collections::VecDeque;

/// The tasks of one worker. A task takes its place when it is promised, while its request still runs, so that
/// whoever asks is refused at once where there is none.
#[derive(Debug)]
pub struct AfterQueue<T> {
    waiting: VecDeque<T>,
    /// Places of tasks whose request has not ended.
    promised: usize,
    running: usize,
    /// Threads that wait for a task.
    idle: usize,
    threads: usize,
    threads_max: usize,
    is_closed: bool,
}

/// Tasks that may wait at once, those of requests that still run included.
pub const AFTER_QUEUE_MAX: usize = 1000;

/// The reason for which a task is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// As many wait as may.
    Full,
    /// The worker ends.
    Closed,
}

impl<T> AfterQueue<T> {
    /// An empty one, for `threads_max` threads, none of which has been started.
    pub fn new(threads_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            promised: 0,
            running: 0,
            idle: 0,
            threads: 0,
            threads_max,
            is_closed: false,
        }
    }

    /// Gives a task its place.
    ///
    /// # Errors
    /// There is none.
    pub fn promise(&mut self) -> Result<(), AfterRefusal> {
        if self.is_closed {
            return Err(AfterRefusal::Closed);
        }
        if self.queued() >= AFTER_QUEUE_MAX {
            return Err(AfterRefusal::Full);
        }
        self.promised += 1;
        Ok(())
    }

    /// A task that has its place waits for a thread from now on. Returns whether another thread is to be started,
    /// which counts as started then. `Err` gives the task back: the worker ends.
    pub fn push(&mut self, task: T) -> Result<bool, T> {
        self.promised = self.promised.saturating_sub(1);
        if self.is_closed {
            return Err(task);
        }
        self.waiting.push_back(task);
        let starts = self.waiting.len() > self.idle && self.threads < self.threads_max;
        self.threads += usize::from(starts);
        Ok(starts)
    }

    /// A thread takes the task that has waited longest.
    pub fn take(&mut self) -> Option<T> {
        let task = self.waiting.pop_front();
        self.running += usize::from(task.is_some());
        task
    }

    /// A thread is done with its task.
    pub fn end_task(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// A thread waits for a task, or waits no more.
    pub fn set_idle(&mut self, is_idle: bool) {
        self.idle = if is_idle { self.idle + 1 } else { self.idle.saturating_sub(1) };
    }

    /// A thread has ended, or could not be started.
    pub fn end_thread(&mut self) {
        self.threads = self.threads.saturating_sub(1);
    }

    /// Takes nothing more. Returns what waits, which nobody will do.
    pub fn close(&mut self) -> Vec<T> {
        self.is_closed = true;
        self.waiting.drain(..).collect()
    }

    /// Whether it takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.running == 0 && self.queued() == 0
    }

    /// Tasks that run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Tasks that have a place and do not run.
    pub fn queued(&self) -> usize {
        self.waiting.len() + self.promised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut AfterQueue<u32>, task: u32) -> bool {
        queue.promise().unwrap();
        queue.push(task).unwrap()
    }

    #[test]
    fn tasks_run_in_their_order_on_as_many_threads_as_there_may_be() {
        let mut queue = AfterQueue::new(2);
        assert!(push(&mut queue, 1) && push(&mut queue, 2), "the first ones start threads");
        assert!(!push(&mut queue, 3), "there are two");
        assert_eq!((queue.take(), queue.take(), queue.running(), queue.queued()), (Some(1), Some(2), 2, 1));
        queue.end_task();
        assert_eq!(queue.take(), Some(3));
        queue.end_task();
        queue.end_task();
        assert!(queue.is_done() && queue.take().is_none());
    }

    #[test]
    fn no_thread_is_started_where_one_waits() {
        let mut queue = AfterQueue::new(4);
        assert!(push(&mut queue, 1));
        queue.take();
        queue.end_task();
        queue.set_idle(true);
        assert!(!push(&mut queue, 2), "it takes this one");
        assert!(push(&mut queue, 3), "and not that one, too");
        queue.set_idle(false);
        queue.end_thread();
        queue.end_thread();
        assert!(push(&mut queue, 4), "those that have ended may be replaced");
    }

    #[test]
    fn the_queue_is_bounded_with_what_is_promised() {
        let mut queue = AfterQueue::new(1);
        for task in 0..AFTER_QUEUE_MAX as u32 - 1 {
            push(&mut queue, task);
        }
        queue.promise().unwrap();
        assert_eq!(queue.promise(), Err(AfterRefusal::Full));
        queue.take();
        assert_eq!(queue.promise(), Ok(()), "one that runs waits no more");
        assert_eq!(queue.promise(), Err(AfterRefusal::Full));
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_back_what_waits() {
        let mut queue = AfterQueue::new(1);
        push(&mut queue, 1);
        push(&mut queue, 2);
        queue.take();
        queue.promise().unwrap();
        assert_eq!(queue.close(), [2]);
        assert_eq!((queue.promise(), queue.push(3)), (Err(AfterRefusal::Closed), Err(3)));
        assert!(!queue.is_done(), "one runs");
        queue.end_task();
        assert!(queue.is_done() && queue.is_closed());
    }
}
