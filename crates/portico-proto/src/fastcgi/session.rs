//! A FastCGI connection that carries several requests at once (section 3 of the specification).
//!
//! Hands each request its records, in the order in which they came, and answers what is about the connection: what
//! is asked of the server, requests that are given up, and those that cannot be taken.

use std::collections::HashMap;

use super::Connection;
use super::record::{self, Begin, Header, Kind, Status};
use super::stream_io::{FinishedRequest, SharedStreams, StreamIo};
use crate::error::{Error, ErrorKind};
use crate::streams::StreamEvent;

/// The limits that the peer is told when it asks, and held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections that there may be (FCGI_MAX_CONNS).
    pub connections_max: u32,
    /// Requests that there may be at once, also on one connection (FCGI_MAX_REQS).
    pub requests_max: u32,
}

/// A request that has begun: its state, and the end of its bytes that its server has.
#[derive(Debug)]
pub struct Stream {
    /// Its state.
    pub connection: Box<Connection>,
    /// Where its records are.
    pub io: StreamIo,
}

/// One FastCGI connection that carries several requests. Owned by the connection that has the socket; it only
/// sorts records by request and never reads their content.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    streams: SharedStreams,
    /// Numbers of the requests that are open, by id.
    numbers: HashMap<u16, u32>,
    last_number: u32,
    /// Bytes that have come; `taken` of them have been taken in.
    inbox: Vec<u8>,
    taken: usize,
    /// The record whose rest is to come.
    record: Option<Rest>,
    /// What is to be told beside responses.
    replies: Vec<u8>,
    /// No request is taken any more.
    leaving: bool,
    /// And when those that are open have ended, so has the connection.
    ending: bool,
    closed: bool,
}

/// The part of a record that is still to come.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Whose it is; nobody's, and it is passed over.
    number: Option<u32>,
    bytes: usize,
}

type Event = StreamEvent<Stream>;

/// Bytes of names in GET_VALUES.
const NAMES_BYTES_MAX: usize = 1024;

/// Bytes of replies with which nothing more is read. What has been read makes no more than twice its size.
const REPLIES_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are given out at once; a turn of one request's may come on top.
const OUTPUT_BYTES_MAX: usize = 128 * 1024;

impl Session {
    /// A connection of which nothing is known.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            streams: SharedStreams::default(),
            numbers: HashMap::new(),
            last_number: 0,
            inbox: Vec::new(),
            taken: 0,
            record: None,
            replies: Vec::new(),
            leaving: false,
            ending: false,
            closed: false,
        }
    }

    /// Takes over the connection on which `connection` was alone until [`ErrorKind::Shared`]: from now on that
    /// stands for its request, if it has one. Returns the number and the I/O of that.
    pub fn adopt(&mut self, connection: &mut Connection) -> (u32, StreamIo) {
        connection.is_carried = true;
        let request = connection.request;
        self.open(request.id, request.keep_connection)
    }

    /// Takes in bytes of the peer's.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.inbox.extend_from_slice(bytes);
        }
    }

    /// The next event; `None` until more bytes come or go. What it tells of is to be worked on before the next is
    /// asked for.
    ///
    /// # Errors
    /// The bytes are none of this protocol.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        let inbox = std::mem::take(&mut self.inbox);
        let mut input = &inbox[self.taken..];
        let event = self.take_records(&mut input);
        self.taken = inbox.len() - input.len();
        self.inbox = inbox;
        match event {
            Ok(None) => {
                self.inbox.drain(..self.taken);
                self.taken = 0;
                Ok(self.streams.lock().next_roomy().map(StreamEvent::Room))
            }
            Ok(event) => Ok(event),
            Err(kind) => {
                self.end();
                Err(kind.into())
            }
        }
    }

    /// Appends to `out` what is to be written now. There may be more once that is written.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.replies);
        let mut streams = self.streams.lock();
        while out.len() < OUTPUT_BYTES_MAX && streams.has_ready() {
            if let Some(FinishedRequest { request, ended }) = streams.take_output(out) {
                self.numbers.remove(&request.id);
                // The peer sees that a response is not whole by its lack of END_REQUEST.
                self.ending |= !ended || !request.keeps_connection;
            }
        }
    }

    /// Whether [`Session::next_event`] is to be asked though nothing has come.
    pub fn has_more(&self) -> bool {
        self.streams.lock().has_roomy()
    }

    /// Whether there is nothing more to read or write but what [`Session::output`] gives.
    pub fn is_closed(&self) -> bool {
        self.closed || (self.ending && self.numbers.is_empty() && self.replies.is_empty())
    }

    /// Whether more bytes have a place.
    pub fn wants_bytes(&self) -> bool {
        !self.is_closed() && self.replies.len() < REPLIES_BYTES_MAX
    }

    /// Whether something has begun to come that is not whole, and is of no request that is open.
    pub fn is_partial(&self) -> bool {
        match self.record {
            Some(Rest { number: Some(number), .. }) => !self.streams.lock().contains(number),
            Some(_) => true,
            None => !self.inbox.is_empty(),
        }
    }

    /// Whether it is between requests.
    pub fn is_idle(&self) -> bool {
        self.numbers.is_empty() && self.record.is_none() && !self.is_closed()
    }

    /// Whether it is between requests, nothing of a record has come, and there is nothing to write.
    pub fn is_at_rest(&self) -> bool {
        self.is_idle() && self.replies.is_empty() && self.inbox.is_empty() && !self.ending
    }

    /// Nobody serves this request any more. If its response is not complete, no other one is taken on this
    /// connection, which ends with the last: by that the peer sees it.
    pub fn forget(&mut self, number: u32) {
        self.streams.lock().leave(number);
    }

    /// Takes no more requests: the peer is told so of each.
    pub fn shut_down(&mut self) {
        self.leaving = true;
    }

    /// Whether it has been told to [`shut_down`](Session::shut_down).
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Ends the session at once.
    pub fn end(&mut self) {
        self.closed = true;
        self.streams.lock().clear();
        self.numbers.clear();
        (self.inbox, self.taken) = (Vec::new(), 0);
    }

    /// Memory that it takes beside its requests.
    pub fn memory_bytes(&self) -> usize {
        self.inbox.capacity() + self.replies.capacity() + self.streams.lock().output_bytes()
    }

    /// Gives the memory of empty buffers back.
    pub fn release(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        if self.replies.is_empty() {
            self.replies = Vec::new();
        }
    }

    fn open(&mut self, id: u16, keeps_connection: bool) -> (u32, StreamIo) {
        self.last_number = self.last_number.wrapping_add(1);
        self.numbers.insert(id, self.last_number);
        (self.last_number, self.streams.open(self.last_number, id, keeps_connection))
    }

    /// Takes records in until one makes an event, or more bytes are needed. Those of one request that follow each
    /// other make one.
    fn take_records(&mut self, input: &mut &[u8]) -> Result<Option<Event>, ErrorKind> {
        let mut touched = None;
        loop {
            if let Some(rest) = self.record {
                let (bytes, after) = input.split_at(rest.bytes.min(input.len()));
                *input = after;
                if let Some(number) = rest.number.filter(|_| !bytes.is_empty())
                    && self.streams.lock().push(number, bytes)
                {
                    touched = Some(number);
                }
                let bytes = rest.bytes - bytes.len();
                self.record = (bytes > 0).then_some(Rest { bytes, ..rest });
                if self.record.is_some() {
                    break;
                }
            }
            let header = match Header::read(input) {
                // What has come before is told first.
                Err(_) if touched.is_some() => break,
                header => header?,
            };
            let Some(header) = header else { break };
            let number = match header.kind {
                Kind::Params | Kind::Stdin | Kind::Data => self.numbers.get(&header.id).copied(),
                _ => None,
            };
            if touched.is_some() && number != touched {
                break;
            }
            let whole = record::HEADER_BYTES + header.bytes_behind();
            match header.kind {
                kind if kind == Kind::BeginRequest || (kind == Kind::GetValues && header.id == 0) => {
                    self.check_length(&header)?;
                    let Some(bytes) = input.get(..whole) else { break };
                    *input = &input[whole..];
                    let end = record::HEADER_BYTES + usize::from(header.content_bytes);
                    let event = self.take_whole(&header, &bytes[record::HEADER_BYTES..end])?;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                _ => {
                    let head;
                    (head, *input) = input.split_at(record::HEADER_BYTES);
                    self.record = Some(Rest { number, bytes: header.bytes_behind() });
                    if let Some(number) = number {
                        touched = self.streams.lock().push(number, head).then_some(number);
                    } else if let Some(event) = self.pass_over(&header) {
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(touched.map(StreamEvent::Body))
    }

    /// That a record that is looked at when it is whole is no longer than it may be.
    fn check_length(&self, header: &Header) -> Result<(), ErrorKind> {
        match header.kind {
            Kind::GetValues if usize::from(header.content_bytes) > NAMES_BYTES_MAX => Err(ErrorKind::Packet),
            Kind::GetValues => Ok(()),
            _ => header.check_begin(),
        }
    }

    fn take_whole(&mut self, header: &Header, content: &[u8]) -> Result<Option<Event>, ErrorKind> {
        if header.kind == Kind::GetValues {
            self.tell_values(content)?;
            return Ok(None);
        }
        let id = header.id;
        let Begin { role, keep_connection } = Begin::read(id, content)?;
        if self.numbers.contains_key(&id) {
            return Err(ErrorKind::Packet);
        }
        let refusal = if role != record::RESPONDER {
            Status::UnknownRole
        } else if self.leaving || self.ending || self.numbers.len() >= self.settings.requests_max as usize {
            Status::Overloaded
        } else {
            let (number, io) = self.open(id, keep_connection);
            let connection = Box::new(Connection::carried(id, keep_connection));
            return Ok(Some(StreamEvent::Opened(number, Stream { connection, io })));
        };
        record::write_end(id, refusal, &mut self.replies);
        Ok(None)
    }

    /// What the header of a record means whose content means nothing.
    fn pass_over(&mut self, header: &Header) -> Option<Event> {
        match header.kind {
            Kind::AbortRequest => {
                let number = self.numbers.remove(&header.id)?;
                record::write_end(header.id, Status::Complete, &mut self.replies);
                let request = self.streams.lock().remove(number);
                self.ending |= request.is_some_and(|request| !request.keeps_connection);
                Some(StreamEvent::Reset(number, None))
            }
            Kind::Other(kind) if header.id == 0 => {
                record::write_unknown_type(kind, &mut self.replies);
                None
            }
            // Of a request that is over, or was not taken.
            _ => None,
        }
    }

    fn tell_values(&mut self, names: &[u8]) -> Result<(), ErrorKind> {
        let (mut connections, mut requests) = (itoa::Buffer::new(), itoa::Buffer::new());
        let values: [(&[u8], &[u8]); 3] = [
            (b"FCGI_MAX_CONNS", connections.format(self.settings.connections_max).as_bytes()),
            (b"FCGI_MAX_REQS", requests.format(self.settings.requests_max).as_bytes()),
            (b"FCGI_MPXS_CONNS", b"1"),
        ];
        record::write_values(names, &values, &mut self.replies)
    }
}

#[cfg(test)]
mod tests;
