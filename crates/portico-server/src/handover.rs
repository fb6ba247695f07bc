//! Connections and requests on their way from one worker process to another.
//!
//! Owns what workers share: two queues in the kernel that all of them send to and take from, and what each tells
//! the others of its load.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// How much there is to do in one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Threads that are in a call.
    pub busy: u32,
    /// Threads that could take a request now.
    pub idle: u32,
    /// Requests that wait for a thread.
    pub queued: u32,
    /// Connections.
    pub connections: u32,
}

/// The other workers, as this one sees them.
pub trait Siblings: Send + Sync + 'static {
    /// Tells the others what this worker has to do. Called when it changes, by whichever thread changes it.
    fn publish(&self, load: Load);

    /// Threads of the others, as far as these are ready, that could take a request now.
    fn idle_threads(&self) -> u32;

    /// Whether another worker is ready.
    fn has_ready(&self) -> bool;
}

/// What a worker that is one of several shares with the others.
#[derive(Clone)]
pub struct Sharing {
    /// The queues.
    pub handover: Handover,
    /// The others.
    pub siblings: Arc<dyn Siblings>,
}

/// The queues through which workers hand connections and requests to each other. Made before they are forked; all
/// clones are the same queues.
#[derive(Clone, Debug)]
pub struct Handover {
    /// Connections between requests; every worker takes from it at any time.
    _idle: Arc<Pair>,
    /// Complete requests; a worker takes from it while it has an idle thread.
    _ready: Arc<Pair>,
}

#[derive(Debug)]
struct Pair {
    _sender: OwnedFd,
    _receiver: OwnedFd,
}

impl Handover {
    /// Two empty queues.
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self { _idle: Arc::new(Pair::new()?), _ready: Arc::new(Pair::new()?) })
    }
}

impl Pair {
    fn new() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (sender, receiver) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self { _sender: sender, _receiver: receiver })
    }
}
