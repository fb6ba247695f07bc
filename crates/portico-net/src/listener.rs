//! Bound sockets: made from the configuration, or inherited.

mod socket_file;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portico_config::{Bind, BindAddress, Config, WireProtocol};
use portico_files::Owner;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::server::Server;
use crate::tls::CertificateSource;
use socket_file::SocketFile;

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
    certificates: Option<CertificateSource>,
}

/// Sockets of another process, with their names: a service manager's, or the former server's at an upgrade. What
/// the configuration does not ask for is closed.
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
        Self::take_over_in_time(config, inherited, &mut |_| false)
    }

    /// As [`Listener::take_over`], and tries an address that is busy, or that this machine does not have yet,
    /// again after `pause`, which waits for so long and returns `false` where that is to end.
    ///
    /// # Errors
    /// As [`Listener::bind_all`].
    pub fn take_over_in_time(
        config: &Config,
        inherited: Vec<(String, OwnedFd)>,
        pause: &mut dyn FnMut(Duration) -> bool,
    ) -> Result<Vec<Self>, BindError> {
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
                BindAddress::Tcp { text, addresses } => {
                    for address in addresses {
                        push(text, retried(text, pause, || Self::tcp(*address, config, &mut inherited)))?;
                    }
                }
                BindAddress::Unix(path) => {
                    let text = format!("unix:{}", path.display());
                    push(&text, retried(&text, pause, || Self::unix(path, config, &mut inherited)))?;
                }
                BindAddress::Fd(number) => {
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
                BindAddress::Tcp { text, addresses } => {
                    for address in addresses {
                        note(text, bind_tcp(*address, config.reuse_port).map(drop));
                    }
                }
                BindAddress::Unix(path) => {
                    note(&format!("unix:{}", path.display()), socket_file::probe(path))
                }
                BindAddress::Fd(number) => {
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
                socket_file::remove_stale(path)?;
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                socket
            }
        };
        let file = SocketFile::claim(path, &socket, config.socket_mode)?;
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
            certificates: None,
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
    pub fn secure(listeners: &mut [Self], certificates: &CertificateSource) {
        for listener in listeners.iter_mut().filter(|listener| listener.server.tls) {
            listener.certificates = Some(certificates.clone());
        }
    }

    /// What it takes to speak TLS, where that is spoken.
    pub fn certificates(&self) -> Option<&CertificateSource> {
        self.certificates.as_ref()
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
            certificates: self.certificates.clone(),
        })
    }

    /// Where it listens and what is spoken there, for people: `http://127.0.0.1:8000`, `unix:/run/app.sock`,
    /// `uwsgi://unix:/run/app.sock`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What requests that come through it are told of it.
    #[inline]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Gives the file of a UNIX socket to the workers' user; others have none.
    ///
    /// # Errors
    /// Another file is at its path by now; the system's.
    pub fn give(&self, owner: Owner) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.give(owner))
    }

    /// Whether it is a UNIX socket.
    #[inline]
    pub fn is_unix(&self) -> bool {
        self.is_unix
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = self.file.take().and_then(Arc::into_inner) {
            file.remove(&self.socket);
        }
    }
}

/// How often an address is tried, and how long between two tries; gunicorn's.
const TRIES: u32 = 5;
const TRY_INTERVAL: Duration = Duration::from_secs(1);

/// What `bind` returns at last. An address may be busy for a moment, while a former server ends, and a container's
/// may come after the container.
fn retried<T>(
    text: &str,
    pause: &mut dyn FnMut(Duration) -> bool,
    mut bind: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut tries = 1;
    loop {
        let bound = bind();
        let problem = match bound.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::AddrInUse) => "Connection in use",
            Err(io::ErrorKind::AddrNotAvailable) => "Invalid address",
            _ => return bound,
        };
        if tries == TRIES || !pause(TRY_INTERVAL) {
            return bound;
        }
        log::warn!("{problem}: {text}; tried again after 1 second ({tries} of {TRIES})");
        tries += 1;
    }
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
    let binds = config.binds.iter().any(|bind| !matches!(bind.address, BindAddress::Fd(_)));
    (binds && config.backlog > limit).then(|| {
        format!(
            "--backlog {} is lowered to {limit} by the kernel: raise net.core.somaxconn (sysctl), or connections \
             are refused in a burst",
            config.backlog
        )
    })
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
mod tests;
