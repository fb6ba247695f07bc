//! The host of a request in the form in which routes name hosts.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The host that a request is for: in lower case, without port and final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHost<'h>(Cow<'h, str>);

/// Why a Host is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Nothing, or a port alone.
    Empty,
    /// `user@host` (RFC 9110, section 4.2.4).
    UserInformation,
    /// Something that is in no name of a host, or an address that is none.
    Characters,
    /// A port that is no number up to 65535.
    Port,
}

impl<'h> RequestHost<'h> {
    /// Reads `authority`: Host, `:authority`, or that of an absolute target.
    ///
    /// # Errors
    /// It is refused.
    pub fn parse(authority: &'h [u8]) -> Result<Self, HostError> {
        if authority.contains(&b'@') {
            return Err(HostError::UserInformation);
        }
        let text = str::from_utf8(authority).map_err(|_| HostError::Characters)?;
        if let Some(literal) = text.strip_prefix('[') {
            let (address, port) = literal.split_once(']').ok_or(HostError::Characters)?;
            check_port(port.strip_prefix(':').unwrap_or(port), port.is_empty() || port.starts_with(':'))?;
            // A zone means something to its client alone (RFC 6874, section 4).
            let address = address.split('%').next().unwrap_or_default();
            let address: Ipv6Addr = address.parse().map_err(|_| HostError::Characters)?;
            return Ok(Self(Cow::Owned(format!("[{address}]"))));
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port),
            None => (text, ""),
        };
        check_port(port, true)?;
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if !name.bytes().all(is_name_byte)
            || name.starts_with('.')
            || name.ends_with('.')
            || name.contains("..")
        {
            return Err(HostError::Characters);
        }
        Ok(Self(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        }))
    }

    /// Its name, or its address, an IPv6 one in brackets.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether it is an address, which is below no name.
    fn is_address(&self) -> bool {
        self.0.starts_with('[') || self.0.parse::<Ipv4Addr>().is_ok()
    }

    /// The names that it is below, the longest first: of `a.b.example` these are `b.example` and `example`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let start = (!self.is_address()).then_some(self.0.as_ref());
        std::iter::successors(start.and_then(parent_of), |name| parent_of(name))
    }

    /// Whether a certificate for `names` covers it: one of them is its name, or has `*` in place of its first
    /// label (RFC 9525, section 6.3).
    pub fn is_covered_by<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> bool {
        let parent = self.parents().next();
        names.into_iter().any(|name| {
            let name = name.strip_suffix('.').unwrap_or(name);
            match name.strip_prefix("*.") {
                Some(below) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(below)),
                None => {
                    let own = self.0.trim_start_matches('[').trim_end_matches(']');
                    own.eq_ignore_ascii_case(name)
                }
            }
        })
    }
}

fn parent_of(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

fn check_port(port: &str, is_separated: bool) -> Result<(), HostError> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_small = port.is_empty() || port.parse::<u32>().is_ok_and(|port| port <= u32::from(u16::MAX));
    if is_separated && is_number && is_small { Ok(()) } else { Err(HostError::Port) }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::UserInformation => "the host has user information before it",
            Self::Characters => "the host has characters that no host may have",
            Self::Port => "the port of the host is no number up to 65535",
        })
    }
}

impl std::error::Error for HostError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_in_the_form_of_routes() {
        for (sent, expected) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com:8000", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("example.com:", "example.com"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::0:1]:8000", "[::1]"),
            ("[FE80::1%25eth0]", "[fe80::1]"),
            ("a_b-c", "a_b-c"),
        ] {
            assert_eq!(RequestHost::parse(sent.as_bytes()).unwrap().name(), expected, "{sent}");
        }
    }

    #[test]
    fn hosts_that_are_refused() {
        for (sent, expected) in [
            ("", HostError::Empty),
            (":80", HostError::Empty),
            (".", HostError::Empty),
            ("evil:80@good", HostError::UserInformation),
            ("user@good", HostError::UserInformation),
            ("a b", HostError::Characters),
            ("a/b", HostError::Characters),
            ("a%2eb", HostError::Characters),
            ("a..b", HostError::Characters),
            ("a..", HostError::Characters),
            (".a", HostError::Characters),
            ("caf\u{e9}", HostError::Characters),
            ("[::1", HostError::Characters),
            ("[::g]", HostError::Characters),
            ("[::1]x", HostError::Port),
            ("::1", HostError::Port),
            ("a:65536", HostError::Port),
            ("a:+1", HostError::Port),
            ("a:99999999999", HostError::Port),
        ] {
            assert_eq!(RequestHost::parse(sent.as_bytes()), Err(expected), "{sent}");
            assert!(expected.to_string().contains("host"));
        }
    }

    #[test]
    fn names_above_a_host() {
        let parents = |host: &str| {
            let host = RequestHost::parse(host.as_bytes()).unwrap();
            host.parents().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(parents("a.b.example"), ["b.example", "example"]);
        assert_eq!(parents("example"), [""; 0]);
        assert_eq!(parents("10.0.0.1"), [""; 0]);
        assert_eq!(parents("[::1]"), [""; 0]);
    }

    #[test]
    fn certificates_cover_hosts_as_rfc_9525_says() {
        let covered = |host: &str, names: &[&str]| {
            RequestHost::parse(host.as_bytes()).unwrap().is_covered_by(names.iter().copied())
        };
        assert!(covered("a.example", &["b.example", "A.example"]));
        assert!(covered("x.a.example", &["*.a.example"]));
        assert!(covered("[::1]", &["::1"]));
        for (host, name) in
            [("a.example", "*.a.example"), ("y.x.a.example", "*.a.example"), ("10.0.0.1", "*.0.0.1")]
        {
            assert!(!covered(host, &[name]), "{host} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_host_is_read_once(sent in "[a-zA-Z0-9.:@\\[\\]%_-]{0,24}") {
            if let Ok(host) = RequestHost::parse(sent.as_bytes()) {
                let again = RequestHost::parse(host.name().as_bytes()).unwrap();
                prop_assert_eq!(again.name(), host.name());
            }
        }
    }
}
