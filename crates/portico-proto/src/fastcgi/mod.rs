//! FastCGI, server side, as a responder (<https://fastcgi-archives.github.io/FastCGI_Specification.html>).
//!
//! This file owns the state of one request after the other: a [`Connection`] is all that nginx, Apache and
//! lighttpd ever need, and spares them what sessions cost. What else may come between its records (a second
//! request, one that is given up, questions about the server) makes a [`Session`] of the connection until it is
//! between requests again; there each request is such a [`Connection`] once more. Records are in `record`; what
//! variables mean and how a response begins is shared with the other gateways' protocols.

mod record;
mod session;
mod stream_io;

pub use session::{Session, Settings, Stream};
pub use stream_io::StreamIo;

use record::{Begin, Header, Kind, Status};

use crate::content::Content;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Part};
use crate::gateway::{Form, Repeats, VariablesHead, span, write_head};
use crate::limits::Limits;
use crate::message::{Framing, RequestHead};

/// State of one FastCGI connection that carries a request at a time, or of one request of a [`Session`].
///
/// ```text
///            BEGIN_REQUEST        empty PARAMS          STDIN         empty STDIN
/// Idle ──────────────▶ Params ──────────────▶ Prepared ──────▶ Body ──────────────▶ Ended ──next_request──▶ Idle
/// ```
#[derive(Debug, Default)]
pub struct Connection {
    receive: Receive,
    /// The record whose content or padding is coming in.
    record: Option<PartialRecord>,
    request: FastcgiRequest,
    content: Content,
    /// A session passes on its records.
    is_carried: bool,
}

/// The part of a request that comes next.
#[derive(Debug, Default)]
enum Receive {
    #[default]
    Idle,
    /// The variables as far as they have come.
    Params(Vec<u8>),
    /// The head is there. Whether it has a body, the first record of that tells.
    Prepared(Box<RequestHead>),
    /// So many bytes of the body have come; so many are to, if that is known.
    Body { received: u64, announced: Option<u64> },
    /// Nothing: the request is complete.
    Ended,
    /// Nothing any more.
    Failed(ErrorKind),
}

/// The facts of the present request that its response depends on.
#[derive(Clone, Copy, Debug, Default)]
struct FastcgiRequest {
    id: u16,
    is_head: bool,
    keep_connection: bool,
}

/// The rest of a record whose header has come.
#[derive(Clone, Copy, Debug)]
struct PartialRecord {
    kind: Kind,
    /// It belongs to the present request.
    is_ours: bool,
    content_left: usize,
    padding_left: usize,
}

impl Connection {
    /// A connection on which nothing has been sent.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of a session, which has begun.
    fn carried(id: u16, keep_connection: bool) -> Self {
        let request = FastcgiRequest { id, is_head: false, keep_connection };
        Self { receive: Receive::Params(Vec::new()), request, is_carried: true, ..Self::default() }
    }

    /// As [`crate::http1::Connection::next_event`]. What has come of a head is kept here, so that
    /// [`Connection::is_idle`] tells whether the caller's bytes are all that there is.
    ///
    /// # Errors
    /// As there; where [`Error::status`] is 0, nothing is answered: the bytes are none of this protocol. With
    /// [`ErrorKind::Shared`] they are, and `input` stands before a record that is a [`Session`]'s.
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        if let Receive::Failed(kind) = self.receive {
            return Err(kind.into());
        }
        let event = self.take_records(input, limits);
        if let Err(kind) = event
            && kind != ErrorKind::Shared
        {
            self.receive = Receive::Failed(kind);
        }
        Ok(event?)
    }

    /// Whether the peer is between requests: nothing of a next one has been taken in.
    pub fn is_idle(&self) -> bool {
        matches!(self.receive, Receive::Idle) && self.record.is_none()
    }

    /// Whether a request has begun that is not answered.
    pub fn is_in_request(&self) -> bool {
        self.request.id != 0
    }

    /// As [`crate::http1::Connection::send`]. There are no interim responses, and none at all before a request.
    pub fn send(&mut self, part: Part<'_>, out: &mut Vec<u8>) {
        match part {
            Part::Head { head, close, added } if !self.content.has_started() && self.is_in_request() => {
                self.request.keep_connection &= !close;
                self.content.start(head, self.request.is_head);
                let mut text = Vec::new();
                write_head(head, Form::Cgi, added, &mut text);
                self.write_stdout(&text, out);
            }
            Part::Body(block) => {
                let taken = self.content.take(block.len() as u64) as usize;
                self.write_stdout(&block[..taken], out);
            }
            Part::End => {
                self.content.end();
                if self.content.is_complete() {
                    self.write_end(out);
                }
            }
            Part::Head { .. } | Part::Continue | Part::EarlyHints(_) => {}
        }
    }

    /// As [`crate::http1::Connection::splice`], but of a record's length at most: what is left is to be asked for
    /// again.
    pub fn splice(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        let taken = self.content.take(length.min(record::CONTENT_BYTES_MAX as u64));
        if taken > 0 {
            record::write_stdout_header(self.request.id, taken as usize, out);
        }
        taken
    }

    /// As [`crate::http1::Connection::can_keep_alive`]; also with a part of the body still to come, which is then
    /// passed over as a record of no request.
    pub fn can_keep_alive(&self) -> bool {
        let has_head = matches!(self.receive, Receive::Body { .. } | Receive::Ended);
        has_head && self.request.keep_connection && !self.is_carried
    }

    /// As [`crate::http1::Connection::next_request`].
    pub fn next_request(&mut self) {
        if self.can_keep_alive() && self.content.is_complete() {
            if let Some(record) = &mut self.record {
                record.is_ours = false;
            }
            self.receive = Receive::Idle;
            self.request = FastcgiRequest::default();
            self.content = Content::default();
        }
    }

    /// The state of the response.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    fn write_stdout(&self, block: &[u8], out: &mut Vec<u8>) {
        for content in block.chunks(record::CONTENT_BYTES_MAX) {
            out.reserve(content.len() + 2 * record::HEADER_BYTES);
            record::write_stdout_header(self.request.id, content.len(), out);
            out.extend_from_slice(content);
        }
    }

    fn write_end(&self, out: &mut Vec<u8>) {
        record::write_stdout_header(self.request.id, 0, out);
        record::write_end(self.request.id, Status::Complete, out);
    }

    /// Takes records in until one makes an event, or more bytes are needed.
    fn take_records<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, ErrorKind> {
        loop {
            match self.record {
                Some(record) if record.content_left > 0 => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    if let Some(event) = self.take_content(record, input) {
                        return Ok(Some(event));
                    }
                }
                Some(record) => {
                    let count = record.padding_left.min(input.len());
                    *input = &input[count..];
                    let left = PartialRecord { padding_left: record.padding_left - count, ..record };
                    self.record = Some(left).filter(|record| record.padding_left > 0);
                    if self.record.is_some() {
                        return Ok(None);
                    }
                }
                None => {
                    let Some(header) = Header::read(input)? else { return Ok(None) };
                    if self.is_shared(&header) {
                        return Err(ErrorKind::Shared);
                    }
                    if let Some(event) = self.take_prepared(&header) {
                        return Ok(Some(event));
                    }
                    if !self.is_taken_whole(&header)? {
                        self.begin_record(&header, limits)?;
                        *input = &input[record::HEADER_BYTES..];
                        continue;
                    }
                    let end = record::HEADER_BYTES + usize::from(header.content_bytes);
                    let whole = end + usize::from(header.padding_bytes);
                    let Some(bytes) = input.get(..whole) else { return Ok(None) };
                    let event = self.take_whole(&header, &bytes[record::HEADER_BYTES..end], limits)?;
                    *input = &input[whole..];
                    if event.is_some() {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// Whether the record is none that a connection with one request at a time has.
    fn is_shared(&self, header: &Header) -> bool {
        match header.kind {
            Kind::BeginRequest => self.request.id != 0,
            Kind::AbortRequest => self.is_ours(header),
            Kind::GetValues | Kind::Other(_) => header.id == 0,
            Kind::Params | Kind::Stdin | Kind::Data => false,
        }
    }

    /// Whether the record belongs to the present request.
    fn is_ours(&self, header: &Header) -> bool {
        header.id != 0 && header.id == self.request.id
    }

    /// The head that waits for the first record of a body, if this is it.
    fn take_prepared<'b>(&mut self, header: &Header) -> Option<Event<'b>> {
        if header.kind != Kind::Stdin
            || !self.is_ours(header)
            || !matches!(self.receive, Receive::Prepared(_))
        {
            return None;
        }
        let body = Receive::Body { received: 0, announced: None };
        let Receive::Prepared(mut head) = std::mem::replace(&mut self.receive, body) else { return None };
        head.framing = if header.content_bytes == 0 { Framing::None } else { Framing::Chunked };
        Some(Event::Head(head))
    }

    /// Whether a record is looked at when all of it has come: it is a short one, or ends a stream.
    fn is_taken_whole(&self, header: &Header) -> Result<bool, ErrorKind> {
        match header.kind {
            Kind::BeginRequest => header.check_begin().map(|()| true),
            Kind::Params | Kind::Stdin => Ok(header.content_bytes == 0 && self.is_ours(header)),
            Kind::AbortRequest | Kind::Data | Kind::GetValues | Kind::Other(_) => Ok(false),
        }
    }

    /// Begins with a record whose content is taken as it comes, or passed over.
    fn begin_record(&mut self, header: &Header, limits: &Limits) -> Result<(), ErrorKind> {
        let is_ours = self.is_ours(header);
        match (header.kind, &self.receive) {
            (Kind::Params, Receive::Params(bytes)) if is_ours => {
                let bytes = bytes.len() + usize::from(header.content_bytes);
                if bytes > limits.head_bytes_max.min(u32::MAX as usize) {
                    return Err(ErrorKind::HeadTooLarge);
                }
            }
            (Kind::Stdin, Receive::Body { received, announced }) if is_ours => {
                let received = received + u64::from(header.content_bytes);
                if announced.is_some_and(|announced| received > announced) {
                    return Err(ErrorKind::Packet);
                }
                if limits.body_bytes_max != 0 && received > limits.body_bytes_max {
                    return Err(ErrorKind::BodyTooLarge);
                }
            }
            (Kind::Params | Kind::Stdin, _) if is_ours => return Err(ErrorKind::Packet),
            _ => {}
        }
        self.record = Some(PartialRecord {
            kind: header.kind,
            is_ours,
            content_left: header.content_bytes.into(),
            padding_left: header.padding_bytes.into(),
        });
        Ok(())
    }

    /// Takes what has come of a record's content.
    fn take_content<'b>(&mut self, record: PartialRecord, input: &mut &'b [u8]) -> Option<Event<'b>> {
        let (content, rest) = input.split_at(record.content_left.min(input.len()));
        *input = rest;
        self.record = Some(PartialRecord { content_left: record.content_left - content.len(), ..record });
        match (record.kind, &mut self.receive) {
            (Kind::Params, Receive::Params(bytes)) if record.is_ours => bytes.extend_from_slice(content),
            (Kind::Stdin, Receive::Body { received, .. }) if record.is_ours => {
                *received += content.len() as u64;
                return Some(Event::Body(content));
            }
            _ => {}
        }
        None
    }

    /// Takes a record that has come whole.
    fn take_whole<'b>(
        &mut self,
        header: &Header,
        content: &[u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, ErrorKind> {
        let is_ours = self.is_ours(header);
        match header.kind {
            Kind::BeginRequest => self.begin_request(header.id, content)?,
            Kind::Params if is_ours => return self.end_params(limits),
            Kind::Stdin if is_ours => {
                let Receive::Body { received, announced } = self.receive else {
                    return Err(ErrorKind::Packet);
                };
                if announced.is_some_and(|announced| received != announced) {
                    return Err(ErrorKind::Packet);
                }
                self.receive = Receive::Ended;
                return Ok(Some(Event::End));
            }
            _ => {}
        }
        Ok(None)
    }

    fn begin_request(&mut self, id: u16, content: &[u8]) -> Result<(), ErrorKind> {
        let Begin { role, keep_connection } = Begin::read(id, content)?;
        if role != record::RESPONDER {
            return Err(ErrorKind::Shared);
        }
        self.request = FastcgiRequest { id, is_head: false, keep_connection };
        self.receive = Receive::Params(Vec::new());
        Ok(())
    }

    /// The variables are complete.
    fn end_params<'b>(&mut self, limits: &Limits) -> Result<Option<Event<'b>>, ErrorKind> {
        let Receive::Params(bytes) = &mut self.receive else { return Err(ErrorKind::Packet) };
        let end = bytes.len();
        let mut draft = VariablesHead::new(std::mem::take(bytes), Repeats::LastCounts);
        let mut at = 0;
        while at < end {
            let mut rest = &draft.bytes()[at..];
            let (name, value) = record::sizes(&mut rest).ok_or(ErrorKind::Packet)?;
            let start = end - rest.len();
            // Of 31 bits each: no overflow.
            let (name_end, value_end) = (start + name, start + name + value);
            if value_end > end {
                return Err(ErrorKind::Packet);
            }
            draft.push(span(start, name_end), span(name_end, value_end), limits)?;
            at = value_end;
        }
        self.request.is_head = draft.is_head();
        let mut head = draft.finish(limits).map_err(|error| error.kind)?;
        head.keep_alive = self.request.keep_connection;
        if let Framing::Length(length) = head.framing {
            self.receive = Receive::Body { received: 0, announced: Some(length) };
            return Ok(Some(Event::Head(head)));
        }
        self.receive = Receive::Prepared(head);
        Ok(None)
    }
}
