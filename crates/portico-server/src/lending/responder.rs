//! The answering end of a call.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use portico_log::Reason;
use portico_proto::{Fields, ResponseHead};

use super::Lending;
use super::output_filter::OutputFilter;
use super::waits::Outlook;
use crate::connection::{
    Block, Flow, Reply, RequestKey, ResponsePart, ResponseRules, ResponseShare, ResponseSpool, Room, WaitEnd,
};
use crate::spool::SpoolError;

/// Answers one request. Holds no socket: blocks are handed to the engine, which writes them at once if it can
/// and keeps up to the high-water mark. Beyond it the calling thread waits while other threads are free; else
/// what the client has not taken goes to a file.
///
/// Dropped before [`Responder::finish`] it answers 500 if the head has not gone out, else it ends the response as
/// [`Responder::abort`] does, so that a truncated one never looks complete.
pub struct Responder {
    pub(super) lending: Arc<Lending>,
    key: RequestKey,
    pub(super) state: ResponderState,
    /// What the request's route does to the response; `None` once that is nothing.
    pub(super) filter: Option<Box<OutputFilter>>,
    flow: Option<Arc<Flow>>,
    /// What of the response goes through a file, from the moment on at which its client was too slow.
    spool: Option<Arc<ResponseSpool>>,
    /// Memory that the rest of the response may hold.
    memory_left: usize,
    /// The rest of the body is there: its thread is not to wait for the client.
    pub(super) is_whole: bool,
    /// Bytes of the body that are known to come; not more than these where they are compressed.
    pub(super) announced: Option<u64>,
    /// Its connection has not had its share of files.
    may_spool: bool,
    /// It is made although its client has not taken enough of it: requests wait for the thread.
    goes_on: bool,
    /// When the last block was handed to the engine.
    handed: Option<Instant>,
}

/// The stage of one response, from `Open` to `Finished`. The responder owns it; a head is sent once, and nothing
/// after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponderState {
    Open,
    Started,
    /// The application has taken the connection over.
    Lent,
    Finished,
}

/// The peer has gone: nothing more can be sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Largest block that is copied at once; larger ones go in pieces, so that a slow peer costs no more
/// memory than the high-water mark and one of these.
pub(super) const PIECE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a response that stay in memory however scarce that is: a file for them would cost more.
const SMALL_BYTES: usize = 16 * 1024;

/// Bytes in the spool up to which the application goes on though no request waits for its thread.
const NEAR_BYTES: u64 = 1024 * 1024;

/// Bytes in the spool up to which a response of unknown length is taken for one that has an end, such as an export
/// that is made row by row.
const EXPORT_BYTES: u64 = 8 * 1024 * 1024;

/// A block that comes so soon after the one before is probably followed by more: it waits half a millisecond at
/// most for them, so that a response of many small blocks takes few writes. The deadline that this needs may wake
/// the standby, which costs as much as a few writes.
const CLOSELY: Duration = Duration::from_micros(100);

/// How long the thread waits for a client with a body that is there as a whole: a client that reads as fast as
/// the server writes needs no file.
const WHOLE_PATIENCE: Duration = Duration::from_millis(10);

impl Responder {
    /// For the call `key`, whose response may hold `share` of memory and files, and obeys `rules`.
    pub(crate) fn new(
        lending: Arc<Lending>,
        key: RequestKey,
        share: ResponseShare,
        rules: Option<Box<ResponseRules>>,
    ) -> Self {
        let ResponseShare { memory_bytes, may_spool } = share;
        let (flow, spool, memory_left) = (None, None, memory_bytes as usize);
        let (is_whole, announced, goes_on, handed) = (false, None, false, None);
        let state = ResponderState::Open;
        let filter = rules.map(|rules| Box::new(OutputFilter::Pending(rules)));
        Self {
            lending,
            key,
            state,
            filter,
            flow,
            spool,
            memory_left,
            is_whole,
            announced,
            may_spool,
            goes_on,
            handed,
        }
    }

    /// The call that it answers.
    pub fn key(&self) -> RequestKey {
        self.key
    }

    /// Takes the connection over before anything is answered: what this returns is a socket, which blocks, to
    /// the client. Dropping the responder ends the connection, once what has been written is sent.
    ///
    /// # Errors
    /// The client has left, or the call was given up; descriptors have run out.
    pub fn take_connection(&mut self) -> io::Result<OwnedFd> {
        if self.state != ResponderState::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let lent = self.lending.lend_connection(self.key);
        // What comes of a query that nobody waits for any more is ended with the call.
        if lent.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::TimedOut) {
            self.state = ResponderState::Lent;
        }
        lent
    }

    /// The call that has taken the connection over has ended. Who still has its socket may send the last of it;
    /// the connection ends when the responder is dropped, or a little later by itself.
    pub fn end_call(&self) {
        if self.state == ResponderState::Lent {
            self.lending.end_lent_soon(self.key);
        }
    }

    /// Sends `103 Early Hints` with these fields, if the head has not gone out and the peer can take them.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn early_hints(&mut self, fields: &Fields) -> Result<(), Gone> {
        if self.state != ResponderState::Open {
            return Ok(());
        }
        self.hand(ResponsePart::EarlyHints(Cow::Borrowed(fields)))
    }

    /// Sends the head, together with the first block of the body if there is one. The block leaves at once.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn start(&mut self, head: &ResponseHead, block: &[u8]) -> Result<(), Gone> {
        if self.filter.is_some() {
            return self.start_filtered(head, Block::Borrowed(block));
        }
        self.start_with(head, Block::Borrowed(block))
    }

    pub(super) fn start_with(&mut self, head: &ResponseHead, block: Block<'_>) -> Result<(), Gone> {
        debug_assert_eq!(self.state, ResponderState::Open, "a response starts once");
        self.state = ResponderState::Started;
        let flow = Arc::new(Flow::default());
        self.flow = Some(Arc::clone(&flow));
        let length = head.length.or(self.is_whole.then_some(block.len() as u64));
        self.announced = self.announced.or(length);
        if matches!(block, Block::Shared(_)) && self.has_memory_for(&block) {
            self.memory_left -= block.len();
            self.note_come(block.len());
            self.hand(ResponsePart::Start { head: Cow::Borrowed(head), block, flow })?;
            return self.make_room();
        }
        let (first, rest) = block.split_at(block.len().min(PIECE_BYTES_MAX));
        self.note_come(first.len());
        self.hand(ResponsePart::Start { head: Cow::Borrowed(head), block: Block::Borrowed(first), flow })?;
        if rest.is_empty() { self.make_room() } else { self.send_plain(rest) }
    }

    /// `count` bytes of the body have come.
    #[inline]
    fn note_come(&mut self, count: usize) {
        if let Some(announced) = &mut self.announced {
            *announced = announced.saturating_sub(count as u64);
        }
    }

    /// Whether `block` may be kept as it is.
    fn has_memory_for(&self, block: &[u8]) -> bool {
        block.len() <= self.memory_left && !self.lending.is_memory_tight()
    }

    /// As [`Responder::start`], with a block of a body that is there as a whole: see [`Responder::send_shared`].
    ///
    /// # Errors
    /// [`Gone`].
    pub fn start_shared(&mut self, head: &ResponseHead, block: Bytes) -> Result<(), Gone> {
        if self.filter.is_some() {
            return self.start_filtered(head, Block::Borrowed(&block));
        }
        self.start_with(head, Block::Shared(Box::new(block)))
    }

    /// Sends a further block, at once or, if it follows another closely, within half a millisecond; waits (through
    /// `Application::blocking`) while too much is buffered and other threads are free.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send(&mut self, block: &[u8]) -> Result<(), Gone> {
        if self.filter.is_some() { self.send_filtered(block) } else { self.send_plain(block) }
    }

    pub(super) fn send_plain(&mut self, block: &[u8]) -> Result<(), Gone> {
        if self.is_gone() {
            return Err(Gone);
        }
        if block.len() <= PIECE_BYTES_MAX {
            return if block.is_empty() { Ok(()) } else { self.send_piece(block) };
        }
        block.chunks(PIECE_BYTES_MAX).try_for_each(|piece| self.send_piece(piece))
    }

    /// The rest of the body is there and comes with the next calls: the thread does not wait for the client.
    pub fn expect_whole(&mut self) {
        self.is_whole = true;
    }

    /// Sends a further block of a body that is there as a whole; it is kept rather than copied, as far as there is
    /// memory for it.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send_shared(&mut self, block: Bytes) -> Result<(), Gone> {
        if self.filter.is_some() {
            return self.send_filtered(&block);
        }
        if self.is_gone() {
            return Err(Gone);
        }
        if !self.has_memory_for(&block) || self.is_spooling() {
            return self.send_plain(&block);
        }
        self.memory_left -= block.len();
        self.note_come(block.len());
        self.hand(ResponsePart::Block(Block::Shared(Box::new(block))))?;
        self.make_room()
    }

    fn send_piece(&mut self, piece: &[u8]) -> Result<(), Gone> {
        if self.is_spooling() {
            return self.store(piece);
        }
        self.note_come(piece.len());
        self.hand_block(piece)?;
        self.make_room()
    }

    /// Whether what comes next goes to the file: not once the engine has taken all of it.
    fn is_spooling(&mut self) -> bool {
        self.spool.take_if(|spool| spool.is_done());
        self.spool.is_some()
    }

    /// Appends `piece` to the file; where that has no room, waits until the client has taken all that there is.
    fn store(&mut self, piece: &[u8]) -> Result<(), Gone> {
        let Some(spool) = self.spool.clone() else { return self.send_piece(piece) };
        let mut stored = Ok(false);
        self.lending.blocking(&mut || stored = spool.append(piece));
        match stored {
            Ok(is_first) => {
                self.note_come(piece.len());
                if is_first {
                    self.hand(ResponsePart::Spooled(Arc::clone(&spool)))?;
                } else if self.is_gone() {
                    return Err(Gone);
                }
                self.stay_near(&spool)
            }
            Err(_) => {
                self.wait_stuck(Some(&spool))?;
                self.spool = None;
                self.send_piece(piece)
            }
        }
    }

    /// Waits while much is in the file, unless requests need the thread and it is this one's turn to go on: a
    /// response without end is not to fill the file because requests had to wait for a moment.
    fn stay_near(&mut self, spool: &Arc<ResponseSpool>) -> Result<(), Gone> {
        if self.is_whole {
            return Ok(());
        }
        let outlook = self.outlook();
        let goes_on =
            self.goes_on && self.flow.as_ref().is_some_and(|flow| self.lending.may_go_on(flow, outlook));
        if goes_on || spool.waiting_bytes() <= NEAR_BYTES {
            return Ok(());
        }
        self.wait(Some(spool), None, outlook).map(drop)
    }

    /// What becomes of it when requests need the thread.
    fn outlook(&self) -> Outlook {
        let in_file = self.spool.as_ref().map_or(0, |spool| spool.waiting_bytes());
        let has_end = self.is_whole || self.announced.is_some() || in_file <= EXPORT_BYTES;
        if has_end { Outlook::Spills } else { Outlook::Endless }
    }

    /// Requests need the thread: the client is cut.
    fn dismiss(&mut self) -> Result<(), Gone> {
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Abort(Reason::WriteTimeout));
        Err(Gone)
    }

    /// Sends `length` bytes of `file` from `offset` on, without passing them through memory. The calling thread
    /// does not wait for it. The head must have told the length. Where the response is compressed, the thread
    /// reads and compresses the file.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send_file(&mut self, file: File, offset: u64, length: u64) -> Result<(), Gone> {
        if self.filter.is_some() {
            return self.send_file_filtered(&file, offset, length);
        }
        if self.is_spooling() {
            return self.store_file(&file, offset, length);
        }
        self.hand(ResponsePart::File { file: Arc::new(file), offset, length })
    }

    /// Has a part of `file` follow what is in the spool.
    fn store_file(&mut self, file: &File, mut offset: u64, mut length: u64) -> Result<(), Gone> {
        let mut piece = vec![0; PIECE_BYTES_MAX];
        while length > 0 {
            let wanted = length.min(PIECE_BYTES_MAX as u64) as usize;
            let mut read = Ok(0);
            self.lending.blocking(&mut || read = file.read_at(&mut piece[..wanted], offset));
            match read {
                Ok(count) if count > 0 => {
                    self.send_piece(&piece[..count])?;
                    (offset, length) = (offset + count as u64, length - count as u64);
                }
                // It is shorter than it was: so is the response, which is cut at its end.
                _ => break,
            }
        }
        Ok(())
    }

    /// The response is complete after what has been sent.
    pub fn finish(mut self) {
        if self.filter.is_some() && !self.end_filtered() {
            return;
        }
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Finish);
    }

    /// Sends head and whole body and finishes, in one step: the path of most responses. May be held back for up to
    /// half a millisecond while other requests wait, to be written together with their responses.
    pub fn respond(self, head: &ResponseHead, body: &[u8]) {
        match self.filter {
            None => self.respond_with(head, Block::Borrowed(body)),
            Some(_) => self.respond_filtered(head, Block::Borrowed(body)),
        }
    }

    /// As [`Responder::respond`], with a body that is kept rather than copied where the client does not take it
    /// at once.
    pub fn respond_shared(self, head: &ResponseHead, body: Bytes) {
        match self.filter {
            None => self.respond_with(head, Block::Shared(Box::new(body))),
            Some(_) => self.respond_filtered(head, Block::Shared(Box::new(body))),
        }
    }

    /// Sends one of the server's own responses, in the application's stead; only before the head.
    pub fn reply(mut self, reply: Reply) {
        debug_assert_eq!(self.state, ResponderState::Open, "a response starts once");
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Own(reply));
    }

    pub(super) fn respond_with(mut self, head: &ResponseHead, body: Block<'_>) {
        let max = if let Block::Shared(_) = body { self.memory_left } else { PIECE_BYTES_MAX };
        let max = max.min(self.memory_left).max(SMALL_BYTES);
        if body.len() > max {
            self.is_whole = true;
            if self.start_with(head, body).is_ok() {
                self.finish();
            }
            return;
        }
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Whole { head: Cow::Borrowed(head), body });
    }

    /// Ends the response before its end: the peer gets what has been sent, and sees that it is not all.
    pub fn abort(mut self) {
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Abort(Reason::Aborted));
    }

    /// The same for this reason, where it is not the application's failure.
    pub fn cut(mut self, reason: Reason) {
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Abort(reason));
    }

    /// The peer has left: ends the connection at once.
    pub fn leave(mut self) {
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Abort(Reason::ClientGone));
    }

    /// Whether the head has gone out.
    pub fn started(&self) -> bool {
        self.state != ResponderState::Open
    }

    /// Whether the peer is known to have gone.
    pub fn is_gone(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_gone())
    }

    /// Whether the peer has left by now: asks the network, unlike [`Responder::is_gone`]. Takes microseconds, or
    /// some milliseconds where the thread that drives is kept waiting by the system.
    pub fn is_client_gone(&self) -> bool {
        if self.state == ResponderState::Finished {
            return false; // It has been answered, if not as the application does.
        }
        self.is_gone() || self.lending.is_client_gone(self.key)
    }

    /// Hands a block over. One that follows another closely is written with the next ones: see [`CLOSELY`].
    fn hand_block(&mut self, block: &[u8]) -> Result<(), Gone> {
        let now = Instant::now();
        let last = self.handed.replace(now);
        let joins = last.is_some_and(|last| now.saturating_duration_since(last) < CLOSELY);
        self.hand_at(now, ResponsePart::Block(Block::Borrowed(block)), joins)
    }

    pub(super) fn hand(&self, response: ResponsePart<'_>) -> Result<(), Gone> {
        self.hand_at(Instant::now(), response, false)
    }

    fn hand_at(&self, now: Instant, response: ResponsePart<'_>, joins: bool) -> Result<(), Gone> {
        let flow = self.flow.as_ref();
        if self.lending.respond(self.key, response, flow, (now, joins)) { Ok(()) } else { Err(Gone) }
    }

    /// Waits while too much of the response is in memory, or has what comes next go to a file.
    fn make_room(&mut self) -> Result<(), Gone> {
        let Some(flow) = &self.flow else { return Ok(()) };
        if !flow.is_over(SMALL_BYTES) {
            return if flow.is_gone() { Err(Gone) } else { Ok(()) };
        }
        let tight = self.lending.is_memory_tight();
        let memory_max = if tight { 0 } else { self.memory_left.min(self.lending.response_buffer_bytes()) };
        if !flow.is_over(memory_max.max(SMALL_BYTES)) {
            return if flow.is_gone() { Err(Gone) } else { Ok(()) };
        }
        self.leave_memory(tight)
    }

    /// Too much of the response is in memory.
    #[cold]
    fn leave_memory(&mut self, tight: bool) -> Result<(), Gone> {
        let patience = match () {
            () if tight => Some(Duration::ZERO),
            () if self.is_whole => Some(WHOLE_PATIENCE),
            () => None,
        };
        if self.wait(None, patience, self.outlook())? == WaitEnd::Room {
            return Ok(());
        }
        let mut made = Err(SpoolError::Files);
        if self.may_spool {
            self.lending.blocking(&mut || made = self.lending.new_spool(self.announced.unwrap_or(0)));
        }
        match made {
            Ok(spool) => self.spool = Some(Arc::new(spool)),
            // The log says so, unless the configuration wants no file.
            Err(_) => self.wait_stuck(None)?,
        }
        Ok(())
    }

    /// Waits for the client: what comes next can go nowhere else.
    fn wait_stuck(&mut self, drained: Option<&Arc<ResponseSpool>>) -> Result<(), Gone> {
        while self.wait(drained, None, Outlook::Stuck)? != WaitEnd::Room {}
        Ok(())
    }

    /// Waits until little of the response is in memory and `drained` has been taken to its end.
    fn wait(
        &mut self,
        drained: Option<&Arc<ResponseSpool>>,
        patience: Option<Duration>,
        outlook: Outlook,
    ) -> Result<WaitEnd, Gone> {
        let Some(flow) = &self.flow else { return Ok(WaitEnd::Room) };
        let memory_max = self.memory_left.min(self.lending.response_buffer_bytes());
        let (low_water, drained) = (memory_max.max(SMALL_BYTES) / 2, drained.cloned());
        let room = Room { low_water, drained, patience };
        match self.lending.wait_for_client(flow, room, outlook) {
            WaitEnd::Gone => Err(Gone),
            WaitEnd::Dismissed => self.dismiss().map(|()| WaitEnd::Dismissed),
            end => {
                self.goes_on = end == WaitEnd::Hurried;
                Ok(end)
            }
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.goes_on
            && let Some(flow) = &self.flow
        {
            self.lending.end_going_on(flow);
        }
        match self.state {
            ResponderState::Finished => {}
            ResponderState::Lent => self.lending.end_lent(self.key),
            ResponderState::Started => {
                let _ = self.hand(ResponsePart::Abort(Reason::Aborted));
            }
            ResponderState::Open => {
                self.state = ResponderState::Finished;
                let _ = self.hand(ResponsePart::Own(Reply::ApplicationFailed));
            }
        }
    }
}
