//! The records of one request, between its session and whoever serves it.
//!
//! What is read is what the peer has sent for the request's id, record for record; what is written is records too,
//! of which the session takes whole ones only, so that those of several requests never mix.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record;
use crate::queue::forget_taken;
use crate::streams::IoProgress;

/// Both directions of one request of a session.
#[derive(Debug)]
pub struct StreamIo {
    number: u32,
    streams: SharedStreams,
}

/// The queues that a session shares with its streams.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedStreams(Arc<Mutex<StreamMap>>);

/// The buffers of all requests of a session, by number. Session and streams share it behind one lock; it counts
/// what all outputs hold together, by which the session bounds them.
#[derive(Debug, Default)]
pub(super) struct StreamMap {
    requests: HashMap<u32, StreamBuffers>,
    /// Requests that have written records, or ended, since they were looked at.
    ready: VecDeque<u32>,
    /// Requests for whose writers there is room again.
    roomy: Vec<u32>,
    /// Bytes of all outputs together.
    output_bytes: usize,
    /// Bytes that have been written to outputs, ever.
    written: u64,
}

/// The bytes of one request, both ways, between its session and whoever serves it. Four booleans, because session
/// and server each say two things of their own end.
#[derive(Debug, Default)]
pub(super) struct StreamBuffers {
    pub(super) id: u16,
    /// The connection outlives it, as far as it has a say.
    pub(super) keeps_connection: bool,
    input: Vec<u8>,
    /// Bytes of `input` that have been read.
    read: usize,
    output: Vec<u8>,
    /// It is among those that are ready.
    is_ready: bool,
    /// Its writer has found no room.
    waits: bool,
    /// Nobody serves it any more.
    is_left: bool,
}

/// A request that is over, as [`StreamMap::take_output`] finds.
#[derive(Debug)]
pub(super) struct FinishedRequest {
    pub(super) request: StreamBuffers,
    /// Its END_REQUEST has gone out.
    pub(super) ended: bool,
}

/// Bytes of one request's response that wait for the session. A record fits.
const OUTPUT_BYTES_MAX: usize = 2 * (record::HEADER_BYTES + record::CONTENT_BYTES_MAX);

/// Bytes of all requests' responses together that wait for the session, but that each has room for a record.
const SESSION_OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that are taken of one request before others have their turn.
const TURN_BYTES: usize = 32 * 1024;

/// Capacity that an empty buffer keeps.
const CAPACITY_KEPT: usize = 16 * 1024;

impl StreamIo {
    /// Reads into `buffer` what there is of the request's records.
    pub fn read(&self, buffer: &mut [u8]) -> IoProgress {
        let mut streams = self.streams.lock();
        let Some(request) = streams.requests.get_mut(&self.number) else { return IoProgress::Failed };
        let unread = &request.input[request.read..];
        let count = unread.len().min(buffer.len());
        if count == 0 {
            return IoProgress::Blocked;
        }
        buffer[..count].copy_from_slice(&unread[..count]);
        request.read += count;
        if request.read == request.input.len() {
            request.input.clear();
            request.input.shrink_to(CAPACITY_KEPT);
            request.read = 0;
        }
        forget_taken(&mut request.input, &mut request.read);
        IoProgress::Bytes(count)
    }

    /// Takes as many as there is room for of `bytes`, which go on where the last ones ended.
    pub fn write(&self, bytes: &[u8]) -> IoProgress {
        let mut streams = self.streams.lock();
        let is_full = streams.is_full();
        let Some(request) = streams.requests.get_mut(&self.number) else { return IoProgress::Failed };
        let count = request.room(bytes.len(), is_full);
        if count == 0 {
            return IoProgress::Blocked;
        }
        request.output.extend_from_slice(&bytes[..count]);
        streams.output_bytes += count;
        streams.written += count as u64;
        streams.note_ready(self.number);
        IoProgress::Bytes(count)
    }

    /// How many of `count` bytes [`StreamIo::write`] would take now; 0 is for [`IoProgress::Blocked`].
    pub fn room(&self, count: usize) -> usize {
        let mut streams = self.streams.lock();
        let is_full = streams.is_full();
        streams.requests.get_mut(&self.number).map_or(0, |request| request.room(count, is_full))
    }

    /// Bytes that all requests of the session have written.
    pub fn session_bytes(&self) -> u64 {
        self.streams.lock().written
    }

    /// Bytes that have come for the request and not been read.
    pub fn unread_bytes(&self) -> usize {
        self.streams.lock().requests.get(&self.number).map_or(0, |request| request.input.len() - request.read)
    }

    /// Whether the request has been given up or answered, or its session has ended.
    pub fn is_gone(&self) -> bool {
        !self.streams.lock().requests.contains_key(&self.number)
    }
}

impl SharedStreams {
    pub(super) fn lock(&self) -> MutexGuard<'_, StreamMap> {
        // Each change is whole before the lock is let go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new request with this number.
    pub(super) fn open(&self, number: u32, id: u16, keeps_connection: bool) -> StreamIo {
        let request = StreamBuffers { id, keeps_connection, ..StreamBuffers::default() };
        self.lock().requests.insert(number, request);
        StreamIo { number, streams: self.clone() }
    }
}

impl StreamMap {
    pub(super) fn contains(&self, number: u32) -> bool {
        self.requests.contains_key(&number)
    }

    /// Adds to what there is to read of a request; `false` if it is over.
    pub(super) fn push(&mut self, number: u32, bytes: &[u8]) -> bool {
        let request = self.requests.get_mut(&number);
        request.map(|request| request.input.extend_from_slice(bytes)).is_some()
    }

    /// Forgets a request.
    pub(super) fn remove(&mut self, number: u32) -> Option<StreamBuffers> {
        let removed = self.requests.remove(&number)?;
        self.output_bytes -= removed.output.len();
        Some(removed)
    }

    /// Whether the session has enough to write.
    fn is_full(&self) -> bool {
        self.output_bytes >= SESSION_OUTPUT_BYTES_MAX
    }

    /// Bytes that wait to be written.
    pub(super) fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    /// Nobody serves this request any more: what it has written is all that it will have.
    pub(super) fn leave(&mut self, number: u32) {
        if let Some(request) = self.requests.get_mut(&number) {
            request.is_left = true;
            self.note_ready(number);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A request that has room again.
    pub(super) fn next_roomy(&mut self) -> Option<u32> {
        self.roomy.pop()
    }

    pub(super) fn has_roomy(&self) -> bool {
        !self.roomy.is_empty()
    }

    /// Whether [`StreamMap::take_output`] may have something.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Appends to `out` records of the request whose turn it is, if there is one; returns it if it is over.
    pub(super) fn take_output(&mut self, out: &mut Vec<u8>) -> Option<FinishedRequest> {
        let number = self.ready.pop_front()?;
        let request = self.requests.get_mut(&number)?;
        let (count, ended) = record::whole(&request.output, TURN_BYTES);
        out.extend_from_slice(&request.output[..count]);
        request.output.drain(..count);
        self.output_bytes -= count;
        request.output.shrink_to(OUTPUT_BYTES_MAX);
        let more = record::whole(&request.output, 0).0 > 0;
        request.is_ready = more;
        if ended || request.is_left && !more {
            return self.remove(number).map(|request| FinishedRequest { request, ended });
        }
        if more {
            self.ready.push_back(number);
        }
        if count > 0 && std::mem::take(&mut request.waits) {
            self.roomy.push(number);
        }
        None
    }

    fn note_ready(&mut self, number: u32) {
        if let Some(request) = self.requests.get_mut(&number)
            && !std::mem::replace(&mut request.is_ready, true)
        {
            self.ready.push_back(number);
        }
    }
}

impl StreamBuffers {
    /// How many of `count` bytes it takes; `is_full`: no more than a record, since the session has enough to
    /// write.
    fn room(&mut self, count: usize, is_full: bool) -> usize {
        let max = if is_full { OUTPUT_BYTES_MAX / 2 } else { OUTPUT_BYTES_MAX };
        let room = max.saturating_sub(self.output.len()).min(count);
        self.waits = room == 0;
        room
    }
}
