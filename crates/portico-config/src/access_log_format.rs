//! Lines of the access log: one of the named formats, or a template of gunicorn's atoms, checked once.
//!
//! What an atom stands for is filled in by the server; here is only which there are.

use std::fmt;

use crate::error::ParseError;

/// The form of the lines in the access log (`--access-logformat`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Common Log Format.
    Common,
    /// Common Log Format with Referer and User-Agent.
    #[default]
    Combined,
    /// One JSON object a line.
    Json,
    /// The same as `key=value`.
    Logfmt,
    /// Text with gunicorn's atoms in it.
    Template(LogTemplate),
}

/// A line of the access log with gunicorn's atoms in it, taken apart once, so that writing a line parses
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTemplate {
    text: String,
    pieces: Vec<Piece>,
}

/// A part of a `LogTemplate`, in its order: text, or something of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Stands for itself.
    Text(String),
    /// Stands for something of the request.
    Atom(Atom),
    /// The same, in a form of its own: `%(h)15s`.
    Formed(Atom, AtomForm),
}

/// The width, padding and sign with which an atom is written, as in a format of Python's `%`. What it says of
/// numbers holds for those atoms that are numbers for gunicorn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtomForm {
    /// Characters at least.
    pub width: usize,
    /// `-`: what fills it stands behind.
    pub is_left: bool,
    /// `0`: a number is filled with zeros.
    pub has_zeros: bool,
    /// `+` or a space before a number.
    pub sign: Option<char>,
    /// Characters at most; of a number the digits at least, or those after its point.
    pub precision: Option<usize>,
    /// `f`: with a point.
    pub is_decimal: bool,
}

/// Characters that an atom can be filled up to: a longer line has no use.
const WIDTH_MAX: usize = 1024;

/// The part of a request that a [`Piece`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    /// `%(L)s`: the whole time in seconds, six decimals.
    DecimalSeconds,
    /// `%(h)s`, `REMOTE_ADDR`: the client's address.
    Client,
    /// `REMOTE_PORT`
    ClientPort,
    /// `%(l)s`: always `-`.
    Ident,
    /// `%(m)s`, `REQUEST_METHOD`
    Method,
    /// `%(D)s`: the whole time in microseconds.
    Microseconds,
    /// `%(M)s`: the whole time in milliseconds.
    Milliseconds,
    /// `%(U)s`, `PATH_INFO`: decoded.
    Path,
    /// `%(p)s`: the worker's process id, in angle brackets.
    Pid,
    /// `%(H)s`, `SERVER_PROTOCOL`
    Protocol,
    /// `%(q)s`, `QUERY_STRING`
    Query,
    /// `%({name}i)s`, and `%(f)s`, `%(a)s`, `HTTP_NAME`: a field of the request, its name in lower case.
    RequestField(String),
    /// `portico.request_id`
    RequestId,
    /// `%(r)s`: method, target, protocol.
    RequestLine,
    /// `%({name}o)s`: a field of the answer, its name in lower case.
    ResponseField(String),
    /// `wsgi.url_scheme`
    Scheme,
    /// `SCRIPT_NAME`
    ScriptName,
    /// `%(T)s`: the whole time in full seconds.
    Seconds,
    /// `%(B)s` and `%(b)s`: bytes of the answer's body.
    Sent,
    /// `SERVER_NAME`
    ServerName,
    /// `SERVER_PORT`
    ServerPort,
    /// `SERVER_SOFTWARE`
    ServerSoftware,
    /// `portico.worker`: the number of the worker's slot.
    Slot,
    /// `portico.span_id`, from `traceparent`.
    SpanId,
    /// `%(s)s`
    Status,
    /// `RAW_URI`, `REQUEST_URI`: the request target as it was sent.
    Target,
    /// `%(t)s`: when it was answered.
    Time,
    /// `portico.queue_time` and its like, in seconds.
    Took(RequestStage),
    /// `portico.trace_id`, from `traceparent`.
    TraceId,
    /// `%(u)s`: the user of Basic authentication.
    User,
    /// `portico.reason`: why the exchange ended otherwise than with the application's whole answer.
    Reason,
}

/// A stage of a request that has a time of its own in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestStage {
    /// Waiting for a thread.
    Queue,
    /// In the application, until that has given the last of its answer.
    Application,
    /// From then on until the client's side of the network has taken it.
    Write,
}

/// The atom that a name stands for, or an error that says what is wrong with the name.
type AtomResult = Result<Atom, ParseError>;

const ATOMS: &str = "h l u t r m U q H s B b f a T M D L p {header}i {header}o {key}e";

impl AccessLogFormat {
    /// Reads the value of `--access-logformat`.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let named = [
            ("common", Self::Common),
            ("combined", Self::Combined),
            ("json", Self::Json),
            ("logfmt", Self::Logfmt),
        ];
        if let Some((_, format)) = named.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
            return Ok(format);
        }
        if !text.contains("%(") {
            return Err(format!(
                "{text:?} is no format; write common, combined, json, logfmt, or a template such as \
                 '%(h)s \"%(r)s\" %(s)s'"
            )
            .into());
        }
        LogTemplate::parse(text).map(Self::Template)
    }
}

/// A template as gunicorn takes it: what is no atom here has its place taken by `-`. Returns the template, and the
/// atoms that are not here.
///
/// # Errors
/// It is none that lines could be made of, there as here.
pub(crate) fn for_gunicorn(text: &str) -> Result<(String, Vec<&str>), ParseError> {
    if AccessLogFormat::parse(text).is_ok() {
        return Ok((text.to_owned(), Vec::new()));
    }
    let (mut eased, mut missing) = (String::new(), Vec::new());
    for word in words(text)? {
        match word {
            AtomWord::Text("%") => eased.push_str("%%"),
            AtomWord::Text(text) => eased.push_str(text),
            AtomWord::Atom { name, written, .. } if atom(name).is_ok() => eased.push_str(written),
            // What is always `-`, in the same form.
            AtomWord::Atom { name, written, .. } => {
                missing.push(written);
                eased.push_str("%(l)");
                eased.push_str(&written[name.len() + 3..]);
            }
        }
    }
    AccessLogFormat::parse(&eased)?;
    Ok((eased, missing))
}

impl fmt::Display for AccessLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common",
            Self::Combined => "combined",
            Self::Json => "json",
            Self::Logfmt => "logfmt",
            Self::Template(template) => &template.text,
        })
    }
}

impl LogTemplate {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn parse(text: &str) -> Result<Self, ParseError> {
        let mut pieces = Vec::new();
        for word in words(text)? {
            match word {
                AtomWord::Text(more) => match pieces.last_mut() {
                    Some(Piece::Text(text)) => text.push_str(more),
                    _ => pieces.push(Piece::Text(more.to_owned())),
                },
                AtomWord::Atom { name, form, .. } if form == AtomForm::default() => {
                    pieces.push(Piece::Atom(atom(name)?))
                }
                AtomWord::Atom { name, form, .. } => pieces.push(Piece::Formed(atom(name)?, form)),
            }
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

/// A part of a template as it was written.
enum AtomWord<'a> {
    Text(&'a str),
    Atom { name: &'a str, form: AtomForm, written: &'a str },
}

/// The parts of a template.
fn words(text: &str) -> Result<Vec<AtomWord<'_>>, ParseError> {
    let (mut words, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        words.extend((!before.is_empty()).then_some(AtomWord::Text(before)));
        let after = &from[1..];
        if let Some(after) = after.strip_prefix('%') {
            words.push(AtomWord::Text("%"));
            rest = after;
            continue;
        }
        let (name, after) = after
            .strip_prefix('(')
            .and_then(|inside| inside.split_once(')'))
            .ok_or_else(|| format!("a % in {text:?} begins no atom; write %(h)s, or %% for the sign"))?;
        let (form, after) = form(after).map_err(|problem| format!("%({name}) {problem}"))?;
        words.push(AtomWord::Atom { name, form, written: &from[..from.len() - after.len()] });
        rest = after;
    }
    words.extend((!rest.is_empty()).then_some(AtomWord::Text(rest)));
    Ok(words)
}

/// What follows the name of an atom, as Python has it (`-8.3s`), and what is left of the text.
fn form(text: &str) -> Result<(AtomForm, &str), ParseError> {
    let mut form = AtomForm::default();
    let flags = text.len() - text.trim_start_matches(['-', '0', '+', ' ', '#']).len();
    for flag in text[..flags].chars() {
        match flag {
            '-' => form.is_left = true,
            '0' => form.has_zeros = true,
            '+' => form.sign = Some('+'),
            ' ' => form.sign = form.sign.or(Some(' ')),
            _ => {}
        }
    }
    let (width, rest) = digits(&text[flags..])?;
    form.width = width.unwrap_or(0);
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after)?;
        (form.precision, rest) = (Some(precision.unwrap_or(0)), after);
    }
    let conversion = rest.chars().next().unwrap_or(' ');
    form.is_decimal = matches!(conversion, 'f' | 'F');
    if !matches!(conversion, 's' | 'd' | 'i' | 'u' | 'f' | 'F') {
        return Err("must be followed by s, d or f; other conversions are not known".to_owned().into());
    }
    Ok((form, &rest[1..]))
}

/// A number that `text` begins with, and what is left of it.
fn digits(text: &str) -> Result<(Option<usize>, &str), ParseError> {
    let rest = text.trim_start_matches(|it: char| it.is_ascii_digit());
    let digits = &text[..text.len() - rest.len()];
    match digits.parse() {
        _ if digits.is_empty() => Ok((None, rest)),
        Ok(number) if number <= WIDTH_MAX => Ok((Some(number), rest)),
        _ => Err(format!("has a number above {WIDTH_MAX}").into()),
    }
}

fn atom(name: &str) -> AtomResult {
    if let Some((inside, kind)) = name.strip_prefix('{').and_then(|name| name.split_once('}')) {
        let field = inside.to_ascii_lowercase();
        match kind {
            "i" => return Ok(Atom::RequestField(field)),
            "o" => return Ok(Atom::ResponseField(field)),
            "e" => return environ_key(inside),
            _ => {}
        }
    }
    Ok(match name {
        "h" => Atom::Client,
        "l" => Atom::Ident,
        "u" => Atom::User,
        "t" => Atom::Time,
        "r" => Atom::RequestLine,
        "m" => Atom::Method,
        "U" => Atom::Path,
        "q" => Atom::Query,
        "H" => Atom::Protocol,
        "s" => Atom::Status,
        "B" | "b" => Atom::Sent,
        "f" => Atom::RequestField("referer".to_owned()),
        "a" => Atom::RequestField("user-agent".to_owned()),
        "T" => Atom::Seconds,
        "M" => Atom::Milliseconds,
        "D" => Atom::Microseconds,
        "L" => Atom::DecimalSeconds,
        "p" => Atom::Pid,
        _ => return Err(format!("%({name})s is no atom of the access log; there are {ATOMS}").into()),
    })
}

/// Keys of environ that the engine knows. gunicorn takes them in any case.
fn environ_key(key: &str) -> AtomResult {
    let upper = key.to_ascii_uppercase();
    if let Some(name) = upper.strip_prefix("HTTP_").filter(|name| !name.is_empty()) {
        return Ok(Atom::RequestField(name.to_ascii_lowercase().replace('_', "-")));
    }
    Ok(match upper.as_str() {
        "CONTENT_LENGTH" => Atom::RequestField("content-length".to_owned()),
        "CONTENT_TYPE" => Atom::RequestField("content-type".to_owned()),
        "PATH_INFO" => Atom::Path,
        "QUERY_STRING" => Atom::Query,
        "RAW_URI" | "REQUEST_URI" => Atom::Target,
        "REMOTE_ADDR" => Atom::Client,
        "REMOTE_PORT" => Atom::ClientPort,
        "REQUEST_METHOD" => Atom::Method,
        "SCRIPT_NAME" => Atom::ScriptName,
        "SERVER_NAME" => Atom::ServerName,
        "SERVER_PORT" => Atom::ServerPort,
        "SERVER_PROTOCOL" => Atom::Protocol,
        "SERVER_SOFTWARE" => Atom::ServerSoftware,
        "WSGI.URL_SCHEME" => Atom::Scheme,
        "PORTICO.APPLICATION_TIME" => Atom::Took(RequestStage::Application),
        "PORTICO.QUEUE_TIME" => Atom::Took(RequestStage::Queue),
        "PORTICO.REASON" => Atom::Reason,
        "PORTICO.REQUEST_ID" => Atom::RequestId,
        "PORTICO.SPAN_ID" => Atom::SpanId,
        "PORTICO.TRACE_ID" => Atom::TraceId,
        "PORTICO.WORKER" => Atom::Slot,
        "PORTICO.WRITE_TIME" => Atom::Took(RequestStage::Write),
        _ => {
            return Err(format!(
                "%({{{key}}}e)s: lines are written beside Python, which alone has {key}; have the application \
                 send it as a field of its answer and write %({{name}}o)s"
            ).into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<Piece> {
        match AccessLogFormat::parse(text) {
            Ok(AccessLogFormat::Template(template)) => template.pieces,
            other => panic!("{text} gave {other:?}"),
        }
    }

    #[test]
    fn names_are_known_in_any_case() {
        for (text, format) in [
            ("common", AccessLogFormat::Common),
            ("combined", AccessLogFormat::Combined),
            ("JSON", AccessLogFormat::Json),
            ("Logfmt", AccessLogFormat::Logfmt),
        ] {
            assert_eq!(format.to_string(), text.to_lowercase());
            assert_eq!(AccessLogFormat::parse(text), Ok(format));
        }
    }

    #[test]
    fn a_template_is_text_and_atoms() {
        let field = |name: &str| Piece::Atom(Atom::RequestField(name.to_owned()));
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            pieces("a%%b %(h)s%(s)s \"%({X-Forwarded-For}i)s\" %({Server}o)s %({HTTP_X_Y}e)s%(T)d"),
            [
                text("a%b "),
                Piece::Atom(Atom::Client),
                Piece::Atom(Atom::Status),
                text(" \""),
                field("x-forwarded-for"),
                text("\" "),
                Piece::Atom(Atom::ResponseField("server".to_owned())),
                text(" "),
                field("x-y"),
                Piece::Atom(Atom::Seconds),
            ]
        );
        let format = AccessLogFormat::parse("%(h)s é%%").unwrap();
        assert_eq!(format.to_string(), "%(h)s é%%");
    }

    #[test]
    fn an_atom_may_have_a_form() {
        let check = |text: &str, form: AtomForm| {
            assert_eq!(pieces(text), [Piece::Formed(Atom::Client, form)], "{text}");
        };
        let plain = AtomForm::default();
        check("%(h)5s", AtomForm { width: 5, ..plain });
        check("%(h)-1024s", AtomForm { width: 1024, is_left: true, ..plain });
        check("%(h)#08d", AtomForm { width: 8, has_zeros: true, ..plain });
        check("%(h) +d", AtomForm { sign: Some('+'), ..plain });
        check("%(h).3s", AtomForm { precision: Some(3), ..plain });
        check("%(h)8.f", AtomForm { width: 8, precision: Some(0), is_decimal: true, ..plain });
        assert_eq!(pieces("%(h)s%(h)d%(h)i"), vec![Piece::Atom(Atom::Client); 3]);
    }

    #[test]
    fn for_gunicorn_what_is_no_atom_is_a_dash() {
        let check = |text: &str, eased: &str, missing: &[&str]| {
            let missing = missing.to_vec();
            assert_eq!(for_gunicorn(text), Ok((eased.to_owned(), missing)), "{text}");
        };
        check("%(h)s %(x)s", "%(h)s %(l)s", &["%(x)s"]);
        check("100%% %(h)s %(x)-5s|%({a}z)s", "100%% %(h)s %(l)-5s|%(l)s", &["%(x)-5s", "%({a}z)s"]);
        check("%(h)s %({wsgi.input}e)s", "%(h)s %(l)s", &["%({wsgi.input}e)s"]);
        check("%(h)5s", "%(h)5s", &[]);
        check("json", "json", &[]);
        for text in ["%h %l", "plain", "", "%(h)s 100% sure", "%(h)r"] {
            assert!(for_gunicorn(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_atom_of_gunicorn_is_known() {
        for name in ATOMS.split(' ') {
            let name = name.replace("{key}", "{request_method}");
            assert!(AccessLogFormat::parse(&format!("%({name})s")).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_atom_is_named() {
        for (text, expected) in [
            ("%(x)s", "%(x)s is no atom"),
            ("%(hh)s", "%(hh)s is no atom"),
            ("%()s", "%()s is no atom"),
            ("%({a}x)s", "%({a}x)s is no atom"),
            ("%(h)s 100% sure", "begins no atom"),
            ("%(h)s %", "begins no atom"),
            ("%(h", "begins no atom"),
            ("%(h)10", "%(h) must be followed by s, d or f"),
            ("%(h)r", "%(h) must be followed by s, d or f"),
            ("%(h)1025s", "%(h) has a number above 1024"),
            ("%(h).99999999999999999999s", "has a number above 1024"),
            ("%(h)s %({REMOTE_USER}e)s", "%({REMOTE_USER}e)s: lines are written beside Python"),
            ("%({wsgi.input}e)s", "which alone has wsgi.input"),
            ("%h %l", "is no format"),
            ("", "is no format"),
        ] {
            let refusal = AccessLogFormat::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }
}
