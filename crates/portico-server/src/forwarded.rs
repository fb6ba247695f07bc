//! Whose word about the client counts: what proxies say in request fields of the client's address, the scheme,
//! the host, the port and the path in front, or why a request that says it twice is refused.
//!
//! Pure: whether the peer is believed, the head and the policy in; the outcome out, with what nobody should
//! believe taken from the head. Deliberately not here: PROXY protocol, which speaks before the first request.

mod names;
mod rfc7239;
mod x_forwarded;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portico_config::{Behind, Config, ForwardedHeaders, HeaderMap, SchemeHeader, TrustedPeers};
use portico_proto::{Initials, Peer, RequestHead};

use names::Names;

/// The configuration of proxies in front, in the form in which heads are evaluated. One for each engine, never
/// changed.
#[derive(Debug)]
pub(crate) struct Policy {
    peers: TrustedPeers,
    used: ForwardedHeaders,
    scheme_headers: Vec<SchemeHeader>,
    names: Names,
    header_map: HeaderMap,
    /// The field that has the client's address alone, in place of X-Forwarded-For.
    client_field: Option<&'static [u8]>,
    /// Entries at the right end of X-Forwarded-For that name the proxy itself.
    own_entries: usize,
    /// Letters with which the names of fields begin that have to be looked at.
    watched: Initials,
}

/// The facts about the client that a believed proxy has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its port, where that was said with the address.
    pub port: Option<u16>,
    /// Whether it speaks TLS.
    pub scheme: Option<Scheme>,
    /// The host that it asked for, an authority.
    pub host: Option<Box<[u8]>>,
    /// The port that it connected to.
    pub server_port: Option<u16>,
    /// The path that the proxy has taken off: begins with one `/` and does not end with it.
    pub prefix: Option<Box<[u8]>>,
    /// What stands in for `--root-path`: empty, or of the form of `prefix`.
    pub script_name: Option<Box<[u8]>>,
}

impl Forwarded {
    /// The client, if it was named; its port is 0 where that was not.
    pub fn client(&self) -> Option<Peer> {
        self.address.map(|address| Peer::Inet(SocketAddr::new(address, self.port.unwrap_or_default())))
    }
}

impl Forwarded {
    /// What this and `other` say together.
    fn with(mut self, other: Self) -> Result<Self, ForwardedRefusal> {
        if disagree(self.address, other.address) {
            return Err(ForwardedRefusal::ClientConflict);
        }
        if disagree(self.scheme, other.scheme) {
            return Err(ForwardedRefusal::SchemeConflict);
        }
        if disagree(self.lower_host(), other.lower_host()) {
            return Err(ForwardedRefusal::HostConflict);
        }
        if self.address.is_none() {
            (self.address, self.port) = (other.address, other.port);
        }
        self.port = self.port.or(other.port);
        self.scheme = self.scheme.or(other.scheme);
        self.host = self.host.or(other.host);
        Ok(self)
    }

    /// Whether `other` says nothing that this does not; a port beside the address tells no other client.
    fn has(&self, other: &Self) -> bool {
        (other.address.is_none() || other.address == self.address)
            && (other.scheme.is_none() || other.scheme == self.scheme)
            && (other.host.is_none() || other.lower_host() == self.lower_host())
    }

    fn lower_host(&self) -> Option<Vec<u8>> {
        self.host.as_deref().map(<[u8]>::to_ascii_lowercase)
    }
}

/// The field of RFC 7239.
const FORWARDED: &[u8] = b"forwarded";

/// The scheme of the URL that the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Scheme {
    Http,
    Https,
}

/// The outcome of evaluating one request's head: what is believed about its client, and what was not, for the log.
/// It is made once for a request, before the application is called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Evaluation {
    /// What was said of the client, if it was anything.
    pub forwarded: Option<Arc<Forwarded>>,
    /// A peer that is not believed has said that its client speaks TLS.
    pub scheme_ignored: bool,
    /// A Forwarded that the believed peer has hardly made was taken away.
    pub forwarded_ignored: bool,
}

/// The evidence that believed peers speak Forwarded alone, kept by the engine from request to request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// A request had Forwarded and no X-Forwarded-* beside it. A proxy that speaks these adds them to every
    /// request, so that no client can have a request come without them.
    forwarded_alone: bool,
}

/// The reason for which a request is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForwardedRefusal {
    /// X-Forwarded-For and Forwarded name different clients.
    ClientConflict,
    /// Fields name different hosts.
    HostConflict,
    /// Fields name different ports or prefixes.
    ValueConflict,
    /// A field is not of the form that its name asks for.
    Malformed,
    /// Fields name different schemes.
    SchemeConflict,
    /// A name has an underscore, which `--header-map refuse` refuses.
    Underscore,
}

impl ForwardedRefusal {
    /// What a client and a log are told; quotes nothing that the peer has sent.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::ClientConflict => "X-Forwarded-For and Forwarded name different clients.",
            Self::HostConflict => "X-Forwarded-Host and Forwarded name different hosts.",
            Self::ValueConflict => "A field of the proxy is given more than once, and not alike.",
            Self::Malformed => {
                "A field of the proxy (Forwarded, X-Forwarded-Host, -Port, -Prefix) is malformed."
            }
            Self::SchemeConflict => "The fields of the proxy name different schemes.",
            Self::Underscore => "The name of a field has an underscore.",
        }
    }
}

impl Policy {
    /// The policy of `config`.
    pub(crate) fn new(config: &Config) -> Self {
        let behind = config.behind;
        let names = Names::new(&config.forwarder_headers);
        let client_field = (behind == Some(Behind::Cloudflare)).then_some(&b"cf-connecting-ip"[..]);
        let mut watched = names.initials();
        for name in [&b"forwarded"[..], b"x-"].into_iter().chain(client_field) {
            watched.insert(name[0]);
        }
        let scheme_names =
            config.secure_scheme_headers.iter().filter_map(|header| header.name.bytes().next());
        scheme_names.for_each(|first| watched.insert(first));
        Self {
            peers: config.forwarded_allow.clone(),
            used: config.forwarded_headers,
            scheme_headers: config.secure_scheme_headers.clone(),
            names,
            header_map: config.header_map,
            client_field,
            own_entries: usize::from(behind == Some(Behind::Gclb)),
            watched,
        }
    }

    /// Removes the fields that only proxies may send, however they are spelled.
    pub(crate) fn remove_claimed(&self, head: &mut RequestHead) {
        head.retain_fields(|name, _| !self.names.claims(name));
    }

    /// Whether `peer` is believed. Asked once for each connection.
    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        self.peers.admits(peer.ip())
    }

    /// Whether there is anything in `head` to judge: nearly always not.
    #[inline]
    pub(crate) fn concerns(&self, head: &RequestHead) -> bool {
        head.initials().meets(self.watched) || head.dropped().len() != 0 || head.is_gateway()
    }

    /// Judges the fields of a peer that is `trusted` or not, and takes those away that the application should
    /// not see. `heard` is what believed peers have sent before.
    ///
    /// # Errors
    /// The request is to be refused.
    pub(crate) fn evaluate(
        &self,
        trusted: bool,
        head: &mut RequestHead,
        heard: &mut Heard,
    ) -> Result<Evaluation, ForwardedRefusal> {
        if !trusted {
            let mut scheme_ignored = false;
            head.retain_fields(|name, value| {
                if !self.watched.has(name) {
                    return true;
                }
                scheme_ignored |= self.scheme_of(name, value, 0, 0) == Some(Scheme::Https);
                !(self.is_forwarded(name) || self.names.claims(name))
            });
            self.map_underscores(head)?;
            return Ok(Evaluation { scheme_ignored, ..Evaluation::default() });
        }
        self.names.admit(head)?;
        self.map_underscores(head)?;
        let (forwarded, forwarded_ignored) = self.read(head, heard)?;
        if forwarded_ignored {
            head.retain_fields(|name, _| !name.eq_ignore_ascii_case(FORWARDED));
        }
        let forwarded = (forwarded != Forwarded::default()).then(|| Arc::new(forwarded));
        Ok(Evaluation { forwarded, forwarded_ignored, ..Evaluation::default() })
    }

    /// What becomes of the names with underscores that no proxy may send.
    fn map_underscores(&self, head: &mut RequestHead) -> Result<(), ForwardedRefusal> {
        match self.header_map {
            HeaderMap::Drop => {}
            HeaderMap::Refuse if head.dropped().len() != 0 => return Err(ForwardedRefusal::Underscore),
            HeaderMap::Refuse => {}
            HeaderMap::Dangerous => head.restore_dropped(|name| {
                let hyphened = hyphened(name);
                let framing = [&b"content-length"[..], b"transfer-encoding"].contains(&&*hyphened);
                !(framing || self.is_forwarded(&hyphened) || self.names.claims(name))
            }),
        }
        Ok(())
    }

    /// Whether the field `name` tells of the client.
    fn is_forwarded(&self, name: &[u8]) -> bool {
        let begins =
            |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
        match name.first() {
            Some(b'x' | b'X') if begins(b"x-forwarded-") || name.eq_ignore_ascii_case(b"x-real-ip") => true,
            Some(b'f' | b'F') if name.eq_ignore_ascii_case(b"forwarded") => true,
            _ => {
                self.client_field.is_some_and(|field| name.eq_ignore_ascii_case(field))
                    || self
                        .scheme_headers
                        .iter()
                        .any(|header| name.eq_ignore_ascii_case(header.name.as_bytes()))
            }
        }
    }

    /// All that the fields of a believed peer say, and whether its Forwarded counts for nothing: beside
    /// X-Forwarded-* it is what a client has sent and the proxy has passed on, unless the proxy is known to
    /// speak in that way.
    fn read(&self, head: &RequestHead, heard: &mut Heard) -> Result<(Forwarded, bool), ForwardedRefusal> {
        let fields: ForwardedFields<'_> = head.fields().filter(|(name, _)| self.watched.has(name)).collect();
        let said = x_forwarded::read(self, &fields)?;
        let script_name = self.names.script_name(head)?;
        let forwarded = Forwarded { script_name, ..said };
        if !self.used.forwarded || !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(FORWARDED)) {
            return Ok((forwarded, false));
        }
        let is_beside = fields.iter().any(|(name, _)| x_forwarded::is_used(self, name));
        heard.forwarded_alone |= !is_beside;
        let other = rfc7239::read(self, &fields);
        if !heard.forwarded_alone {
            let agrees = other.is_ok_and(|other| forwarded.has(&other));
            return Ok((forwarded, !agrees));
        }
        Ok((forwarded.with(other?)?, false))
    }

    /// What the field `name` says of the scheme; `None` where it is none that does. Of a list the element counts
    /// that stands beside the client, `place` from the right, if the list is as long as that of the addresses.
    fn scheme_of(&self, name: &[u8], value: &[u8], place: usize, addresses: usize) -> Option<Scheme> {
        let header =
            self.scheme_headers.iter().find(|header| name.eq_ignore_ascii_case(header.name.as_bytes()))?;
        let is_secure = |value: &[u8]| value.eq_ignore_ascii_case(header.value.as_bytes());
        let secure = is_secure(value) || is_secure(beside(value, place, addresses));
        Some(if secure { Scheme::Https } else { Scheme::Http })
    }

    /// Goes through what proxies say whom they got the request from, the nearest first: the last address that
    /// they can be believed, and how many were passed over on the way.
    ///
    /// A proxy that is named in the configuration is believed what it says of the one before it. The first
    /// address that is not is the client's: it did not come by the word of anybody unknown. Whatever is no
    /// address ends the walk.
    fn walk(&self, hops: impl Iterator<Item = Hop>) -> (Option<(IpAddr, Option<u16>)>, usize) {
        let mut client = None;
        let mut place = 0;
        for (at, hop) in hops.enumerate() {
            place = at;
            let Hop::Address(address, port) = hop else { break };
            client = Some((address, port));
            if !self.peers.names(address) {
                break;
            }
        }
        (client, place)
    }
}

/// Names and values of the few fields that may tell of the client.
type ForwardedFields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Whom a proxy got a request from, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Address(IpAddr, Option<u16>),
    /// It does not say, or nothing that could be read.
    Unknown,
}

impl Hop {
    /// Reads an address, with or without brackets and port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
    /// `[2001:db8::1]:80`.
    fn read(text: &[u8]) -> Self {
        let Ok(text) = str::from_utf8(text) else { return Self::Unknown };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Self::Address(address.to_canonical(), None);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::Address(address.ip().to_canonical(), Some(address.port()));
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match inner.and_then(|inner| inner.parse::<std::net::Ipv6Addr>().ok()) {
            Some(address) => Self::Address(IpAddr::V6(address).to_canonical(), None),
            None => Self::Unknown,
        }
    }
}

/// The element of the list `value` that is `place` from its right, if it has as many as there are `addresses`;
/// its last otherwise.
fn beside(value: &[u8], place: usize, addresses: usize) -> &[u8] {
    let mut elements = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let number = elements.clone().count();
    elements.nth(if number == addresses { place.min(number - 1) } else { 0 }).unwrap_or_default()
}

/// Whether both are there and not alike.
fn disagree<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// `path` without a `/` at its end, if it is empty or begins with one `/` that no browser takes for the begin of
/// a host, and has nothing else that could end a path.
fn prefix(path: &[u8]) -> Result<Box<[u8]>, ForwardedRefusal> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let trimmed = &path[..end];
    let sound = match trimmed {
        [] => true,
        [b'/', second, ..] => {
            *second != b'/' && trimmed.iter().all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(byte))
        }
        _ => false,
    };
    if sound { Ok(trimmed.into()) } else { Err(ForwardedRefusal::Malformed) }
}

/// `name` in lower case, with hyphens for underscores: alike for names that are one in environ.
fn hyphened(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| hyphen(byte.to_ascii_lowercase())).collect()
}

/// A hyphen for an underscore.
fn hyphen(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

#[cfg(test)]
mod tests;
