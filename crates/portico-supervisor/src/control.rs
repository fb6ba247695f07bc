//! The control socket between the supervisor and a process that it has forked: a pair that keeps messages apart.
//!
//! A message is one byte that tells its kind, and its content. Both ends come from the same build, so that a kind
//! that is not known is a bug, told as `InvalidData`.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use portico_os::above_standard;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::Pid;

/// One end of a control socket. The supervisor owns one for each process that it has forked, that process the
/// other. Neither sending nor receiving waits.
#[derive(Debug)]
pub struct ControlSocket(OwnedFd);

/// A command of the supervisor to a worker, or to a template.
#[derive(Debug)]
pub enum ControlCommand {
    /// Finish what has been taken, hand what is idle to the other workers, and end; within this time.
    Retire(Duration),
    /// As [`ControlCommand::Retire`], but no other worker will be left: take what the kernel has queued, close
    /// what is idle.
    Drain(Duration),
    /// Go on, but announce with each answer that the connection closes: the server is about to stop.
    AnnounceClose,
    /// End at once.
    Stop,
    /// The log files have been moved away: write to these from now on.
    ReopenLogs(LogFiles),
    /// To a template: fork a worker for this slot. Its end of the control socket comes along.
    Fork {
        /// Number of the slot.
        slot: u32,
        /// The generation that it belongs to.
        generation: u32,
        /// The worker's end.
        control: OwnedFd,
        /// Where it writes the stacks of its threads.
        stacks: OwnedFd,
    },
}

/// The log files that the supervisor has opened for all processes. One that is no file, or could not be opened, is
/// not among them.
#[derive(Debug, Default)]
pub struct LogFiles {
    /// The error log.
    pub error: Option<OwnedFd>,
    /// The access log.
    pub access: Option<OwnedFd>,
}

/// A report of a worker, or of a template, to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It lives, under the process id that the kernel says of who has sent this.
    Started,
    /// A worker serves from now on; a template has imported the application.
    Ready,
    /// It cannot begin to serve and ends with this exit status. The text is one line, and the traceback if there
    /// is one.
    BootFailed {
        /// The exit status.
        status: i32,
        /// For the operator.
        message: String,
    },
    /// A worker that goes on serving is to be replaced, for this reason.
    Replace(String),
    /// It was told to end by a signal, and does so when another is ready.
    Signalled,
    /// With `--reload`: this file of the application has changed.
    Changed(String),
}

/// As the end of `cannot be told ...`.
impl fmt::Display for ControlCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retire(limit) => write!(f, "to retire within {} s", limit.as_secs_f64()),
            Self::Drain(limit) => write!(f, "to drain within {} s", limit.as_secs_f64()),
            Self::AnnounceClose => f.write_str("to announce that connections close"),
            Self::Stop => f.write_str("to stop"),
            Self::ReopenLogs(_) => f.write_str("to write to other log files"),
            Self::Fork { slot, generation, .. } => {
                write!(f, "to fork the worker of generation {generation} in slot {slot}")
            }
        }
    }
}

/// As the end of `cannot be told ...`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("that it has started"),
            Self::Ready => f.write_str("that it is ready"),
            Self::BootFailed { status, .. } => write!(f, "that it cannot begin to serve (status {status})"),
            Self::Replace(reason) => write!(f, "that it is to be replaced: {reason}"),
            Self::Signalled => f.write_str("that a signal has told it to end"),
            Self::Changed(file) => write!(f, "that {file} has changed"),
        }
    }
}

/// Descriptors that come with a message at most.
const DESCRIPTORS_MAX: usize = 2;

/// What of [`LogFiles`] comes with [`ControlCommand::ReopenLogs`], in this order.
const ERROR_LOG: u8 = 1;
const ACCESS_LOG: u8 = 2;

/// Longest text in a message; the rest is cut.
const TEXT_BYTES_MAX: usize = 32 * 1024;

const MESSAGE_BYTES_MAX: usize = TEXT_BYTES_MAX + 16;

/// A message as it was received, before it is known to be a command or a report.
struct Message {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    sender: Option<Pid>,
}

impl ControlSocket {
    /// Both ends of a new control socket, the supervisor's first; they are closed in programs that these
    /// processes start.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // Each report comes with what the kernel says of its sender (unix(7), SCM_CREDENTIALS).
        set_socket_passcred(&ours, true)?;
        Ok((Self(above_standard(ours)?), Self(above_standard(theirs)?)))
    }

    /// The end that came as a descriptor with [`ControlCommand::Fork`].
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// The end as a descriptor, to be sent with [`ControlCommand::Fork`].
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Tells the other end what to do.
    ///
    /// # Errors
    /// `BrokenPipe` if it has gone, `WouldBlock` if it does not read.
    pub fn send(&self, command: &ControlCommand) -> io::Result<()> {
        let seconds = |tag: u8, limit: &Duration| {
            let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            [&[tag][..], &nanos.to_le_bytes()].concat()
        };
        let (bytes, descriptors) = match command {
            ControlCommand::Retire(limit) => (seconds(b'R', limit), Vec::new()),
            ControlCommand::Drain(limit) => (seconds(b'D', limit), Vec::new()),
            ControlCommand::AnnounceClose => (vec![b'A'], Vec::new()),
            ControlCommand::Stop => (vec![b'S'], Vec::new()),
            ControlCommand::ReopenLogs(LogFiles { error, access }) => {
                let which =
                    error.as_ref().map_or(0, |_| ERROR_LOG) | access.as_ref().map_or(0, |_| ACCESS_LOG);
                (vec![b'L', which], error.iter().chain(access).map(AsFd::as_fd).collect())
            }
            ControlCommand::Fork { slot, generation, control, stacks } => {
                let bytes = [&b"F"[..], &slot.to_le_bytes(), &generation.to_le_bytes()].concat();
                (bytes, vec![control.as_fd(), stacks.as_fd()])
            }
        };
        self.send_bytes(&bytes, &descriptors)
    }

    /// The next command; `None` if none waits.
    ///
    /// # Errors
    /// `BrokenPipe` if the supervisor has gone.
    pub fn command(&self) -> io::Result<Option<ControlCommand>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let Some(Message { bytes, descriptors, .. }) = self.receive(&mut space)? else { return Ok(None) };
        let mut descriptors = descriptors.into_iter();
        let number =
            |at: usize| -> Option<u32> { bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes) };
        let limit = || -> Option<Duration> {
            bytes.get(1..9)?.try_into().ok().map(|bytes| Duration::from_nanos(u64::from_le_bytes(bytes)))
        };
        let command = match bytes.first() {
            Some(b'R') => limit().map(ControlCommand::Retire),
            Some(b'D') => limit().map(ControlCommand::Drain),
            Some(b'A') => Some(ControlCommand::AnnounceClose),
            Some(b'S') => Some(ControlCommand::Stop),
            Some(b'L') => bytes.get(1).map(|which| {
                let error = if which & ERROR_LOG != 0 { descriptors.next() } else { None };
                let access = if which & ACCESS_LOG != 0 { descriptors.next() } else { None };
                ControlCommand::ReopenLogs(LogFiles { error, access })
            }),
            Some(b'F') => match (number(1), number(5), descriptors.next(), descriptors.next()) {
                (Some(slot), Some(generation), Some(control), Some(stacks)) => {
                    Some(ControlCommand::Fork { slot, generation, control, stacks })
                }
                _ => None,
            },
            _ => None,
        };
        command.map(Some).ok_or_else(unknown)
    }

    /// Tells the supervisor something.
    ///
    /// # Errors
    /// As [`ControlSocket::send`].
    pub fn report(&self, report: &Report) -> io::Result<()> {
        let text = |text: &str| cut(text).as_bytes().to_vec();
        let bytes = match report {
            Report::Started => vec![b's'],
            Report::Ready => vec![b'r'],
            Report::BootFailed { status, message } => {
                [&b"b"[..], &status.to_le_bytes(), &text(message)].concat()
            }
            Report::Replace(reason) => [&b"x"[..], &text(reason)].concat(),
            Report::Signalled => b"k".to_vec(),
            Report::Changed(file) => [&b"c"[..], &text(file)].concat(),
        };
        self.send_bytes(&bytes, &[])
    }

    /// The next report, and the process that has sent it; `None` if none waits.
    ///
    /// # Errors
    /// `BrokenPipe` if the other end has gone.
    pub fn next_report(&self) -> io::Result<Option<(Report, Option<Pid>)>> {
        // No room for descriptors: to close one that a worker has sent could wait for the worker.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let Some(Message { bytes, sender, .. }) = self.receive(&mut space)? else { return Ok(None) };
        let number = || -> Option<[u8; 4]> { bytes.get(1..5)?.try_into().ok() };
        let text = |from: usize| String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
        let report = match bytes.first() {
            Some(b's') => Some(Report::Started),
            Some(b'r') => Some(Report::Ready),
            Some(b'b') => number()
                .map(|bytes| Report::BootFailed { status: i32::from_le_bytes(bytes), message: text(5) }),
            Some(b'x') => Some(Report::Replace(text(1))),
            Some(b'k') => Some(Report::Signalled),
            Some(b'c') => Some(Report::Changed(text(1))),
            _ => None,
        };
        report.map(|report| Some((report, sender))).ok_or_else(unknown)
    }

    fn send_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        // A peer that has gone must not raise SIGPIPE.
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message, and what has come with it as far as there is `space`.
    fn receive(&self, space: &mut [MaybeUninit<u8>]) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut ancillary = RecvAncillaryBuffer::new(space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = loop {
            match recvmsg(&self.0, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::CONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(error.into()),
            }
        };
        if received.bytes == 0 {
            return Err(io::ErrorKind::BrokenPipe.into()); // No message is empty.
        }
        bytes.truncate(received.bytes);
        let mut message = Message { bytes, descriptors: Vec::new(), sender: None };
        for part in ancillary.drain() {
            match part {
                RecvAncillaryMessage::ScmRights(descriptors) => {
                    message.descriptors.extend(descriptors.filter_map(|one| above_standard(one).ok()));
                }
                RecvAncillaryMessage::ScmCredentials(credentials) => message.sender = Some(credentials.pid),
                _ => {}
            }
        }
        Ok(Some(message))
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// As much of `text` as there is room for, whole characters.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message of an unknown kind")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn commands_and_reports_arrive_one_by_one_and_as_they_were_sent() {
        let (supervisor, worker) = ControlSocket::pair().unwrap();
        assert!(worker.command().unwrap().is_none());
        supervisor.send(&ControlCommand::AnnounceClose).unwrap();
        supervisor.send(&ControlCommand::Drain(Duration::from_millis(1500))).unwrap();
        assert!(matches!(worker.command().unwrap(), Some(ControlCommand::AnnounceClose)));
        assert!(
            matches!(worker.command().unwrap(), Some(ControlCommand::Drain(limit)) if limit.as_millis() == 1500)
        );
        assert!(worker.command().unwrap().is_none());
        let failed = Report::BootFailed { status: 3, message: "é".repeat(TEXT_BYTES_MAX) };
        for report in [
            Report::Started,
            Report::Ready,
            failed,
            Report::Replace("old".into()),
            Report::Signalled,
            Report::Changed("a.py".into()),
        ] {
            worker.report(&report).unwrap();
            let (arrived, sender) = supervisor.next_report().unwrap().unwrap();
            assert_eq!(sender, Some(rustix::process::getpid()));
            match (&report, &arrived) {
                (Report::BootFailed { .. }, Report::BootFailed { status: 3, message }) => {
                    assert_eq!(message.len(), TEXT_BYTES_MAX, "cut at a character's end");
                }
                _ => assert_eq!(report, arrived),
            }
        }
    }

    #[test]
    fn the_end_of_one_side_is_told_to_the_other() {
        let (supervisor, worker) = ControlSocket::pair().unwrap();
        drop(supervisor);
        assert_eq!(worker.command().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(worker.report(&Report::Ready).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_template_gets_the_end_of_the_worker_that_it_is_to_fork() {
        let (supervisor, template) = ControlSocket::pair().unwrap();
        let ((ours, control), (other, stacks)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (control, stacks) = (control.into(), stacks.into());
        supervisor.send(&ControlCommand::Fork { slot: 7, generation: 2, control, stacks }).unwrap();
        let Some(ControlCommand::Fork { slot: 7, generation: 2, control, stacks }) =
            template.command().unwrap()
        else {
            panic!("the command has arrived");
        };
        assert!(is_other_end(control, ours) && is_other_end(stacks, other));
    }

    fn is_other_end(descriptor: OwnedFd, mut end: UnixStream) -> bool {
        UnixStream::from(descriptor).write_all(b"x").unwrap();
        let mut bytes = Vec::new();
        end.read_to_end(&mut bytes).unwrap();
        bytes == b"x"
    }

    #[test]
    fn logs_come_as_far_as_there_are_some() {
        let (supervisor, worker) = ControlSocket::pair().unwrap();
        for (has_error, has_access) in [(false, false), (true, false), (false, true), (true, true)] {
            let ((ours, error), (other, access)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
            let files = LogFiles {
                error: has_error.then(|| error.into()),
                access: has_access.then(|| access.into()),
            };
            supervisor.send(&ControlCommand::ReopenLogs(files)).unwrap();
            let Some(ControlCommand::ReopenLogs(LogFiles { error, access })) = worker.command().unwrap()
            else {
                panic!("the command has arrived");
            };
            assert_eq!((error.is_some(), access.is_some()), (has_error, has_access));
            assert!(error.is_none_or(|error| is_other_end(error, ours)));
            assert!(access.is_none_or(|access| is_other_end(access, other)));
        }
    }

    #[test]
    fn a_descriptor_with_a_report_is_not_taken() {
        let (supervisor, worker) = ControlSocket::pair().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        worker.send_bytes(b"s", &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let (report, sender) = supervisor.next_report().unwrap().unwrap();
        assert_eq!((report, sender), (Report::Started, Some(rustix::process::getpid())));
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "nobody has the other end");
    }
}
