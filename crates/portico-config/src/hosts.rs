//! Which hosts requests may be for (`--allowed-hosts`).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::ParseError;

/// The hosts that are served. None are named by default: then all are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    hosts: Vec<AllowedHost>,
    /// `*` is among them.
    any: bool,
}

/// One of the hosts that requests may be for, with its port if that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AllowedHost {
    host: HostPattern,
    /// `None` for any.
    port: Option<u16>,
}

/// The names of hosts that one entry of `--allowed-hosts` covers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    /// `example.com`; in lower case, as the others.
    Name(String),
    /// `*.example.com`: all names below it.
    Below(String),
    /// `.example.com`: it and all names below it.
    Domain(String),
    /// `10.0.0.5`, `10.0.0.0/8`, `[::1]`
    Network(IpNet),
}

/// Longest name in the DNS, written out (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

impl AllowedHosts {
    /// Reads the words of `--allowed-hosts`.
    ///
    /// # Errors
    /// What is wrong with one of them and what to write instead.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, ParseError> {
        let mut allowed = Self::default();
        for word in words.iter().filter(|word| !word.is_empty()) {
            match *word {
                "*" => allowed.any = true,
                word => allowed.hosts.push(AllowedHost::parse(word)?),
            }
        }
        Ok(allowed)
    }

    /// Whether some hosts are not served.
    pub fn is_limited(&self) -> bool {
        !self.any && !self.hosts.is_empty()
    }

    /// Whether requests for `authority`, a host with or without a port, are served. `usual_port` is the one that
    /// it means without.
    pub fn allows(&self, authority: &[u8], usual_port: u16) -> bool {
        if !self.is_limited() {
            return true;
        }
        let Some((host, port)) = split(authority) else { return false };
        let port = port.unwrap_or(usual_port);
        let address = address(host);
        self.hosts.iter().any(|allowed| {
            allowed.port.is_none_or(|allowed| allowed == port) && allowed.host.is(host, address)
        })
    }

    /// A host that is served, where not all are: what asks the server itself can ask for it.
    pub fn example(&self) -> Option<String> {
        let AllowedHost { host, port } = self.hosts.first().filter(|_| self.is_limited())?;
        let host = match host {
            HostPattern::Name(name) | HostPattern::Domain(name) => name.clone(),
            HostPattern::Below(name) => format!("portico.{name}"),
            HostPattern::Network(network) => match network.addr() {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            },
        };
        Some(port.map_or(host.clone(), |port| format!("{host}:{port}")))
    }
}

impl AllowedHost {
    fn parse(word: &str) -> Result<Self, ParseError> {
        if let Ok(network) = word.parse::<IpNet>() {
            return Ok(Self { host: HostPattern::Network(network), port: None });
        }
        // An IPv6 address without brackets has no port.
        if let Ok(address) = word.parse::<IpAddr>() {
            return Ok(Self { host: HostPattern::Network(address.to_canonical().into()), port: None });
        }
        let wrong = || {
            format!(
                "{word:?} is no host; write names, such as example.com, .example.com with all below it or \
                 *.example.com, or addresses, such as 10.0.0.5, 10.0.0.0/8 or [::1]; a port may follow"
            )
        };
        if !word.is_ascii() {
            return Err(format!("{word:?} is not ASCII; write it as browsers send it, xn--...").into());
        }
        let (host, port) = split(word.as_bytes()).ok_or_else(wrong)?;
        if let Some(address) = address(host) {
            return Ok(Self { host: HostPattern::Network(address.into()), port });
        }
        let host = str::from_utf8(host).map_err(|_| wrong())?.to_ascii_lowercase();
        let (kind, name): (fn(String) -> HostPattern, _) = match host.as_bytes() {
            [b'*', b'.', ..] => (HostPattern::Below, &host[2..]),
            [b'.', ..] => (HostPattern::Domain, &host[1..]),
            _ => (HostPattern::Name, &*host),
        };
        let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_label_byte);
        if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
            return Err(wrong().into());
        }
        Ok(Self { host: kind(name.to_owned()), port })
    }
}

impl HostPattern {
    fn is(&self, host: &[u8], address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Network(network), Some(address)) => network.contains(&address),
            (Self::Network(_), None) | (_, Some(_)) => false,
            (Self::Name(name), None) => host.eq_ignore_ascii_case(name.as_bytes()),
            (Self::Below(name), None) => is_below(host, name),
            (Self::Domain(name), None) => host.eq_ignore_ascii_case(name.as_bytes()) || is_below(host, name),
        }
    }
}

/// Whether `host` is a name below `name`.
fn is_below(host: &[u8], name: &str) -> bool {
    let Some(at) = host.len().checked_sub(name.len()).filter(|at| *at > 1) else { return false };
    host[at - 1] == b'.' && host[at..].eq_ignore_ascii_case(name.as_bytes())
}

/// A host, without the dot at the end of a name that is written in full, and its port if it has one; `None` where
/// it is neither `host`, `host:port` nor `[address]:port`.
fn split(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let end = match authority.first()? {
        b'[' => authority.iter().position(|byte| *byte == b']')? + 1,
        _ => authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end);
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            Some(str::from_utf8(digits).ok()?.parse().ok()?)
        }
        _ => return None,
    };
    Some((host.strip_suffix(b".").unwrap_or(host), port))
}

fn address(host: &[u8]) -> Option<IpAddr> {
    let host = str::from_utf8(host).ok()?;
    match host.strip_prefix('[') {
        Some(rest) => {
            // A zone says how a client reaches the address, not which one it is.
            let address: Ipv6Addr = rest.strip_suffix(']')?.split('%').next()?.parse().ok()?;
            Some(IpAddr::V6(address).to_canonical())
        }
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(words: &[&str], authority: &str) -> bool {
        AllowedHosts::parse(words).unwrap().allows(authority.as_bytes(), 80)
    }

    #[test]
    fn names_are_compared_without_regard_to_case_to_ports_and_to_a_dot_at_the_end() {
        for authority in ["example.com", "EXAMPLE.com", "example.com.", "example.com:8000", "example.com.:80"]
        {
            for word in ["example.com", "Example.COM", "example.com."] {
                assert!(allows(&[word], authority), "{word} {authority}");
            }
        }
        for authority in [
            "",
            ".",
            "example.org",
            "a.example.com",
            "example.com..",
            "xexample.com",
            "example.com.evil",
            "com",
        ] {
            assert!(!allows(&["example.com"], authority), "{authority}");
        }
    }

    #[test]
    fn a_dot_or_a_star_stands_for_all_names_below() {
        for (authority, domain, below) in [
            ("example.com", true, false),
            ("a.example.com", true, true),
            ("a.b.EXAMPLE.com.:1", true, true),
            (".example.com", false, false),
            ("aexample.com", false, false),
            ("example.com.evil.org", false, false),
        ] {
            assert_eq!(allows(&[".example.com"], authority), domain, "{authority}");
            assert_eq!(allows(&["*.example.com"], authority), below, "{authority}");
        }
    }

    #[test]
    fn addresses_are_compared_as_such() {
        for (word, authority, expected) in [
            ("10.0.0.5", "10.0.0.5:8000", true),
            ("10.0.0.5", "10.0.0.50", false),
            ("10.0.0.5", "10.0.0.05", false),
            ("10.0.0.5", "[::ffff:10.0.0.5]", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("[::1]", "[0:0::1]:80", true),
            ("::1", "[::1]", true),
            ("[fe80::1]", "[fe80::1%25eth0]:80", true),
            ("[fe80::1]", "[fe80::1%eth0]", true),
            ("[fe80::2]", "[fe80::1%eth0]", false),
            ("::1", "::1", false),
            ("[::1]:8000", "[::1]", false),
            ("2001:db8::/32", "[2001:db8::5]", true),
            ("2001:db8::/32", "[2001:db9::5]", false),
            (".0.0.5", "10.0.0.5", false),
        ] {
            assert_eq!(allows(&[word], authority), expected, "{word} {authority}");
        }
    }

    #[test]
    fn a_port_has_to_be_the_one_that_is_written() {
        for (authority, expected) in [("a:8000", true), ("a:80", false), ("a", false), ("a:", false)] {
            assert_eq!(allows(&["a:8000"], authority), expected, "{authority}");
        }
        let https = AllowedHosts::parse(&["a:443"]).unwrap();
        assert!(https.allows(b"a", 443) && https.allows(b"A.:443", 80) && !https.allows(b"a", 80));
    }

    #[test]
    fn what_is_malformed_is_no_host() {
        for authority in ["a:b", "a:-1", "a:99999", "a:1:2", "[::1", "[::1]x", "u@a", "a b", "a/", "a\0"] {
            assert!(!allows(&["a", "::1"], authority), "{authority:?}");
        }
        for word in
            ["a b", "http://a", "a/b", "*", "a.*", "*a", ".", "*.", "a..b", "a:b", "a:99999", "[::1", "b@a"]
        {
            assert_eq!(AllowedHosts::parse(&[word]).is_ok(), word == "*", "{word}");
        }
        assert!(AllowedHosts::parse(&["müller.de"]).unwrap_err().to_string().contains("xn--"));
        assert!(AllowedHosts::parse(&["a".repeat(254).as_str()]).is_err());
    }

    #[test]
    fn none_and_a_star_limit_nothing() {
        for words in [&[][..], &[""], &["a", "*"]] {
            assert!(allows(words, "evil") && allows(words, ""), "{words:?}");
            assert_eq!(AllowedHosts::parse(words).unwrap().example(), None);
        }
    }

    #[test]
    fn an_example_is_allowed() {
        for word in ["a", ".a.b", "*.a.b", "10.0.0.0/8", "[::1]:8000", "a:1"] {
            let allowed = AllowedHosts::parse(&[word]).unwrap();
            assert!(allowed.allows(allowed.example().unwrap().as_bytes(), 80), "{word}");
        }
    }
}
