//! Connections and requests on their way from one worker process to another.
//!
//! Owns what workers share: two queues in the kernel that all of them send to and take from, the form of what is
//! in them, and what each worker tells the others of its load. Who sends what and when is the engine's affair.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_log::Occurrences;
use portico_os::above_standard;
use portico_proto::Peer;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use rustix::time::{ClockId, clock_gettime};

/// The work that there is in one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Threads that are in a call.
    pub busy: u32,
    /// Threads that could take a request now.
    pub idle: u32,
}

/// The other workers, as this one sees them.
pub trait Siblings: Send + Sync + 'static {
    /// Tells the others what this worker has to do. Called when it changes, by whichever thread changes it.
    fn publish(&self, load: Load);

    /// Threads of the others, as far as these are ready, that could take a request now.
    fn idle_threads(&self) -> u32;

    /// Whether another worker is ready.
    fn has_ready(&self) -> bool;

    /// Whether a worker that retires leaves the requests that wait in it to the others as well: its code is out of
    /// date.
    fn take_waiting(&self) -> bool {
        false
    }
}

/// The engine's ends of what it shares with other workers: the queues and the scoreboard.
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
    idle: Arc<SocketPair>,
    ready: Arc<SocketPair>,
}

/// One of the two queues between workers: of idle connections, or of waiting requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandoverQueue {
    /// Connections between requests; every worker takes from it at any time.
    Idle,
    /// Complete requests; a worker takes from it while it has a free thread.
    Ready,
}

/// The facts of a connection that travel beside its descriptor and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// The other end.
    pub peer: Peer,
    /// Whether what it says of others is believed.
    pub trusted: bool,
    /// Whether the socket is a UNIX socket; the peer may have told an address all the same.
    pub is_unix: bool,
    /// Where the client connected to, as its PROXY header tells.
    pub destination: Option<SocketAddr>,
    /// Which of the listeners, which all workers have in the same order, it came through.
    pub listener: u32,
    /// Requests answered on it.
    pub served: u32,
    /// How often the present request has been handed over.
    pub handover_count: u8,
    /// In the idle queue until when the client's next bytes are awaited; in the other since when the request
    /// waits.
    pub moment: Instant,
}

/// A connection that another worker has handed over.
#[derive(Debug)]
pub(crate) struct HandoverMessage<'a> {
    /// Its descriptor.
    pub socket: OwnedFd,
    /// What is told of it.
    pub metadata: Metadata,
    /// What has been read from it and not been used.
    pub bytes: &'a [u8],
}

/// The outcome of sending a connection to the other workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dispatch {
    /// It is on its way: the sender has nothing more to do with it.
    Done,
    /// The queue is full for now.
    Full,
    /// The kernel does not do it.
    Refused,
}

/// Bytes that go along with a connection at most. A message above some 48 KiB would be taken apart by the kernel.
pub(crate) const BYTES_MAX: usize = MESSAGE_BYTES_MAX - HEADER_BYTES;

/// The same with the label.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Begins each message and tells its layout. Sender and taker are forks of one process.
const MAGIC: [u8; 4] = *b"hnd\x03";

/// Bits of the flags.
const TRUSTED: u8 = 1;
const UNIX: u8 = 2;

/// Magic, flags, handover_count, listener, served, moment, peer, destination.
const HEADER_BYTES: usize = 4 + 1 + 1 + 4 + 4 + 8 + 2 * ADDRESS_BYTES;

/// Kind, port, address, scope.
const ADDRESS_BYTES: usize = 1 + 2 + 16 + 4;

/// What the kernel is asked to let wait in each queue; it grants what `net.core.wmem_max` allows.
const QUEUE_BYTES: usize = 1024 * 1024;

/// Whoever has the queues can send what he likes, as often as he likes.
static FOREIGN: Occurrences = Occurrences::new();
static UNTAKEN: Occurrences = Occurrences::new();

/// The two ends of one queue of connections that go to another worker. It is made before the workers are forked,
/// which all share it: whoever takes a message has it alone.
#[derive(Debug)]
struct SocketPair {
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Handover {
    /// Two empty queues.
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self { idle: Arc::new(SocketPair::new()?), ready: Arc::new(SocketPair::new()?) })
    }

    /// What becomes readable when there is something to take.
    pub(crate) fn receiver(&self, queue: HandoverQueue) -> BorrowedFd<'_> {
        self.pair(queue).receiver.as_fd()
    }

    /// Whether nothing waits to be taken.
    pub(crate) fn is_empty(&self, queue: HandoverQueue) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.receiver(queue), PollFlags::IN)];
        let polled = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok_and(|ready| ready == 0)
    }

    /// Sends a connection and `pieces`, at most [`BYTES_MAX`] bytes together. `now` is what its label counts as
    /// the present.
    pub(crate) fn send(
        &self,
        queue: HandoverQueue,
        (socket, metadata): (BorrowedFd<'_>, &Metadata),
        pieces: [&[u8]; 3],
        now: Instant,
    ) -> Dispatch {
        let header = metadata.encode(now);
        let [first, second, third] = pieces;
        let message = [&header[..], first, second, third].map(IoSlice::new);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket];
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        loop {
            let sender = &self.pair(queue).sender;
            return match sendmsg(sender, &message, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => Dispatch::Done,
                Err(Errno::INTR) => continue,
                // All but the first: too many descriptors are under way, or memory is short.
                Err(Errno::AGAIN | Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) => Dispatch::Full,
                Err(error) => {
                    log::debug!("a connection cannot be handed over: {error}");
                    Dispatch::Refused
                }
            };
        }
    }

    /// Takes what waits longest; `None` if nothing does. `buffer` has room for [`MESSAGE_BYTES_MAX`].
    pub(crate) fn take<'b>(
        &self,
        queue: HandoverQueue,
        buffer: &'b mut [u8],
        now: Instant,
    ) -> Option<HandoverMessage<'b>> {
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = {
                let mut pieces = [IoSliceMut::new(buffer)];
                recvmsg(&self.pair(queue).receiver, &mut pieces, &mut control, flags)
            };
            let (count, truncated) = match received {
                Ok(message) => (message.bytes, message.flags.contains(ReturnFlags::TRUNC)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return None,
                Err(error) => {
                    if let Some(times) = UNTAKEN.note() {
                        log::error!("what other workers hand over cannot be taken: {error}{times}");
                    }
                    return None;
                }
            };
            let socket = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut sockets) => {
                    sockets.next().and_then(|socket| above_standard(socket).ok())
                }
                _ => None,
            });
            let metadata = buffer.get(..count).and_then(|message| Metadata::decode(message, now));
            match (socket, metadata) {
                (Some(socket), Some(metadata)) if !truncated => {
                    return Some(HandoverMessage { socket, metadata, bytes: &buffer[HEADER_BYTES..count] });
                }
                (socket, _) => {
                    if let Some(times) = FOREIGN.note() {
                        let had = if socket.is_some() { "with" } else { "without" };
                        log::error!(
                            "closed a message of {count} bytes {had} a connection, which is not one of ours{times}"
                        );
                    }
                }
            }
        }
    }

    fn pair(&self, queue: HandoverQueue) -> &SocketPair {
        match queue {
            HandoverQueue::Idle => &self.idle,
            HandoverQueue::Ready => &self.ready,
        }
    }
}

impl SocketPair {
    fn new() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // SEQPACKET: a message is taken whole, by one taker.
        let (sender, receiver) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        sockopt::set_socket_send_buffer_size(&sender, QUEUE_BYTES)?;
        Ok(Self { sender: above_standard(sender)?, receiver: above_standard(receiver)? })
    }
}

impl Metadata {
    fn encode(&self, now: Instant) -> [u8; HEADER_BYTES] {
        // All of it, so that what is added here does not stay behind.
        let Self { peer, trusted, is_unix, destination, listener, served, handover_count, moment } = *self;
        let peer = match peer {
            Peer::Unix => None,
            Peer::Inet(address) => Some(address),
        };
        let flags = (TRUSTED * u8::from(trusted)) | (UNIX * u8::from(is_unix));
        let mut header = [0; HEADER_BYTES];
        let mut rest = &mut header[..];
        for field in [
            &MAGIC[..],
            &[flags, handover_count],
            &listener.to_ne_bytes(),
            &served.to_ne_bytes(),
            &nanos_of(moment, now).to_ne_bytes(),
            &encode_address(peer),
            &encode_address(destination),
        ] {
            put(&mut rest, field);
        }
        header
    }

    /// `None` if `message` does not begin with one.
    fn decode(message: &[u8], now: Instant) -> Option<Self> {
        let mut rest = message.strip_prefix(&MAGIC)?;
        let [flags, handover_count] = field(&mut rest)?;
        let (trusted, is_unix) = (flags & TRUSTED != 0, flags & UNIX != 0);
        let listener = u32::from_ne_bytes(field(&mut rest)?);
        let served = u32::from_ne_bytes(field(&mut rest)?);
        let moment = moment_of(u64::from_ne_bytes(field(&mut rest)?), now)?;
        let peer = decode_address(&mut rest)?.map_or(Peer::Unix, Peer::Inet);
        let destination = decode_address(&mut rest)?;
        Some(Self { peer, trusted, is_unix, destination, listener, served, handover_count, moment })
    }
}

fn encode_address(address: Option<SocketAddr>) -> [u8; ADDRESS_BYTES] {
    let (kind, ip, port, scope) = match address {
        None => (0, Ipv6Addr::UNSPECIFIED, 0, 0),
        Some(SocketAddr::V4(it)) => (4, it.ip().to_ipv6_mapped(), it.port(), 0),
        Some(SocketAddr::V6(it)) => (6, *it.ip(), it.port(), it.scope_id()),
    };
    let mut encoded = [0; ADDRESS_BYTES];
    let mut rest = &mut encoded[..];
    for field in [&[kind][..], &port.to_ne_bytes(), &ip.octets(), &scope.to_ne_bytes()] {
        put(&mut rest, field);
    }
    encoded
}

/// The address that `rest` begins with, if it tells of one; `None` if what it begins with is not encoded so.
fn decode_address(rest: &mut &[u8]) -> Option<Option<SocketAddr>> {
    let [kind] = field(rest)?;
    let port = u16::from_ne_bytes(field(rest)?);
    let ip = Ipv6Addr::from(field::<16>(rest)?);
    let scope = u32::from_ne_bytes(field(rest)?);
    match kind {
        0 => Some(None),
        4 => Some(Some(SocketAddr::new(IpAddr::V4(ip.to_ipv4_mapped()?), port))),
        6 => Some(Some(SocketAddrV6::new(ip, port, 0, scope).into())),
        _ => None,
    }
}

/// Writes `field` to the beginning of `rest`, of which what is behind it is left.
fn put(rest: &mut &mut [u8], field: &[u8]) {
    let (place, after) = std::mem::take(rest).split_at_mut(field.len());
    place.copy_from_slice(field);
    *rest = after;
}

fn field<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*field)
}

/// The clock that all processes of a machine share, in nanoseconds.
fn shared_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// `moment` by the shared clock. `Instant`s cannot be passed on: only what lies between two of them has a number.
fn nanos_of(moment: Instant, now: Instant) -> u64 {
    let past = now.saturating_duration_since(moment).as_nanos() as u64;
    let ahead = moment.saturating_duration_since(now).as_nanos() as u64;
    shared_nanos().saturating_sub(past).saturating_add(ahead)
}

/// The other way round; `None` for a moment that no `Instant` can tell.
fn moment_of(nanos: u64, now: Instant) -> Option<Instant> {
    let shared = shared_nanos();
    now.checked_sub(Duration::from_nanos(shared.saturating_sub(nanos)))?
        .checked_add(Duration::from_nanos(nanos.saturating_sub(shared)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn metadata(peer: Peer, moment: Instant) -> Metadata {
        let destination = (peer != Peer::Unix).then(|| "[2001:db8::1%7]:443".parse().unwrap());
        let is_unix = peer == Peer::Unix;
        Metadata {
            peer,
            trusted: !is_unix,
            is_unix,
            destination,
            listener: 3,
            served: 70_000,
            handover_count: 2,
            moment,
        }
    }

    #[test]
    fn a_connection_arrives_with_what_is_told_of_it() {
        let handover = Handover::new().unwrap();
        let now = Instant::now();
        let mut buffer = vec![0; 64 * 1024];
        for peer in ["1.2.3.4:5", "[::1]:6"]
            .map(|peer| Peer::Inet(peer.parse().unwrap()))
            .into_iter()
            .chain([Peer::Unix])
        {
            for seconds in [-30, 0, 75] {
                let ago = Duration::from_secs(i64::unsigned_abs(seconds));
                let moment = if seconds < 0 { now - ago } else { now + ago };
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                let sent = metadata(peer, moment);
                let pieces: [&[u8]; 3] = [b"head", b"", &vec![b'x'; BYTES_MAX - 4]];
                assert_eq!(
                    handover.send(HandoverQueue::Ready, (ours.as_fd(), &sent), pieces, now),
                    Dispatch::Done
                );
                drop(ours);
                assert!(handover.is_empty(HandoverQueue::Idle) && !handover.is_empty(HandoverQueue::Ready));
                assert!(handover.take(HandoverQueue::Idle, &mut buffer, now).is_none());
                let message = handover.take(HandoverQueue::Ready, &mut buffer, now).unwrap();
                assert_eq!(message.bytes, pieces.concat());
                let drift = message.metadata.moment.max(moment) - message.metadata.moment.min(moment);
                assert!(drift < Duration::from_secs(1), "{drift:?}");
                assert_eq!(Metadata { moment, ..message.metadata }, sent);
                UnixStream::from(message.socket).write_all(b"it is this one").unwrap();
                let mut received = String::new();
                theirs.read_to_string(&mut received).unwrap();
                assert_eq!(received, "it is this one");
            }
        }
    }

    #[test]
    fn a_full_queue_says_so_and_empties() {
        let handover = Handover::new().unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let now = Instant::now();
        let metadata = metadata(Peer::Unix, now);
        let pieces: [&[u8]; 3] = [&[0; 1000], b"", b""];
        let mut count = 0;
        while handover.send(HandoverQueue::Idle, (ours.as_fd(), &metadata), pieces, now) == Dispatch::Done {
            count += 1;
            assert!(count < 100_000, "it never fills");
        }
        assert!(count > 50, "{count}");
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..count {
            assert_eq!(handover.take(HandoverQueue::Idle, &mut buffer, now).unwrap().bytes.len(), 1000);
        }
        assert!(handover.take(HandoverQueue::Idle, &mut buffer, now).is_none());
    }

    #[test]
    fn what_is_not_of_ours_is_closed_and_what_is_behind_it_is_taken() {
        let handover = Handover::new().unwrap();
        let now = Instant::now();
        let sender = &handover.idle.sender;
        rustix::net::send(sender, b"", SendFlags::empty()).unwrap();
        rustix::net::send(sender, b"hnd\x01 and then nothing of the kind", SendFlags::empty()).unwrap();
        rustix::net::send(sender, &metadata(Peer::Unix, now).encode(now), SendFlags::empty()).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets = [ours.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            sendmsg(sender, &[IoSlice::new(b"another layout")], &mut control, SendFlags::empty()).unwrap();
        }
        drop(ours);
        let (good, _client) = UnixStream::pair().unwrap();
        handover.send(HandoverQueue::Idle, (good.as_fd(), &metadata(Peer::Unix, now)), [b"x", b"", b""], now);
        let mut buffer = vec![0; 64 * 1024];
        assert_eq!(handover.take(HandoverQueue::Idle, &mut buffer, now).unwrap().bytes, b"x");
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "closed");
    }
}
