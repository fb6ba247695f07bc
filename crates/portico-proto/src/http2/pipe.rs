//! The two buffers between a session and its bytes: what the h2 crate takes for a socket.
//!
//! Nothing waits here: where there is nothing to read, or no room to write, the crate is told so and tried again
//! by whoever brings bytes or takes them.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake};

use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};

use crate::queue::forget_taken;

/// The buffers that a session shares with its pipe and its streams.
#[derive(Debug, Default)]
pub(super) struct SharedBuffers {
    buffers: Mutex<Buffers>,
    /// Streams on which there is room again for those who found none.
    roomy: Mutex<Vec<u32>>,
    /// A stream wants the session to end.
    is_to_leave: AtomicBool,
}

/// The bytes between h2 and the socket, in both directions, with the counts by which the session bounds them.
/// Session, pipe and streams share it behind one lock, which is held only while bytes are copied.
#[derive(Debug, Default)]
struct Buffers {
    input: Vec<u8>,
    /// Bytes of `input` that have been read.
    read: usize,
    output: Vec<u8>,
    /// DATA frames given to the crate since this was asked last.
    data_sent: u32,
    /// Bytes of bodies given to the crate, ever.
    body_bytes: u64,
    /// Those of them that the crate may still have: it had no room for what it wanted to write.
    unwritten: usize,
    /// Streams that have found no room because of those.
    waiting: Vec<u32>,
}

/// The socket that the h2 crate believes it has: two buffers in memory.
#[derive(Debug)]
pub(super) struct InMemoryPipe(pub(super) Arc<SharedBuffers>);

/// Notes that a stream has room again: h2 wakes it when the peer's window opens. It belongs to one stream and
/// touches nothing but the list of those that have room.
#[derive(Debug)]
pub(super) struct RoomNote {
    pub(super) shared: Arc<SharedBuffers>,
    pub(super) stream: u32,
}

/// Bytes that wait for the socket before the crate is told that there is no room. One frame more may come.
const OUTPUT_BYTES_MAX: usize = 128 * 1024;

/// Bytes of bodies of all streams together that the crate is given before it has written them. Each stream could
/// have its share of the windows otherwise, which are the peer's to choose.
const UNWRITTEN_BYTES_MAX: usize = 256 * 1024;

/// Capacity that an empty input buffer keeps.
const INPUT_CAPACITY_KEPT: usize = 4 * 1024;

impl SharedBuffers {
    /// Has `write` append to what there is to read.
    pub(super) fn push<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        write(&mut self.buffers().input)
    }

    /// Moves what there is to write to the end of `out`.
    pub(super) fn take_output(&self, out: &mut Vec<u8>) {
        let mut buffers = self.buffers();
        if out.is_empty() {
            std::mem::swap(&mut buffers.output, out);
        } else {
            out.extend_from_slice(&buffers.output);
            buffers.output.clear();
        }
        if buffers.output.capacity() > OUTPUT_BYTES_MAX {
            buffers.output = Vec::new();
        }
    }

    /// Bytes that the crate has not read, and bytes that nobody has taken to write.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let buffers = self.buffers();
        (buffers.input.len() - buffers.read, buffers.output.len())
    }

    /// Notes that `bytes` of a body, in `count` DATA frames, have been given to the crate.
    pub(super) fn note_data(&self, bytes: usize, count: u32) {
        let mut buffers = self.buffers();
        buffers.data_sent = buffers.data_sent.saturating_add(count);
        buffers.body_bytes += bytes as u64;
        buffers.unwritten += bytes;
    }

    /// Whether the crate is to be given more of stream `stream`'s body; else that stream is told when it is.
    pub(super) fn has_room_for(&self, stream: u32) -> bool {
        self.has_less_unwritten(UNWRITTEN_BYTES_MAX, stream)
    }

    /// Whether the crate has written all of what it has been given; else stream `stream` is told when it has.
    pub(super) fn is_written_for(&self, stream: u32) -> bool {
        self.has_less_unwritten(1, stream)
    }

    fn has_less_unwritten(&self, bytes: usize, stream: u32) -> bool {
        let mut buffers = self.buffers();
        let has_less = buffers.unwritten < bytes;
        if !has_less && !buffers.waiting.contains(&stream) {
            buffers.waiting.push(stream);
        }
        has_less
    }

    /// The crate has written what it could. Where it found room for all, it has nothing left of the bodies: no
    /// stream gives it more than the peer's windows take.
    pub(super) fn note_written(&self) {
        let mut buffers = self.buffers();
        if buffers.output.len() >= OUTPUT_BYTES_MAX {
            return;
        }
        buffers.unwritten = 0;
        if !buffers.waiting.is_empty() {
            let waiting = std::mem::take(&mut buffers.waiting);
            drop(buffers);
            waiting.into_iter().for_each(|stream| self.note_roomy(stream));
        }
    }

    /// Bytes of bodies given to the crate so far.
    pub(super) fn body_bytes(&self) -> u64 {
        self.buffers().body_bytes
    }

    /// Memory that the buffers, and bodies in the crate, take.
    pub(super) fn memory_bytes(&self) -> usize {
        let buffers = self.buffers();
        buffers.input.capacity() + buffers.output.capacity() + buffers.unwritten
    }

    fn note_roomy(&self, stream: u32) {
        let mut roomy = self.roomy.lock().unwrap_or_else(PoisonError::into_inner);
        if !roomy.contains(&stream) {
            roomy.push(stream);
        }
    }

    /// The peer is to begin no more streams.
    pub(super) fn ask_to_leave(&self) {
        self.is_to_leave.store(true, Ordering::Relaxed);
    }

    /// Whether [`SharedBuffers::ask_to_leave`] has been called.
    pub(super) fn is_to_leave(&self) -> bool {
        self.is_to_leave.load(Ordering::Relaxed)
    }

    /// DATA frames given to the crate since the last call.
    pub(super) fn take_data_sent(&self) -> u32 {
        std::mem::take(&mut self.buffers().data_sent)
    }

    /// A stream that has room again.
    pub(super) fn next_roomy(&self) -> Option<u32> {
        self.roomy.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Whether [`SharedBuffers::next_roomy`] has something.
    pub(super) fn is_roomy(&self) -> bool {
        !self.roomy.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Gives the memory of empty buffers back.
    pub(super) fn release(&self) {
        let mut buffers = self.buffers();
        if buffers.read == buffers.input.len() {
            (buffers.input, buffers.read) = (Vec::new(), 0);
        }
        if buffers.output.is_empty() {
            buffers.output = Vec::new();
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        // Each change is whole before the lock is let go.
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for InMemoryPipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let buffers = &mut *self.0.buffers();
        let unread = &buffers.input[buffers.read..];
        if unread.is_empty() {
            return Poll::Pending;
        }
        let count = unread.len().min(to.remaining());
        to.put_slice(&unread[..count]);
        buffers.read += count;
        if buffers.read == buffers.input.len() {
            buffers.input.clear();
            buffers.input.shrink_to(INPUT_CAPACITY_KEPT);
            buffers.read = 0;
        }
        forget_taken(&mut buffers.input, &mut buffers.read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InMemoryPipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut buffers = self.0.buffers();
        if buffers.output.len() >= OUTPUT_BYTES_MAX {
            return Poll::Pending;
        }
        buffers.output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Wake for RoomNote {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.note_roomy(self.stream);
    }
}
