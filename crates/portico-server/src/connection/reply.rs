//! The responses that the server makes itself: instead of calling the application, or in its stead.
//!
//! All of them, with their status, text and headers, for every protocol. When one is given is decided elsewhere;
//! what is added to every response, `response_headers` adds to these as well.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use portico_edge::files::NOT_FOUND_CACHE_CONTROL;
use portico_log::Reason;
use portico_proto::{Fields, ResponseHead};

use super::static_files::FILE_METHODS;
use super::{Block, ResponsePart};
use crate::health::HEALTH_JSON;

/// One of the server's own responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 500: the application has failed before its response began.
    ApplicationFailed,
    /// What a route has respond with this status.
    Fixed {
        /// Of its page.
        content_type: Cow<'static, str>,
        /// 200 to 599.
        status: u16,
        /// `None` for a line that tells the status.
        page: Option<Arc<[u8]>>,
    },
    /// 204 with the methods that files take.
    FileMethods,
    /// How it stands with the server's health.
    Health {
        /// 200 or 503.
        status: u16,
        /// Whether that is told in JSON.
        is_json: bool,
        /// What is told.
        content: Bytes,
    },
    /// 200 with the page that lists a folder.
    Listing(Bytes),
    /// No file can be sent: 404, or 403 where it cannot be read.
    NoFile(u16),
    /// 405, with the methods that a route takes.
    MethodNotAllowed(Vec<String>),
    /// A redirect that a route has made.
    Moved {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Visible ASCII.
        location: String,
    },
    /// 429: the client has made as many requests as it may (`limit`).
    TooManyRequests {
        /// At least 1.
        retry_after_seconds: u64,
    },
    /// 503: as many requests of the route run as may at once (`concurrent`).
    TooManyAtOnce,
    /// 504: the application has not begun its response in time (`--timeout`).
    ApplicationTimeout,
    /// 503: an operator has cancelled the request (`portico cancel`).
    Cancelled,
    /// 503: too much waits for a disk, or what has waited has not come.
    Busy,
    /// 503: as many passwords wait to be verified as may.
    LoginsFull,
    /// 503: as many requests wait as may (`--max-queue`).
    QueueFull,
    /// 503: the request has waited for a thread for too long (`--queue-timeout`).
    QueueTimeout,
    /// 308 to this location.
    Redirect(Vec<u8>),
    /// The request is refused with this status, for this reason.
    Refused(u16, Cow<'static, str>),
    /// 503: the application is not there yet.
    Starting,
    /// 503: as many WebSockets are open as may be (`--max-streams`).
    StreamsFull,
    /// 401: the route wants a password (`auth`), and the request has none, or a wrong one.
    Unauthorized {
        /// The value of `WWW-Authenticate`.
        challenge: String,
    },
}

/// Of a page that lists a folder.
const LISTING_FIELDS: [(&[u8], &[u8]); 3] = [
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cache-Control", b"no-cache"),
];

impl Reply {
    /// Its status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Redirect(_) => 308,
            Self::FileMethods => 204,
            Self::Listing(_) => 200,
            Self::ApplicationFailed => 500,
            Self::Busy
            | Self::Cancelled
            | Self::LoginsFull
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Starting
            | Self::StreamsFull
            | Self::TooManyAtOnce => 503,
            Self::Unauthorized { .. } => 401,
            Self::TooManyRequests { .. } => 429,
            Self::ApplicationTimeout => 504,
            Self::MethodNotAllowed(_) => 405,
            Self::Fixed { status, .. }
            | Self::Health { status, .. }
            | Self::Moved { status, .. }
            | Self::NoFile(status)
            | Self::Refused(status, _) => *status,
        }
    }

    /// Whether the request is refused: it gets neither the application's response nor a route's.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(..)
            | Self::LoginsFull
            | Self::MethodNotAllowed(_)
            | Self::Unauthorized { .. }
            | Self::TooManyRequests { .. }
            | Self::TooManyAtOnce => true,
            Self::ApplicationFailed
            | Self::ApplicationTimeout
            | Self::Busy
            | Self::Cancelled
            | Self::FileMethods
            | Self::Fixed { .. }
            | Self::Health { .. }
            | Self::Listing(_)
            | Self::NoFile(_)
            | Self::Moved { .. }
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Redirect(_)
            | Self::Starting
            | Self::StreamsFull => false,
        }
    }

    /// Why its exchange has ended without the application's response, where the reply itself says that.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::ApplicationTimeout => Some(Reason::Timeout),
            Self::Cancelled => Some(Reason::Cancelled),
            _ => None, // Whoever gives another one says why.
        }
    }

    /// Its text, which ends with a line end.
    fn text(&self) -> Cow<'static, [u8]> {
        let text: &'static [u8] = match self {
            Self::Cancelled => b"503 Service Unavailable: the request was cancelled\n",
            Self::ApplicationFailed => b"500 Internal Server Error\n",
            Self::ApplicationTimeout => b"504 Gateway Timeout: the application did not answer in time\n",
            Self::Busy => b"503 Service Unavailable: the server's disk is too slow for what is asked of it\n",
            Self::QueueFull => b"503 Service Unavailable: too many requests are waiting\n",
            Self::QueueTimeout => b"503 Service Unavailable: the request has waited too long for a thread\n",
            Self::Redirect(_) => b"308 Permanent Redirect: this server is to be asked by https\n",
            Self::MethodNotAllowed(_) => b"405 Method Not Allowed\n",
            Self::NoFile(403) => b"403 Forbidden\n",
            Self::NoFile(_) => b"404 Not Found\n",
            Self::FileMethods | Self::Health { .. } | Self::Listing(_) => b"",
            // A page stands in for it, or the protocol's reason phrase says more.
            Self::Fixed { status, .. } => return Cow::Owned(format!("{status}\n").into_bytes()),
            Self::Moved { status, .. } => return Cow::Owned(format!("{status} Redirect\n").into_bytes()),
            Self::Refused(_, reason) => return Cow::Owned(format!("{reason}\n").into_bytes()),
            Self::Starting => b"503 Service Unavailable: the application is being started\n",
            Self::StreamsFull => b"503 Service Unavailable: too many WebSockets are open\n",
            Self::TooManyAtOnce => b"503 Service Unavailable: too many such requests are running\n",
            Self::TooManyRequests { .. } => b"429 Too Many Requests\n",
            Self::LoginsFull => b"503 Service Unavailable: too many passwords are being verified\n",
            Self::Unauthorized { .. } => b"401 Unauthorized\n",
        };
        Cow::Borrowed(text)
    }

    /// The headers that it has beside those that every response gets. A `page` stands in for its text.
    fn fields(&self, page: Option<&Arc<[u8]>>) -> Fields {
        let mut fields = Fields::new();
        match self {
            Self::Fixed { content_type, page: Some(_), .. } => {
                fields.push(b"Content-Type", content_type.as_bytes());
            }
            // There is no content that would have a type.
            Self::Fixed { status: 204 | 205 | 304, .. } | Self::FileMethods => {}
            Self::Health { is_json, .. } => {
                let content_type = if *is_json { HEALTH_JSON } else { "text/plain; charset=utf-8" };
                fields.push(b"Content-Type", content_type.as_bytes());
                fields.push(b"Cache-Control", b"no-store");
                fields.push(b"X-Content-Type-Options", b"nosniff");
            }
            Self::Listing(_) => {
                for (name, value) in LISTING_FIELDS {
                    fields.push(name, value);
                }
            }
            _ if page.is_some() => {
                fields.push(b"Content-Type", b"text/html; charset=utf-8");
                // Where it is kept, it would be shown when all is well again.
                fields.push(b"Cache-Control", b"no-store");
            }
            _ => fields.push(b"Content-Type", b"text/plain; charset=utf-8"),
        }
        match self {
            // The same request can succeed soon.
            Self::Busy
            | Self::LoginsFull
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Starting
            | Self::StreamsFull
            | Self::TooManyAtOnce => fields.push(b"Retry-After", b"1"),
            Self::Unauthorized { challenge } => fields.push(b"WWW-Authenticate", challenge.as_bytes()),
            Self::TooManyRequests { retry_after_seconds } => {
                fields.push(b"Retry-After", retry_after_seconds.to_string().as_bytes());
            }
            Self::Redirect(location) => fields.push(b"Location", location),
            Self::Moved { location, .. } => fields.push(b"Location", location.as_bytes()),
            Self::MethodNotAllowed(methods) => fields.push(b"Allow", methods.join(", ").as_bytes()),
            Self::FileMethods => fields.push(b"Allow", FILE_METHODS.join(", ").as_bytes()),
            // One that a cache keeps would outlive the deploy that brings the file (evansd/whitenoise#245).
            Self::NoFile(_) => {
                if page.is_none() {
                    fields.push(b"Cache-Control", NOT_FOUND_CACHE_CONTROL.as_bytes());
                }
                fields.push(b"X-Content-Type-Options", b"nosniff");
            }
            Self::Refused(406, _) => fields.push(b"X-Content-Type-Options", b"nosniff"),
            Self::ApplicationFailed
            | Self::ApplicationTimeout
            | Self::Cancelled
            | Self::Fixed { .. }
            | Self::Health { .. }
            | Self::Listing(_)
            | Self::Refused(..) => {}
        }
        fields
    }

    /// Its content; a page is kept as it is.
    fn content(&self, page: Option<&Arc<[u8]>>) -> Block<'static> {
        match (self, page) {
            (Self::Health { content, .. }, _) => Block::Shared(Box::new(content.clone())),
            (Self::Fixed { page: Some(page), .. }, _) | (_, Some(page)) => {
                Block::Shared(Box::new(Bytes::from_owner(Arc::clone(page))))
            }
            (Self::Fixed { status: 204 | 205 | 304, .. }, _) => Block::Borrowed(b""),
            (Self::Listing(page), _) => Block::Shared(Box::new(page.clone())),
            (reply, None) => match reply.text() {
                Cow::Borrowed(text) => Block::Borrowed(text),
                Cow::Owned(text) => Block::Owned(text),
            },
        }
    }

    /// The whole response, with `page` in place of its text.
    pub(super) fn whole(&self, page: Option<&Arc<[u8]>>) -> ResponsePart<'static> {
        let body = self.content(page);
        let length = Some(body.len() as u64);
        let (status, fields) = (self.status(), self.fields(page));
        let head = ResponseHead { status, fields, length, ..ResponseHead::default() };
        ResponsePart::Whole { head: Cow::Owned(head), body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_begins_with_its_status_and_says_when_to_try_again() {
        let refused = Reply::Refused(413, "413 is too large".into());
        for reply in [
            Reply::ApplicationFailed,
            Reply::ApplicationTimeout,
            Reply::Cancelled,
            Reply::Busy,
            Reply::QueueFull,
            Reply::QueueTimeout,
            Reply::Redirect(b"https://x/".to_vec()),
            refused,
            Reply::Starting,
            Reply::StreamsFull,
            Reply::TooManyAtOnce,
            Reply::LoginsFull,
            Reply::Unauthorized { challenge: "Basic".to_owned() },
            Reply::TooManyRequests { retry_after_seconds: 12 },
            Reply::MethodNotAllowed(vec!["GET".to_owned(), "PUT".to_owned()]),
            Reply::Moved { status: 308, location: "/a".to_owned() },
            Reply::Fixed { content_type: "".into(), status: 410, page: None },
        ] {
            let ResponsePart::Whole { head, body: text } = reply.whole(None) else { panic!("{reply:?}") };
            assert_eq!((head.status, head.length), (reply.status(), Some(text.len() as u64)));
            assert!(text.starts_with(head.status.to_string().as_bytes()), "{reply:?}");
            assert!(text.ends_with(b"\n") && !text[..text.len() - 1].contains(&b'\n'), "{reply:?}");
            let retry_after = match head.status {
                503 if reply != Reply::Cancelled => Some(&b"1"[..]),
                429 => Some(&b"12"[..]),
                _ => None,
            };
            assert_eq!(head.fields.get(b"retry-after"), retry_after, "{reply:?}");
            assert_eq!(head.fields.get(b"www-authenticate").is_some(), head.status == 401, "{reply:?}");
            assert_eq!(head.fields.get(b"location").is_some(), head.status == 308, "{reply:?}");
            let allowed = (head.status == 405).then_some(&b"GET, PUT"[..]);
            assert_eq!(head.fields.get(b"allow"), allowed, "{reply:?}");
        }
    }

    #[test]
    fn no_response_in_place_of_a_file_is_taken_for_another_type() {
        let page: Arc<[u8]> = Arc::from(&b"<p>none"[..]);
        for reply in [Reply::NoFile(404), Reply::NoFile(403), Reply::Refused(406, "none".into())] {
            for page in [None, Some(&page)] {
                let ResponsePart::Whole { head, .. } = reply.whole(page) else { panic!("{reply:?}") };
                assert_eq!(head.fields.get(b"x-content-type-options"), Some(&b"nosniff"[..]), "{reply:?}");
                assert!(head.fields.iter().filter(|(name, _)| *name == b"Cache-Control").count() <= 1);
            }
        }
    }

    #[test]
    fn a_page_stands_in_for_the_text_and_headers_stay() {
        let page: Arc<[u8]> = Arc::from(&b"<p>busy"[..]);
        let ResponsePart::Whole { head, body } = Reply::QueueFull.whole(Some(&page)) else {
            panic!("it is whole");
        };
        assert_eq!((&body[..], head.length, head.status), (&b"<p>busy"[..], Some(7), 503));
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("retry-after", "1"),
        ] {
            assert_eq!(head.fields.get(name.as_bytes()), Some(value.as_bytes()), "{name}");
        }
        let own = Reply::Fixed {
            content_type: "image/png".into(),
            status: 404,
            page: Some(Arc::from(&b"own"[..])),
        };
        let ResponsePart::Whole { body, .. } = own.whole(Some(&page)) else { panic!("it is whole") };
        assert_eq!(&body[..], b"own", "a route's own page counts");
    }
}
