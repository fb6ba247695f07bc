//! Bound sockets: made from the configuration, or inherited.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portico_config::{Address, Bind, Config, WireProtocol};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, getpid, test_kill_process};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::application::Server;
use crate::tls::Supply;

/// A bound, listening, non-blocking socket. A UNIX socket's file goes with the last listener on it of the process
/// that bound it, or took it over; unless another one has taken it over since, or the file is another one.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    server: Arc<Server>,
    url: String,
    is_unix: bool,
    name: String,
    file: Option<Arc<SocketFile>>,
    /// What it takes to speak TLS.
    supply: Option<Supply>,
}

/// The file of a UNIX socket, known by more than its name.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The process that removes it: forked ones have a copy of this value.
    owner: Pid,
    /// The process that this one has taken the socket over from. It goes on with it if this one's start fails.
    former: Option<Pid>,
}

/// Sockets of another process, with their names.
struct Inherited(Vec<(String, OwnedFd)>);

/// A bind that failed: the setting and the reason.
#[derive(Debug)]
pub struct BindError {
    /// As the operator wrote it.
    pub bind: String,
    /// What is wrong.
    pub reason: String,
}

impl Listener {
    /// Binds everything that `config` names, in its order.
    ///
    /// # Errors
    /// The first bind that fails; what was bound before is closed again.
    pub fn bind_all(config: &Config) -> Result<Vec<Self>, BindError> {
        Self::take_over(config, Vec::new())
    }

    /// As [`Listener::bind_all`], but takes what it can from `inherited`: sockets that another process listens on,
    /// under the names that [`Listener::name`] has for them there. Those that `config` does not name are closed.
    ///
    /// # Errors
    /// As [`Listener::bind_all`].
    pub fn take_over(config: &Config, inherited: Vec<(String, OwnedFd)>) -> Result<Vec<Self>, BindError> {
        warn_of_backlog(config);
        let mut inherited = Inherited(inherited);
        let mut listeners = Vec::new();
        for bind in &config.binds {
            let mut push = |text: &str, bound: io::Result<Self>| {
                let mut listener = bound.map_err(|error| BindError::new(text, &explain(&error)))?;
                listener.speak(bind);
                listeners.push(listener);
                Ok(())
            };
            match &bind.address {
                Address::Tcp { text, addresses } => {
                    for address in addresses {
                        push(text, Self::tcp(*address, config, &mut inherited))?;
                    }
                }
                Address::Unix(path) => {
                    let bound = Self::unix(path, config, &mut inherited);
                    push(&format!("unix:{}", path.display()), bound)?;
                }
                Address::Fd(number) => {
                    push(&format!("fd://{number}"), Self::descriptor(*number, &mut inherited))?;
                }
            }
        }
        Ok(listeners)
    }

    /// What would keep this process from listening where `config` says. It listens nowhere, and leaves alone what
    /// others listen on.
    pub fn probe(config: &Config) -> Vec<BindError> {
        let mut errors = Vec::new();
        let mut note = |bind: &str, probed: io::Result<()>| {
            errors.extend(probed.err().map(|error| BindError::new(bind, &explain(&error))));
        };
        for bind in &config.binds {
            match &bind.address {
                Address::Tcp { text, addresses } => {
                    for address in addresses {
                        note(text, bind_tcp(*address, config.reuse_port).map(drop));
                    }
                }
                Address::Unix(path) => note(&format!("unix:{}", path.display()), probe_unix(path)),
                Address::Fd(number) => {
                    let taken = Self::descriptor(*number, &mut Inherited(Vec::new()));
                    note(&format!("fd://{number}"), taken.map(drop));
                }
            }
        }
        errors
    }

    fn tcp(address: SocketAddr, config: &Config, inherited: &mut Inherited) -> io::Result<Self> {
        let name = format!("tcp:{address}");
        let socket = match inherited.take(&name) {
            Some(socket) => socket,
            None => bind_tcp(address, config.reuse_port)?,
        };
        socket.listen(backlog(config))?;
        Self::from_socket(socket, name)
    }

    fn unix(path: &Path, config: &Config, inherited: &mut Inherited) -> io::Result<Self> {
        let name = format!("unix:{}", path.display());
        let socket = match inherited.take(&name) {
            Some(socket) => socket,
            None => {
                remove_stale(path)?;
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                socket
            }
        };
        fs::set_permissions(path, fs::Permissions::from_mode(config.socket_mode))?;
        let file = SocketFile::of(path, &socket)?;
        socket.listen(backlog(config))?;
        let mut listener = Self::from_socket(socket, name)?;
        listener.file = Some(Arc::new(file));
        Ok(listener)
    }

    /// Takes over descriptor `number`, on which the parent process listens for us.
    fn descriptor(number: i32, inherited: &mut Inherited) -> io::Result<Self> {
        let name = format!("fd:{number}");
        let socket = match inherited.take(&name) {
            Some(socket) => socket,
            None => own(number)?,
        };
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(io::Error::other("the descriptor is not a listening stream socket"));
        }
        Self::from_socket(socket, name)
    }

    fn from_socket(socket: Socket, name: String) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let (server, url, is_unix) = match local.as_socket() {
            Some(address) => {
                // Inherited by every accepted connection.
                socket.set_tcp_nodelay(true)?;
                let name = match address.ip() {
                    IpAddr::V4(ip) => ip.to_string(),
                    IpAddr::V6(ip) => format!("[{ip}]"), // As RFC 3875, section 4.1.14, writes SERVER_NAME.
                };
                let server = Server { name, port: address.port().to_string(), ..Server::default() };
                (server, format!("http://{address}"), false)
            }
            None => {
                let path = local.as_pathname().map(|path| path.display().to_string()).unwrap_or_default();
                (Server { name: path.clone(), ..Server::default() }, format!("unix:{path}"), true)
            }
        };
        Ok(Self {
            socket: socket.into(),
            server: Arc::new(server),
            url,
            is_unix,
            name,
            file: None,
            supply: None,
        })
    }

    /// Has its clients speak what `bind` says.
    fn speak(&mut self, bind: &Bind) {
        if bind.tls || bind.protocol != WireProtocol::Http {
            let address = self.url.strip_prefix("http://").unwrap_or(&self.url);
            self.url = format!("{}://{address}", bind.scheme());
        }
        let server = Arc::make_mut(&mut self.server);
        (server.protocol, server.tls, server.proxy) = (bind.protocol, bind.tls, bind.proxy);
    }

    /// Gives those of `listeners` whose clients speak TLS what that takes. Without it they are closed at once.
    pub fn secure(listeners: &mut [Self], supply: &Supply) {
        for listener in listeners.iter_mut().filter(|listener| listener.server.tls) {
            listener.supply = Some(supply.clone());
        }
    }

    /// What it takes to speak TLS, where that is spoken.
    pub fn supply(&self) -> Option<&Supply> {
        self.supply.as_ref()
    }

    /// What it is called in the configuration, for [`Listener::take_over`] in another process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another listener on the same socket, which has one backlog. In a forked process it leaves a UNIX socket's
    /// file alone, as every listener there does.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            server: Arc::clone(&self.server),
            url: self.url.clone(),
            is_unix: self.is_unix,
            name: self.name.clone(),
            file: self.file.clone(),
            supply: self.supply.clone(),
        })
    }

    /// Where it listens and what is spoken there, for people: `http://127.0.0.1:8000`, `unix:/run/app.sock`,
    /// `uwsgi://unix:/run/app.sock`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What requests that come through it are told of it.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether it is a UNIX socket.
    pub fn is_unix(&self) -> bool {
        self.is_unix
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl SocketFile {
    /// The file that is at `path` now, on which this process is about to listen.
    fn of(path: &Path, socket: &Socket) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        let former = if socket.is_listener()? { last_to_listen(socket) } else { None };
        Ok(Self { path: path.into(), device, inode, owner: getpid(), former })
    }

    /// Removes it, if that is this process' part.
    fn remove(&self, socket: &OwnedFd) {
        let is_alive = |pid: Pid| pid != self.owner && test_kill_process(pid) != Err(Errno::SRCH);
        if getpid() != self.owner || last_to_listen(socket).is_some_and(is_alive) {
            return; // A worker's copy; or another process has taken the socket over.
        }
        if self.former.is_some_and(is_alive) {
            return; // This one's start has failed, and the former goes on.
        }
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        if same && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the socket {} cannot be removed: {error}", self.path.display());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = self.file.take().and_then(Arc::into_inner) {
            file.remove(&self.socket);
        }
    }
}

/// The process that was the last to call listen(2) on this UNIX socket: its credentials are what clients see
/// (unix(7), SO_PEERCRED).
fn last_to_listen(socket: impl AsFd) -> Option<Pid> {
    sockopt::socket_peercred(socket).ok().map(|credentials| credentials.pid)
}

impl Inherited {
    fn take(&mut self, name: &str) -> Option<Socket> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(Socket::from(self.0.remove(index).1))
    }
}

fn bind_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` is IPv6 alone, as for gunicorn; IPv4 is bound by itself.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Makes descriptor `number`, which the parent process has left open for us, our own.
fn own(number: i32) -> io::Result<Socket> {
    if number < 3 {
        return Err(io::Error::other("descriptors 0 to 2 are standard input, output and error"));
    }
    // SAFETY: the descriptor is only borrowed, to see whether it is open; F_DUPFD below makes our own.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let copy = rustix::io::fcntl_dupfd_cloexec(borrowed, 3).map_err(|error| match error {
        rustix::io::Errno::BADF => io::Error::other("no such descriptor was inherited"),
        error => error.into(),
    })?;
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&copy)?.st_mode).is_socket() {
        return Err(io::Error::other("the descriptor is not a listening stream socket"));
    }
    // SAFETY: the number was open a moment ago and was handed to this process to own; the copy stands for it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(copy.into())
}

fn backlog(config: &Config) -> i32 {
    config.backlog.min(i32::MAX as u32) as i32
}

/// Says so if the kernel lowers the backlog.
fn warn_of_backlog(config: &Config) {
    let limit =
        fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
    if let Some(warning) = limit.and_then(|limit| lowered_backlog(config, limit)) {
        log::warn!("{warning}");
    }
}

fn lowered_backlog(config: &Config, limit: u32) -> Option<String> {
    // What was bound elsewhere has its backlog from there.
    let binds = config.binds.iter().any(|bind| !matches!(bind.address, Address::Fd(_)));
    (binds && config.backlog > limit).then(|| {
        format!(
            "--backlog {} is lowered to {limit} by the kernel: raise net.core.somaxconn (sysctl), or connections \
             are refused in a burst",
            config.backlog
        )
    })
}

/// Whether a process listens on the UNIX socket at `path`. A full backlog is not waited for.
fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the socket file that a killed server left behind; leaves anything else alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    if is_stale(path)? { fs::remove_file(path) } else { Ok(()) }
}

/// Whether a socket of this path can be bound.
fn probe_unix(path: &Path) -> io::Result<()> {
    is_stale(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}

/// Whether a killed server left a socket file at `path`; `false` where there is nothing.
///
/// # Errors
/// There is something else.
fn is_stale(path: &Path) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("the path exists and is not a socket"));
    }
    match is_listened_on(path) {
        Ok(false) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Also a socket of another type: somebody's.
        Ok(true) | Err(_) => Err(io::Error::other("another process is listening on it")),
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process is listening there; stop it or choose another port".into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        io::ErrorKind::PermissionDenied => {
            "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE; a socket's folder must be writable)"
                .into()
        }
        _ => error.to_string(),
    }
}

impl BindError {
    fn new(bind: &str, reason: &str) -> Self {
        Self { bind: bind.into(), reason: reason.into() }
    }
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.bind, self.reason)
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use portico_config::{Parsed, parse};

    use super::*;

    fn config(arguments: &[&str]) -> Config {
        match parse(arguments.iter().map(OsString::from), &|_| None) {
            Ok(Parsed::Run(resolved)) => resolved.config,
            _ => panic!("the arguments of a test are valid"),
        }
    }

    fn bind_unix(path: &Path) -> Listener {
        let bind = format!("unix:{}", path.display());
        Listener::bind_all(&config(&["--bind", &bind])).unwrap().remove(0)
    }

    /// Accepts from `listener` a connection made to `path`, and sends a byte through it.
    fn meets(listener: &Listener, path: &Path) {
        let mut client = UnixStream::connect(path).unwrap();
        let accepted = rustix::net::accept(listener).unwrap();
        UnixStream::from(accepted).write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }

    /// As another process gets it.
    fn hand_over(listener: &Listener) -> (String, OwnedFd) {
        (listener.name().to_owned(), listener.socket.try_clone().unwrap())
    }

    #[test]
    fn a_socket_file_goes_with_the_last_listener_of_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let first = bind_unix(&path);
        let shared = first.share().unwrap();
        assert_eq!((shared.url(), shared.name(), shared.is_unix()), (first.url(), first.name(), true));
        drop(shared.share().unwrap());
        meets(&first, &path);
        drop(first);
        meets(&shared, &path);
        drop(shared);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_file_is_left_alone_by_other_processes_and_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let mut inherited = bind_unix(&path);
        Arc::get_mut(inherited.file.as_mut().unwrap()).unwrap().owner = Pid::INIT;
        drop(inherited);
        assert!(path.exists());
        let old = bind_unix(&path); // Nobody listens there any more.
        fs::remove_file(&path).unwrap();
        let new = bind_unix(&path);
        drop(old);
        meets(&new, &path);
    }

    #[test]
    fn what_is_inherited_is_taken_by_its_name_and_the_rest_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, gone) = (folder.path().join("kept.sock"), folder.path().join("gone.sock"));
        let text = |path: &Path| format!("unix:{}", path.display());
        let arguments = ["-b", "127.0.0.1:0", "-b", "127.0.0.1:0", "-b", &text(&kept), "-b", &text(&gone)];
        let old = Listener::bind_all(&config(&arguments)).unwrap();
        let inherited = old.iter().map(hand_over).collect();
        let arguments = ["-b", &text(&kept), "-b", "127.0.0.1:0", "-b", "[::1]:0", "-b", "127.0.0.1:0"];
        let mut new = Listener::take_over(&config(&arguments), inherited).unwrap();
        assert_eq!([new[1].url(), new[3].url()], [old[0].url(), old[1].url()]);
        assert!(new[2].url().starts_with("http://[::1]:"), "it is bound afresh");
        meets(&new.remove(0), &kept);
        let moved = folder.path().join("moved.sock");
        fs::rename(&gone, &moved).unwrap();
        drop(old);
        let refused = UnixStream::connect(&moved).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "nobody listens there any more");
    }

    /// Listens on the UNIX socket anew from another process, which lives until its standard input is closed.
    fn taken_over(listener: &Listener) -> std::process::Child {
        let socket = std::process::Stdio::from(listener.socket.try_clone().unwrap());
        let script = "import socket, sys; socket.socket(fileno=1).listen(); sys.stderr.write('x'); \
                      sys.stderr.flush(); sys.stdin.read()";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(socket)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn a_socket_file_is_left_to_the_process_that_took_the_socket_over_while_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        for upgraded in [true, false] {
            let old = bind_unix(&path);
            let mut new = taken_over(&old);
            if !upgraded {
                drop(new.stdin.take());
                new.wait().unwrap();
            }
            drop(old);
            assert_eq!(path.exists(), upgraded);
            drop(new.stdin.take());
            new.wait().unwrap();
        }
    }

    #[test]
    fn one_whose_start_fails_leaves_the_file_to_the_process_that_it_took_the_socket_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let bind = format!("unix:{}", path.display());
        let first = bind_unix(&path);
        let mut old = taken_over(&first);
        let take = || Listener::take_over(&config(&["-b", &bind]), vec![hand_over(&first)]).unwrap();
        let (failed, good) = (take(), take());
        assert_eq!(failed[0].file.as_ref().unwrap().former, Some(Pid::from_child(&old)));
        drop(failed);
        meets(&good[0], &path);
        drop(old.stdin.take());
        old.wait().unwrap();
        drop(good);
        assert!(!path.exists());
    }

    #[test]
    fn a_descriptor_is_taken_by_the_number_that_it_had_at_first() {
        let first = Listener::bind_all(&config(&["-b", "127.0.0.1:0"])).unwrap().remove(0);
        let inherited = vec![("fd:77".to_owned(), first.socket.try_clone().unwrap())];
        let second = Listener::take_over(&config(&["-b", "fd://77"]), inherited).unwrap().remove(0);
        assert_eq!((second.url(), second.name()), (first.url(), "fd:77"));
        let file = vec![("fd:77".to_owned(), fs::File::open("/dev/null").unwrap().into())];
        let error = Listener::take_over(&config(&["-b", "fd://77"]), file).unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on fd://77: "), "{error}");
    }

    #[test]
    fn a_scheme_goes_with_the_listener_also_to_another_process_and_does_not_name_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let unix = format!("unix:{}", folder.path().join("app.sock").display());
        let binds = |schemes: [&str; 3]| {
            let mut config = config(&["-b", "127.0.0.1:0", "-b", &unix, "-b", "fd://77"]);
            for (bind, scheme) in config.binds.iter_mut().zip(schemes) {
                (bind.tls, bind.protocol) = match scheme {
                    "https" => (true, WireProtocol::Http),
                    "uwsgi" => (false, WireProtocol::Uwsgi),
                    _ => (false, WireProtocol::Redirect),
                };
            }
            config
        };
        let passed = Listener::bind_all(&config(&["-b", "127.0.0.1:0"])).unwrap().remove(0);
        let inherited = vec![("fd:77".to_owned(), passed.socket.try_clone().unwrap())];
        let old = Listener::take_over(&binds(["https", "uwsgi", "redirect"]), inherited).unwrap();
        let urls =
            |listeners: &[Listener]| listeners.iter().map(|it| it.url().to_owned()).collect::<Vec<_>>();
        assert!(urls(&old)[0].starts_with("https://127.0.0.1:"));
        assert_eq!(urls(&old)[1], format!("uwsgi://{unix}"));
        assert!(urls(&old)[2].starts_with("redirect://127.0.0.1:"));
        let told = |listener: &Listener| (listener.server().protocol, listener.server().tls);
        assert_eq!(told(&old[0].share().unwrap()), (WireProtocol::Http, true));
        let new = old.iter().map(hand_over).collect();
        let new = Listener::take_over(&binds(["redirect", "https", "uwsgi"]), new).unwrap();
        assert_eq!(told(&new[0]), (WireProtocol::Redirect, false));
        assert_eq!(told(&new[1]), (WireProtocol::Http, true));
        let port = |listener: &Listener| listener.server().port.clone();
        assert_eq!([port(&new[0]), port(&new[2])], [port(&old[0]), port(&old[2])], "the same sockets");
    }

    #[test]
    fn a_full_backlog_counts_as_listened_on_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let bind = format!("unix:{}", path.display());
        let listener = Listener::bind_all(&config(&["--bind", &bind, "--backlog", "1"])).unwrap();
        let _clients: Vec<_> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let error = Listener::bind_all(&config(&["--bind", &bind])).unwrap_err();
        assert_eq!(error.reason, "another process is listening on it");
        drop(listener);
    }

    #[test]
    fn a_backlog_that_the_kernel_lowers_is_told() {
        let config = config(&["--backlog", "2048", "-b", ":0"]);
        assert_eq!(lowered_backlog(&config, 2048), None);
        let warning = lowered_backlog(&config, 128).unwrap();
        assert!(warning.starts_with("--backlog 2048 is lowered to 128 by the kernel"), "{warning}");
        let passed = Config { binds: vec![Address::Fd(3).into()], ..config };
        assert_eq!(lowered_backlog(&passed, 128), None);
    }
}
