//! The thread for work that takes long or may wait for a disk: the one place of a worker, beside the application's
//! threads, where that is allowed.
//!
//! The engine hands jobs over and goes on. A job says itself to whom its result goes; here it is only run. The
//! thread is started with the first job, so a worker that has none has no such thread, and the processes that fork
//! never have one. Jobs wait in two bounded lines: those that wait for a disk go first, because a password's hash
//! takes as long as a hundred files. In each line clients have their turns.

mod fair_line;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use portico_log::Occurrences;

use self::fair_line::FairLine;
pub(crate) use self::fair_line::{JobClient, JobOwner};

/// A job. It passes its result on itself, and has one also where it fails or is not to be done.
pub(crate) type BlockingJob = Box<dyn FnOnce(JobFate) + Send>;

/// What becomes of a job that has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobFate {
    /// It is done now, on the thread for such work.
    Run,
    /// Its place in the line has been given to a client with fewer jobs: it will not be done. It is told so by
    /// whoever drives the engine.
    Displaced,
}

/// What a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A disk's time: opening and reading.
    Disk,
    /// The processor's: hashing, compressing.
    Compute,
}

/// Why a job will not be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkRefused {
    /// There is no place for it; results of others will come.
    Full,
    /// The thread has ended, or could not be started.
    Closed,
}

/// The thread, its lines, and whether it is to end.
#[derive(Debug, Default)]
pub(crate) struct BlockingWork {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<WorkLines>,
    /// There is a job, or the thread is to end.
    changed: Condvar,
}

struct WorkLines {
    disk: FairLine<BlockingJob>,
    compute: FairLine<BlockingJob>,
    is_started: bool,
    is_closed: bool,
}

/// Jobs that wait for a disk. At some 100 us each, the last of them is done within the tenth of a second in which
/// a client begins to notice; a disk that is slower than that gains nothing by more of them.
pub(crate) const DISK_JOBS_MAX: usize = 1024;

/// Jobs that compute. They take up to a quarter of a second each: whoever waits for more of them has left.
pub(crate) const COMPUTE_JOBS_MAX: usize = 64;

static FAILED_JOBS: Occurrences = Occurrences::new();
static FAILED_STARTS: Occurrences = Occurrences::new();

impl BlockingWork {
    /// Has `job` run as soon as those before it are done.
    ///
    /// # Errors
    /// [`WorkRefused`]; the job will not be run.
    pub(crate) fn submit(
        &self,
        effort: Effort,
        owner: JobOwner,
        job: BlockingJob,
    ) -> Result<(), WorkRefused> {
        let mut state = self.shared.lock();
        let line = match effort {
            Effort::Disk => &mut state.disk,
            Effort::Compute => &mut state.compute,
        };
        let displaced = line.push(owner, job).map_err(|_| WorkRefused::Full)?;
        if state.is_closed || (!state.is_started && !self.start(&mut state)) {
            // Nobody would run them; what they were to go on with is cut with its connection.
            state.drop_jobs();
            return Err(WorkRefused::Closed);
        }
        drop(state);
        self.shared.changed.notify_one();
        if let Some(displaced) = displaced {
            displaced(JobFate::Displaced);
        }
        Ok(())
    }

    /// Starts the thread; `false` if the system has none left.
    fn start(&self, state: &mut WorkLines) -> bool {
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new().name("portico-blocking".to_owned()).spawn(move || shared.run());
        if let Err(error) = &started
            && let Some(times) = FAILED_STARTS.note()
        {
            log::error!("the thread for work that blocks cannot be started: {error}{times}");
        }
        state.is_started = started.is_ok();
        state.is_started
    }

    /// The thread ends after the job that it is at; what waits is dropped. It is not waited for: a job may be
    /// stuck in a disk that no longer responds.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        state.drop_jobs();
        self.shared.changed.notify_one();
    }

    /// Whether the thread has been started.
    #[cfg(test)]
    pub(crate) fn is_started(&self) -> bool {
        self.shared.lock().is_started
    }
}

impl Drop for BlockingWork {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, WorkLines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        give_way();
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(|| job(JobFate::Run))).is_err()
                && let Some(times) = FAILED_JOBS.note()
            {
                log::error!("the server itself failed in work that blocks (a bug in Portico){times}");
            }
        }
    }

    /// The next job; `None` when the thread is to end.
    fn next(&self) -> Option<BlockingJob> {
        let waits =
            |state: &mut WorkLines| !state.is_closed && state.disk.is_empty() && state.compute.is_empty();
        let state = self.changed.wait_while(self.lock(), waits);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.disk.pop().or_else(|| state.compute.pop())
    }
}

/// Lets other threads have the processor before the calling one, where there are not enough for all: what it does
/// is for few, the engine's work for all.
fn give_way() {
    // Linux has this for each thread by itself. Without it all goes on as well.
    _ = rustix::process::nice(NICENESS);
}

/// A third of the time of a thread that computes beside it, and none while that has just been woken.
const NICENESS: i32 = 5;

impl WorkLines {
    fn drop_jobs(&mut self) {
        self.disk.clear();
        self.compute.clear();
    }
}

impl Default for WorkLines {
    fn default() -> Self {
        let (disk, compute) = (FairLine::new(DISK_JOBS_MAX), FairLine::new(COMPUTE_JOBS_MAX));
        Self { disk, compute, is_started: false, is_closed: false }
    }
}

impl std::fmt::Debug for WorkLines {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (disk, compute) = (self.disk.len(), self.compute.len());
        write!(formatter, "WorkLines {{ disk: {disk}, compute: {compute}, is_closed: {} }}", self.is_closed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Hands over a job that is nobody's.
    fn submit(
        work: &BlockingWork,
        effort: Effort,
        job: impl FnOnce(JobFate) + Send + 'static,
    ) -> Result<(), WorkRefused> {
        work.submit(effort, JobOwner::SERVER, Box::new(job))
    }

    /// Has the thread wait until what is returned is dropped.
    fn hold(work: &BlockingWork) -> Sender<()> {
        let (release, wait): (Sender<()>, Receiver<()>) = channel();
        let (begun, begins) = channel();
        let job = move |_| {
            begun.send(()).unwrap();
            let _ = wait.recv_timeout(PATIENCE);
        };
        submit(work, Effort::Disk, job).unwrap();
        begins.recv_timeout(PATIENCE).unwrap();
        release
    }

    #[test]
    fn the_thread_begins_with_the_first_job() {
        let work = BlockingWork::default();
        assert!(!work.is_started());
        let (done, result) = channel();
        let job = move |_| done.send(thread::current().name().map(str::to_owned)).unwrap();
        submit(&work, Effort::Compute, job).unwrap();
        assert_eq!(result.recv_timeout(PATIENCE).unwrap().as_deref(), Some("portico-blocking"));
        assert!(work.is_started());
    }

    #[test]
    fn what_waits_for_a_disk_goes_first_and_each_line_keeps_its_order() {
        let work = BlockingWork::default();
        let release = hold(&work);
        let (done, results) = channel();
        for (effort, number) in
            [(Effort::Compute, 3), (Effort::Disk, 1), (Effort::Compute, 4), (Effort::Disk, 2)]
        {
            let done = done.clone();
            submit(&work, effort, move |_| done.send(number).unwrap()).unwrap();
        }
        drop(release);
        let order: Vec<i32> = (0..4).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(order, [1, 2, 3, 4]);
    }

    #[test]
    fn each_line_is_bounded() {
        for (effort, max) in [(Effort::Disk, DISK_JOBS_MAX), (Effort::Compute, COMPUTE_JOBS_MAX)] {
            let work = BlockingWork::default();
            let release = hold(&work);
            for _ in 0..max {
                submit(&work, effort, |_| {}).unwrap();
            }
            assert_eq!(submit(&work, effort, |_| {}), Err(WorkRefused::Full), "{effort:?}");
            drop(release);
        }
    }

    #[test]
    fn who_has_many_jobs_gives_a_place_to_who_has_none() {
        let work = BlockingWork::default();
        let release = hold(&work);
        let (done, results) = channel();
        let owned = |client: u8, number: usize| {
            let (done, client) = (done.clone(), JobClient::Network([10, 0, 0, client].into()));
            let job = move |fate| done.send((number, fate)).unwrap();
            work.submit(Effort::Disk, JobOwner { client, connection: 1 }, Box::new(job))
        };
        for number in 0..DISK_JOBS_MAX {
            owned(1, number).unwrap();
        }
        assert_eq!(owned(1, DISK_JOBS_MAX), Err(WorkRefused::Full));
        owned(2, 5000).unwrap();
        assert_eq!(
            results.try_recv(),
            Ok((DISK_JOBS_MAX - 1, JobFate::Displaced)),
            "the last of the other's"
        );
        drop(release);
        let order: Vec<_> = (0..3).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(order, [(0, JobFate::Run), (5000, JobFate::Run), (1, JobFate::Run)]);
    }

    #[test]
    fn a_job_that_panics_costs_no_other() {
        let work = BlockingWork::default();
        submit(&work, Effort::Disk, |_| panic!("one of the test's own")).unwrap();
        let (done, result) = channel();
        submit(&work, Effort::Disk, move |_| done.send(()).unwrap()).unwrap();
        result.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn at_the_end_what_waits_is_dropped_and_the_thread_ends_after_its_job() {
        let work = BlockingWork::default();
        let release = hold(&work);
        let (done, result) = channel::<()>();
        submit(&work, Effort::Disk, move |_| done.send(()).unwrap()).unwrap();
        let shared = Arc::downgrade(&work.shared);
        work.close();
        assert!(result.recv_timeout(PATIENCE).is_err(), "dropped, not run");
        assert_eq!(submit(&work, Effort::Disk, |_| {}), Err(WorkRefused::Closed));
        drop((work, release));
        let ended = (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            shared.strong_count() == 0
        });
        assert!(ended, "the thread has gone");
    }
}
