//! Metrics for statsd: gathered into datagrams, sent without waiting. What is not taken is lost, and nobody minds.
//!
//! The crate cadence (1.8) makes a string of each metric and takes a lock: 2,420 instructions for the two of a
//! request in place of 620. It has times in whole milliseconds, of which most requests take none.

use std::fmt;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use portico_config::{Endpoint, StatsdSettings};
use portico_metrics::{Metric, StatsdForm, StatsdName};

/// A sender of metrics, owned by one thread. It gathers them into datagrams and never waits.
#[derive(Debug)]
pub struct Statsd {
    socket: Socket,
    prefix: String,
    /// `|#tags`, or nothing.
    suffix: String,
    datagram: Vec<u8>,
}

/// The socket that metrics are sent by, with the address of their receiver. It never blocks: what the kernel has
/// no room for is lost, as with statsd anyway.
#[derive(Debug)]
enum Socket {
    Udp(UdpSocket, SocketAddr),
    Unix(UnixDatagram, PathBuf),
}

/// Most bytes of a datagram: what an Ethernet frame carries of UDP over IPv6, less what a tunnel takes.
const DATAGRAM_BYTES_MAX: usize = 1_432;

impl Statsd {
    /// A sender to what the settings name; `None` where they name nothing. Looks a host's name up, which may take
    /// a while.
    ///
    /// # Errors
    /// The name has no address, or the kernel no socket.
    pub fn open(settings: &StatsdSettings) -> std::io::Result<Option<Self>> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let socket = match endpoint {
            Endpoint::Inet { host, port } => {
                let address = address(host, *port)?;
                Socket::Udp(udp_socket(&address)?, address)
            }
            Endpoint::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Socket::Unix(socket, path.clone())
            }
        };
        let tags = &settings.tags;
        let suffix = if tags.is_empty() { String::new() } else { format!("|#{tags}") };
        Ok(Some(Self { socket, prefix: settings.prefix.clone(), suffix, datagram: Vec::new() }))
    }

    /// Sends `value` in the form that the table says of this metric; nothing if it has no name for statsd. Times
    /// are in nanoseconds.
    pub fn send(&mut self, metric: &Metric, value: u64) {
        for StatsdName { name, form, .. } in metric.statsd.iter().filter(|sent| !sent.by_label) {
            self.add_number(form, format_args!("{name}"), value);
        }
    }

    /// The same for the series of this metric whose last label has the value `label`.
    pub fn send_series(&mut self, metric: &Metric, label: impl fmt::Display, value: u64) {
        for StatsdName { name, form, .. } in metric.statsd.iter().filter(|sent| sent.by_label) {
            self.add_number(form, format_args!("{name}.{label}"), value);
        }
    }

    fn add_number(&mut self, form: &StatsdForm, name: fmt::Arguments<'_>, value: u64) {
        let code = form.code();
        match form {
            StatsdForm::Time => {
                let micros = value / 1_000;
                self.add(format_args!("{name}:{}.{:03}|{code}", micros / 1_000, micros % 1_000));
            }
            StatsdForm::Count | StatsdForm::Gauge | StatsdForm::Histogram => {
                self.add(format_args!("{name}:{value}|{code}"));
            }
        }
    }

    /// Sends what has been gathered.
    pub fn flush(&mut self) {
        if self.datagram.is_empty() {
            return;
        }
        // A full buffer, nobody there: what is lost is lost.
        let _ = match &self.socket {
            Socket::Udp(socket, address) => socket.send_to(&self.datagram, address),
            Socket::Unix(socket, path) => socket.send_to(&self.datagram, path),
        };
        self.datagram.clear();
    }

    fn add(&mut self, metric: fmt::Arguments<'_>) {
        let before = self.datagram.len();
        if before > 0 {
            self.datagram.push(b'\n');
        }
        let _ = write!(self.datagram, "{}{metric}{}", self.prefix, self.suffix);
        if before > 0 && self.datagram.len() > DATAGRAM_BYTES_MAX {
            let last = self.datagram.split_off(before + 1);
            self.datagram.truncate(before);
            self.flush();
            self.datagram = last;
        }
    }
}

/// The first address of a host.
pub(crate) fn address(host: &str, port: u16) -> std::io::Result<SocketAddr> {
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, format!("{host} has no address"));
    (host, port).to_socket_addrs()?.next().ok_or_else(none)
}

/// A socket for datagrams to this address that never waits.
pub(crate) fn udp_socket(address: &SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use portico_metrics::{Counter, Gauge, Histogram, Observed};

    use super::*;

    fn received(receiver: &UdpSocket) -> Vec<String> {
        receiver.set_nonblocking(true).unwrap();
        let mut buffer = [0; 65_536];
        std::iter::from_fn(|| {
            let length = receiver.recv(&mut buffer).ok()?;
            assert!(length <= DATAGRAM_BYTES_MAX);
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        })
        .collect()
    }

    fn sender(receiver: &UdpSocket, prefix: &str, tags: &str) -> Statsd {
        let port = receiver.local_addr().unwrap().port();
        let endpoint = Some(Endpoint::Inet { host: "127.0.0.1".to_owned(), port });
        let settings = StatsdSettings { endpoint, prefix: prefix.to_owned(), tags: tags.to_owned() };
        Statsd::open(&settings).unwrap().unwrap()
    }

    #[test]
    fn metrics_share_datagrams() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut statsd = sender(&receiver, "shop.", "a:b,c");
        statsd.send(Counter::Exchanges.metric(), 2);
        statsd.send_series(Counter::Exchanges.metric(), 404, 1);
        statsd.send(Observed::Workers.metric(), 4);
        statsd.send(Gauge::QueueLength.metric(), 3);
        statsd.send(Histogram::RequestDuration.metric(), 12_345_678);
        statsd.send(Counter::Calls.metric(), 7);
        statsd.flush();
        statsd.flush();
        let expected = "shop.gunicorn.requests:2|c|#a:b,c\n\
            shop.gunicorn.request.status.404:1|c|#a:b,c\n\
            shop.gunicorn.workers:4|g|#a:b,c\n\
            shop.gunicorn.backlog:3|h|#a:b,c\n\
            shop.gunicorn.request.duration:12.345|ms|#a:b,c";
        assert_eq!(received(&receiver), [expected]);
    }

    #[test]
    fn no_datagram_is_too_large_and_no_metric_is_cut() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut statsd = sender(&receiver, "", "");
        (0..1000).for_each(|number| statsd.send(Counter::Exchanges.metric(), number));
        statsd.flush();
        let datagrams = received(&receiver);
        assert!(datagrams.len() > 10 && datagrams.len() < 20, "{}", datagrams.len());
        let metrics: Vec<&str> = datagrams.iter().flat_map(|datagram| datagram.split('\n')).collect();
        let expected: Vec<String> = (0..1000).map(|number| format!("gunicorn.requests:{number}|c")).collect();
        assert_eq!(metrics, expected);
    }

    #[test]
    fn nobody_there_is_no_matter() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Some(Endpoint::Unix(folder.path().join("none")));
        let mut statsd = Statsd::open(&StatsdSettings { endpoint, ..Default::default() }).unwrap().unwrap();
        statsd.send(Observed::Workers.metric(), 1);
        statsd.flush();
        let receiver = UnixDatagram::bind(folder.path().join("none")).unwrap();
        statsd.send(Observed::Workers.metric(), 2);
        statsd.flush();
        let mut buffer = [0; 64];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"gunicorn.workers:2|g");
        assert!(Statsd::open(&StatsdSettings::default()).unwrap().is_none());
    }
}
