//! Work that is done off the engine: its results.

use super::Engine;
use crate::connection::{Connection, ConnectionId, Poster, Resume, WorkResult};

impl Engine {
    /// From now on `poster` takes results to whoever has the engine.
    pub(crate) fn set_poster(&mut self, poster: Poster) {
        self.context.work.set_poster(poster);
    }

    /// The engine has stopped: nothing is done any more.
    pub(crate) fn close_work(&self) {
        self.context.work.close();
    }

    /// Takes a result; one that nobody waits for any more is dropped.
    pub(crate) fn take_result(&mut self, result: WorkResult) {
        match result {
            WorkResult::Exchange(id, served, resume) => self.resume(id, served, resume),
            WorkResult::Context(change) => change(&mut self.context),
            WorkResult::Exchanges(finish) => {
                for (id, served, resume) in finish(&mut self.context) {
                    self.resume(id, served, resume);
                }
            }
        }
        // There is room for one more.
        if let Some(id) = self.context.starved.pop_front() {
            self.work_on(id, Connection::proceed);
            self.write_unheld_sessions();
        }
    }

    fn resume(&mut self, id: ConnectionId, served: u32, resume: Resume) {
        if self.table.get(id).is_some_and(|connection| connection.awaits_work(served)) {
            self.work_on(id, |connection, context| connection.resume(resume, context));
            self.write_unheld_sessions();
        }
    }
}
