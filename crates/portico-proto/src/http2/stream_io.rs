//! The bytes of one stream's bodies, to and from the session: a byte pipe with flow control (RFC 9113, 5.2).
//!
//! Owns the stream's handles of the h2 crate. What is read is given back to the peer as window at once: whoever
//! reads has a place for it. What is written never exceeds the peer's window, so that nothing of a stream stays in
//! the session but what the socket is still to take.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use super::pipe::{RoomNote, SharedBuffers};
use crate::streams::IoProgress;

/// The two directions of one stream's bodies. Clones are of the same stream.
#[derive(Clone)]
pub struct StreamIo(Arc<Mutex<Handles>>);

/// The ends of one stream that h2 has given out, with the counts of what has passed. Its `StreamIo` owns it; the
/// session sees it by a weak reference, so that a stream which is dropped ends.
struct Handles {
    stream: u32,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    /// Gone once the peer's body is complete.
    receive: Option<RecvStream>,
    /// Bytes of the peer's body that have been taken from the session and not been read.
    unread: Bytes,
    failed: bool,
    /// Bytes of the response's body that have been written.
    written: u64,
    /// Bytes that it has, once that is known.
    length: Option<u64>,
    /// The response's last frame has been given to the session.
    ended: bool,
    /// Told to the crate while there is no room.
    waker: Option<Waker>,
    shared: Arc<SharedBuffers>,
}

/// Looks at the state of a stream without keeping it.
pub(super) struct WeakStreamIo(Weak<Mutex<Handles>>);

impl StreamIo {
    pub(super) fn new(respond: SendResponse<Bytes>, receive: RecvStream, shared: Arc<SharedBuffers>) -> Self {
        Self(Arc::new(Mutex::new(Handles {
            stream: respond.stream_id().as_u32(),
            respond,
            send: None,
            receive: (!receive.is_end_stream()).then_some(receive),
            unread: Bytes::new(),
            failed: false,
            written: 0,
            length: None,
            ended: false,
            waker: None,
            shared,
        })))
    }

    /// Reads into `buffer` what is there of the peer's body, and lets the peer send as much more.
    pub fn read(&self, buffer: &mut [u8]) -> IoProgress {
        self.handles().read(buffer)
    }

    /// Writes what the peer's window takes of `bytes`. With the last byte of a body whose length is known the
    /// stream is ended.
    pub fn write(&self, bytes: &[u8]) -> IoProgress {
        self.handles().write(bytes)
    }

    /// How many of `count` bytes [`StreamIo::write`] would take now; 0 is for [`IoProgress::Blocked`].
    pub fn room(&self, count: usize) -> usize {
        self.handles().room(count)
    }

    /// Gives the stream up: the peer sees that its response is not complete.
    pub fn cut(&self) {
        self.reset(Reason::INTERNAL_ERROR);
    }

    /// Resets the stream, unless its response is complete.
    fn reset(&self, reason: Reason) {
        let mut handles = self.handles();
        handles.failed = true;
        if !handles.ended {
            match &mut handles.send {
                Some(send) => send.send_reset(reason),
                None => handles.respond.send_reset(reason),
            }
        }
    }

    /// Whether the stream has been reset, or its session has ended.
    pub fn is_gone(&self) -> bool {
        let handles = &mut *self.handles();
        // The crate keeps one waker for both: the one that waits for room must stay.
        let mut context = Context::from_waker(handles.waker.as_ref().unwrap_or(Waker::noop()));
        let reset = match &mut handles.send {
            Some(send) => send.poll_reset(&mut context),
            None => handles.respond.poll_reset(&mut context),
        };
        handles.failed |= reset.is_ready() && !handles.ended;
        handles.failed
    }

    /// Bytes of bodies that all streams of the session have given it.
    pub fn session_bytes(&self) -> u64 {
        self.handles().shared.body_bytes()
    }

    /// Bytes of the peer's body that have come and not been read.
    pub fn unread_bytes(&self) -> usize {
        self.handles().receive.as_mut().map_or(0, |receive| receive.flow_control().used_capacity())
    }

    /// Whether the crate has written all that it was given of bodies: a reset drops what it has not. Otherwise the
    /// stream is told of room when it has.
    pub fn is_written(&self) -> bool {
        let handles = self.handles();
        handles.shared.is_written_for(handles.stream)
    }

    /// Looks at this stream from the session.
    pub(super) fn watch(&self) -> WeakStreamIo {
        WeakStreamIo(Arc::downgrade(&self.0))
    }

    /// Whether the peer's body has been read to its end.
    pub(super) fn has_ended(&self) -> bool {
        let handles = self.handles();
        handles.receive.is_none() && handles.unread.is_empty() && !handles.failed
    }

    /// Sends an interim response.
    pub(super) fn send_interim(&self, head: http::Response<()>) {
        let _ = self.handles().respond.send_informational(head); // Fails where the stream has gone.
    }

    /// Sends the response's head. `length` is that of the body which follows, if it is known; 0 where none does.
    pub(super) fn send_head(&self, status: http::StatusCode, fields: HeaderMap, length: Option<u64>) {
        let mut head = http::Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = fields;
        let mut handles = self.handles();
        let ends = length == Some(0);
        match handles.respond.send_response(head, ends) {
            Ok(send) => (handles.send, handles.length, handles.ended) = (Some(send), length, ends),
            Err(_) => handles.failed = true,
        }
    }

    /// The session is to end with the streams that there are.
    pub(super) fn close_session(&self) {
        self.handles().shared.ask_to_leave();
    }

    /// The body is complete with `length` bytes, which may not all have been written yet.
    pub(super) fn finish(&self, length: u64) {
        let mut handles = self.handles();
        if handles.length.is_none() {
            handles.length = Some(length);
            if handles.written == length {
                handles.send_data(Bytes::new());
            }
        }
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        // Only one thread at a time works on a stream; a panic costs the stream.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WeakStreamIo {
    /// Resets the stream for what the peer did to it.
    pub(super) fn reset(&self, reason: Reason) {
        if let Some(handles) = self.0.upgrade() {
            StreamIo(handles).reset(reason);
        }
    }

    /// Whether the stream has been reset, or its session has ended. Not so for one that nobody works on any more.
    pub(super) fn is_reset(&self) -> bool {
        self.0.upgrade().is_some_and(|handles| StreamIo(handles).is_gone())
    }
}

impl Handles {
    fn read(&mut self, buffer: &mut [u8]) -> IoProgress {
        if self.failed {
            return IoProgress::Failed;
        }
        let mut count = 0;
        while count < buffer.len() {
            if self.unread.is_empty() {
                match self.take_data() {
                    IoProgress::Bytes(_) => {}
                    _ if count > 0 => break,
                    stopped => return stopped,
                }
            }
            let some = self.unread.len().min(buffer.len() - count);
            buffer[count..count + some].copy_from_slice(&self.unread[..some]);
            self.unread.advance(some);
            count += some;
        }
        if let Some(receive) = &mut self.receive {
            // More than is outstanding is never released.
            let _ = receive.flow_control().release_capacity(count);
            if self.unread.is_empty() && receive.is_end_stream() {
                self.receive = None;
            }
        }
        IoProgress::Bytes(count)
    }

    /// Takes the next piece of the peer's body from the session.
    fn take_data(&mut self) -> IoProgress {
        let Some(receive) = &mut self.receive else { return IoProgress::Ended };
        loop {
            return match receive.poll_data(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => IoProgress::Blocked,
                Poll::Ready(Some(Ok(bytes))) if bytes.is_empty() => continue,
                Poll::Ready(Some(Ok(bytes))) => {
                    self.unread = bytes;
                    IoProgress::Bytes(self.unread.len())
                }
                // Trailers may be left, which nobody asks for.
                Poll::Ready(None) => {
                    self.receive = None;
                    IoProgress::Ended
                }
                Poll::Ready(Some(Err(_))) => {
                    self.failed = true;
                    IoProgress::Failed
                }
            };
        }
    }

    fn write(&mut self, bytes: &[u8]) -> IoProgress {
        if self.failed {
            return IoProgress::Failed;
        }
        match self.room(bytes.len()) {
            _ if self.failed => IoProgress::Failed,
            0 => IoProgress::Blocked,
            count => {
                self.send_data(Bytes::copy_from_slice(&bytes[..count]));
                if self.failed { IoProgress::Failed } else { IoProgress::Bytes(count) }
            }
        }
    }

    fn room(&mut self, count: usize) -> usize {
        let Some(send) = &mut self.send else { return 0 };
        if !self.shared.has_room_for(self.stream) {
            return 0;
        }
        send.reserve_capacity(count.min(RESERVE_BYTES_MAX));
        let room = send.capacity().min(count);
        if room > 0 {
            return room;
        }
        let waker = self.waker.get_or_insert_with(|| {
            Waker::from(Arc::new(RoomNote { shared: Arc::clone(&self.shared), stream: self.stream }))
        });
        let mut context = Context::from_waker(waker);
        loop {
            match send.poll_capacity(&mut context) {
                Poll::Ready(Some(Ok(0))) => {}
                Poll::Ready(Some(Ok(room))) => return room.min(count),
                Poll::Ready(Some(Err(_)) | None) => {
                    self.failed = true;
                    return 0;
                }
                Poll::Pending => return 0,
            }
        }
    }

    fn send_data(&mut self, bytes: Bytes) {
        let Some(send) = &mut self.send else { return };
        self.written += bytes.len() as u64;
        self.ended = self.length == Some(self.written);
        self.shared.note_data(bytes.len(), 1 + (bytes.len() / FRAME_BYTES) as u32);
        self.failed |= send.send_data(bytes, self.ended).is_err();
    }
}

impl fmt::Debug for StreamIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("stream", &self.handles().stream).finish_non_exhaustive()
    }
}

/// Most that is asked for at once: what one stream has been promised of the connection's window, no other gets.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a DATA frame, as peers usually take it.
const FRAME_BYTES: usize = 16 * 1024;
