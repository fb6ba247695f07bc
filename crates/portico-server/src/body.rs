//! The body of a request: how the engine stores it and how the application reads it.
//!
//! A complete body lies in memory up to the request buffer's size and beyond it in an unlinked file. A streamed
//! one passes through a [`BodyPipe`] of the same size.
//!
//! One file because the reader of a body does not know which of the two it is.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use portico_proto::forget_taken;

use crate::spool::{SpoolError, SpoolFile, Spools};

/// A request's body: buffered in memory, spooled to an unlinked file, or still arriving.
pub struct Body {
    source: BodySource,
}

/// The place that the bytes of a body come from: memory, a file, or the connection while it arrives. Owned by the
/// body; reading moves it on, and it never goes back.
enum BodySource {
    Memory { bytes: Vec<u8>, read: usize },
    File { file: SpoolFile, len: u64, read: u64 },
    Stream { pipe: Arc<BodyPipe>, len: Option<u64>, read_more: Box<dyn Fn() + Send + Sync> },
}

/// The reason for which a body ends before its end.
#[derive(Debug)]
pub enum BodyError {
    /// The peer left, was too slow, or broke the framing before the body was complete.
    Disconnected,
    /// The spool file could not be read.
    Io(io::Error),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::from(Vec::new())
    }

    /// A body that arrives while it is read. `read_more` tells the engine that there is room again, and is called
    /// before every wait.
    pub(crate) fn streamed(
        pipe: Arc<BodyPipe>,
        len: Option<u64>,
        read_more: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { source: BodySource::Stream { pipe, len, read_more: Box::new(read_more) } }
    }

    /// Length in bytes; `None` while a streamed chunked body is still arriving.
    pub fn len(&self) -> Option<u64> {
        match &self.source {
            BodySource::Memory { bytes, .. } => Some(bytes.len() as u64),
            BodySource::File { len, .. } => Some(*len),
            BodySource::Stream { len, .. } => *len,
        }
    }

    /// Bytes of memory that a complete body takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.source {
            BodySource::Memory { bytes, .. } => bytes.capacity(),
            BodySource::File { .. } | BodySource::Stream { .. } => 0,
        }
    }

    /// Whether it lies in a temporary file.
    pub(crate) fn has_file(&self) -> bool {
        matches!(self.source, BodySource::File { .. })
    }

    /// Whether there is certainly nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Whether it is still arriving, so that a read may wait for the client.
    pub fn is_streamed(&self) -> bool {
        matches!(self.source, BodySource::Stream { .. })
    }

    /// Bytes not yet read, if the whole body is at hand in memory: no copy, no wait. The gateway consumes with
    /// [`Body::consume`]. `None` for spooled and streamed bodies.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.source {
            BodySource::Memory { bytes, read } => bytes.get(*read..),
            BodySource::File { .. } | BodySource::Stream { .. } => None,
        }
    }

    /// Marks `count` bytes of [`Body::in_memory`] as read.
    pub fn consume(&mut self, count: usize) {
        if let BodySource::Memory { bytes, read } = &mut self.source {
            *read = read.saturating_add(count).min(bytes.len());
        }
    }

    /// Reads at least one byte into `buffer` and returns how many; 0 at the end of a complete body only (or if
    /// `buffer` is empty). May block (spool file, streamed body): call it through
    /// [`Application::blocking`](crate::Application::blocking) or with the interpreter let go.
    ///
    /// # Errors
    /// [`BodyError`], now and at every later call.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        match &mut self.source {
            BodySource::Memory { bytes, read } => {
                let count = buffer.len().min(bytes.len() - *read);
                buffer[..count].copy_from_slice(&bytes[*read..*read + count]);
                *read += count;
                Ok(count)
            }
            BodySource::File { file, len, read } => {
                let count = (buffer.len() as u64).min(*len - *read) as usize;
                if count == 0 {
                    return Ok(0);
                }
                let count = file.read_at(&mut buffer[..count], *read).map_err(BodyError::Io)?;
                if count == 0 {
                    return Err(BodyError::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                *read += count as u64;
                Ok(count)
            }
            BodySource::Stream { pipe, read_more, .. } => pipe.read(buffer, read_more.as_ref()),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self { source: BodySource::Memory { bytes, read: 0 } }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the client disconnected before the request body was complete"),
            Self::Io(error) => write!(f, "the spooled request body cannot be read: {error}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// A body on its way in: memory up to a limit, then an unlinked file.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<(SpoolFile, u64)>,
}

/// The limits up to which a body stays in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryRoom {
    /// Bytes up to which no file is made.
    pub(crate) buffer: usize,
    /// Bytes up to which it stays in memory where no file can be made.
    pub(crate) fallback: usize,
    /// Whether a file may be made for it.
    pub(crate) may_spool: bool,
}

impl Spool {
    /// A spool for a body of which `expected` bytes are announced, of which `memory_bytes_max` may lie in memory.
    pub(crate) fn new(expected: Option<u64>, memory_bytes_max: usize) -> Self {
        // An announced length is only a promise: no more than a read's worth is set aside for it.
        let capacity = expected.unwrap_or(0).min(memory_bytes_max as u64).min(16 * 1024) as usize;
        Self { memory: Vec::with_capacity(capacity), file: None }
    }

    /// Appends `bytes`; beyond what `room` says they go to a file of `spools`.
    ///
    /// # Errors
    /// There is room for them neither in a file nor in memory.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        room: MemoryRoom,
        spools: &Arc<Spools>,
    ) -> Result<(), SpoolError> {
        if self.file.is_none() {
            let together = self.memory.len() + bytes.len();
            if together <= room.buffer {
                self.memory.extend_from_slice(bytes);
                return Ok(());
            }
            let moved = if room.may_spool { self.move_to_file(spools) } else { Err(SpoolError::Files) };
            match moved {
                Ok(()) => {}
                Err(_) if together <= room.fallback => {
                    self.memory.extend_from_slice(bytes);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some((file, len)) = &mut self.file {
            file.write_at(bytes, *len)?;
            *len += bytes.len() as u64;
        }
        Ok(())
    }

    fn move_to_file(&mut self, spools: &Arc<Spools>) -> Result<(), SpoolError> {
        let file = spools.create(0)?;
        file.write_at(&self.memory, 0)?;
        self.file = Some((file, self.memory.len() as u64));
        self.memory = Vec::new();
        Ok(())
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.capacity()
    }

    /// Whether it has gone on in a file.
    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The body, complete.
    pub(crate) fn finish(self) -> Body {
        match self.file {
            Some((file, len)) => Body { source: BodySource::File { file, len, read: 0 } },
            None => Body::from(self.memory),
        }
    }
}

/// A bounded pipe from the engine to the thread that reads a streamed body.
#[derive(Debug)]
pub(crate) struct BodyPipe {
    state: Mutex<PipeState>,
    changed: Condvar,
    bytes_max: usize,
}

/// The part of a streamed body that engine and reader share, behind the pipe's lock. The engine appends and never
/// waits; the reader alone waits.
#[derive(Debug)]
struct PipeState {
    bytes: Vec<u8>,
    read: usize,
    /// What has come behind `bytes`.
    stored: Stored,
    end: Option<PipeEnd>,
}

/// The part of a streamed body that waits outside memory.
#[derive(Debug, Default)]
struct Stored {
    /// Where the file is made; `None` where the peer is to wait instead.
    spools: Option<Arc<Spools>>,
    file: Option<SpoolFile>,
    written: u64,
    read: u64,
}

/// The end of a streamed body, set by the engine. A body that was cut off must never look complete to the
/// application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipeEnd {
    /// All of it has arrived.
    Complete,
    /// The rest will never come.
    Disconnected,
}

impl BodyPipe {
    /// An empty pipe that takes `bytes_max` bytes before it says that it is full; or one that is never full, and
    /// has what there is no room for in a file of `overflow`.
    pub(crate) fn new(bytes_max: usize, overflow: Option<Arc<Spools>>) -> Self {
        let stored = Stored { spools: overflow, ..Stored::default() };
        let state = PipeState { bytes: Vec::new(), read: 0, stored, end: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), bytes_max }
    }

    /// Appends `bytes` (all of them, even beyond the limit: they are read already).
    ///
    /// # Errors
    /// There is no room for them in a file either.
    pub(crate) fn push(&self, bytes: &[u8]) -> Result<(), SpoolError> {
        let mut state = self.lock();
        let waiting = state.bytes.len() - state.read;
        if state.stored.takes(waiting + bytes.len() > self.bytes_max) {
            state.stored.push(bytes)?;
        } else {
            state.bytes.extend_from_slice(bytes);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether the engine is to stop reading from the peer until the application has caught up.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.lock();
        state.bytes.len() - state.read >= self.bytes_max && state.stored.spools.is_none()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lock().bytes.capacity()
    }

    /// No more bytes come. The first word stands.
    pub(crate) fn end(&self, end: PipeEnd) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        self.changed.notify_one();
    }

    fn read(&self, buffer: &mut [u8], read_more: &dyn Fn()) -> Result<usize, BodyError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let mut state = self.lock();
            let waiting = state.bytes.len() - state.read;
            if waiting > 0 {
                let count = waiting.min(buffer.len());
                buffer[..count].copy_from_slice(&state.bytes[state.read..state.read + count]);
                state.read += count;
                if state.read == state.bytes.len() {
                    state.bytes.clear();
                    state.read = 0;
                }
                let PipeState { bytes, read, .. } = &mut *state;
                forget_taken(bytes, read);
                return Ok(count);
            }
            if !state.stored.is_empty() {
                return state.stored.read(buffer).map_err(BodyError::Io);
            }
            match state.end {
                Some(PipeEnd::Complete) => return Ok(0),
                Some(PipeEnd::Disconnected) => return Err(BodyError::Disconnected),
                None => {}
            }
            // Said without the lock: the engine takes it while it answers. What it pushes in between is seen by
            // the look that follows.
            drop(state);
            read_more();
            let state = self.lock();
            if state.bytes.is_empty() && state.stored.is_empty() && state.end.is_none() {
                drop(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        // A panic while the lock is held leaves bytes and position consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn is_empty(&self) -> bool {
        self.read == self.written
    }

    /// Whether what comes next goes here: where there is no room for it elsewhere, or something is here already.
    fn takes(&self, no_room: bool) -> bool {
        self.spools.is_some() && (no_room || !self.is_empty())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let file = match (&mut self.file, &self.spools) {
            (Some(file), _) => file,
            (file @ None, Some(spools)) => file.insert(spools.create(0)?),
            (None, None) => return Ok(()), // Never: `takes` has asked.
        };
        file.write_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Reads what there is; with the last of it the file goes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (buffer.len() as u64).min(self.written - self.read) as usize;
        let count = match &self.file {
            Some(file) => file.read_at(&mut buffer[..count], self.read)?,
            None => 0,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read += count as u64;
        if self.is_empty() {
            (self.file, self.written, self.read) = (None, 0, 0);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(body: &mut Body, step: usize) -> Result<Vec<u8>, BodyError> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            match body.read(&mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn spools() -> Arc<Spools> {
        Arc::new(Spools::new(None, 1 << 20, 8))
    }

    #[test]
    fn a_body_without_a_file_stays_in_memory_up_to_a_bound() {
        let nowhere = Arc::new(Spools::new(Some("/nonexistent".into()), 1 << 20, 8));
        let room = MemoryRoom { buffer: 4, fallback: 10, may_spool: true };
        let mut spool = Spool::new(None, 4);
        for _ in 0..5 {
            spool.push(b"12", room, &nowhere).unwrap();
        }
        assert!(spool.push(b"1", room, &nowhere).is_err());
        assert_eq!(spool.memory.len(), 10);
        // One that has begun in a file cannot go on in memory.
        let small = Arc::new(Spools::new(None, 8, 8));
        let mut spool = Spool::new(None, 4);
        spool.push(b"12345678", room, &small).unwrap();
        assert!(spool.push(b"9", room, &small).is_err());
    }

    #[test]
    fn a_spool_keeps_to_its_limit_and_gives_back_what_it_took() {
        for (total, limit) in [(0, 10), (10, 10), (11, 10), (1000, 10)] {
            let content: Vec<u8> = (0..total).map(|i| i as u8).collect();
            let mut spool = Spool::new(Some(total), limit);
            let room = MemoryRoom { buffer: limit, fallback: limit, may_spool: true };
            for piece in content.chunks(7) {
                spool.push(piece, room, &spools()).unwrap();
                assert!(spool.memory.len() <= limit);
            }
            let mut body = spool.finish();
            assert_eq!(body.in_memory().is_some(), total <= limit as u64);
            assert_eq!(body.len(), Some(total));
            assert_eq!(read_all(&mut body, 13).unwrap(), content);
        }
    }

    #[test]
    fn a_pipe_passes_bytes_on_and_never_ends_a_cut_body_as_if_complete() {
        let pipe = Arc::new(BodyPipe::new(8, None));
        let mut body = Body::streamed(Arc::clone(&pipe), None, || {});
        pipe.push(b"0123456789").unwrap();
        assert!(pipe.is_full());
        let mut buffer = [0; 4];
        assert_eq!(body.read(&mut buffer).unwrap(), 4);
        assert!(!pipe.is_full());
        pipe.end(PipeEnd::Disconnected);
        pipe.end(PipeEnd::Complete);
        assert!(matches!(read_all(&mut body, 3), Err(BodyError::Disconnected)));
        assert!(matches!(body.read(&mut buffer), Err(BodyError::Disconnected)));
    }

    #[test]
    fn a_pipe_that_stores_is_never_full_and_keeps_the_order() {
        let pipe = Arc::new(BodyPipe::new(8, Some(spools())));
        pipe.push(b"01234567").unwrap();
        assert!(!pipe.is_full());
        let mut body = Body::streamed(Arc::clone(&pipe), None, || {});
        let mut expected = b"01234567".to_vec();
        for round in 0..3u8 {
            for piece in [&[b'a' + round; 5][..], &[b'A'; 100], b"-"] {
                pipe.push(piece).unwrap();
                assert!(!pipe.is_full() && pipe.lock().bytes.len() <= 8);
                expected.extend_from_slice(piece);
            }
            let mut part = vec![0; expected.len() - 3];
            let mut filled = 0;
            while filled < part.len() {
                filled += body.read(&mut part[filled..]).unwrap();
            }
            assert_eq!(part, expected[..filled]);
            expected.drain(..filled);
        }
        pipe.end(PipeEnd::Complete);
        assert_eq!(read_all(&mut body, 2).unwrap(), expected);
        assert!(pipe.lock().stored.file.is_none());
    }

    #[test]
    fn a_reader_waits_for_the_engine_and_asks_it_for_more() {
        let pipe = Arc::new(BodyPipe::new(8, None));
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (feed, count) = (Arc::clone(&pipe), Arc::clone(&asked));
        let mut body = Body::streamed(Arc::clone(&pipe), Some(3), move || {
            match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => feed.push(b"abc").unwrap(),
                _ => feed.end(PipeEnd::Complete),
            }
        });
        assert_eq!(read_all(&mut body, 10).unwrap(), b"abc");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
    }
}
