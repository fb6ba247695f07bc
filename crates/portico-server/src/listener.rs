//! Bound sockets: made from the configuration, or inherited.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portico_config::{Bind, Config};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::application::Server;

/// A bound, listening, non-blocking socket. A UNIX socket's file is removed with it, if it is still the same file
/// and this is still the process that bound it.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    server: Arc<Server>,
    url: String,
    is_unix: bool,
    file: Option<SocketFile>,
}

/// The file of a UNIX socket, known by more than its name.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The process that removes it: forked ones have a copy of this value.
    owner: u32,
}

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
        let mut listeners = Vec::new();
        for bind in &config.binds {
            match bind {
                Bind::Tcp { text, addresses } => {
                    for address in addresses {
                        let bound = Self::bind_tcp(*address, config.backlog);
                        listeners.push(bound.map_err(|error| BindError::new(text, &explain(&error)))?);
                    }
                }
                Bind::Unix(path) => {
                    let text = format!("unix:{}", path.display());
                    let bound = Self::bind_unix(path, config);
                    listeners.push(bound.map_err(|error| BindError::new(&text, &explain(&error)))?);
                }
                Bind::Fd(number) => {
                    let bound = Self::inherit(*number);
                    let text = format!("fd://{number}");
                    listeners.push(bound.map_err(|error| BindError::new(&text, &explain(&error)))?);
                }
            }
        }
        Ok(listeners)
    }

    fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `[::]` is IPv6 alone, as for gunicorn; IPv4 is bound by itself.
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog.min(i32::MAX as u32) as i32)?;
        Self::from_socket(socket)
    }

    fn bind_unix(path: &Path, config: &Config) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(config.socket_mode))?;
        let file = SocketFile::of(path)?;
        socket.listen(config.backlog.min(i32::MAX as u32) as i32)?;
        let mut listener = Self::from_socket(socket)?;
        listener.file = Some(file);
        Ok(listener)
    }

    /// Takes over descriptor `number`, on which the parent process listens for us.
    fn inherit(number: i32) -> io::Result<Self> {
        if number < 3 {
            return Err(io::Error::other("descriptors 0 to 2 are standard input, output and error"));
        }
        // SAFETY: the descriptor is only borrowed, to see whether it is open; F_DUPFD below makes our own.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let copy = rustix::io::fcntl_dupfd_cloexec(borrowed, 3).map_err(|error| match error {
            rustix::io::Errno::BADF => io::Error::other("no such descriptor was inherited"),
            error => error.into(),
        })?;
        let socket = Socket::from(copy);
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(io::Error::other("the descriptor is not a listening stream socket"));
        }
        // SAFETY: the number was open a moment ago and was handed to this process to own; the copy stands for it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        Self::from_socket(socket)
    }

    fn from_socket(socket: Socket) -> io::Result<Self> {
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
                let server = Server { name, port: address.port().to_string() };
                (server, format!("http://{address}"), false)
            }
            None => {
                let path = local.as_pathname().map(|path| path.display().to_string()).unwrap_or_default();
                (Server { name: path.clone(), port: String::new() }, format!("unix:{path}"), true)
            }
        };
        Ok(Self { socket: socket.into(), server: Arc::new(server), url, is_unix, file: None })
    }

    /// Another listener on the same socket, which has one backlog. It does not remove a UNIX socket's file: that
    /// goes with the one that bound it.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            server: Arc::clone(&self.server),
            url: self.url.clone(),
            is_unix: self.is_unix,
            file: None,
        })
    }

    /// Where it listens, for people: `http://127.0.0.1:8000`, `unix:/run/app.sock`.
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
    /// The file that is at `path` now, as this process'.
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.into(), device, inode, owner: std::process::id() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::process::id() != self.owner {
            return;
        }
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        if same && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the socket {} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Removes the socket file that a killed server left behind; leaves anything else alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("the path exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Answered, or its backlog is full: somebody listens.
        Ok(_) | Err(_) => Err(io::Error::other("another process is listening on it")),
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

    #[test]
    fn a_shared_listener_goes_without_its_file_and_outlives_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let first = bind_unix(&path);
        let shared = first.share().unwrap();
        assert_eq!((shared.url(), shared.is_unix()), (first.url(), true));
        drop(shared.share().unwrap());
        meets(&shared, &path);
        drop(first);
        assert!(!path.exists(), "the file went with the one that bound it");
        assert!(rustix::net::sockopt::socket_acceptconn(&shared).unwrap());
    }

    #[test]
    fn a_socket_file_is_left_alone_by_other_processes_and_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let mut inherited = bind_unix(&path);
        inherited.file.as_mut().unwrap().owner += 1;
        drop(inherited);
        assert!(path.exists());
        let old = bind_unix(&path); // Nobody listens there any more.
        fs::remove_file(&path).unwrap();
        let new = bind_unix(&path);
        drop(old);
        meets(&new, &path);
    }
}
