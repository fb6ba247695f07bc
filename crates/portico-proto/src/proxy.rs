//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): what a load balancer says of its client
//! before anything else.
//!
//! ```text
//! v1 = "PROXY" SP ( ( "TCP4" / "TCP6" ) SP address SP address SP port SP port / "UNKNOWN" *VCHAR ) CRLF
//! v2 = signature version-command family length *OCTET
//! ```
//!
//! The crate ppp (2.3) does not do: it takes a port with a sign, refuses words behind UNKNOWN, which section 2.1
//! has receivers ignore, and LOCAL with a family that it does not know (section 2.2), bounds no length below
//! 64 KiB and compares no checksum. Most of this file would remain around it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The versions of the PROXY protocol that a listener takes. A header in another one is refused, and is never read
/// as a part of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersions {
    /// Text alone.
    V1,
    /// Binary alone.
    V2,
    /// Both.
    Auto,
}

/// A header that was read whole: its length, behind which the client's own bytes begin, and the client. Whoever
/// reads the connection drops these bytes before any protocol sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its bytes, behind which the client's begin.
    pub length: usize,
    /// Whose bytes those are.
    pub client: ProxyClient,
}

/// The client that a header names. It counts only where the peer may speak for others; that is decided above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyClient {
    /// The balancer speaks for itself, as to see whether the server is there (LOCAL).
    Balancer,
    /// A client of which it tells nothing that is known here.
    Unknown,
    /// Who has connected to whom.
    Known(ProxyAddresses),
}

/// The two ends of the client's connection to the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it has connected to.
    pub destination: SocketAddr,
}

/// The reason for which bytes are no header. Whoever sends them is to be cut off: nothing that follows can be read
/// for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// It has been changed on its way: its checksum is another.
    Checksum,
    /// They begin with none of the versions that are taken.
    Missing,
    /// What follows the beginning is not as it must be.
    Malformed,
    /// It is longer than any balancer's.
    TooLong,
}

/// The longest header of version 1, its line's end included (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// The longest header of version 2 that is taken: addresses and what goes with them (TLVs), such as the names in a
/// certificate.
const V2_BYTES_MAX: usize = 4096;

const V1: &[u8] = b"PROXY ";

const V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// What goes with the addresses begins with its type and its length (section 2.2).
const TLV_HEAD_BYTES: usize = 3;

/// The checksum of the whole header, its own four bytes taken as zeros (PP2_TYPE_CRC32C, section 2.2.3).
const TLV_CHECKSUM: u8 = 3;

impl ProxyHeader {
    /// Most bytes that a header has.
    pub const BYTES_MAX: usize = V2_BYTES_MAX;

    /// The header that `bytes` begin with; `None` as long as they may become one.
    ///
    /// # Errors
    /// They cannot.
    pub fn parse(bytes: &[u8], versions: ProxyVersions) -> Result<Option<Self>, ProxyError> {
        let takes = |version| versions == ProxyVersions::Auto || versions == version;
        let begins = |signature: &[u8]| {
            let count = bytes.len().min(signature.len());
            bytes[..count] == signature[..count]
        };
        if takes(ProxyVersions::V2) && begins(&V2) {
            return if bytes.len() < V2_FIXED_BYTES { Ok(None) } else { v2(bytes) };
        }
        if takes(ProxyVersions::V1) && begins(V1) {
            return v1(bytes);
        }
        Err(ProxyError::Missing)
    }
}

fn v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let head = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return if head.len() < V1_BYTES_MAX { Ok(None) } else { Err(ProxyError::TooLong) };
    };
    let line = head[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(V1));
    let line = line.and_then(|line| str::from_utf8(line).ok()).ok_or(ProxyError::Malformed)?;
    let length = end + 1;
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words[..] {
        // What follows it is to be passed over.
        ["UNKNOWN", ..] => ProxyClient::Unknown,
        [family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let end = |address: &str, port: &str| {
                let address: IpAddr = address.parse().map_err(|_| ProxyError::Malformed)?;
                let is_of_family = address.is_ipv4() == (family == "TCP4");
                let port = port_of(port).filter(|_| is_of_family).ok_or(ProxyError::Malformed)?;
                Ok(SocketAddr::new(address.to_canonical(), port))
            };
            let (source, destination) = (end(source, from)?, end(destination, to)?);
            ProxyClient::Known(ProxyAddresses { source, destination })
        }
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some(ProxyHeader { length, client }))
}

/// Decimal, without sign and leading zeros.
fn port_of(text: &str) -> Option<u16> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse().ok().filter(|_| plain)
}

fn v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let [command, family, high, low] = bytes[V2.len()..V2_FIXED_BYTES] else {
        return Err(ProxyError::Malformed);
    };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Err(ProxyError::Malformed);
    }
    if length > V2_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let content = &header[V2_FIXED_BYTES..];
    // LOCAL has all of it passed over.
    if command & 0xF != 0 {
        check_tlvs(header, V2_FIXED_BYTES + addresses_bytes(family))?;
    }
    let client = match (command & 0xF, family) {
        // LOCAL: whatever family it has.
        (0, _) => ProxyClient::Balancer,
        (1, 0x11) => ProxyClient::Known(ends::<4>(content).ok_or(ProxyError::Malformed)?),
        (1, 0x21) => ProxyClient::Known(ends::<16>(content).ok_or(ProxyError::Malformed)?),
        // Unspecified, UNIX sockets, datagrams: the address is to be passed over (section 2.2).
        (1, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => ProxyClient::Unknown,
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some(ProxyHeader { length, client }))
}

/// Bytes of the addresses of this family, behind which stands what goes with them. For those of no family that is
/// not known.
fn addresses_bytes(family: u8) -> usize {
    match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => V2_BYTES_MAX,
    }
}

/// Goes over what stands in `header` from `at` on, and compares its checksum if it has one.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), ProxyError> {
    while at < header.len() {
        let (tlv, value) = (&header[at..], at + TLV_HEAD_BYTES);
        let Some(&[kind, high, low]) = tlv.first_chunk::<TLV_HEAD_BYTES>() else {
            return Err(ProxyError::Malformed);
        };
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(value..at).ok_or(ProxyError::Malformed)?;
        if kind == TLV_CHECKSUM {
            let told = value.try_into().map(u32::from_be_bytes).map_err(|_| ProxyError::Malformed)?;
            let summed = crc32c::crc32c(&header[..at - value.len()]);
            let summed = crc32c::crc32c_append(summed, &[0; 4]);
            if crc32c::crc32c_append(summed, &header[at..]) != told {
                return Err(ProxyError::Checksum);
            }
        }
    }
    Ok(())
}

/// Two addresses of `N` bytes and two ports.
fn ends<const N: usize>(content: &[u8]) -> Option<ProxyAddresses> {
    let (source, rest) = content.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let ports = rest.first_chunk::<4>()?;
    Some(ProxyAddresses {
        source: SocketAddr::new(address(source)?, u16::from_be_bytes([ports[0], ports[1]])),
        destination: SocketAddr::new(address(destination)?, u16::from_be_bytes([ports[2], ports[3]])),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
        let whole = ProxyHeader::parse(bytes, ProxyVersions::Auto);
        // As far as it goes it is never something else.
        let end = whole.ok().flatten().map_or(bytes.len(), |header| header.length);
        for count in 0..end.min(bytes.len()) {
            let part = ProxyHeader::parse(&bytes[..count], ProxyVersions::Auto);
            assert!(part == Ok(None) || (part == whole && whole.is_err()), "{count}: {part:?}");
        }
        whole
    }

    /// Source and destination of a header behind which the client's bytes follow.
    fn ends(header: &[u8]) -> Option<(String, String)> {
        match client(header) {
            ProxyClient::Known(it) => Some((it.source.to_string(), it.destination.to_string())),
            ProxyClient::Balancer | ProxyClient::Unknown => None,
        }
    }

    fn client(header: &[u8]) -> ProxyClient {
        let parsed = parse(&[header, b"GET / HTTP/1.1\r\n"].concat()).unwrap().unwrap();
        assert_eq!(parsed.length, header.len());
        parsed.client
    }

    fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        [&V2[..], &[command, family], &(content.len() as u16).to_be_bytes(), content].concat()
    }

    #[test]
    fn text_tells_both_ends() {
        let told = |source: &str, destination: &str| Some((source.to_owned(), destination.to_owned()));
        assert_eq!(
            ends(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
            told("192.0.2.1:56324", "198.51.100.2:443")
        );
        assert_eq!(ends(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), told("[2001:db8::1]:0", "[::1]:65535"));
        assert_eq!(
            ends(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"),
            told("192.0.2.1:1", "[::1]:2"),
            "as the same client is told of without a proxy"
        );
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), ProxyClient::Unknown);
        assert_eq!(ends(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), None);
    }

    #[test]
    fn text_that_is_not_as_it_must_be_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +6324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 056 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
            "PROXY TCP4 host 198.51.100.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY \r\n",
            "PROXY \n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(ProxyError::Malformed), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
        assert_eq!(parse(long.as_bytes()), Err(ProxyError::TooLong));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
        assert_eq!(ends(longest.as_bytes()), None);
    }

    #[test]
    fn binary_tells_both_ends_whatever_goes_with_them() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 4, 1, 0xBB];
        let expected = Some(("192.0.2.1:56324".to_owned(), "198.51.100.2:443".to_owned()));
        assert_eq!(ends(&binary(0x21, 0x11, &four)), expected);
        assert_eq!(ends(&binary(0x21, 0x11, &[&four[..], &[4, 0, 1, 9]].concat())), expected);
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 3, 4);
        assert_eq!(ends(&binary(0x21, 0x21, &six)), Some(("[::1]:3".to_owned(), "[::2]:4".to_owned())));
    }

    /// A header with this behind its addresses, in which a checksum of zeros is put right and then changed by
    /// `wrong`.
    fn summed(tlvs: &[u8], wrong: u8) -> Vec<u8> {
        let mut header = binary(0x21, 0x11, &[&[7; 12], tlvs].concat());
        let at =
            V2_FIXED_BYTES + 12 + tlvs.windows(7).position(|tlv| tlv == [3, 0, 4, 0, 0, 0, 0]).unwrap() + 3;
        let sum = crc32c::crc32c(&header);
        header[at..at + 4].copy_from_slice(&(sum ^ u32::from(wrong)).to_be_bytes());
        header
    }

    #[test]
    fn a_checksum_is_held_against_the_whole_header() {
        for tlvs in [&[3, 0, 4, 0, 0, 0, 0][..], &[4, 0, 1, 9, 3, 0, 4, 0, 0, 0, 0, 2, 0, 2, b'a', b'b']] {
            assert!(ends(&summed(tlvs, 0)).is_some());
            assert_eq!(ProxyHeader::parse(&summed(tlvs, 1), ProxyVersions::V2), Err(ProxyError::Checksum));
            for at in V2_FIXED_BYTES..V2_FIXED_BYTES + 12 {
                let mut changed = summed(tlvs, 0);
                changed[at] ^= 0x80;
                assert_eq!(
                    ProxyHeader::parse(&changed, ProxyVersions::V2),
                    Err(ProxyError::Checksum),
                    "{at}"
                );
            }
        }
        let twice = [[3, 0, 4, 0, 0, 0, 0], [3, 0, 4, 0, 0, 0, 0]].concat();
        assert_eq!(ProxyHeader::parse(&summed(&twice, 0), ProxyVersions::V2), Err(ProxyError::Checksum));
        let local = binary(0x20, 0x11, &[&[7; 12][..], &[3, 0, 4, 1, 2, 3, 4]].concat());
        assert_eq!(client(&local), ProxyClient::Balancer, "all of it is passed over");
    }

    #[test]
    fn what_goes_with_the_addresses_is_whole_or_refused() {
        for tlvs in [&[4][..], &[4, 0], &[4, 0, 2, 1], &[4, 0, 0, 9], &[3, 0, 3, 1, 2, 3], &[3, 0, 0]] {
            let header = binary(0x21, 0x11, &[&[7; 12], tlvs].concat());
            let parsed = ProxyHeader::parse(&header, ProxyVersions::V2);
            assert_eq!(parsed, Err(ProxyError::Malformed), "{tlvs:?}");
        }
    }

    #[test]
    fn a_balancer_that_speaks_for_itself_or_cannot_tell_says_nothing_of_a_client() {
        for (command, family, content) in [
            (0x20, 0x00, &[][..]),
            (0x20, 0x11, &[1; 12]),
            (0x20, 0xFF, &[1; 3]),
            (0x21, 0x00, &[7; 5]),
            (0x21, 0x31, &[0; 216]),
            (0x21, 0x12, &[0; 12]),
        ] {
            let expected = if command == 0x20 { ProxyClient::Balancer } else { ProxyClient::Unknown };
            assert_eq!(client(&binary(command, family, content)), expected);
        }
    }

    #[test]
    fn binary_that_is_not_as_it_must_be_is_refused() {
        for (command, family, content) in [
            (0x11, 0x11, &[0; 12][..]),
            (0x22, 0x11, &[0; 12]),
            (0x21, 0x11, &[0; 11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x41, &[0; 36]),
            (0x21, 0x13, &[0; 12]),
        ] {
            let bytes = binary(command, family, content);
            assert_eq!(ProxyHeader::parse(&bytes, ProxyVersions::Auto), Err(ProxyError::Malformed));
        }
        let content = vec![0; V2_BYTES_MAX - V2_FIXED_BYTES];
        assert_eq!(ends(&binary(0x20, 0, &content)), None);
        let bytes = binary(0x20, 0, &vec![0; content.len() + 1]);
        assert_eq!(ProxyHeader::parse(&bytes, ProxyVersions::Auto), Err(ProxyError::TooLong));
    }

    #[test]
    fn a_version_that_is_not_taken_is_none() {
        let (one, two) = (b"PROXY UNKNOWN\r\n".to_vec(), binary(0x20, 0, &[]));
        for (bytes, versions, taken) in [
            (&one, ProxyVersions::V1, true),
            (&one, ProxyVersions::V2, false),
            (&two, ProxyVersions::V1, false),
            (&two, ProxyVersions::V2, true),
        ] {
            let parsed = ProxyHeader::parse(bytes, versions);
            assert_eq!(parsed.is_ok(), taken);
            assert_eq!(parsed.is_err(), parsed == Err(ProxyError::Missing));
        }
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"proxy ", b"\r\n\r\nX"] {
            assert_eq!(parse(bytes), Err(ProxyError::Missing));
        }
        assert_eq!(parse(b""), Ok(None));
    }
}
