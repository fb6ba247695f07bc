//! Makes a request head of a header block that the h2 crate has taken apart (RFC 9113, section 8.3).

use http::header::COOKIE;
use http::request::Parts;

use crate::{Error, HeadParts, Limits, RequestHead, Version};

/// The head of a request after whose header block nothing follows if it `ends`.
pub(super) fn head(parts: &Parts, ends: bool, limits: &Limits) -> Result<Box<RequestHead>, Error> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let head = HeadParts {
        version: Version::Http2,
        method: parts.method.as_str().as_bytes(),
        target: target.as_bytes(),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        ends,
    };
    let fields = &parts.headers;
    let crumbs = fields.get_all(COOKIE).iter().count();
    if crumbs < 2 {
        let fields = fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        return RequestHead::assemble(&head, fields, limits);
    }
    // A cookie may come in crumbs, each a field of its own; they are to be one again (RFC 9113, section 8.2.3).
    let mut cookie = Vec::new();
    for crumb in fields.get_all(COOKIE) {
        if !cookie.is_empty() {
            cookie.extend_from_slice(b"; ");
        }
        cookie.extend_from_slice(crumb.as_bytes());
    }
    let others = fields.iter().filter(|(name, _)| *name != COOKIE);
    let others = others.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    RequestHead::assemble(&head, others.chain([(&b"cookie"[..], &cookie[..])]), limits)
}
