//! A thread that does what needs the interpreter for those who must not wait for it.
//!
//! C code of the application may hold the interpreter for as long as it likes. This thread then waits; whoever
//! asked looks at the clock and goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{io, mem, thread};

use pyo3::prelude::*;

use crate::hub;

/// The thread's end at which jobs are put in.
pub(crate) struct Inspector {
    jobs: Option<Sender<Job>>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
}

/// How long the thread may take to end.
const LEAVING: Duration = Duration::from_millis(500);

type Job = Box<dyn FnOnce(Python<'_>) + Send>;

impl Inspector {
    /// Starts the thread, by this name.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (end, ended) = channel();
        let work = move || {
            queue.into_iter().for_each(run);
            drop(end);
        };
        thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), ended })
    }

    /// Has `work` done, after what has been asked for before. Its result comes through what this returns, which
    /// is disconnected if there is none.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(Python<'_>) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (answer, result) = channel();
        let job: Job = Box::new(move |py| {
            // Nobody listens any more where it took too long.
            let _ = answer.send(work(py));
        });
        if let Some(jobs) = &self.jobs {
            // Fails only if the thread has ended, and then `answer` is dropped with the job.
            let _ = jobs.send(job);
        }
        result
    }
}

fn run(job: Job) {
    if catch_unwind(AssertUnwindSafe(|| hub::attach(job))).is_err() {
        log::error!("looking after the application's threads failed (this is a bug in Portico)");
    }
}

impl Drop for Inspector {
    /// Ends the thread: one that waited for the interpreter when Python ends could not be ended in order. It is
    /// not waited for long: whoever has the interpreter then keeps it, and the process ends another way.
    fn drop(&mut self) {
        drop(mem::take(&mut self.jobs));
        let _ = self.ended.recv_timeout(LEAVING);
    }
}
