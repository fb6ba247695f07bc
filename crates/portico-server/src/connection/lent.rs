//! A connection that the application has taken over: it goes on with it as with any socket, to speak WebSocket.
//!
//! Where the kernel has all that there is of the connection, the application gets a duplicate of its descriptor,
//! and the engine does nothing until the call has ended. Where there is TLS or a UNIX socket, or bytes behind the
//! request have been read, it gets one end of a pair of sockets, and the engine passes on what comes in either, as
//! far as the other takes it.
//!
//! When the server stops, the application finds the end of its input, as if the client had left: what ends with
//! the connection ends then, and the client is told by a Close frame once the call is over. No frame is written
//! before: it could come into the middle of one of the application's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use portico_net::{Progress, Transport};
use portico_os::above_standard;
use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionbio};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, socketpair};

use super::{Connection, Deadline, EngineContext, Phase, Step};

/// The engine's end of a connection that the application has taken over.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// The engine's end of the pair, where there is one.
    pair: Option<OwnedFd>,
    /// The application can be given nothing more: it has been told of the end, or does not listen.
    input_ended: bool,
    /// The application sends nothing more.
    output_ended: bool,
    /// The application has been told of an end that is the server's.
    told_to_end: bool,
}

/// Pieces that are passed on, each way, before others get their turn.
const PIECES_MAX: usize = 16;

/// Status that the access log is told: what the client was answered is the application's affair.
const SWITCHING_PROTOCOLS: u16 = 101;

/// A Close frame with the code 1001, "going away" (RFC 6455, sections 5.5.1 and 7.4.1).
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// How long an application may keep the socket after its call has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The number of the first descriptor that is no standard stream's.
const FIRST_DESCRIPTOR: i32 = 3;

impl Connection {
    /// Gives the connection, whose call has answered nothing, to the application. Returns the application's end,
    /// which blocks.
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out: nothing has changed then.
    pub(crate) fn lend(&mut self, context: &EngineContext) -> io::Result<OwnedFd> {
        let mut lent = Box::<Lent>::default();
        // Not of a UNIX socket: the client of one that is told to end would have its next write fail.
        let is_whole =
            self.carrier.can_be_handed_over() && !self.carrier.transport().is_some_and(Transport::is_unix);
        let is_whole = is_whole && self.io.inbox.is_empty() && self.is_written();
        let theirs = match self.carrier.socket().filter(|_| is_whole) {
            Some(socket) => fcntl_dupfd_cloexec(socket, FIRST_DESCRIPTOR)?,
            None => {
                let flags = SocketFlags::CLOEXEC;
                let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                lent.pair = Some(above_standard(ours)?);
                above_standard(theirs)?
            }
        };
        // The engine itself never waits for a socket, whatever is said of it here.
        ioctl_fionbio(&theirs, false)?;
        let exchange = self.exchange_or_new();
        (exchange.lent, exchange.outcome.status) = (Some(lent), Some(SWITCHING_PROTOCOLS));
        (self.phase, self.due) = (Phase::Lent, None);
        if context.draining || context.retiring {
            self.tell_application_to_end();
        }
        Ok(theirs)
    }

    /// The engine's end of the pair of sockets through which the application has the connection, if it has it so.
    pub(crate) fn pair(&self) -> Option<BorrowedFd<'_>> {
        self.exchange.as_ref()?.lent.as_ref()?.pair.as_ref().map(AsFd::as_fd)
    }

    /// Whether `call` has taken the connection over.
    pub(crate) fn is_lent_to(&self, call: u64) -> bool {
        self.phase == Phase::Lent && self.is_of_call(call)
    }

    /// Whether the application has taken it over.
    pub(crate) fn is_lent(&self) -> bool {
        self.phase == Phase::Lent
    }

    /// Whether nothing is to be told of its socket: the application alone works on it.
    pub(super) fn is_out_of_hand(&self) -> bool {
        self.phase == Phase::Lent && self.pair().is_none()
    }

    /// Passes on what has come from the client and from the application.
    pub(super) fn pass_on(&mut self, context: &mut EngineContext) -> Step {
        let exchange = self.exchange_or_new();
        let Some(mut lent) = exchange.lent.take_if(|lent| lent.pair.is_some()) else { return Step::Keep };
        let mut scratch = std::mem::take(&mut context.scratch);
        let mut pieces = 0;
        let mut moved = true;
        while moved && pieces < PIECES_MAX && lent.pair.is_some() {
            moved = self.pass_in(&mut lent, &mut scratch);
            moved |= self.pass_out(&mut lent, &mut scratch);
            pieces += 1;
            if self.io.is_failed() {
                lent.pair = None; // The application finds its end closed.
            }
        }
        context.scratch = scratch;
        self.exchange_or_new().lent = Some(lent);
        if moved && !self.io.is_failed() { Step::Again } else { Step::Keep }
    }

    /// From the client to the application; whether there may be more to do.
    fn pass_in(&mut self, lent: &mut Lent, scratch: &mut [u8]) -> bool {
        let Some(pair) = &lent.pair else { return false };
        if lent.input_ended {
            return false;
        }
        if self.io.inbox.is_empty() {
            match self.carrier.read(scratch) {
                Progress::Bytes(count) => self.io.inbox.extend_from_slice(&scratch[..count]),
                Progress::Blocked => return false,
                Progress::Closed => {
                    lent.end_input();
                    return true;
                }
            }
        }
        match portico_net::write(pair.as_fd(), &self.io.inbox) {
            Progress::Bytes(count) if count == self.io.inbox.len() => self.io.inbox = Vec::new(),
            Progress::Bytes(count) => drop(self.io.inbox.drain(..count)),
            Progress::Blocked => return false,
            Progress::Closed => {
                // What the client still sends is nobody's.
                self.io.inbox = Vec::new();
                lent.input_ended = true;
            }
        }
        true
    }

    /// From the application to the client; whether there may be more to do.
    fn pass_out(&mut self, lent: &mut Lent, scratch: &mut [u8]) -> bool {
        let Some(pair) = &lent.pair else { return false };
        if self.carrier.is_owing() && self.carrier.settle() == Progress::Closed {
            self.io.set_failed();
            return false;
        }
        if !self.io.outbox.is_empty() {
            self.write_outbox();
        }
        if lent.output_ended || !self.is_written() {
            return false;
        }
        match portico_net::read(pair.as_fd(), scratch) {
            Progress::Bytes(count) => {
                self.exchange_or_new().outcome.body_bytes += count as u64;
                self.write_or_keep(&scratch[..count]);
                !self.io.is_failed()
            }
            Progress::Blocked => {
                self.io.outbox.release();
                false
            }
            Progress::Closed => {
                lent.output_ended = true;
                if std::mem::take(&mut lent.told_to_end) {
                    self.write_or_keep(&GOING_AWAY);
                }
                if self.is_written() {
                    self.carrier.shutdown_write(); // Else the end of the call does it.
                }
                true
            }
        }
    }

    /// The call has ended. Threads that it leaves may be about to send the last of it, or wait for the client's
    /// word that it has understood: they close the socket when they have done so.
    pub(crate) fn end_lent_soon(&mut self, context: &mut EngineContext) -> Step {
        self.due = Some((Deadline::Drain, context.now + LAST_WORDS));
        Step::Keep
    }

    /// The call has ended, and the socket is closed: what the application has left goes to the client, then the
    /// connection ends.
    pub(crate) fn end_lent(&mut self, context: &mut EngineContext) -> Step {
        let Some(lent) = self.exchange_or_new().lent.take() else { return Step::Keep };
        if let Some(pair) = &lent.pair {
            // What a pair of sockets holds is bounded by the kernel.
            let mut scratch = std::mem::take(&mut context.scratch);
            while let Progress::Bytes(count) = portico_net::read(pair.as_fd(), &mut scratch) {
                self.exchange_or_new().outcome.body_bytes += count as u64;
                self.io.outbox.buffer().extend_from_slice(&scratch[..count]);
            }
            context.scratch = scratch;
        }
        if lent.told_to_end {
            self.io.outbox.buffer().extend_from_slice(&GOING_AWAY);
        }
        self.note_answered(context);
        self.exchange_or_new().is_last = true;
        // What the client sends meanwhile is read before the close, which would be a reset else.
        (self.phase, self.io.readable) = (Phase::Flushing, true);
        self.flush(context)
    }

    /// The server stops.
    pub(crate) fn tell_application_to_end(&mut self) {
        let Some(lent) = self.exchange.as_mut().and_then(|exchange| exchange.lent.as_mut()) else { return };
        lent.told_to_end = true;
        match &lent.pair {
            Some(_) => lent.end_input(),
            None => drop(self.carrier.socket().map(|own| rustix::net::shutdown(own, Shutdown::Read))),
        }
    }
}

impl Lent {
    /// Tells the application that nothing more comes, behind what has.
    fn end_input(&mut self) {
        self.input_ended = true;
        if let Some(pair) = &self.pair {
            // Fails only where the application has closed its end.
            let _ = rustix::net::shutdown(pair, Shutdown::Write);
        }
    }
}
