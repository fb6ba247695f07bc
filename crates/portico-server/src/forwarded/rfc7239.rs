//! Forwarded (RFC 7239), read by the letter: what a proxy has malformed, or let through malformed, is refused.
//!
//! ```abnf
//! Forwarded         = 1#forwarded-element
//! forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
//! forwarded-pair    = token "=" ( token / quoted-string )
//! node              = nodename [ ":" node-port ]
//! nodename          = IPv4address / "[" IPv6address "]" / "unknown" / obfuscated
//! node-port         = 1*5DIGIT / obfuscated
//! obfuscated        = "_" 1*( ALPHA / DIGIT / "." / "_" / "-" )
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portico_proto::is_token;

use super::{Forwarded, ForwardedFields, ForwardedRefusal, Hop, Policy, Scheme};

/// The words of one proxy about the request that it got: an element of Forwarded.
#[derive(Debug, Default)]
struct Element {
    client: Option<Hop>,
    scheme: Option<Scheme>,
    host: Option<Vec<u8>>,
    /// Known parameters that have come, one bit each.
    seen: u8,
}

/// What the field says, of which there may be several lines.
pub(super) fn read(policy: &Policy, fields: &ForwardedFields<'_>) -> Result<Forwarded, ForwardedRefusal> {
    let mut elements = Vec::new();
    for (_, value) in fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"forwarded")) {
        parse(value, &mut elements)?;
    }
    let hops = elements.iter().rev().map(|element| element.client.unwrap_or(Hop::Unknown));
    let (client, place) = policy.walk(hops);
    let Some(element) = elements.into_iter().rev().nth(place) else { return Ok(Forwarded::default()) };
    let used = policy.used;
    let client = client.filter(|_| used.client);
    Ok(Forwarded {
        address: client.map(|(address, _)| address),
        port: client.and_then(|(_, port)| port),
        scheme: element.scheme.filter(|_| used.scheme),
        host: element.host.filter(|_| used.host).map(Into::into),
        ..Forwarded::default()
    })
}

/// Appends the elements of one field line.
fn parse(value: &[u8], elements: &mut Vec<Element>) -> Result<(), ForwardedRefusal> {
    let mut rest = value.trim_ascii_start();
    let mut element = None;
    loop {
        match rest {
            [] => {
                elements.extend(element);
                return Ok(());
            }
            // Empty elements of a list count for nothing (RFC 9110, section 5.6.1.2).
            [b',', after @ ..] => {
                elements.extend(element.take());
                rest = after.trim_ascii_start();
            }
            // White space behind it is not in the grammar, but in many a configuration, and harmless.
            [b';', after @ ..] => {
                element.get_or_insert_default();
                rest = after.trim_ascii_start();
            }
            _ => {
                rest = parse_pair(rest, element.get_or_insert_default())?.trim_ascii_start();
                if !matches!(rest.first(), None | Some(b',' | b';')) {
                    return Err(ForwardedRefusal::Malformed);
                }
            }
        }
    }
}

/// Reads the pair at the front of `text` into `element`; what is behind it.
fn parse_pair<'t>(text: &'t [u8], element: &mut Element) -> Result<&'t [u8], ForwardedRefusal> {
    let malformed = ForwardedRefusal::Malformed;
    let equals = text.iter().position(|&byte| byte == b'=').ok_or(malformed)?;
    let (name, text) = (&text[..equals], &text[equals + 1..]);
    if !is_token(name) {
        return Err(malformed);
    }
    let (value, rest) = match text {
        [b'"', quoted @ ..] => parse_quoted(quoted)?,
        _ => {
            let end = text.iter().position(|byte| b",; \t".contains(byte)).unwrap_or(text.len());
            if !is_token(&text[..end]) {
                return Err(malformed);
            }
            (text[..end].to_vec(), &text[end..])
        }
    };
    let bit = match &*name.to_ascii_lowercase() {
        b"for" => {
            element.client = Some(parse_node(&value)?);
            1
        }
        b"by" => {
            parse_node(&value)?;
            2
        }
        b"proto" => {
            element.scheme = Some(parse_scheme(&value)?);
            4
        }
        b"host" => {
            if !portico_proto::http1::is_authority(&value) {
                return Err(malformed);
            }
            element.host = Some(value);
            8
        }
        _ => 0,
    };
    // "Each parameter MUST NOT occur more than once per field-value" of one proxy (section 4).
    if element.seen & bit != 0 {
        return Err(malformed);
    }
    element.seen |= bit;
    Ok(rest)
}

/// Reads a quoted string whose opening mark has been read: what it says, and what is behind it.
fn parse_quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), ForwardedRefusal> {
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'"', after @ ..] => return Ok((value, after)),
            [b'\\', byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] | [b'\\'] => return Err(ForwardedRefusal::Malformed),
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
        }
    }
}

fn parse_scheme(value: &[u8]) -> Result<Scheme, ForwardedRefusal> {
    let is = |scheme: &[u8]| value.eq_ignore_ascii_case(scheme);
    let alphabetic = value.first().is_some_and(u8::is_ascii_alphabetic);
    let sound = alphabetic && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    match sound {
        true if is(b"https") || is(b"wss") => Ok(Scheme::Https),
        true => Ok(Scheme::Http),
        false => Err(ForwardedRefusal::Malformed),
    }
}

fn parse_node(value: &[u8]) -> Result<Hop, ForwardedRefusal> {
    let text = str::from_utf8(value).map_err(|_| ForwardedRefusal::Malformed)?;
    let (name, port) = match text.rfind(']') {
        Some(end) => {
            (&text[..=end], text[end + 1..].strip_prefix(':').or((end + 1 != text.len()).then_some("")))
        }
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let digits = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = match port {
        None => None,
        Some(port) if digits(port) => Some(port.parse::<u16>().map_err(|_| ForwardedRefusal::Malformed)?),
        Some(port) if is_obfuscated(port) => None,
        Some(_) => return Err(ForwardedRefusal::Malformed),
    };
    let address = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => IpAddr::V6(literal.parse::<Ipv6Addr>().map_err(|_| ForwardedRefusal::Malformed)?),
        None if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) => return Ok(Hop::Unknown),
        None => IpAddr::V4(name.parse::<Ipv4Addr>().map_err(|_| ForwardedRefusal::Malformed)?),
    };
    Ok(Hop::Address(address.to_canonical(), number))
}

fn is_obfuscated(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })
}
