//! TLS over a stream socket, by rustls without its buffers: what a connection keeps between two reads is the part
//! of a record that has come, and nothing where none has.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

use super::Progress;
use crate::tls::{Acceptor, ShownCertificate, TlsClient, take_shown};

/// TLS on one client's socket, with the bytes that are between the two. Four booleans, because each is known of
/// another side: of what is kept, of the socket, of the peer and of the configuration.
pub struct Tls {
    socket: OwnedFd,
    stage: TlsStage,
    /// What has come and is not used: part of a record, or records for whose content there was no room.
    kept: Vec<u8>,
    /// Plaintext for which there was no room.
    surplus: Vec<u8>,
    /// What the kernel has not taken yet.
    pending: Vec<u8>,
    /// Bytes at the beginning of `pending` that it has.
    sent: usize,
    /// `kept` may have whole records.
    whole: bool,
    /// The last read has looked into the socket and left it empty.
    drained: bool,
    /// The peer has said that nothing more will come.
    ended: bool,
    /// What the client has asked for and was shown, until `client` has it.
    shown: Option<ShownCertificate>,
    client: Option<Arc<TlsClient>>,
    /// Clients are asked for certificates.
    asks: bool,
}

/// The stage of one TLS connection, from silence to the handshake and what follows. Owned by its transport; from
/// `PlainHttp` and `Failed` it never comes back.
enum TlsStage {
    /// Nothing has come: a client that says nothing costs no more than this.
    AwaitingHello(Arc<Acceptor>),
    /// The handshake, and what follows.
    Established(Box<UnbufferedServerConnection>),
    /// It does not speak TLS. What is said to it is said in the clear.
    PlainHttp,
    /// It has broken off, or does not speak TLS as it should.
    Failed,
}

/// The longest handshake message that rustls takes, in records, and a record behind it.
const INPUT_BYTES: usize = 96 * 1024;

/// Plaintext that is sealed at once: three records.
const PIECE_BYTES: usize = 3 * 16 * 1024;

/// The longest plaintext of one record (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What rustls keeps for a session once its handshake is done (measured: 5.0 KB with TLS 1.3).
const SESSION_BYTES: usize = 5 * 1024;

/// The first byte of a record with a handshake in it (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

thread_local! {
    /// What comes and what goes, sealed. The sealed bytes of all connections of one thread pass through it.
    static SEALED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// A piece of a file on its way to be sealed.
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Tls {
    pub(super) fn new(socket: OwnedFd, acceptor: Arc<Acceptor>) -> Self {
        Self {
            socket,
            asks: acceptor.asks_for_certificates(),
            stage: TlsStage::AwaitingHello(acceptor),
            kept: Vec::new(),
            surplus: Vec::new(),
            pending: Vec::new(),
            sent: 0,
            whole: false,
            drained: true,
            ended: false,
            shown: None,
            client: None,
        }
    }

    /// The client, once the handshake is done.
    pub(super) fn client(&self) -> Option<&Arc<TlsClient>> {
        self.client.as_ref()
    }

    /// Whether the peer has sent anything.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.stage, TlsStage::AwaitingHello(_))
    }

    /// Whether the peer has turned out not to speak TLS.
    pub(super) fn is_plain_http(&self) -> bool {
        matches!(self.stage, TlsStage::PlainHttp)
    }

    /// Whether a read would find nothing before an edge tells of more.
    pub(super) fn is_drained(&self) -> bool {
        self.drained && !self.whole && !self.ended && self.surplus.is_empty()
    }

    /// Whether there is something to write that has been taken already.
    pub(super) fn is_owing(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len() - self.sent
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let session = if let TlsStage::Established(_) = self.stage { SESSION_BYTES } else { 0 };
        session + self.kept.capacity() + self.surplus.capacity() + self.pending.capacity()
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Progress {
        if self.is_plain_http() {
            return super::read(self.as_fd(), buffer);
        }
        SEALED.with_borrow_mut(|sealed| {
            sealed.resize(INPUT_BYTES, 0);
            self.read_through(sealed, buffer)
        })
    }

    fn read_through(&mut self, input: &mut [u8], buffer: &mut [u8]) -> Progress {
        // What an earlier read found empty may be full by now, and that may have been told already.
        self.drained = false;
        loop {
            if !self.surplus.is_empty() {
                let count = self.surplus.len().min(buffer.len());
                buffer[..count].copy_from_slice(&self.surplus[..count]);
                self.surplus.drain(..count);
                return Progress::Bytes(count);
            }
            if self.ended || matches!(self.stage, TlsStage::Failed) {
                return Progress::Closed;
            }
            let mut filled = self.kept.len().min(input.len());
            input[..filled].copy_from_slice(&self.kept[..filled]);
            if !self.whole {
                match super::read(self.as_fd(), &mut input[filled..]) {
                    Progress::Bytes(count) => {
                        filled += count;
                        self.drained = filled < input.len();
                    }
                    Progress::Blocked => {
                        self.drained = true;
                        return Progress::Blocked;
                    }
                    Progress::Closed => return Progress::Closed,
                }
            }
            self.kept = Vec::new();
            if matches!(self.stage, TlsStage::AwaitingHello(_)) && !self.begin(input[0]) {
                return Progress::Closed;
            }
            let count = self.open(&mut input[..filled], buffer);
            if self.settle() == Progress::Closed {
                self.stage = TlsStage::Failed;
            }
            if count > 0 {
                return Progress::Bytes(count);
            }
            if self.drained && !self.whole && !self.ended && self.surplus.is_empty() {
                return if matches!(self.stage, TlsStage::Failed) {
                    Progress::Closed
                } else {
                    Progress::Blocked
                };
            }
        }
    }

    /// The first byte has come; `false` if TLS does not begin with it, or there is nothing to answer with.
    fn begin(&mut self, first: u8) -> bool {
        let TlsStage::AwaitingHello(acceptor) = &self.stage else { return true };
        if first != HANDSHAKE {
            // Every method begins with a letter. Whatever else comes is not worth a response.
            self.stage = if first.is_ascii_alphabetic() { TlsStage::PlainHttp } else { TlsStage::Failed };
            return false;
        }
        let session = acceptor.config().and_then(|config| UnbufferedServerConnection::new(config).ok());
        self.stage = session.map_or(TlsStage::Failed, |session| TlsStage::Established(Box::new(session)));
        matches!(self.stage, TlsStage::Established(_))
    }

    /// Has rustls read `input` into `buffer`, and keeps what is left of it. Returns the bytes of plaintext.
    fn open(&mut self, input: &mut [u8], buffer: &mut [u8]) -> usize {
        let Self { stage: TlsStage::Established(session), pending, surplus, .. } = self else { return 0 };
        let was_handshaking = session.is_handshaking();
        let (mut used, mut filled, mut failed) = (0, 0, false);
        self.whole = false;
        loop {
            if filled > 0 && buffer.len() - filled < RECORD_BYTES_MAX && used < input.len() {
                self.whole = true;
                break;
            }
            let UnbufferedStatus { mut discard, state } = session.process_tls_records(&mut input[used..]);
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        let count = record.payload.len().min(buffer.len() - filled);
                        buffer[filled..filled + count].copy_from_slice(&record.payload[..count]);
                        filled += count;
                        surplus.extend_from_slice(&record.payload[count..]);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, pending),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => goes_on = false,
                Ok(_) => (self.ended, goes_on) = (true, false),
                Err(_) if failed => goes_on = false,
                Err(error) => {
                    log::debug!("TLS with a client failed: {error}");
                    failed = true; // Once more, for the alert.
                }
            }
            used += discard;
            if !goes_on {
                break;
            }
        }
        if failed {
            take_shown(); // It would be told of the thread's next client.
            self.settle();
            self.stage = TlsStage::Failed;
            return filled;
        }
        self.kept = input[used..].to_vec();
        if was_handshaking {
            self.shown = take_shown().or(self.shown.take());
            if !session.is_handshaking() {
                self.client = Some(Arc::new(TlsClient::of(session, self.shown.take(), self.asks)));
            }
        }
        filled
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Progress {
        if self.is_plain_http() {
            return super::write(self.as_fd(), bytes);
        }
        match self.settle() {
            Progress::Bytes(_) => {}
            stopped => return stopped,
        }
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        SEALED.with_borrow_mut(|sealed| {
            sealed.resize(INPUT_BYTES, 0);
            match self.seal(Some(piece), sealed) {
                Some(count) if self.send(&sealed[..count]) => Progress::Bytes(piece.len()),
                _ => Progress::Closed,
            }
        })
    }

    pub(super) fn send_file(&mut self, file: &File, offset: u64, count: usize) -> Progress {
        PIECE.with_borrow_mut(|piece| {
            piece.resize(PIECE_BYTES, 0);
            match file.read_at(&mut piece[..count.min(PIECE_BYTES)], offset) {
                Ok(0) | Err(_) => Progress::Closed,
                Ok(count) => self.write(&piece[..count]),
            }
        })
    }

    /// Seals `piece`, or the word that nothing more will come, into `sealed`; `None` if that cannot be done.
    fn seal(&mut self, piece: Option<&[u8]>, sealed: &mut [u8]) -> Option<usize> {
        let Self { stage: TlsStage::Established(session), surplus, kept, ended, .. } = self else {
            return None;
        };
        let mut filled = 0;
        let mut count = None;
        while count.is_none() {
            let UnbufferedStatus { mut discard, state } = session.process_tls_records(kept);
            match state.ok()? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let out = &mut sealed[filled..];
                    let sealed = match piece {
                        Some(piece) => traffic.encrypt(piece, out),
                        None => traffic.queue_close_notify(out),
                    };
                    count = Some(filled + sealed.ok()?);
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    filled += data.encode(&mut sealed[filled..]).ok()?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        surplus.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::PeerClosed => *ended = true,
                _ => return None,
            }
            kept.drain(..discard);
        }
        count
    }

    /// Sends what the kernel takes and owes the rest; `false` if the connection has failed.
    fn send(&mut self, sealed: &[u8]) -> bool {
        let mut sent = 0;
        while sent < sealed.len() {
            match super::write(self.as_fd(), &sealed[sent..]) {
                Progress::Bytes(count) => sent += count,
                Progress::Blocked => break,
                Progress::Closed => return false,
            }
        }
        self.pending.extend_from_slice(&sealed[sent..]);
        true
    }

    /// Writes what is owed: `Blocked` if not all of it can be.
    pub(super) fn settle(&mut self) -> Progress {
        while self.sent < self.pending.len() {
            match super::write(self.socket.as_fd(), &self.pending[self.sent..]) {
                Progress::Bytes(count) => self.sent += count,
                stopped => return stopped,
            }
        }
        if self.sent > 0 {
            (self.pending, self.sent) = (Vec::new(), 0);
        }
        Progress::Bytes(0)
    }

    /// Tells the peer, if it can be told at once, that nothing more will come.
    pub(super) fn send_close_notify(&mut self) {
        if self.settle() != Progress::Bytes(0) {
            return;
        }
        SEALED.with_borrow_mut(|sealed| {
            sealed.resize(INPUT_BYTES, 0);
            if let Some(count) = self.seal(None, sealed) {
                self.send(&sealed[..count]);
            }
        });
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let filled = out.len();
    let required = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        _ => return,
    };
    out.resize(filled + required, 0);
    if data.encode(&mut out[filled..]).is_err() {
        out.truncate(filled);
    }
}

impl AsFd for Tls {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("socket", &self.socket)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
