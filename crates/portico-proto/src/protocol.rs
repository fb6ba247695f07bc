//! The protocol of one connection that carries one request at a time: matched here and nowhere else.
//!
//! Protocols that carry several at once are no [`Protocol`] but sessions, whose streams are.

use crate::content::Content;
use crate::error::Error;
use crate::event::{Event, Part};
use crate::gateway::{self, Dialect};
use crate::limits::Limits;
use crate::{fastcgi, http1, http2};

/// State of one connection in the protocol that it speaks. All verbs are those of [`http1::Connection`].
///
/// Kept for every idle client: what is larger than the state of HTTP/1 is boxed.
#[derive(Debug)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1(http1::Connection),
    /// One stream of an HTTP/2 session.
    Http2(Box<http2::Stream>),
    /// uwsgi or SCGI.
    Gateway(gateway::Connection),
    /// FastCGI.
    Fastcgi(Box<fastcgi::Connection>),
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Http1(http1::Connection::new())
    }
}

/// The same expression for whichever state there is.
macro_rules! each {
    ($protocol:expr, $state:ident => $work:expr) => {
        match $protocol {
            Protocol::Http1($state) => $work,
            Protocol::Http2($state) => $work,
            Protocol::Gateway($state) => $work,
            Protocol::Fastcgi($state) => $work,
        }
    };
}

impl Protocol {
    /// A uwsgi connection on which nothing has been sent.
    pub fn uwsgi() -> Self {
        Self::Gateway(gateway::Connection::new(Dialect::Uwsgi))
    }

    /// An SCGI connection on which nothing has been sent.
    pub fn scgi() -> Self {
        Self::Gateway(gateway::Connection::new(Dialect::Scgi))
    }

    /// A FastCGI connection on which nothing has been sent.
    pub fn fastcgi() -> Self {
        Self::Fastcgi(Box::default())
    }

    /// Whether the other end is a gateway, which tells of its clients in variables.
    #[inline]
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway(_) | Self::Fastcgi(_))
    }

    /// Whether what comes while a request is answered may be about that request, and not only the next one.
    #[inline]
    pub fn reads_ahead(&self) -> bool {
        matches!(self, Self::Fastcgi(_))
    }

    /// The state of a FastCGI connection.
    pub fn as_fastcgi(&mut self) -> Option<&mut fastcgi::Connection> {
        match self {
            Self::Fastcgi(state) => Some(state),
            Self::Http1(_) | Self::Http2(_) | Self::Gateway(_) => None,
        }
    }

    /// Whether the bytes that the caller still has are all that there is of a request that has begun: another
    /// [`Protocol`] could go on with them.
    pub fn keeps_nothing(&self) -> bool {
        match self {
            Self::Http1(_) | Self::Http2(_) | Self::Gateway(_) => true,
            Self::Fastcgi(state) => state.is_idle(),
        }
    }

    /// Whether the bytes of a request's head and its body behind them are that request once more.
    pub fn can_be_told_again(&self) -> bool {
        !matches!(self, Self::Fastcgi(_))
    }

    /// Whether [`Protocol::splice`] makes room for any number of bytes at once.
    #[inline]
    pub fn splices_whole(&self) -> bool {
        !matches!(self, Self::Fastcgi(_))
    }

    /// Takes the next event from the front of `input` and moves `input` past what it used.
    ///
    /// # Errors
    /// The peer has sent what it must not: the connection is to be closed.
    #[inline]
    pub fn next_event<'b>(
        &mut self,
        input: &mut &'b [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'b>>, Error> {
        each!(self, state => state.next_event(input, limits))
    }

    /// Whether the peer is between requests: nothing of a next one has been taken in.
    #[inline]
    pub fn is_idle(&self) -> bool {
        each!(self, state => state.is_idle())
    }

    /// Appends `part` to `out` in wire form. Parts out of their order send nothing. A response may also be sent
    /// before the request is complete: to a malformed one, or one that does not come in time.
    #[inline]
    pub fn send(&mut self, part: Part<'_>, out: &mut Vec<u8>) {
        each!(self, state => state.send(part, out));
    }

    /// Makes room in the body of the response for `length` bytes that the caller writes to the wire itself, right
    /// after `out`; returns how many of them the response takes. Where that is fewer, the rest is to be asked for
    /// again, until it takes none.
    #[inline]
    pub fn splice(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        match self {
            Self::Http1(state) => state.splice(length, out),
            Self::Http2(state) => state.splice(length, out),
            Self::Gateway(state) => state.splice(length),
            Self::Fastcgi(state) => state.splice(length, out),
        }
    }

    /// Whether the head of the response has been sent.
    #[inline]
    pub fn head_sent(&self) -> bool {
        self.content().has_started()
    }

    /// Whether the response has been sent to its end.
    #[inline]
    pub fn response_complete(&self) -> bool {
        self.content().is_complete()
    }

    /// Whether a peer sees by what it has got that a response which ends now is not complete: not where the end of
    /// the connection is that of the response, nor on a stream of HTTP/2, whose end has to be told.
    pub fn delimits_response(&self) -> bool {
        match self {
            Self::Http1(state) => state.delimits_response(),
            Self::Http2(_) => false,
            Self::Gateway(state) => !state.content().is_open(),
            Self::Fastcgi(_) => true,
        }
    }

    /// Whether bytes of the body have been dropped because its head announced fewer.
    pub fn response_surplus(&self) -> bool {
        self.content().had_surplus()
    }

    #[inline]
    fn content(&self) -> &Content {
        each!(self, state => state.content())
    }

    /// Whether, once the present response is complete, the connection can serve another request.
    #[inline]
    pub fn can_keep_alive(&self) -> bool {
        match self {
            Self::Http1(state) => state.can_keep_alive(),
            Self::Http2(state) => state.can_keep_alive(),
            Self::Gateway(_) => false,
            Self::Fastcgi(state) => state.can_keep_alive(),
        }
    }

    /// Begins the next request, if the response is complete and the connection can serve another.
    #[inline]
    pub fn next_request(&mut self) {
        match self {
            Self::Http1(state) => state.next_request(),
            Self::Http2(state) => state.next_request(),
            Self::Gateway(_) => {}
            Self::Fastcgi(state) => state.next_request(),
        }
    }
}
