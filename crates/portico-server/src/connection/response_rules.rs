//! What a route does to the application's response before the engine gets it: compression, and pages in place of
//! the application's errors. On the application's thread: the engine never compresses.
//!
//! The rules for headers that hold for every response are `response_headers`'; here is what follows from a content
//! that is another one than the application has made.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use portico_edge::FlatRoute;
use portico_edge::compression::{Compressible, Encoder, PADDING_MAX, ResponseFacts, weak_tag};
use portico_edge::files::{AcceptedCodings, ContentCoding};
use portico_proto::{Fields, ResponseHead};

use super::Block;
use crate::client::RequestContext;

/// What the route of one request does to its response.
#[derive(Debug)]
pub(crate) struct ResponseRules {
    route: Arc<FlatRoute>,
    /// The codings that the client takes; `None` where nothing is compressed.
    accepted: Option<AcceptedCodings>,
    request: Arc<RequestContext>,
}

/// How a response begins.
#[derive(Debug)]
pub(crate) enum FilteredStart<'h> {
    /// With this head; the content is as the application makes it.
    Plain(Cow<'h, ResponseHead>),
    /// With this head; the content is what the encoder makes of the application's.
    Encoded(Box<ResponseHead>, Box<Encoder>),
    /// It is this head and content.
    Replaced(Box<ResponseHead>, Block<'static>),
}

impl ResponseRules {
    /// Those of a request, by its route; `None` if there are none.
    #[inline]
    pub(crate) fn of(request: &Arc<RequestContext>) -> Option<Box<Self>> {
        Self::of_route(request.route.as_ref()?, request)
    }

    fn of_route(route: &Arc<FlatRoute>, request: &Arc<RequestContext>) -> Option<Box<Self>> {
        let intercepts = route.intercept && route.error_pages.is_some();
        let compresses = route.compress && !is_relayed(request);
        if !intercepts && !compresses {
            return None;
        }
        let accepted = compresses.then(|| accepted(request));
        Some(Box::new(Self { route: Arc::clone(route), accepted, request: Arc::clone(request) }))
    }

    /// Whether the response has no content, because the request's method is HEAD.
    pub(crate) fn is_head(&self) -> bool {
        self.request.head.method() == b"HEAD"
    }

    /// How the response to which the application has given `head` begins.
    pub(crate) fn start<'h>(&self, head: &'h ResponseHead) -> FilteredStart<'h> {
        if let Some(page) = self.page(head.status) {
            let head = without_content(head, page.len());
            let page = Block::Shared(Box::new(Bytes::from_owner(Arc::clone(page))));
            return FilteredStart::Replaced(Box::new(head), page);
        }
        let Some(accepted) = &self.accepted else { return FilteredStart::Plain(Cow::Borrowed(head)) };
        let facts = ResponseFacts::of(head.status, head.length, head.fields.iter());
        match facts.compressible(accepted) {
            Compressible::No => FilteredStart::Plain(Cow::Borrowed(head)),
            Compressible::NotForClient => FilteredStart::Plain(Cow::Owned(varied(head, Representation::Own))),
            // Caches find by its tag what they have: it must be the one that came with that.
            Compressible::Unchanged => {
                let tag = head.fields.get(b"etag").and_then(weak_tag);
                let about = match tag.is_some_and(|tag| self.client_has(&tag)) {
                    true => Representation::Absent,
                    false => Representation::Own,
                };
                FilteredStart::Plain(Cow::Owned(varied(head, about)))
            }
            Compressible::With(coding) => match Encoder::new(coding, padding()) {
                Ok(encoder) => {
                    let head = varied(head, Representation::Encoded(coding));
                    FilteredStart::Encoded(Box::new(head), Box::new(encoder))
                }
                // There is no memory for it.
                Err(_) => FilteredStart::Plain(Cow::Owned(varied(head, Representation::Own))),
            },
        }
    }

    /// Whether the client has named `tag` as that of what it has.
    fn client_has(&self, tag: &[u8]) -> bool {
        let lists =
            self.request.head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"if-none-match"));
        lists.flat_map(|(_, list)| list.split(|&byte| byte == b',')).any(|item| item.trim_ascii() == tag)
    }

    fn page(&self, status: u16) -> Option<&Arc<[u8]>> {
        let pages = self.route.error_pages.as_ref().filter(|_| self.route.intercept)?;
        if (400..600).contains(&status) { pages.page(status) } else { None }
    }
}

/// Whether a proxy or a gateway has sent it for another client: that is where its responses are compressed, once
/// for all that stands behind it. The peers that are believed include this machine, which may as well ask for
/// itself.
pub(super) fn is_relayed(request: &RequestContext) -> bool {
    let head = &request.head;
    head.is_gateway() || (request.trusted && (request.forwarded.is_some() || head.field(b"via").is_some()))
}

fn accepted(request: &RequestContext) -> AcceptedCodings {
    let mut values = request
        .head
        .fields()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-encoding"))
        .map(|(_, v)| v);
    match (values.next(), values.next()) {
        (one, None) => AcceptedCodings::parse(one),
        // Several lines are one list (RFC 9110, section 5.3).
        (one, two) => {
            let all: Vec<&[u8]> = one.into_iter().chain(two).chain(values).collect();
            AcceptedCodings::parse(Some(&all.join(&b", "[..])))
        }
    }
}

/// By how much a response is made longer. Without a source of chance, by nothing.
fn padding() -> usize {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => (u64::from_ne_bytes(bytes) % (PADDING_MAX as u64 + 1)) as usize,
        _ => 0,
    }
}

/// What a head that depends on Accept-Encoding is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Representation {
    /// The content as the application makes it.
    Own,
    /// The content in a coding.
    Encoded(ContentCoding),
    /// That which the client has in a coding, and which is not sent (304).
    Absent,
}

/// `head` of a response that depends on Accept-Encoding.
fn varied(head: &ResponseHead, about: Representation) -> ResponseHead {
    let is_other = about != Representation::Own;
    let mut fields = Fields::new();
    let mut has_vary = false;
    for (name, value) in head.fields.iter() {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if is(b"vary") && !std::mem::replace(&mut has_vary, true) => {
                fields.push(name, &with_accept_encoding(value, &head.fields));
            }
            4 if is(b"etag") && is_other => {
                fields.push(name, &weak_tag(value).map_or(Cow::Borrowed(value), Cow::Owned));
            }
            // The application would send ranges of its own bytes.
            13 if is(b"accept-ranges") && is_other => {}
            _ => fields.push(name, value),
        }
    }
    if !has_vary {
        fields.push(b"Vary", b"Accept-Encoding");
    }
    let mut length = head.length;
    if let Representation::Encoded(coding) = about {
        fields.push(b"Content-Encoding", coding.name().as_bytes());
        length = None;
    }
    ResponseHead { fields, length, status: head.status, reason: head.reason.clone(), close: head.close }
}

/// `fields` of a response that depends on Accept-Encoding.
pub(super) fn with_vary(fields: &Fields) -> Fields {
    let mut varied = Fields::new();
    let mut has_vary = false;
    for (name, value) in fields.iter() {
        if name.eq_ignore_ascii_case(b"vary") && !std::mem::replace(&mut has_vary, true) {
            varied.push(name, &with_accept_encoding(value, fields));
        } else {
            varied.push(name, value);
        }
    }
    if !has_vary {
        varied.push(b"Vary", b"Accept-Encoding");
    }
    varied
}

/// The first Vary of `fields`, whose value is `value`, with Accept-Encoding, unless one of them names it.
fn with_accept_encoding<'v>(value: &'v [u8], fields: &Fields) -> Cow<'v, [u8]> {
    let names = |value: &[u8]| {
        value
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
    };
    if fields.iter().any(|(name, value)| name.eq_ignore_ascii_case(b"vary") && names(value)) {
        return Cow::Borrowed(value);
    }
    match value.trim_ascii() {
        b"" => Cow::Borrowed(b"Accept-Encoding"),
        value => Cow::Owned([value, b", Accept-Encoding"].concat()),
    }
}

/// Fields that describe a content, beside those that begin with `Content-`.
const OF_CONTENT: [&str; 8] =
    ["accept-ranges", "cache-control", "digest", "etag", "expires", "last-modified", "pragma", "repr-digest"];

/// `head` with a page of `length` bytes in place of its content. What it says beside its content stays: cookies,
/// how to log in, when to come again.
fn without_content(head: &ResponseHead, length: usize) -> ResponseHead {
    let mut fields = Fields::new();
    for (name, value) in head.fields.iter() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let is_policy = is("content-security-policy") || is("content-security-policy-report-only");
        let begins = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
        if is_policy || !(begins || OF_CONTENT.iter().any(|other| is(other))) {
            fields.push(name, value);
        }
    }
    fields.push(b"Content-Type", b"text/html; charset=utf-8");
    // Where it is kept, it would be shown when all is well again.
    fields.push(b"Cache-Control", b"no-store");
    let length = Some(length as u64);
    ResponseHead { fields, length, status: head.status, reason: head.reason.clone(), close: head.close }
}

#[cfg(test)]
mod tests;
