//! A connection whose peer has to say first whom it speaks for (the PROXY protocol).

use std::os::fd::BorrowedFd;

use portico_proto::{ProxyClient, ProxyError, ProxyHeader, ProxyVersions};
use rustix::net::RecvFlags;

use super::{Progress, Transport, receive};

/// A connection before its PROXY header, which is taken off it and never shown to the protocol.
#[derive(Debug)]
pub struct Proxied {
    inner: Transport,
    versions: ProxyVersions,
    found: Option<ProxyResult>,
    told: bool,
}

/// The outcome of reading what a peer has sent first.
pub(crate) type ProxyResult = Result<ProxyClient, ProxyError>;

impl Proxied {
    pub(super) fn new(inner: Transport, versions: ProxyVersions) -> Self {
        Self { inner, versions, found: None, told: false }
    }

    /// Reads what comes after the header. While that is not there it is looked for, and taken, and no byte more:
    /// then it is `Blocked` once (see [`Proxied::take_found`]).
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Progress {
        match self.found {
            Some(Ok(_)) => self.inner.read(buffer),
            Some(Err(_)) => Progress::Closed,
            None => self.read_header(),
        }
    }

    fn read_header(&mut self) -> Progress {
        let Some(socket) = self.inner.socket() else { return Progress::Closed };
        let mut bytes = [0; ProxyHeader::BYTES_MAX];
        let count = match receive(socket, &mut bytes, RecvFlags::PEEK) {
            Progress::Bytes(count) => count,
            stopped => return stopped,
        };
        match ProxyHeader::parse(&bytes[..count], self.versions) {
            Ok(None) => Progress::Blocked,
            Ok(Some(header)) => {
                // It is there: nobody else reads from this socket.
                let taken = receive(socket, &mut bytes[..header.length], RecvFlags::empty());
                if taken != Progress::Bytes(header.length) {
                    return Progress::Closed;
                }
                self.found = Some(Ok(header.client));
                Progress::Blocked
            }
            Err(error) => {
                self.found = Some(Err(error));
                Progress::Closed
            }
        }
    }

    /// What the peer has said, once.
    pub(super) fn take_found(&mut self) -> Option<ProxyResult> {
        if std::mem::replace(&mut self.told, self.found.is_some()) { None } else { self.found }
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.inner.socket()
    }

    /// The connection, where the header has been read; nothing is to be said before.
    pub(super) fn inner(&self) -> Option<&Transport> {
        matches!(self.found, Some(Ok(_))).then_some(&self.inner)
    }

    pub(super) fn inner_mut(&mut self) -> Option<&mut Transport> {
        if matches!(self.found, Some(Ok(_))) { Some(&mut self.inner) } else { None }
    }
}
