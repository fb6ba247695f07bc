//! What a format of the log needs of each request, found out once: the engine notes that and no more.

use portico_config::{AccessLogFormat, Atom, AtomForm, Piece, RequestStage};
use portico_proto::{ResponseHead, TraceContext};

use super::{AccessRecord, Reason};

/// The facts that all lines of one worker share, known before its first request.
#[derive(Clone, Debug, Default)]
pub struct LineConstants {
    /// The worker's process id.
    pub pid: u32,
    /// The number of its slot; `None` where it is alone.
    pub slot: Option<u32>,
    /// `--root-path`
    pub root_path: String,
    /// Whether each request has a span of its own, which the log names.
    pub own_traces: bool,
}

/// The parts of a request that a log format needs, found out once, so that the engine copies those and no more.
#[derive(Debug)]
pub struct Plan {
    /// The texts, in the order in which a batch has them.
    pub texts: Vec<TextSource>,
    /// What a line looks like.
    pub layout: Layout,
    /// What all lines have in common.
    pub constants: LineConstants,
    /// Names of the response's fields that are noted, in lower case.
    response_fields: Vec<String>,
    times: bool,
    id: bool,
    of_head: bool,
}

/// The part of a request that a text of a line is copied from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSource {
    /// The request's method.
    Method,
    /// Its target, as sent.
    Target,
    /// A field of the request, its name in lower case; all values of the name.
    Field(String),
    /// `traceparent`: that of the request's own span or else, if it is there once, the request's.
    Traceparent,
    /// Host and port that the client asked for.
    Authority,
    /// The listener's name.
    ServerName,
    /// Its port.
    ServerPort,
    /// What of the path is SCRIPT_NAME: this root path, and where the application is mounted below it.
    ScriptName(String),
    /// A field of the response: its place among those that are noted.
    ResponseField(usize),
    /// The request's id where it is its own.
    RequestId,
    /// All fields of a request that the server has answered, each with a line end.
    Fields,
}

/// The form of a line, one of four or a template of the operator's. The plan has it from the configuration; it
/// decides how a record is written, never what is kept of a request.
#[derive(Debug)]
pub enum Layout {
    /// Common Log Format.
    Common,
    /// The same with Referer and User-Agent.
    Combined,
    /// A JSON object.
    Json,
    /// `key=value`.
    Logfmt,
    /// Parts one after the other.
    Template(Vec<TemplatePart>),
}

/// A part of a template's line: text of its own, or a value of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Stands for itself.
    Fixed(Vec<u8>),
    /// The text of that number.
    Text(usize),
    /// The path without the script name, which is the text of that number.
    Path(usize),
    /// The user in the text of that number.
    User(usize),
    /// The id of the trace that the text of that number names.
    Trace(usize),
    /// The id of the span that it names.
    Span(usize),
    /// The request's id, the text of that number if it is its own.
    Id(usize),
    /// Anything else.
    Atom(Atom),
    /// A part in a form of its own; whether it is a number.
    Formed(Box<TemplatePart>, AtomForm, bool),
}

/// Places of the texts in every plan.
pub(super) const METHOD: usize = 0;
/// See [`METHOD`].
pub(super) const TARGET: usize = 1;
/// Places of further ones in the plans of the named formats.
pub(super) const AUTHORIZATION: usize = 2;
/// See [`AUTHORIZATION`].
pub(super) const REFERER: usize = 3;
/// See [`AUTHORIZATION`].
pub(super) const USER_AGENT: usize = 4;
/// See [`AUTHORIZATION`].
pub(super) const AUTHORITY: usize = 5;
/// See [`AUTHORIZATION`].
pub(super) const TRACEPARENT: usize = 6;
/// See [`AUTHORIZATION`].
pub(super) const REQUEST_ID: usize = 7;

/// Stands for the length of a field that the response does not have.
const ABSENT: u32 = u32::MAX;

impl Plan {
    /// The plan for lines of this format.
    pub fn new(format: &AccessLogFormat, constants: LineConstants) -> Self {
        let mut plan = Self {
            texts: vec![TextSource::Method, TextSource::Target],
            layout: Layout::Common,
            constants,
            response_fields: Vec::new(),
            times: false,
            id: false,
            of_head: true,
        };
        let field = |name: &str| TextSource::Field(name.to_owned());
        let named = [
            field("authorization"),
            field("referer"),
            field("user-agent"),
            TextSource::Authority,
            TextSource::Traceparent,
            TextSource::RequestId,
        ];
        let (layout, count) = match format {
            AccessLogFormat::Common => (Layout::Common, 1),
            AccessLogFormat::Combined => (Layout::Combined, 3),
            AccessLogFormat::Json => (Layout::Json, named.len()),
            AccessLogFormat::Logfmt => (Layout::Logfmt, named.len()),
            AccessLogFormat::Template(template) => {
                let parts = template.pieces().iter().map(|piece| plan.part(piece)).collect();
                (Layout::Template(parts), 0)
            }
        };
        plan.texts.extend(named.into_iter().take(count));
        if matches!(layout, Layout::Json | Layout::Logfmt) {
            (plan.times, plan.id) = (true, true);
        }
        plan.layout = layout;
        let traced = plan.constants.own_traces && plan.texts.contains(&TextSource::Traceparent);
        plan.of_head = plan.texts.iter().all(TextSource::is_of_head) && !traced;
        plan
    }

    /// Has where the time goes noted, whatever the format.
    pub fn with_times(mut self) -> Self {
        self.times = true;
        self
    }

    /// Has the fields noted of requests that the server has answered.
    pub fn with_fields(mut self) -> Self {
        self.text(TextSource::Fields);
        self.of_head = false;
        self
    }

    /// Whether the texts are those of the request's head and nothing else.
    pub fn is_of_head(&self) -> bool {
        self.of_head
    }

    /// The number of that text.
    pub fn fields_at(&self) -> Option<usize> {
        self.texts.iter().position(|source| *source == TextSource::Fields)
    }

    /// Whether it needs to know where the time goes.
    pub fn needs_times(&self) -> bool {
        self.times
    }

    /// Whether each request needs an id.
    pub fn needs_ids(&self) -> bool {
        self.id
    }

    /// Notes what is needed of the response's fields.
    pub fn note_response(&self, head: &ResponseHead, noted: &mut Vec<u8>) {
        noted.clear();
        for name in &self.response_fields {
            let mut digits = itoa::Buffer::new();
            let value = match head.length.filter(|_| name == "content-length") {
                Some(length) => Some(digits.format(length).as_bytes()),
                None => head.fields.get(name.as_bytes()),
            };
            let length = value.map_or(ABSENT, |value| value.len() as u32);
            noted.extend_from_slice(&length.to_le_bytes());
            noted.extend_from_slice(value.unwrap_or_default());
        }
    }

    fn part(&mut self, piece: &Piece) -> TemplatePart {
        let (atom, form) = match piece {
            Piece::Text(text) => return TemplatePart::Fixed(text.clone().into_bytes()),
            Piece::Atom(atom) => return self.part_of(atom),
            Piece::Formed(atom, form) => (atom, form),
        };
        // Those that are integers for gunicorn.
        let is_number = matches!(
            atom,
            Atom::Status | Atom::Sent | Atom::Seconds | Atom::Milliseconds | Atom::Microseconds
        );
        TemplatePart::Formed(Box::new(self.part_of(atom)), *form, is_number)
    }

    fn part_of(&mut self, atom: &Atom) -> TemplatePart {
        let fixed = |text: String| TemplatePart::Fixed(text.into_bytes());
        match atom {
            Atom::Ident => fixed("-".to_owned()),
            Atom::Pid => fixed(format!("<{}>", self.constants.pid)),
            Atom::Scheme => fixed("http".to_owned()),
            Atom::ServerSoftware => fixed(concat!("portico/", env!("CARGO_PKG_VERSION")).to_owned()),
            Atom::ScriptName => TemplatePart::Text(self.script_name()),
            Atom::Path => TemplatePart::Path(self.script_name()),
            Atom::Slot => fixed(self.constants.slot.map_or("-".to_owned(), |slot| slot.to_string())),
            Atom::Method => TemplatePart::Text(METHOD),
            Atom::Target => TemplatePart::Text(TARGET),
            Atom::ServerName => TemplatePart::Text(self.text(TextSource::ServerName)),
            Atom::ServerPort => TemplatePart::Text(self.text(TextSource::ServerPort)),
            Atom::RequestField(name) => TemplatePart::Text(self.text(TextSource::Field(name.clone()))),
            Atom::ResponseField(name) => {
                let at = place(&mut self.response_fields, name.clone());
                TemplatePart::Text(self.text(TextSource::ResponseField(at)))
            }
            Atom::RequestId => {
                self.id = true;
                TemplatePart::Id(self.text(TextSource::RequestId))
            }
            Atom::User => TemplatePart::User(self.text(TextSource::Field("authorization".to_owned()))),
            Atom::TraceId => TemplatePart::Trace(self.text(TextSource::Traceparent)),
            Atom::SpanId => TemplatePart::Span(self.text(TextSource::Traceparent)),
            atom => {
                self.times |= matches!(
                    atom,
                    Atom::Seconds
                        | Atom::Milliseconds
                        | Atom::Microseconds
                        | Atom::DecimalSeconds
                        | Atom::Took(RequestStage::Queue | RequestStage::Application | RequestStage::Write)
                );
                TemplatePart::Atom(atom.clone())
            }
        }
    }

    fn script_name(&mut self) -> usize {
        self.text(TextSource::ScriptName(self.constants.root_path.clone()))
    }

    fn text(&mut self, source: TextSource) -> usize {
        place(&mut self.texts, source)
    }
}

/// The place of `item` in `items`, where it is added if it is missing.
fn place<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|known| *known == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}

impl TextSource {
    fn is_of_head(&self) -> bool {
        match self {
            Self::Method
            | Self::Target
            | Self::Field(_)
            | Self::Traceparent
            | Self::Authority
            | Self::RequestId => true,
            Self::ServerName
            | Self::ServerPort
            | Self::ScriptName(_)
            | Self::ResponseField(_)
            | Self::Fields => false,
        }
    }

    /// Appends the text to `bytes`; whether the request has it.
    pub fn copy(&self, record: &AccessRecord<'_>, bytes: &mut Vec<u8>) -> bool {
        let text = match self {
            Self::Method => record.head.map(|head| head.method()),
            Self::Target => record.head.map(|head| head.target()),
            Self::Field(name) => return copy_field(record, name.as_bytes(), bytes),
            Self::Traceparent => match record.trace {
                Some(trace) => Some(trace.value()),
                None => record.head.and_then(|head| head.sole_field(TraceContext::FIELD)),
            },
            Self::Authority => record.head.and_then(|head| head.authority()),
            Self::ServerName => told(record, b"SERVER_NAME").or(Some(record.server_name.as_bytes())),
            Self::ServerPort => told(record, b"SERVER_PORT").or(Some(record.server_port.as_bytes())),
            Self::ScriptName(root_path) => {
                bytes.extend_from_slice(root_path.as_bytes());
                Some(record.mount.as_bytes())
            }
            Self::ResponseField(at) => noted_field(record.response_fields, *at),
            Self::Fields => {
                let head = record.head.filter(|_| record.reason.is_some_and(Reason::is_servers));
                for (name, value) in head.into_iter().flat_map(|head| head.fields()) {
                    [name, b": ", value, b"\r\n"].iter().for_each(|part| bytes.extend_from_slice(part));
                }
                return head.is_some();
            }
            Self::RequestId => record.head.and_then(|head| record.id.given(head)),
        };
        bytes.extend_from_slice(text.unwrap_or_default());
        text.is_some()
    }
}

/// What a gateway tells.
fn told<'a>(record: &AccessRecord<'a>, name: &[u8]) -> Option<&'a [u8]> {
    record.head.and_then(|head| head.variable(name))
}

/// Several fields of one name are one value, as in environ.
fn copy_field(record: &AccessRecord<'_>, name: &[u8], bytes: &mut Vec<u8>) -> bool {
    let mut found = false;
    // Names with an underscore may have been restored, without their letter.
    let head = record.head.filter(|head| head.initials().has(name) || head.is_edited());
    for (other, value) in head.into_iter().flat_map(|head| head.fields()) {
        if other.eq_ignore_ascii_case(name) {
            if found {
                bytes.push(b',');
            }
            bytes.extend_from_slice(value);
            found = true;
        }
    }
    found
}

/// The field of that number among those that were noted.
fn noted_field(noted: &[u8], at: usize) -> Option<&[u8]> {
    let mut rest = noted;
    for index in 0..=at {
        let (length, after) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        let (value, after) = after.split_at_checked(if length == ABSENT { 0 } else { length as usize })?;
        if index == at {
            return (length != ABSENT).then_some(value);
        }
        rest = after;
    }
    None
}
