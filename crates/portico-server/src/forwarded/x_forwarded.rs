//! X-Forwarded-For, -Proto, -Host, -Port and -Prefix, which no standard describes: what proxies write into them.
//!
//! Each proxy appends to X-Forwarded-For whom it got the request from. The others it mostly overwrites; where one
//! appends to them too, the element beside the client's address counts.

use super::{Forwarded, ForwardedFields, ForwardedRefusal, Hop, Policy, beside, disagree, prefix};

/// What these fields say.
pub(super) fn read(policy: &Policy, fields: &ForwardedFields<'_>) -> Result<Forwarded, ForwardedRefusal> {
    let used = policy.used;
    let mut forwarded = Forwarded::default();
    let (mut place, mut addresses) = (0, 0);
    if used.client {
        let client;
        (client, place, addresses) = read_client(policy, fields);
        (forwarded.address, forwarded.port) =
            client.map_or((None, None), |(address, port)| (Some(address), port));
    }
    for &(name, value) in fields {
        if used.scheme
            && let scheme @ Some(_) = policy.scheme_of(name, value, place, addresses)
        {
            if disagree(forwarded.scheme, scheme) {
                return Err(ForwardedRefusal::SchemeConflict);
            }
            forwarded.scheme = scheme;
        }
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            16 if used.host && is(b"x-forwarded-host") => {
                let host = beside(value, place, addresses);
                if !portico_proto::http1::is_authority(host) {
                    return Err(ForwardedRefusal::Malformed);
                }
                let earlier = forwarded.host.replace(host.into());
                if disagree(earlier, forwarded.host.clone()) {
                    return Err(ForwardedRefusal::HostConflict);
                }
            }
            16 if used.port && is(b"x-forwarded-port") => {
                let port = port(beside(value, place, addresses))?;
                if disagree(forwarded.server_port.replace(port), Some(port)) {
                    return Err(ForwardedRefusal::ValueConflict);
                }
            }
            18 if used.prefix && is(b"x-forwarded-prefix") => {
                let prefix = prefix(beside(value, 0, 0))?;
                let earlier = forwarded.prefix.replace(prefix);
                if disagree(earlier, forwarded.prefix.clone()) {
                    return Err(ForwardedRefusal::ValueConflict);
                }
            }
            _ => {}
        }
    }
    forwarded.prefix = forwarded.prefix.filter(|prefix| !prefix.is_empty());
    Ok(forwarded)
}

/// Whether the field `name` is one of these and counts.
pub(super) fn is_used(policy: &Policy, name: &[u8]) -> bool {
    let used = policy.used;
    let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
    let schemes = || policy.scheme_headers.iter().any(|header| is(header.name.as_bytes()));
    used.client && is(policy.client_field.unwrap_or(b"x-forwarded-for"))
        || used.scheme && schemes()
        || used.host && is(b"x-forwarded-host")
        || used.port && is(b"x-forwarded-port")
        || used.prefix && is(b"x-forwarded-prefix")
}

/// An address, and its port where that was said.
type NamedClient = Option<(std::net::IpAddr, Option<u16>)>;

/// The client's address, its place in X-Forwarded-For counted from the right, and the number of entries there.
fn read_client(policy: &Policy, fields: &ForwardedFields<'_>) -> (NamedClient, usize, usize) {
    let values = |wanted: &'static [u8]| {
        fields.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
    };
    if let Some(field) = policy.client_field {
        let mut values = values(field);
        let client = match (values.next().map(Hop::read), values.next()) {
            (Some(Hop::Address(address, port)), None) => Some((address, port)),
            _ => None,
        };
        return (client, 0, 0);
    }
    let lines: Vec<&[u8]> = values(b"x-forwarded-for").collect();
    let entries = || {
        let lines = lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
        lines.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
    };
    let (client, place) = policy.walk(entries().skip(policy.own_entries).map(Hop::read));
    (client, place + policy.own_entries, entries().count())
}

fn port(digits: &[u8]) -> Result<u16, ForwardedRefusal> {
    let digits = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let port = digits.and_then(|digits| digits.parse().ok()).filter(|port| *port != 0);
    port.ok_or(ForwardedRefusal::Malformed)
}
