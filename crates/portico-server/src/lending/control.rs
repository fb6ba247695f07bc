//! What others than the application threads ask of the engine: to listen, to stop, to give a call up.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_log::Reason;
use portico_net::{Interest, Listener, Server};
use portico_os::VitalDescriptors;

use super::Lending;
use super::message::EngineMessage;
use crate::client::RequestContext;
use crate::connection::RequestKey;
use crate::engine::{Accepting, SharingState};

impl Lending {
    /// Begins to accept from `listeners`. To be called once.
    ///
    /// # Errors
    /// The kernel's, when memory or the user's watches have run out.
    pub fn listen(&self, listeners: Vec<Listener>) -> std::io::Result<()> {
        let interest = if self.sharing.is_some() { Interest::Shared } else { Interest::Accept };
        Accepting::watch(&listeners, &self.reactor, interest)?;
        listeners.iter().for_each(|listener| self.vital().add("a listening socket", listener));
        if let Some(certificates) = listeners.iter().find_map(Listener::certificates) {
            self.vital().add("the memory of certificates", certificates);
        }
        if let Some(sharing) = &self.sharing {
            SharingState::watch(sharing, &self.reactor)?;
        }
        self.send(EngineMessage::Listen(listeners));
        Ok(())
    }

    /// The descriptors without which it cannot work; others may be added.
    pub fn vital(&self) -> &VitalDescriptors {
        self.reactor.vital()
    }

    /// Why it cannot work any more, if that is so: the process is best ended.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// It cannot work any more, for this reason: stops it at once.
    pub fn fail(&self, reason: String) {
        self.failure.get_or_init(|| reason);
        self.stop();
    }

    /// Serves the client at the other end of `stream` as one that has connected to `server`.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub fn adopt(&self, stream: UnixStream, server: Arc<Server>) -> std::io::Result<()> {
        stream.set_nonblocking(true)?;
        self.send(EngineMessage::Adopt(stream, server));
        Ok(())
    }

    /// From now on each response says that it is its connection's last; accepting goes on.
    pub fn announce_close(&self) {
        self.send(EngineMessage::AnnounceClose);
    }

    /// Stops: lets what runs and what is queued come to its end, for `graceful` at most.
    pub fn drain(&self, graceful: Duration) {
        self.send(EngineMessage::Drain(Instant::now() + graceful));
    }

    /// Stops in favour of the siblings: as [`Lending::drain`], but connections that can go to a sibling do,
    /// between two requests, and are not closed.
    pub fn retire(&self, graceful: Duration) {
        self.send(EngineMessage::Retire(Instant::now() + graceful));
    }

    /// Accepts nothing more once this has returned, and leaves what waits at the listeners to others. Its
    /// connections stay.
    pub fn unlisten(&self) {
        let _ = self.query_patiently(EngineMessage::Unlisten);
    }

    /// Stops at once.
    pub fn stop(&self) {
        self.send(EngineMessage::Stop);
    }

    /// Gives up the call that answers `request`, for this reason: the client gets 504, or 503 if it is cancelled,
    /// or sees the response cut if it has begun, and the connection ends. What the call still hands over is
    /// ignored, it is counted no more, and its thread leaves [`run_thread`](Lending::run_thread) if it ever comes
    /// out of the application: `true` asks the caller to run another one. `false` if the call has ended.
    ///
    /// For any thread, at any time.
    pub fn give_up(&self, request: RequestKey, reason: Reason) -> bool {
        let given_up = self.release_thread(request);
        if given_up {
            self.send(EngineMessage::GiveUp(request, reason));
        }
        given_up
    }

    /// The client of `request` waits no longer, as in [`Lending::give_up`] for a cancelled one; the call is
    /// counted until it ends. It does so at once if it waits for this client.
    ///
    /// For any thread, at any time.
    pub fn cancel(&self, request: RequestKey) {
        self.send(EngineMessage::GiveUp(request, Reason::Cancelled));
    }

    /// The call that answers `request` is counted no more, and its thread leaves
    /// [`run_thread`](Lending::run_thread) when it ends: another one has its place. `false` if the call has ended.
    ///
    /// For any thread, at any time.
    pub fn release_thread(&self, request: RequestKey) -> bool {
        let released = self.active_calls.give_up(request.call);
        if released {
            self.exchange.thread_states().end_call();
        }
        released
    }

    /// Gives the connection of `request` to its call. Returns the application's end.
    pub(super) fn lend_connection(&self, request: RequestKey) -> io::Result<OwnedFd> {
        let lent = self.query_patiently(|query| EngineMessage::LendConnection(request, query));
        lent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The call that has taken over the connection of `request` has ended, but its socket is still open.
    pub(super) fn end_lent_soon(&self, request: RequestKey) {
        self.send(EngineMessage::EndLentSoon(request));
    }

    /// The call that has taken over the connection of `request` has ended.
    pub(super) fn end_lent(&self, request: RequestKey) {
        self.send(EngineMessage::EndLent(request));
    }

    /// Whether the client of `request` is known to have left before the response was complete. For any thread, at
    /// any time; the network is asked, which takes microseconds.
    pub fn is_client_gone(&self, request: RequestKey) -> bool {
        self.query(|query| EngineMessage::IsClientGone(request, query)).unwrap_or(false)
    }

    /// The head of `request`, and who has sent it; `None` if its call has ended, or the one that has the engine is
    /// kept waiting by the system. For any thread, at any time.
    pub fn request_of(&self, request: RequestKey) -> Option<Arc<RequestContext>> {
        self.query(|query| EngineMessage::RequestOf(request, query)).flatten()
    }
}
