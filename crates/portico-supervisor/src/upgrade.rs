//! An upgrade: a new supervisor, of whatever version is installed now, takes the listening sockets over while the
//! old one serves.
//!
//! The new one is started as the old one was, but that its standard input is a socket between both. The old one
//! has laid the sockets into it, each with its name, what nobody else is to know, such as keys, and its own
//! standard input, which the new one puts back first of all. Nothing else is inherited by number or lies in a
//! file, and no other program that either starts gets at it. When the new one serves it says so; should it end
//! before, or take too long, the old one has lost nothing.
//!
//! ```text
//!   old                                new
//!   Upgrade::start -- sockets -------> Takeover::from_env, Takeover::take_listeners
//!   Upgrade::outcome <-- ready ------- Takeover::ready
//!   hands its MAINPID over, drains     serves
//! ```

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

/// The command line of this process, so that it can be started again.
#[derive(Clone, Debug)]
pub struct CommandLine {
    program: OsString,
    arguments: Vec<OsString>,
    folder: PathBuf,
    /// Whether systemd has passed sockets to this process, or to one that this one has taken over from.
    has_passed_sockets: bool,
}

/// A new supervisor that is starting, as the old one sees it. Dropping it leaves the new one alone.
#[derive(Debug)]
pub struct Upgrade {
    pid: Pid,
    socket: OwnedFd,
}

/// The fate of a new supervisor. The old one stops only after `Ready`; after `Ended` it goes on serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// It serves.
    Ready,
    /// It has ended before it served.
    Ended,
}

/// The descriptors and facts that a new supervisor has from the old one.
#[derive(Debug)]
pub struct Takeover {
    socket: OwnedFd,
    listeners: Vec<(String, OwnedFd)>,
    secret: Vec<u8>,
}

/// Names the old supervisor's process id to the new one. Only its child believes it: the variable comes down to
/// everything that the new one starts.
const UPGRADE_OF: &str = "PORTICO_UPGRADE_OF";

/// Whose the sockets are that systemd has passed (sd_listen_fds(3)).
const LISTEN_PID: &str = "LISTEN_PID";

/// Sockets in one message; the kernel allows 253 (unix(7), SCM_MAX_FD).
const SOCKETS_MAX: usize = 32;

/// Each name is that of an address of at most some hundred bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

// The first byte of a message.
/// Names, NUL between them, and as many sockets.
const LISTENERS: u8 = b'l';
/// What nobody else is to know.
const SECRET: u8 = b's';
/// The standard input comes along; the last message of the old one's.
const INPUT: u8 = b'i';
/// The only message of the new one's.
const READY: u8 = b'r';

impl CommandLine {
    /// `program`, which is an absolute path or found in `PATH`, started in `folder`.
    pub fn new(program: OsString, arguments: Vec<OsString>, folder: PathBuf) -> Self {
        let has_passed_sockets = variable(LISTEN_PID).is_some_and(|pid| is_pid(&pid, getpid()));
        Self { program, arguments, folder, has_passed_sockets }
    }

    /// Has the program started in another folder.
    pub fn set_folder(&mut self, folder: PathBuf) {
        self.folder = folder;
    }

    /// Has the program get this option before all others.
    pub fn add_option(&mut self, option: &str) {
        self.arguments.insert(0, option.into());
    }
}

impl Upgrade {
    /// Starts a new supervisor and lays `listeners` before it, each with its name, and `secret`. It is a
    /// child of this process and to be reaped like the others; signals that are blocked here are blocked there.
    ///
    /// # Errors
    /// The program cannot be started; or this process is the first of a container, which ends with it.
    pub fn start(
        command: &CommandLine,
        listeners: &[(BorrowedFd<'_>, String)],
        secret: &[u8],
    ) -> io::Result<Self> {
        if getpid().is_init() {
            return Err(io::Error::other(
                "it is process 1, with which the container ends; start a new container instead",
            ));
        }
        let flags = SocketFlags::CLOEXEC;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        for listeners in listeners.chunks(SOCKETS_MAX) {
            let names: Vec<&str> = listeners.iter().map(|(_, name)| name.as_str()).collect();
            let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(|(socket, _)| *socket).collect();
            lay(&socket, LISTENERS, names.join("\0").as_bytes(), &sockets)?;
        }
        if !secret.is_empty() {
            lay(&socket, SECRET, secret, &[])?;
        }
        let null = std::fs::File::open("/dev/null")?;
        let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
        let input = input.as_ref().map_or(null.as_fd(), AsFd::as_fd); // Where it was closed.
        lay(&socket, INPUT, b"", &[input])?;
        let mut new = Command::new(&command.program);
        new.args(&command.arguments).current_dir(&command.folder).stdin(Stdio::from(theirs));
        new.env(UPGRADE_OF, getpid().to_string());
        // They are this process' own, and what they say goes for the new one.
        new.env_remove("WATCHDOG_PID");
        if command.has_passed_sockets {
            new.env(LISTEN_PID, getpid().to_string());
        }
        let child = new.spawn()?;
        Ok(Self { pid: Pid::from_child(&child), socket })
    }

    /// The new supervisor's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// What has become of it; `None` as long as it starts. Never waits.
    pub fn outcome(&self) -> Option<UpgradeOutcome> {
        match receive(&self.socket) {
            Ok(Some((bytes, _))) if bytes == [READY] => Some(UpgradeOutcome::Ready),
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => Some(UpgradeOutcome::Ended),
        }
    }

    /// Ends it, for it has not become ready in time. Not to be called once it has been reaped.
    ///
    /// # Errors
    /// It has gone already.
    pub fn kill(self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::KILL)?)
    }
}

impl AsFd for Upgrade {
    /// Readable when there is an outcome.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Takeover {
    /// What this process has from an old supervisor; `None` if it was not started by one. To be called once,
    /// before anything reads the standard input.
    ///
    /// # Errors
    /// What the old supervisor has laid before it cannot be had.
    pub fn from_env() -> io::Result<Option<Self>> {
        if old().is_none() {
            return Ok(None);
        }
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let (takeover, input) = Self::receive(socket)?;
        rustix::stdio::dup2_stdin(&input)?;
        Ok(Some(takeover))
    }

    fn receive(socket: OwnedFd) -> io::Result<(Self, OwnedFd)> {
        let broken =
            || io::Error::new(io::ErrorKind::InvalidData, "the old supervisor's sockets cannot be had");
        let (mut listeners, mut secret) = (Vec::new(), Vec::new());
        loop {
            let (bytes, mut descriptors) = receive(&socket)?.ok_or_else(broken)?;
            match bytes.split_first() {
                Some((&LISTENERS, names)) => {
                    let names = String::from_utf8_lossy(names).into_owned();
                    let names: Vec<&str> = names.split('\0').collect();
                    if names.len() != descriptors.len() {
                        return Err(broken()); // This process may open too few.
                    }
                    listeners.extend(names.into_iter().map(str::to_owned).zip(descriptors));
                }
                Some((&SECRET, bytes)) => secret = bytes.to_vec(),
                Some((&INPUT, _)) => {
                    let input = descriptors.pop().ok_or_else(broken)?;
                    return Ok((Self { socket, listeners, secret }, input));
                }
                _ => return Err(broken()),
            }
        }
    }

    /// The old supervisor's sockets with their names; the second time none are left.
    pub fn take_listeners(&mut self) -> Vec<(String, OwnedFd)> {
        std::mem::take(&mut self.listeners)
    }

    /// What the old supervisor has laid before this one that nobody else is to know; nothing where it had nothing,
    /// and the second time.
    pub fn take_secret(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.secret)
    }

    /// This process serves: the old one may end. If it has ended already, this one serves all the same.
    pub fn ready(self) {
        if let Err(error) = send(&self.socket, &[READY], SendFlags::NOSIGNAL) {
            log::warn!("the old supervisor cannot be told that this one serves: {error}");
        }
    }
}

/// A variable of the environment, as a configuration is to be read in a process that an upgrade may have started:
/// sockets that systemd has passed to the old supervisor are the new one's.
pub fn variable(name: &str) -> Option<OsString> {
    let value = env::var_os(name)?;
    let is_old = name == LISTEN_PID && old().is_some_and(|old| is_pid(&value, old));
    Some(if is_old { getpid().to_string().into() } else { value })
}

/// The supervisor that has started this process to take over from it; while it lives.
fn old() -> Option<Pid> {
    let value = env::var_os(UPGRADE_OF)?;
    getppid().filter(|parent| is_pid(&value, *parent))
}

fn is_pid(text: &OsStr, pid: Pid) -> bool {
    text.to_str().is_some_and(|text| text == pid.to_string())
}

/// Sends a message; it waits in the kernel for the program that has not been started yet.
fn lay(socket: &OwnedFd, kind: u8, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let has_room = descriptors.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    if !has_room || text.len() >= MESSAGE_BYTES_MAX {
        return Err(io::Error::other("too many listeners"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&[kind]), IoSlice::new(text)], &mut ancillary, flags)?;
    Ok(())
}

/// The next message and the descriptors that came with it; `None` if none waits.
fn receive(socket: &OwnedFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = loop {
        match recvmsg(socket, &mut slices, &mut ancillary, flags) {
            Ok(received) => break received.bytes,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into()); // No message is empty.
    }
    let descriptors = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    bytes.truncate(received);
    Ok(Some((bytes, descriptors)))
}
