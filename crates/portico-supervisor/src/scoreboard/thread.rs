//! One thread's record: what it is at, and which request it answers.
//!
//! Its thread writes all of it but one word: by that others ask for the present call to be cancelled. It holds
//! the sequence number of the call that is meant. No two calls of a record have the same, whichever workers they
//! are of, so that what comes late is about no call any more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use portico_config::Config;

use super::thread_totals::{TOTAL_WORDS, ThreadTotals};

/// One thread's record on the scoreboard: what it is at and which request it answers. A reader may meet it half
/// written, which the sequence number shows.
#[derive(Clone, Copy, Debug)]
pub struct ThreadRecord<'a>(pub(super) &'a [AtomicU64]);

/// The state of a thread, as others see it on the scoreboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum ThreadState {
    /// There is no such thread, or it waits for a request.
    #[default]
    Idle = 0,
    /// The application works on a request.
    Running = 1,
    /// The application waits for the client: to take more of the answer, or to send more of the body.
    AwaitingClient = 2,
    /// Written off: it did not end in time. The request that it holds has been answered.
    Lost = 3,
    /// The application has taken over the connection of the request, and serves a WebSocket.
    Stream = 4,
}

/// The most threads that a worker with this configuration ever has: those that answer requests, as many that may
/// be written off, and those whose connection the application has taken over.
pub fn thread_count(config: &Config) -> usize {
    2 * config.threads as usize + config.max_streams as usize
}

/// A request as a thread notes it down.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// Its method; cut at 16 bytes.
    pub method: &'a [u8],
    /// Its target; cut at 256 bytes.
    pub target: &'a [u8],
    /// Who sent it; `None` for a UNIX socket.
    pub peer: Option<IpAddr>,
    /// When the thread began with it, see [`now_nanos`](super::now_nanos).
    pub begun_nanos: u64,
    /// How long it had waited.
    pub queued_nanos: u64,
    /// How long it may take, where its route says so; zero means without end.
    pub route_timeout: Option<Duration>,
}

/// A request that a thread is answering, as another process reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Tells this request from the thread's others.
    pub sequence: u64,
    /// What the thread is at: not [`ThreadState::Idle`].
    pub state: ThreadState,
    /// The method.
    pub method: Vec<u8>,
    /// The target, as far as there was room.
    pub target: Vec<u8>,
    /// Who sent it; `None` for a UNIX socket.
    pub peer: Option<IpAddr>,
    /// When the thread began with it.
    pub begun_nanos: u64,
    /// When the application last handed over a block, or began.
    pub progress_nanos: u64,
    /// How long it had waited for the thread.
    pub queued_nanos: u64,
    /// How long it may take, where its route says so; zero means without end.
    pub route_timeout: Option<Duration>,
    /// The kernel's id of the thread.
    pub native_id: u64,
    /// Python's `threading.get_ident()`.
    pub ident: u64,
    /// Whether it is asked to be cancelled.
    pub is_cancel_asked: bool,
}

impl Running {
    /// The path of its target: without the query, which may hold secrets.
    pub fn path(&self) -> &[u8] {
        self.target.split(|&byte| byte == b'?').next().unwrap_or_default()
    }

    /// How long the application may take for it without handing over a block; zero means without end.
    pub fn timeout(&self, config: &Config) -> Duration {
        self.route_timeout.unwrap_or_else(|| config.timeout_for(self.path()))
    }
}

/// The name of the thread with record number `index`.
pub fn thread_name(index: usize) -> String {
    format!("portico-{}", index + 1)
}

/// Indices of the numbers in a thread's record on the scoreboard.
#[derive(Clone, Copy)]
enum ThreadField {
    Sequence,
    StateMachine,
    BegunNanos,
    ProgressNanos,
    QueuedNanos,
    /// 0 none, else one more than its nanoseconds.
    RouteTimeout,
    NativeId,
    Ident,
    /// 0 none, else the version of its address.
    PeerKind,
    PeerHigh,
    PeerLow,
    MethodBytes,
    TargetBytes,
}

const METHOD_WORDS: usize = 2;
const TARGET_WORDS: usize = 32;
const TEXT_AT: usize = ThreadField::TargetBytes as usize + 1;
/// The sequence number of the call that is to be cancelled. Others write it, and nothing depends on it but that.
const CANCEL_AT: usize = TEXT_AT + METHOD_WORDS + TARGET_WORDS;
const TOTALS_AT: usize = CANCEL_AT + 1;
/// Whole cache lines, so that threads do not write into each other's.
pub(super) const THREAD_WORDS: usize = (TOTALS_AT + TOTAL_WORDS).next_multiple_of(8);

impl<'a> ThreadRecord<'a> {
    fn word(&self, field: ThreadField) -> &AtomicU64 {
        &self.0[field as usize]
    }

    /// What it counts for ever.
    #[inline]
    pub fn totals(self) -> ThreadTotals<'a> {
        ThreadTotals(&self.0[TOTALS_AT..TOTALS_AT + TOTAL_WORDS])
    }

    /// The thread tells who it is, once: the kernel's id and Python's.
    pub fn enlist(self, native_id: u64, ident: u64) {
        self.word(ThreadField::NativeId).store(native_id, Ordering::Release);
        self.word(ThreadField::Ident).store(ident, Ordering::Release);
    }

    /// The kernel's id of the thread; 0 before it has told who it is.
    pub fn native_id(self) -> u64 {
        self.word(ThreadField::NativeId).load(Ordering::Acquire)
    }

    /// The thread begins with a request. Returns the request's sequence number.
    pub fn begin(self, note: &Note<'_>) -> u64 {
        let sequence = self.word(ThreadField::Sequence).load(Ordering::Relaxed);
        self.word(ThreadField::Sequence).store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release); // The odd number is out before what follows.
        let set = |field, value| self.word(field).store(value, Ordering::Relaxed);
        set(ThreadField::BegunNanos, note.begun_nanos);
        set(ThreadField::ProgressNanos, note.begun_nanos);
        set(ThreadField::QueuedNanos, note.queued_nanos);
        let timeout = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
        set(ThreadField::RouteTimeout, note.route_timeout.map_or(0, timeout));
        match note.peer {
            None => set(ThreadField::PeerKind, 0),
            Some(IpAddr::V4(peer)) => {
                set(ThreadField::PeerKind, 4);
                set(ThreadField::PeerLow, peer.to_bits().into());
            }
            Some(IpAddr::V6(peer)) => {
                set(ThreadField::PeerKind, 6);
                set(ThreadField::PeerHigh, (peer.to_bits() >> 64) as u64);
                set(ThreadField::PeerLow, peer.to_bits() as u64);
            }
        }
        let (method, target) = self.0[TEXT_AT..CANCEL_AT].split_at(METHOD_WORDS);
        set(ThreadField::MethodBytes, store_text(method, note.method));
        set(ThreadField::TargetBytes, store_text(target, note.target));
        set(ThreadField::StateMachine, ThreadState::Running as u64);
        self.word(ThreadField::Sequence).store(sequence + 2, Ordering::Release);
        sequence + 2
    }

    /// The application has handed over a block.
    pub fn progress(self, now_nanos: u64) {
        self.word(ThreadField::ProgressNanos).store(now_nanos, Ordering::Relaxed);
    }

    /// When the thread began with its present request, or its last one.
    pub fn begun_nanos(self) -> u64 {
        self.word(ThreadField::BegunNanos).load(Ordering::Relaxed)
    }

    /// Goes to another state.
    pub fn set_state(self, state: ThreadState) {
        self.word(ThreadField::StateMachine).store(state as u64, Ordering::Release);
    }

    /// What it is at.
    pub fn state(self) -> ThreadState {
        match self.word(ThreadField::StateMachine).load(Ordering::Acquire) {
            1 => ThreadState::Running,
            2 => ThreadState::AwaitingClient,
            3 => ThreadState::Lost,
            4 => ThreadState::Stream,
            _ => ThreadState::Idle,
        }
    }

    /// The sequence number of its present request.
    pub fn sequence(self) -> u64 {
        self.word(ThreadField::Sequence).load(Ordering::Acquire)
    }

    /// Asks for call `sequence` to be cancelled. One that has ended is past that.
    pub fn ask_cancel(self, sequence: u64) {
        self.0[CANCEL_AT].store(sequence, Ordering::Release);
    }

    /// Sets it to zero, for the thread of another worker, which goes on with the sequence numbers.
    pub(super) fn begin_worker(self) {
        let sequence = self.sequence();
        self.0[..TOTALS_AT].iter().for_each(|word| word.store(0, Ordering::Release));
        // Odd where its thread has died while it wrote.
        self.word(ThreadField::Sequence).store(sequence.wrapping_add(sequence % 2), Ordering::Release);
    }

    /// The request that it is answering; `None` if it is idle, or goes from one to the next at this moment.
    pub fn running(self) -> Option<Running> {
        // A few looks: the text is being written for some nanoseconds.
        (0..8).find_map(|_| self.read())
    }

    fn read(self) -> Option<Running> {
        let sequence = self.sequence();
        let state = self.state();
        if sequence % 2 == 1 || state == ThreadState::Idle {
            return None;
        }
        let get = |field| self.word(field).load(Ordering::Relaxed);
        let (high, low) = (get(ThreadField::PeerHigh), get(ThreadField::PeerLow));
        let peer = match get(ThreadField::PeerKind) {
            4 => Some(Ipv4Addr::from_bits(low as u32).into()),
            6 => Some(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).to_canonical()),
            _ => None,
        };
        let (method, target) = self.0[TEXT_AT..CANCEL_AT].split_at(METHOD_WORDS);
        let running = Running {
            sequence,
            state,
            method: load_text(method, get(ThreadField::MethodBytes)),
            target: load_text(target, get(ThreadField::TargetBytes)),
            peer,
            begun_nanos: get(ThreadField::BegunNanos),
            progress_nanos: get(ThreadField::ProgressNanos),
            queued_nanos: get(ThreadField::QueuedNanos),
            route_timeout: get(ThreadField::RouteTimeout).checked_sub(1).map(Duration::from_nanos),
            native_id: get(ThreadField::NativeId),
            ident: get(ThreadField::Ident),
            is_cancel_asked: self.0[CANCEL_AT].load(Ordering::Relaxed) == sequence,
        };
        fence(Ordering::Acquire); // All of that before the second look at the number.
        (self.word(ThreadField::Sequence).load(Ordering::Relaxed) == sequence).then_some(running)
    }
}

/// Stores as much of `text` as there is room for; returns how much that is.
pub(super) fn store_text(words: &[AtomicU64], text: &[u8]) -> u64 {
    let text = &text[..text.len().min(words.len() * 8)];
    // Whole words, and the rest byte by byte: each request pays for this, and a copy of some bytes is a call.
    let (whole, rest) = text.as_chunks::<8>();
    let (mut words, mut whole) = (words, whole);
    while let ([word, words_after @ ..], [bytes, whole_after @ ..]) = (words, whole) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        (words, whole) = (words_after, whole_after);
    }
    if let (Some(word), false) = (words.first(), rest.is_empty()) {
        let value = rest.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        word.store(value, Ordering::Relaxed);
    }
    text.len() as u64
}

pub(super) fn load_text(words: &[AtomicU64], length: u64) -> Vec<u8> {
    let length = (length as usize).min(words.len() * 8);
    let mut text: Vec<u8> = words[..length.div_ceil(8)]
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .collect();
    text.truncate(length);
    text
}
