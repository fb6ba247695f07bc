//! Lines of the access log: one of the named formats, or a template of gunicorn's atoms, checked once.
//!
//! What an atom stands for is filled in by the server; here is only which there are.

use std::fmt;

/// Lines of the access log.
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
    Template(Template),
}

/// A text with atoms in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Stands for itself.
    Text(String),
    /// Stands for something of the request.
    Atom(Atom),
}

/// What of a request a [`Piece`] stands for.
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
    Took(Stage),
    /// `portico.trace_id`, from `traceparent`.
    TraceId,
    /// `%(u)s`: the user of Basic authentication.
    User,
    /// `portico.reason`: why the exchange ended otherwise than with the application's whole answer.
    Reason,
}

/// What a request spends its time in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for a thread.
    Queue,
    /// In the application, until that has given the last of its answer.
    Application,
    /// From then on until the client's side of the network has taken it.
    Write,
}

/// What a name stands for; `Err` has what is wrong with it.
type Found = Result<Atom, String>;

const ATOMS: &str = "h l u t r m U q H s B b f a T M D L p {header}i {header}o {key}e";

impl AccessLogFormat {
    /// Reads the value of `--access-logformat`.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
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
            ));
        }
        Template::parse(text).map(Self::Template)
    }
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

impl Template {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let (name, after) = after
                .strip_prefix('(')
                .and_then(|inside| inside.split_once(')'))
                .ok_or_else(|| format!("a % in {text:?} begins no atom; write %(h)s, or %% for the sign"))?;
            rest = after.strip_prefix(['s', 'd']).ok_or_else(|| {
                format!("%({name}) must be followed by s; widths and other conversions are not known")
            })?;
            let atom = atom(name)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Atom(atom));
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

fn atom(name: &str) -> Found {
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
        _ => return Err(format!("%({name})s is no atom of the access log; there are {ATOMS}")),
    })
}

/// Keys of environ that the engine knows. gunicorn takes them in any case.
fn environ_key(key: &str) -> Found {
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
        "PORTICO.APPLICATION_TIME" => Atom::Took(Stage::Application),
        "PORTICO.QUEUE_TIME" => Atom::Took(Stage::Queue),
        "PORTICO.REASON" => Atom::Reason,
        "PORTICO.REQUEST_ID" => Atom::RequestId,
        "PORTICO.SPAN_ID" => Atom::SpanId,
        "PORTICO.TRACE_ID" => Atom::TraceId,
        "PORTICO.WORKER" => Atom::Slot,
        "PORTICO.WRITE_TIME" => Atom::Took(Stage::Write),
        _ => {
            return Err(format!(
                "%({{{key}}}e)s: lines are written beside Python, which alone has {key}; have the application \
                 send it as a field of its answer and write %({{name}}o)s"
            ));
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
            ("%(h)10s", "%(h) must be followed by s"),
            ("%(h)s %({REMOTE_USER}e)s", "%({REMOTE_USER}e)s: lines are written beside Python"),
            ("%({wsgi.input}e)s", "which alone has wsgi.input"),
            ("%h %l", "is no format"),
            ("", "is no format"),
        ] {
            let refusal = AccessLogFormat::parse(text).unwrap_err();
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }
}
