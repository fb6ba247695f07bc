//! HTTP/2, server side (RFC 9113).
//!
//! A [`Session`] is one connection: bytes in, events of its streams and bytes out. The h2 crate keeps the states
//! of streams, the windows, and what is sent; it is driven by hand over buffers in memory and waits for nothing.
//! Frames are looked over before it gets them (`frames`). Header blocks it does not get at all: they are read by
//! `hpack` and `request`, for the crate ends the whole connection for a malformed field, and drops the fragment
//! of a path and pseudo-fields of trailers without a word.
//!
//! What a stream needs of the session it holds itself ([`Stream`], [`StreamIo`]), so that whoever answers need not
//! have the session at hand; what has been sent on streams goes out with the session's next [`Session::output`].
//!
//! Against peers that only keep us busy there are limits in the crate (streams, small DATA frames, resets of ours
//! that the peer does not take) and in `frames`.

mod fields;
mod frames;
mod hpack;
mod open;
mod pipe;
mod request;
mod response;
mod stream;
mod stream_io;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection, Handshake};

pub use frames::{Http2Violation, PREFACE};
pub use stream::Stream;
pub use stream_io::StreamIo;

use crate::error::ErrorKind;
use crate::limits::Limits;
use crate::streams::StreamEvent;
use fields::DecodedFields;
use frames::{Frames, HeaderBlock, Touch};
use open::OpenStreams;
use pipe::{InMemoryPipe, SharedBuffers};
use request::ParsedRequest;

/// The settings of ours that the peer is told; each is a setting of the configuration too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Streams that may be open at once (`--http2-max-concurrent-streams`).
    pub concurrent_streams_max: u32,
    /// Bytes that may come on one stream before we have taken them (`--http2-initial-window-size`).
    pub window_bytes: u32,
    /// Bytes of a frame (`--http2-max-frame-size`).
    pub frame_bytes_max: u32,
    /// Bytes of a header list, as RFC 9113, section 6.5.2 counts them (`--http2-max-header-list-size`).
    pub header_list_bytes_max: u32,
}

/// One HTTP/2 connection, over the h2 crate. Owned by the connection that has the socket; it reads and writes
/// bytes that it is given and never a socket.
pub struct Session {
    state: SessionState,
    shared: Arc<SharedBuffers>,
    frames: Frames,
    hpack: hpack::Decoder,
    /// The fields of the present header block.
    list: DecodedFields,
    /// The header block of the stream that the crate has still to begin, and what it asks for or is malformed by.
    begun: Option<(HeaderBlock, Result<ParsedRequest, ErrorKind>)>,
    /// What has come behind that header block, and how much of it has been looked over.
    rest: (Vec<u8>, usize),
    touched: Vec<Touch>,
    /// Those of `touched` that have been told of.
    told: usize,
    open: OpenStreams,
    /// What there is of a DATA frame that is not whole.
    arriving: Option<(u32, u32)>,
    /// What the crate has ended the session for.
    fault: Option<Http2Violation>,
    /// The crate has nothing more to tell until bytes come or go.
    settled: bool,
    /// The peer has been asked to begin no more streams.
    leaving: bool,
    /// The last stream that has begun.
    last_stream: u32,
}

/// The stage of h2's connection, which the session alone drives. From `Closed` nothing leads back: what still
/// waits there is written, and nothing more is read.
enum SessionState {
    Handshake(Box<Handshake<InMemoryPipe, Bytes>>),
    Open(Box<Connection<InMemoryPipe, Bytes>>),
    /// Nothing more is read; what is to be written may still wait.
    Closed,
}

impl Session {
    /// A connection on which nothing has come. Of the first bytes of `receive` the preface is one.
    pub fn new(settings: &Settings) -> Self {
        let shared = Arc::new(SharedBuffers::default());
        let window = settings.window_bytes;
        let handshake = Builder::new()
            .max_concurrent_streams(settings.concurrent_streams_max)
            .initial_window_size(window)
            .initial_connection_window_size(
                window.saturating_mul(WINDOWS).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX),
            )
            .max_frame_size(settings.frame_bytes_max)
            .max_header_list_size(settings.header_list_bytes_max)
            .max_send_buffer_size(SEND_BYTES_MAX)
            .max_concurrent_reset_streams(LATE_STREAMS_MAX)
            .handshake(InMemoryPipe(Arc::clone(&shared)));
        Self {
            state: SessionState::Handshake(Box::new(handshake)),
            shared,
            frames: Frames::new(settings.frame_bytes_max, settings.header_list_bytes_max),
            hpack: hpack::Decoder::default(),
            list: DecodedFields::new(settings.header_list_bytes_max as usize),
            begun: None,
            rest: (Vec::new(), 0),
            touched: Vec::new(),
            told: 0,
            open: OpenStreams::default(),
            arriving: None,
            fault: None,
            settled: false,
            leaving: false,
            last_stream: 0,
        }
    }

    /// Takes in bytes of the peer's. `elapsed` is the time since the last call, `limits` are those on requests.
    ///
    /// # Errors
    /// What the peer has done that ends the session.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        elapsed: Duration,
        limits: &Limits,
    ) -> Result<(), Http2Violation> {
        if self.is_closed() {
            return Ok(());
        }
        self.frames.refill(elapsed);
        self.frames.note_data_sent(self.shared.take_data_sent());
        if self.rest.0.is_empty() {
            let taken = self.take_in(&mut bytes, limits);
            taken.inspect_err(|violation| self.abort(violation.reason()))?;
        }
        self.rest.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The next event; `None` until more bytes come or go. `limits` are those on requests.
    pub fn next_event(&mut self, limits: &Limits) -> Option<StreamEvent<Box<Stream>>> {
        loop {
            while !self.settled {
                if let Some(event) = self.advance() {
                    return Some(event);
                }
            }
            while let Some(touch) = self.touched.get(self.told) {
                self.told += 1;
                if let Some(event) = self.handle_touch(*touch) {
                    return Some(event);
                }
            }
            self.told = 0;
            // What the crate has still to take in is told once more when it has.
            if self.shared.waiting().0 > 0 {
                break;
            }
            self.touched.clear();
            if self.rest.0.is_empty() {
                break;
            }
            self.take_rest(limits);
        }
        if let Some((stream, bytes)) = self.arriving.take() {
            return Some(StreamEvent::Arriving(stream, bytes));
        }
        self.shared.next_roomy().map(StreamEvent::Room)
    }

    /// Appends to `out` what is to be written now. There may be more once that is written.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        // With room for more the crate may go on with what it had left lying.
        self.settled &= self.shared.waiting().0 == 0;
        if self.shared.is_to_leave() {
            self.shut_down();
        }
        if let SessionState::Open(connection) = &mut self.state
            && let Poll::Ready(ended) = connection.poll_closed(&mut Context::from_waker(Waker::noop()))
        {
            self.close(ended.err());
        }
        self.shared.note_written();
        self.shared.take_output(out);
    }

    /// What the session has ended for, where that was not told by [`Session::receive`]; once.
    pub fn take_fault(&mut self) -> Option<Http2Violation> {
        self.fault.take()
    }

    /// Whether [`Session::next_event`] is to be asked though nothing has come.
    pub fn has_more(&self) -> bool {
        !self.settled || self.shared.is_roomy()
    }

    /// Whether there is nothing more to read or write but what [`Session::output`] gives.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, SessionState::Closed)
    }

    /// Whether bytes of the peer's have a place: not before what it has not taken of ours makes room.
    pub fn wants_bytes(&self) -> bool {
        let (unread, _) = self.shared.waiting();
        !self.is_closed() && unread == 0 && self.rest.0.is_empty()
    }

    /// Whether nothing has come yet.
    pub fn is_untouched(&self) -> bool {
        self.frames.is_untouched()
    }

    /// Whether something has begun to come that is not whole, bodies excepted.
    pub fn is_partial(&self) -> bool {
        self.frames.is_partial()
    }

    /// A stream has ended, its request answered to the end or not.
    pub fn forget(&mut self, number: u32, answered: bool) {
        self.open.remove(number);
        if answered {
            self.frames.note_response();
        }
    }

    /// Has the peer begin no more streams: tells it so, and after a round trip, in which it may have begun some,
    /// which was the last (RFC 9113, section 6.8). When the streams have ended the session ends.
    pub fn shut_down(&mut self) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        self.settled = false;
        if let SessionState::Open(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    /// Whether it has been told to [`shut_down`](Session::shut_down).
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Ends the session at once, after a last word.
    pub fn end(&mut self) {
        self.abort(Reason::NO_ERROR);
    }

    /// Ends the session at once: the peer holds too much of us.
    pub fn end_calm(&mut self) {
        self.abort(Reason::ENHANCE_YOUR_CALM);
    }

    /// Memory that it takes beside its streams.
    pub fn memory_bytes(&self) -> usize {
        SESSION_BYTES + self.shared.memory_bytes() + self.frames.memory_bytes() + self.rest.0.capacity()
    }

    /// Gives the memory of empty buffers back.
    pub fn release(&mut self) {
        self.shared.release();
        self.hpack.release();
        self.touched.shrink_to(0);
    }

    fn close(&mut self, error: Option<h2::Error>) {
        self.state = SessionState::Closed;
        self.close_streams();
        // What we have ended it for ourselves the caller knows.
        let fault = error.filter(h2::Error::is_library).and_then(|error| error.reason());
        self.fault = self.fault.or(fault.map(Http2Violation::Refused));
    }

    fn abort(&mut self, reason: Reason) {
        // What came in one piece with the preface is answered as what comes later is.
        self.greet();
        self.close_streams();
        match &mut self.state {
            SessionState::Open(connection) => connection.abrupt_shutdown(reason),
            SessionState::Handshake(_) | SessionState::Closed => self.state = SessionState::Closed,
        }
    }

    /// Has the crate take in the peer's preface.
    fn greet(&mut self) {
        let SessionState::Handshake(handshake) = &mut self.state else { return };
        match Pin::new(handshake).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(mut connection)) => {
                if self.leaving {
                    connection.graceful_shutdown();
                }
                self.state = SessionState::Open(Box::new(connection));
            }
            Poll::Ready(Err(_)) => self.state = SessionState::Closed,
            Poll::Pending => self.settled = true,
        }
    }

    /// Takes in `bytes` up to the next header block by which a stream begins.
    fn take_in(&mut self, bytes: &mut &[u8], limits: &Limits) -> Result<(), Http2Violation> {
        self.settled = false;
        while !bytes.is_empty() && self.begun.is_none() {
            let (frames, open, touched) = (&mut self.frames, &mut self.open, &mut self.touched);
            if let Some(block) = self.shared.push(|input| frames.look_over(bytes, open, touched, input))? {
                self.take_block(block, limits)?;
                self.list.clear();
                self.frames.clear_block();
            }
        }
        self.arriving = self.frames.arriving();
        Ok(())
    }

    /// Goes on with what has come behind the last stream that has begun.
    fn take_rest(&mut self, limits: &Limits) {
        let (rest, start) = std::mem::take(&mut self.rest);
        let mut bytes = &rest[start..];
        if let Err(violation) = self.take_in(&mut bytes, limits) {
            self.fault = Some(violation);
            self.abort(violation.reason());
        } else if !bytes.is_empty() {
            let looked_over = rest.len() - bytes.len();
            self.rest = (rest, looked_over);
        }
    }

    /// Reads a header block. The crate gets another in its place that says no more than it has to know.
    fn take_block(&mut self, block: HeaderBlock, limits: &Limits) -> Result<(), Http2Violation> {
        let read = self.hpack.decode(self.frames.block_bytes(), &mut self.list);
        read.map_err(|hpack::Malformed| Http2Violation::Compression)?;
        let priority = if block.depends_on_itself { Err(ErrorKind::Priority) } else { Ok(()) };
        if block.begins {
            let asked = priority.and_then(|()| request::head(&self.list, block.ends, limits));
            let length = asked.as_ref().ok().and_then(ParsedRequest::length);
            self.shared.push(|input| block.write_head(length, input));
            self.begun = Some((block, asked));
            return Ok(());
        }
        if let Some(stream) = self.open.get(block.stream) {
            if !stream.takes_more(block.ends) {
                return Ok(());
            }
            let ends = if block.ends { Ok(()) } else { Err(ErrorKind::Trailer) };
            let checked = priority.and(ends).and_then(|()| request::check_trailers(&self.list));
            if let Err(kind) = checked {
                stream.refuse(kind);
                return Ok(());
            }
        } else if self.frames.is_late(&block)? {
            return Ok(());
        }
        self.shared.push(|input| block.write_trailers(input));
        Ok(())
    }

    /// What is to be told of a frame that the crate has taken in; nothing of streams that have ended, that never
    /// were, or that the crate has refused.
    fn handle_touch(&mut self, touch: Touch) -> Option<StreamEvent<Box<Stream>>> {
        let (Touch::Body(stream) | Touch::Frame(stream) | Touch::Reset(stream)) = touch;
        let is_reset = self.open.get(stream)?.is_reset();
        if touch == Touch::Reset(stream) || is_reset {
            let fault = self.open.remove(stream).and_then(|stream| stream.fault());
            self.note_reset(stream);
            return Some(StreamEvent::Reset(stream, fault));
        }
        (touch == Touch::Body(stream)).then_some(StreamEvent::Body(stream))
    }

    /// This stream has been reset: by the peer, whose RST_STREAM was counted as it came, or for what it did.
    fn note_reset(&mut self, stream: u32) {
        if !self.touched.contains(&Touch::Reset(stream))
            && let Err(violation) = self.frames.note_reset()
        {
            self.fault = Some(violation);
            self.abort(violation.reason());
        }
    }

    /// All streams end with the session. They are told so at once: the peer may never take its last word.
    fn close_streams(&mut self) {
        self.settled = false;
        (self.begun, self.rest) = (None, (Vec::new(), 0));
        self.touched = self.open.numbers().map(Touch::Reset).collect();
        self.told = 0;
    }

    /// Has the crate go on; returns what comes of it.
    fn advance(&mut self) -> Option<StreamEvent<Box<Stream>>> {
        let mut context = Context::from_waker(Waker::noop());
        match &mut self.state {
            SessionState::Handshake(_) => self.greet(),
            SessionState::Open(connection) => match connection.poll_accept(&mut context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let io = StreamIo::new(respond, request.into_body(), Arc::clone(&self.shared));
                    return self.open(io);
                }
                Poll::Ready(ended) => self.close(ended.and_then(Result::err)),
                Poll::Pending => {
                    self.settled = true;
                    if self.shared.waiting().0 == 0 {
                        self.begun = None; // The crate has refused it.
                    }
                }
            },
            SessionState::Closed => self.settled = true,
        }
        None
    }

    /// The crate has begun the stream of `io`.
    fn open(&mut self, io: StreamIo) -> Option<StreamEvent<Box<Stream>>> {
        // It has had no other to begin.
        self.settled = self.shared.waiting().0 == 0;
        let (HeaderBlock { stream: number, ends, .. }, asked) = self.begun.take()?;
        self.last_stream = number;
        let ParsedRequest { head, is_head } = match asked {
            Ok(asked) => asked,
            Err(kind) => {
                io.watch().reset(Reason::PROTOCOL_ERROR);
                self.note_reset(number);
                return Some(StreamEvent::Reset(number, Some(kind)));
            }
        };
        self.open.add(number, io.watch(), ends);
        Some(StreamEvent::Opened(number, Box::new(Stream::new(io, head, is_head))))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("last_stream", &self.last_stream).finish_non_exhaustive()
    }
}

/// How many streams' windows a connection's is worth: beside so many uploads that nobody reads others stand still.
const WINDOWS: u32 = 16;
/// The least that it is: one stream on a long line is to fill it.
const WINDOW_BYTES_MIN: u32 = 1 << 20;
/// The most: RFC 9113, section 6.9.1.
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// What the crate keeps for a connection: its state, its read buffer, and the dynamic tables of both directions,
/// which SETTINGS_HEADER_TABLE_SIZE leaves at 4096 bytes (measured: 20.9 KB after a request, 24 with full
/// tables).
const SESSION_BYTES: usize = 24 * 1024;

/// Streams that the crate remembers to have been reset, each in some 400 bytes, for half a minute: what is still
/// on its way on them is passed over.
const LATE_STREAMS_MAX: usize = 256;

/// Bytes of one stream that lie in the session until the socket takes them.
const SEND_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
