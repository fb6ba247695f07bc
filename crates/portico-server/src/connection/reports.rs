//! What is wrong with what proxies and clients send, and what they bring about: said in the log once, or the
//! first, the second, the fourth time and so on, since every request could say it again.

use std::collections::HashSet;
use std::io;

use portico_log::Occurrences;
use portico_proto::{Error, Peer, ProxyError, http2};
use rustix::io::Errno;

use crate::forwarded::ForwardedRefusal;

/// The log lines that clients can cause, each bounded in number.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    dropped_names: HashSet<Vec<u8>>,
    ignored_scheme: bool,
    ignored_forwarded: bool,
    refusals: Vec<ForwardedRefusal>,
    proxy_headers: Vec<ProxyError>,
    /// How often gateways have been turned away, and packets of theirs.
    foreign: Occurrences,
    malformed: Occurrences,
    floods: Occurrences,
    unwatched: Occurrences,
    failed: Occurrences,
    /// How often there was no place for a job, and how often one came too late.
    work_refused: Occurrences,
    work_late: Occurrences,
    /// How often an application has named a file that cannot be sent.
    file_orders: Occurrences,
    /// How often requests were refused that were for other hosts.
    foreign_hosts: Occurrences,
}

/// Names of dropped fields that are reported, each once.
const DROPPED_NAMES_MAX: usize = 64;

/// Bytes of a host that are told.
const HOST_BYTES_MAX: usize = 255;

impl Reports {
    /// Says once of each name that it is dropped.
    pub(crate) fn dropped_field(&mut self, name: &[u8]) {
        let known = self.dropped_names.contains(name);
        if !known && self.dropped_names.len() < DROPPED_NAMES_MAX {
            self.dropped_names.insert(name.to_vec());
            let name = name.escape_ascii();
            log::warn!(
                "dropped the request field {name}: with its underscores it could pass for another name in \
                 environ (said once; have it sent with hyphens, or, if your proxy sets it and removes what \
                 clients send of it, add --forwarder-headers {name} and the proxy to --forwarded-allow-ips)"
            );
        }
    }

    /// Says why a file that the application has named is not sent.
    #[cold]
    pub(crate) fn file_order(&mut self, problem: &str) {
        if let Some(times) = self.file_orders.note() {
            log::error!("answered 404 in place of the application: {problem}{times}");
        }
    }

    /// Says that work for a request has no place in its line.
    #[cold]
    pub(crate) fn work_refused(&mut self) {
        if let Some(times) = self.work_refused.note() {
            log::warn!("answered 503: too much waits for the disk, or for passwords to be hashed{times}");
        }
    }

    /// Says that work for a request has not been done in time.
    #[cold]
    pub(crate) fn work_late(&mut self) {
        if let Some(times) = self.work_late.note() {
            log::error!("gave a request up: the disk has not responded in time{times}");
        }
    }

    /// Says that nobody believes this peer's word for TLS.
    pub(crate) fn ignored_scheme(&mut self, peer: Peer) {
        if !std::mem::replace(&mut self.ignored_scheme, true) {
            let (who, remedy) = match peer {
                Peer::Inet(_) => (format!("{peer}"), format!("--forwarded-allow-ips {peer}")),
                Peer::Unix => ("a UNIX socket".to_owned(), "--forwarded-allow-ips unix".to_owned()),
            };
            log::warn!(
                "{who} says that its client speaks https and is not believed, so your application thinks it is \
                 http; if that is your proxy, add {remedy} (said once)"
            );
        }
    }

    /// Says that a Forwarded beside X-Forwarded-* counts for nothing.
    pub(crate) fn ignored_forwarded(&mut self, peer: Peer) {
        if !std::mem::replace(&mut self.ignored_forwarded, true) {
            let from = told(peer);
            log::warn!(
                "ignored the Forwarded of a request from {from}, which has X-Forwarded-* as well: a client has \
                 most likely sent it (said once; have the proxy remove it, or, if the proxy makes both, say with \
                 --forwarded-headers and --secure-scheme-headers which counts)"
            );
        }
    }

    /// Says once of each reason that a connection is closed for what it does not begin with.
    pub(crate) fn proxy_header(&mut self, error: ProxyError, peer: Peer) {
        if self.proxy_headers.contains(&error) {
            return;
        }
        self.proxy_headers.push(error);
        let from = if peer == Peer::Unix { "a UNIX socket".to_owned() } else { peer.to_string() };
        match error {
            ProxyError::Missing => log::warn!(
                "closed a connection from {from}, which does not begin with the PROXY protocol; have it sent, or \
                 take the address out of --proxy-allow-from (said once)"
            ),
            ProxyError::Checksum => log::warn!(
                "closed a connection from {from}: the checksum of its PROXY header is wrong (said once)"
            ),
            ProxyError::Malformed | ProxyError::TooLong => {
                log::warn!(
                    "closed a connection from {from}: its PROXY header is malformed or too long (said once)"
                );
            }
        }
    }

    /// Says that a peer that is not among those of `--uwsgi-allow-from` was turned away: the first, the second,
    /// the fourth time and so on.
    pub(crate) fn foreign_gateway(&mut self, peer: Peer, protocol: &str) {
        if let Some(times) = self.foreign.note() {
            log::warn!(
                "closed a {protocol} connection of {peer}, which is not among --uwsgi-allow-from ({} so far)",
                times.count()
            );
        }
    }

    /// Says likewise that what a gateway has sent is none of its protocol.
    pub(crate) fn malformed_packet(&mut self, peer: Peer, protocol: &str, error: Error) {
        if let Some(times) = self.malformed.note() {
            let from = told(peer);
            let times = times.count();
            log::warn!("closed a {protocol} connection of {from}: {error} ({times} so far)");
        }
    }

    /// Says likewise that a client has sent more of what is allowed than anybody needs.
    pub(crate) fn flood(&self, peer: Peer, violation: http2::Http2Violation) {
        if let Some(times) = self.floods.note() {
            let from = told(peer);
            log::info!("closed the HTTP/2 connection of {from}: {violation}{times}");
        }
    }

    /// Says likewise that the kernel does not watch `what`, or does not cease to. That somebody has closed it, or
    /// what it is watched with, is told where that is looked for.
    pub(crate) fn unwatched(&self, what: &str, error: &io::Error) {
        if matches!(Errno::from_io_error(error), Some(Errno::BADF | Errno::INVAL)) {
            log::debug!("{what} cannot be watched: {error}");
        } else if let Some(times) = self.unwatched.note() {
            log::error!("{what} cannot be watched: {error}{times}");
        }
    }

    /// Says likewise that the handling of a connection has failed.
    pub(crate) fn failed(&self, peer: Peer) {
        if let Some(times) = self.failed.note() {
            let from = told(peer);
            log::error!("the connection of {from} was cut: its handling failed (a bug in Portico){times}");
        }
    }

    /// Says likewise that a request was for a host that is not among those of `--allowed-hosts`.
    pub(crate) fn foreign_host(&self, peer: Peer, host: &[u8]) {
        if let Some(times) = self.foreign_hosts.note() {
            let (from, host) = (told(peer), host[..host.len().min(HOST_BYTES_MAX)].escape_ascii());
            log::warn!(
                "answered 421 to a request from {from}: the host {host} is not among --allowed-hosts{times}"
            );
        }
    }

    /// Says once of each reason that a request is refused for what its proxy has said.
    pub(crate) fn refusal(&mut self, refusal: ForwardedRefusal, peer: Peer) {
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
            let from = told(peer);
            log::warn!("answered 400 to a request from {from}: {} (said once)", refusal.sentence());
        }
    }
}

fn told(peer: Peer) -> String {
    if peer == Peer::Unix { "a UNIX socket".to_owned() } else { peer.to_string() }
}
