//! What a service manager is told: systemd's protocol of datagrams (sd_notify(3)), and its watchdog's.
//!
//! By hand: the crates for it wait for as long as the manager does not read, and know no abstract names.

use std::cell::Cell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with, sockopt,
};

use crate::scoreboard::now_nanos;

/// The socket of the service manager. Without one it does nothing, and what cannot be sent is logged, once.
#[derive(Debug)]
pub(crate) struct Notifier {
    manager: Option<Manager>,
    watchdog: Option<Duration>,
}

/// The connection to the service manager that started this process.
#[derive(Debug)]
struct Manager {
    socket: OwnedFd,
    address: SocketAddrUnix,
    has_failed: Cell<bool>,
}

/// How long a message waits for room, if the manager does not read.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. It is left as it is.
    pub(crate) fn from_env() -> Self {
        Self::new(&|name| env::var_os(name))
    }

    fn new(environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let path = environment("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let manager = path.and_then(|path| match Manager::at(&path) {
            Ok(manager) => Some(manager),
            Err(error) => {
                log::warn!("NOTIFY_SOCKET={}: {error}; systemd is told nothing", path.display());
                None
            }
        });
        let number = |name| environment(name)?.to_str()?.parse::<u64>().ok();
        // Without a process id it is meant for whoever has the variable (sd_watchdog_enabled(3)).
        let ours = environment("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
        let watchdog = limit.filter(|_| manager.is_some()).map(|micros| Duration::from_micros(micros) / 2);
        Self { manager, watchdog }
    }

    /// The server serves: after its start, and at the end of a reload.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins. It ends with [`Notifier::ready`], whatever has come of it.
    pub(crate) fn reloading(&self) {
        // systemd.service(5), Type=notify-reload: the time tells it that this is the answer to its SIGHUP.
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now_nanos() / 1000));
    }

    /// The server stops.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A line for `systemctl status`.
    pub(crate) fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// Another process is the server from now on. Only the present one may say so.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// How often to call [`Notifier::watchdog`]: half the time after which systemd gives up; `None` if nobody
    /// watches.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The server lives.
    pub(crate) fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        let Some(manager) = &self.manager else { return };
        if let Err(error) = manager.send(message)
            && !manager.has_failed.replace(true)
        {
            log::warn!("systemd cannot be told {message}: {error}");
        }
    }
}

impl Manager {
    fn at(path: &OsStr) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(path.as_bytes())?,
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            _ => return Err(io::Error::other("neither a path nor an abstract name")),
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(SEND_TIMEOUT))?;
        Ok(Self { socket, address, has_failed: Cell::new(false) })
    }

    fn send(&self, message: &str) -> io::Result<()> {
        // One datagram: it goes whole or not at all.
        sendto(&self.socket, message.as_bytes(), SendFlags::NOSIGNAL, &self.address)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Instant;

    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        Notifier::new(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn next(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_gets_what_sd_notify_describes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let path = path.to_str().unwrap();
        let notifier = notifier(&[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "30000000")]);
        notifier.ready();
        assert_eq!(next(&socket), "READY=1");
        let before = now_nanos() / 1000;
        notifier.reloading();
        let reloading = next(&socket);
        let micros: u64 = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=now_nanos() / 1000).contains(&micros), "{reloading}");
        notifier.status("4 workers\nREADY=1");
        assert_eq!(next(&socket), "STATUS=4 workers READY=1", "a text cannot say more than a status");
        notifier.main_pid(4711);
        assert_eq!(next(&socket), "MAINPID=4711");
        notifier.stopping();
        assert_eq!(next(&socket), "STOPPING=1");
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(15)));
        notifier.watchdog();
        assert_eq!(next(&socket), "WATCHDOG=1");
    }

    #[test]
    fn an_abstract_name_is_one_too() {
        let name = format!("portico-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notifier(&[("NOTIFY_SOCKET", &format!("@{name}"))]).ready();
        assert_eq!(next(&socket), "READY=1");
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let ours = std::process::id().to_string();
        let interval = |variables: &[(&str, &str)]| {
            let socket = ("NOTIFY_SOCKET", "/nowhere");
            notifier(&[&[socket], variables].concat()).watchdog_interval()
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &ours)]), second);
        assert_eq!(interval(&[("WATCHDOG_USEC", "2000000")]), second);
        assert_eq!(interval(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(interval(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "x")]), None);
        assert_eq!(interval(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(interval(&[("WATCHDOG_PID", &ours)]), None);
        assert_eq!(notifier(&[("WATCHDOG_USEC", "2000000")]).watchdog_interval(), None);
    }

    #[test]
    fn no_manager_a_wrong_one_and_one_that_does_not_read_harm_nobody() {
        for path in ["", "relative", "vsock:2:1234", "/nowhere/at/all"] {
            let notifier = notifier(&[("NOTIFY_SOCKET", path)]);
            notifier.ready();
            notifier.stopping();
        }
        notifier(&[]).ready();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let notifier = notifier(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        let manager = notifier.manager.as_ref().unwrap();
        while manager.send("READY=1").is_ok() {}
        let before = Instant::now();
        notifier.ready();
        assert!(before.elapsed() < 20 * SEND_TIMEOUT, "it gives up");
    }
}
