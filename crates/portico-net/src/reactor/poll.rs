//! epoll, edge-triggered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use portico_os::{VitalDescriptors, above_standard};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};

use super::wake::Waker;

/// Waits for readiness on behalf of one engine.
#[derive(Debug)]
pub struct Reactor {
    epoll: OwnedFd,
    wake: Waker,
    wake_aside: Waker,
    vital: VitalDescriptors,
}

/// Readiness of one registered descriptor, as the poller reports it: four booleans, because epoll reports any of
/// them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the descriptor was registered with.
    pub token: u64,
    /// There is something to read, or the peer has closed.
    pub readable: bool,
    /// There is room to write, or the descriptor has failed.
    pub writable: bool,
    /// The peer will send nothing more (FIN) or is gone (RST).
    pub read_closed: bool,
    /// The descriptor has failed or both directions are closed.
    pub failed: bool,
}

/// The readiness that a descriptor's owner waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A listener: told once per connection, so that one thread is woken for it and not every thread that waits.
    Accept,
    /// The same of a source that several processes watch: one of those that wait is woken. Cannot be changed.
    Shared,
    /// Bytes and the peer's end, once per change.
    Read,
    /// Also room to write, once per change.
    ReadWrite,
}

/// Events of one wait; reused from wait to wait.
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
}

/// Events taken from the kernel in one wait.
const EVENTS_MAX: usize = 512;

/// Token of the reactor's own wake-up; never handed out.
const WAKE_TOKEN: u64 = u64::MAX;

impl Reactor {
    /// A reactor that watches nothing but its own wake-up.
    ///
    /// # Errors
    /// The kernel's, when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        let epoll = above_standard(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        let wake = Waker::new()?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, wake.as_fd(), epoll::EventData::new_u64(WAKE_TOKEN), flags)?;
        let (wake_aside, vital) = (Waker::new()?, VitalDescriptors::default());
        vital.add("the epoll instance", &epoll);
        [&wake, &wake_aside].into_iter().for_each(|wake| vital.add("a wake-up", wake.as_fd()));
        Ok(Self { epoll, wake, wake_aside, vital })
    }

    /// The descriptors without which nothing can be waited for; others may be added.
    #[inline]
    pub fn vital(&self) -> &VitalDescriptors {
        &self.vital
    }

    /// Begins to watch `source` under `token`.
    ///
    /// # Errors
    /// The kernel's, when memory or the user's watches have run out.
    pub fn register(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Changes what `source` is watched for. Readiness that exists already is reported anew.
    ///
    /// # Errors
    /// The kernel's, if `source` is not registered.
    pub fn reregister(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Ends watching `source`. (Closing the descriptor does the same.)
    ///
    /// # Errors
    /// The kernel's, if `source` is not registered.
    pub fn deregister(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until something is ready, [`Reactor::wake`] is called or `timeout` has passed (`None`: for ever).
    /// Several threads may wait; each event goes to one of them. A signal ends the wait early, without events.
    ///
    /// # Errors
    /// The kernel's: somebody else has closed what it waits with.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.wait_for(EVENTS_MAX, events, timeout)
    }

    /// The same for one event at most. What else is ready the kernel gives to the other threads that wait.
    ///
    /// # Errors
    /// As [`Reactor::wait`].
    pub fn wait_for_one(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.wait_for(1, events, timeout)
    }

    fn wait_for(&self, count: usize, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        let timeout = timeout.map(whole_millis);
        let mut raw = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        match epoll::wait(&self.epoll, &mut raw[..count], timeout.as_ref()) {
            Ok((raw, _)) => events.list.extend(raw.iter().filter_map(Event::from_raw)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits until a [`Reactor::wait`] would find something, [`Reactor::wake_aside`] is called or `timeout` has
    /// passed, and takes nothing. For one thread that others must be able to wake by itself.
    ///
    /// # Errors
    /// As [`Reactor::wait`].
    pub fn wait_aside(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(whole_millis);
        let mut fds = [
            PollFd::new(&self.epoll, PollFlags::IN),
            PollFd::from_borrowed_fd(self.wake_aside.as_fd(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            // Somebody has closed one.
            Ok(_) if fds.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)) => {
                return Err(rustix::io::Errno::BADF.into());
            }
            // Reading it costs a call of the system, and mostly it was the network.
            Ok(_) if fds[1].revents().is_empty() => {}
            Ok(_) => self.wake_aside.consume(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Ends one thread's wait, or the next one to come.
    pub fn wake(&self) {
        self.wake.wake();
    }

    /// Ends the wait of the thread in [`Reactor::wait_aside`], or its next one.
    pub fn wake_aside(&self) {
        self.wake_aside.wake();
    }
}

/// Rounded up to whole milliseconds, the unit of epoll_wait before Linux 5.11: nobody looks for a deadline
/// before it has passed.
fn whole_millis(duration: Duration) -> Timespec {
    let millis = duration.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i64;
    Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 }
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        use epoll::EventFlags;
        match self {
            Interest::Accept => EventFlags::IN | EventFlags::ET,
            Interest::Shared => EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE,
            Interest::Read => EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
            Interest::ReadWrite => EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT | EventFlags::ET,
        }
    }
}

impl Event {
    /// This event and a later one of the same descriptor in one.
    #[inline]
    pub fn and(self, later: Self) -> Self {
        Self {
            token: self.token,
            readable: self.readable | later.readable,
            writable: self.writable | later.writable,
            read_closed: self.read_closed | later.read_closed,
            failed: self.failed | later.failed,
        }
    }

    /// `None` for a mere wake-up.
    fn from_raw(raw: &epoll::Event) -> Option<Self> {
        // The struct is packed: copy its fields before use.
        let (flags, data) = (raw.flags, raw.data);
        let token = data.u64();
        let failed = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        let read_closed = failed || flags.contains(epoll::EventFlags::RDHUP);
        (token != WAKE_TOKEN).then_some(Self {
            token,
            readable: read_closed || flags.contains(epoll::EventFlags::IN),
            writable: failed || flags.contains(epoll::EventFlags::OUT),
            read_closed,
            failed,
        })
    }
}

impl Events {
    /// Room for the events of one wait.
    pub fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Forgets them.
    #[inline]
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether the wait brought none. A mere wake-up counts as none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The events.
    #[inline]
    pub fn as_slice(&self) -> &[Event] {
        &self.list
    }

    /// The events, one by one.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.list.iter().copied()
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_edge_is_reported_once_and_a_wake_is_no_event() {
        let reactor = Reactor::new().unwrap();
        let mut events = Events::new();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        reactor.register(&ours, 7, Interest::Read).unwrap();
        theirs.write_all(b"x").unwrap();
        reactor.wait(&mut events, None).unwrap();
        let event = Event { token: 7, readable: true, writable: false, read_closed: false, failed: false };
        assert_eq!(events.iter().collect::<Vec<_>>(), [event]);
        reactor.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        reactor.wake();
        reactor.wait(&mut events, None).unwrap();
        assert!(events.is_empty());
        drop(theirs);
        reactor.wait(&mut events, None).unwrap();
        let event = events.iter().next().unwrap();
        assert!(event.read_closed && event.readable);
    }

    #[test]
    fn a_wait_with_what_somebody_has_closed_fails_and_is_told() {
        let closed = || File::open("/dev/null").unwrap();
        for part in 0..2 {
            let mut reactor = Reactor::new().unwrap();
            assert!(reactor.vital().lost().is_empty());
            let (descriptor, what) = match part {
                0 => (&mut reactor.epoll, "the epoll instance"),
                _ => (reactor.wake_aside.descriptor(), "a wake-up"),
            };
            // As the number of one that was closed is given to another file.
            rustix::io::dup2(closed(), descriptor).unwrap();
            assert_eq!(reactor.vital().lost(), [what]);
            let mut events = Events::new();
            assert_eq!(reactor.wait(&mut events, Some(Duration::ZERO)).is_err(), part == 0);
        }
    }

    #[test]
    fn every_wake_ends_one_wait_even_if_the_last_was_not_consumed() {
        let reactor = Reactor::new().unwrap();
        for _ in 0..3 {
            reactor.wake();
            reactor.wait(&mut Events::new(), None).unwrap();
        }
    }
}
