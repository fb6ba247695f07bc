//! Work that a connection has done off the engine: what it asks for, and how the result finds it again.
//!
//! The result of a job comes to the engine as a message, with the connection and the number of its request. If
//! that is not the present one any more, because its client has left or a deadline has passed, the result is
//! dropped. A request that waits holds no thread of the application's and no place in the queue.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use portico_edge::limit::client_network;
use portico_log::{CLIENT_GONE, Reason};

use super::exchange::RequestExchange;
use super::outbox::fetch;
use super::{Connection, ConnectionId, Deadline, EngineContext, Phase, Reply, ResponsePart, Step};
use crate::blocking_work::{BlockingJob, BlockingWork, Effort, JobClient, JobFate, JobOwner, WorkRefused};

/// Goes on with an exchange, on the engine.
pub(crate) type Resume = Box<dyn FnOnce(&mut Connection, &mut EngineContext) -> Step + Send>;

/// What is done off the engine for an exchange; returns how that goes on.
pub(crate) type ExchangeJob = Box<dyn FnOnce() -> Resume + Send>;

/// Changes what all connections share, on the engine.
pub(crate) type Change = Box<dyn FnOnce(&mut EngineContext) + Send>;

/// Notes a result on the engine; returns which exchanges go on with it, and how.
pub(crate) type Finish = Box<dyn FnOnce(&mut EngineContext) -> Vec<(ConnectionId, u32, Resume)> + Send>;

/// Takes results to whoever has the engine.
pub(crate) type Poster = Arc<dyn Fn(WorkResult) + Send + Sync>;

/// The result of a job.
pub(crate) enum WorkResult {
    /// For this connection, if it is still at its request of this number.
    Exchange(ConnectionId, u32, Resume),
    /// For all.
    Context(Change),
    /// For all, and for some that are each as in `Exchange`.
    Exchanges(Finish),
}

/// The end of the work that connections have: where jobs go, and where results are taken.
pub(crate) struct WorkHandle {
    thread: BlockingWork,
    poster: Option<Poster>,
}

/// How long a request waits for a disk or a hash. A disk that takes longer has failed, or is on another machine
/// that has.
pub(super) const WORK_TIMEOUT: Duration = Duration::from_secs(30);

impl WorkHandle {
    /// One without a thread yet, whose results go nowhere yet.
    pub(super) fn new() -> Self {
        Self { thread: BlockingWork::default(), poster: None }
    }

    /// From now on `poster` takes results to the engine.
    pub(crate) fn set_poster(&mut self, poster: Poster) {
        self.poster = Some(poster);
    }

    /// The engine has stopped: nothing is done any more.
    pub(crate) fn close(&self) {
        self.thread.close();
    }

    fn submit(
        &self,
        effort: Effort,
        owner: JobOwner,
        job: impl FnOnce(JobFate) -> WorkResult + Send + 'static,
    ) -> Result<(), WorkRefused> {
        let Some(post) = self.poster.clone() else { return Err(WorkRefused::Closed) };
        let job: BlockingJob = Box::new(move |fate| post(job(fate)));
        self.thread.submit(effort, owner, job)
    }
}

impl fmt::Debug for WorkHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.thread.fmt(formatter)
    }
}

impl EngineContext {
    /// Has `job` run off the engine, for the exchange that the connection which works now is at: it goes on with
    /// its result, or with `displaced` where the job's place is given to another.
    ///
    /// # Errors
    /// There is no place for it.
    pub(super) fn submit(
        &self,
        served: u32,
        (effort, owner): (Effort, JobOwner),
        job: ExchangeJob,
        displaced: fn(&mut Connection, &mut EngineContext) -> Step,
    ) -> Result<(), WorkRefused> {
        let id = self.working;
        self.work.submit(effort, owner, move |fate| {
            let resume = match fate {
                JobFate::Run => {
                    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| Box::new(Connection::fail_work))
                }
                JobFate::Displaced => Box::new(displaced),
            };
            WorkResult::Exchange(id, served, resume)
        })
    }

    /// The connection that works now goes on as soon as there is room for its job. It waits for that once, however
    /// often it is asked meanwhile: each place is a turn of the engine, and those behind it wait for theirs.
    fn note_starved(&mut self) {
        if !self.starved.contains(&self.working) {
            self.starved.push_back(self.working);
        }
    }

    /// Takes a change to the engine, from a job that an exchange waits for: it is made also where the exchange has
    /// ended meanwhile.
    pub(super) fn sharer(&self) -> impl Fn(Change) + Send + 'static {
        let poster = self.work.poster.clone();
        move |change| {
            if let Some(post) = &poster {
                post(WorkResult::Context(change));
            }
        }
    }

    /// Has `job` run off the engine, for what all connections share, at the cost of `owner`. One that fails
    /// changes nothing.
    ///
    /// # Errors
    /// There is no place for it.
    pub(crate) fn submit_for_all(
        &self,
        effort: Effort,
        owner: JobOwner,
        job: impl FnOnce(JobFate) -> Change + Send + 'static,
    ) -> Result<(), WorkRefused> {
        self.work.submit(effort, owner, move |fate| WorkResult::Context(job(fate)))
    }
}

impl EngineContext {
    /// Has `job` run off the engine, for exchanges that are not known before it ends. It must not panic: nobody
    /// would be told.
    ///
    /// # Errors
    /// There is no place for it.
    pub(super) fn submit_for_many(
        &self,
        effort: Effort,
        owner: JobOwner,
        job: impl FnOnce(JobFate) -> Finish + Send + 'static,
    ) -> Result<(), WorkRefused> {
        self.work.submit(effort, owner, move |fate| WorkResult::Exchanges(job(fate)))
    }
}

impl Connection {
    /// The present request waits for `job`; with no place for it, it is refused (503).
    pub(crate) fn await_work(
        &mut self,
        effort: Effort,
        job: ExchangeJob,
        context: &mut EngineContext,
    ) -> Step {
        self.exchange_or_new().outcome.status.get_or_insert(CLIENT_GONE);
        self.phase = Phase::Calling;
        self.due = Some((Deadline::Work, context.now + WORK_TIMEOUT));
        let owner = self.job_owner(context);
        match context.submit(self.served, (effort, owner), job, Self::refuse_work) {
            Ok(()) => Step::Keep,
            Err(_) => {
                self.due = None;
                self.refuse_work(context)
            }
        }
    }

    /// Whose its jobs are. Its connections share the turns of a client, and streams those of their connection.
    pub(super) fn job_owner(&self, context: &EngineContext) -> JobOwner {
        let connection = self.session().map_or(context.working, |(session, _)| session).token();
        let address = self.request().and_then(|request| request.sender().ip());
        let client = match address {
            Some(address) => JobClient::Network(client_network(address)),
            None => JobClient::Unnamed(connection),
        };
        JobOwner { client, connection }
    }

    /// Whether it is still at the request of this number, and that goes on with the result of a job.
    pub(crate) fn awaits_work(&self, served: u32) -> bool {
        let is_awaited = |exchange: &RequestExchange| !exchange.is_work_over;
        self.served == served && self.exchange.as_deref().is_some_and(is_awaited) && !self.io.is_failed()
    }

    /// The result of a job has come: goes on with the request.
    pub(crate) fn resume(&mut self, resume: Resume, context: &mut EngineContext) -> Step {
        if self.due.is_some_and(|(deadline, _)| deadline == Deadline::Work) {
            self.due = None;
        }
        resume(self, context)
    }

    /// The file that is to be sent next is not in memory: has it brought there, and waits.
    #[cold]
    pub(super) fn await_pages(&mut self, context: &mut EngineContext) -> Step {
        let Some((file, offset, length)) = self.io.outbox.take_cold() else { return Step::Keep };
        // The client is not at fault.
        self.pause_backlog(context.now);
        self.due = Some((Deadline::Work, context.now + WORK_TIMEOUT));
        let job = move || -> Resume {
            fetch(&file, offset, length);
            Box::new(move |connection, context| {
                connection.io.outbox.set_warm(offset + length);
                connection.flush(context)
            })
        };
        let owner = self.job_owner(context);
        match context.submit(self.served, (Effort::Disk, owner), Box::new(job), Self::await_place) {
            Ok(()) => Step::Keep,
            Err(WorkRefused::Full) => self.await_place(context),
            Err(WorkRefused::Closed) => {
                self.io.outbox.trust_pages();
                Step::Again
            }
        }
    }

    /// There is no place for what would bring pages of its file: it tries again when a place has become free.
    #[cold]
    fn await_place(&mut self, context: &mut EngineContext) -> Step {
        self.due = Some((Deadline::Work, context.now + WORK_TIMEOUT));
        self.io.outbox.set_cold();
        context.note_starved();
        Step::Keep
    }

    /// What was to be done for it has not been done in time.
    #[cold]
    pub(super) fn handle_work_timeout(&mut self, context: &mut EngineContext) -> Step {
        context.reports.work_late();
        self.exchange_or_new().is_work_over = true;
        if self.protocol.head_sent() {
            self.note_reason(Reason::Aborted);
            return self.cut();
        }
        self.refuse_busy(context)
    }

    /// What was to be done for it has failed in the server itself.
    #[cold]
    fn fail_work(&mut self, context: &mut EngineContext) -> Step {
        if self.protocol.head_sent() {
            self.note_reason(Reason::Aborted);
            return self.begin_cut(context);
        }
        self.respond_instead(Reply::ApplicationFailed, context)
    }

    /// There is no place for its job, or that has been given to another.
    #[cold]
    fn refuse_work(&mut self, context: &mut EngineContext) -> Step {
        context.reports.work_refused();
        self.refuse_busy(context)
    }

    #[cold]
    fn refuse_busy(&mut self, context: &mut EngineContext) -> Step {
        self.respond_instead(Reply::Busy, context)
    }

    /// Responds to the present request, for which no call runs.
    #[cold]
    pub(super) fn respond_instead(&mut self, reply: Reply, context: &mut EngineContext) -> Step {
        let exchange = self.exchange_or_new();
        // A result that is still to come would be that of a request that has its response.
        exchange.is_work_over = true;
        exchange.begin(context);
        // A body that is still on its way is not read any more.
        if exchange.upload.take().is_some() {
            exchange.is_last = true;
            self.framing_lost = true;
        }
        self.phase = Phase::Calling;
        self.respond(ResponsePart::Own(reply), false, context)
    }
}

#[cfg(test)]
mod tests;
