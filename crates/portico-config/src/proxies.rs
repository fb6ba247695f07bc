//! Proxies in front: which peers are believed when they speak for another, and what of their words.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::ParseError;

/// Peers whose fields about the client are believed (`--forwarded-allow-ips`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeers {
    /// `*`: whoever connects. It is no word about addresses further off, which anybody can write into a field.
    pub anybody: bool,
    /// Peers on UNIX sockets.
    pub unix: bool,
    /// Addresses, as networks.
    pub networks: Vec<IpNet>,
}

/// Addresses that no router of the internet leads to: loopback, private use (RFC 1918, RFC 4193), shared by a
/// provider (RFC 6598), link-local.
const PRIVATE_V4: [([u8; 4], u8); 6] = [
    ([127, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    ([100, 64, 0, 0], 10),
    ([169, 254, 0, 0], 16),
];
const PRIVATE_V6: [(u16, u16, u8); 3] = [(0, 1, 128), (0xfc00, 0, 7), (0xfe80, 0, 10)];

impl TrustedPeers {
    /// Reads the words of `--forwarded-allow-ips`.
    ///
    /// # Errors
    /// What is wrong with one of them and what to write instead.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, ParseError> {
        // gunicorn's reading, which people's configurations rely on: a UNIX socket has permissions.
        let mut peers = Self { unix: true, ..Self::default() };
        for word in words {
            match *word {
                "" | "unix" => {}
                "*" => peers.anybody = true,
                "private" => peers.networks.extend(private()),
                "none" if words.len() == 1 => peers.unix = false,
                "none" => return Err("\"none\" stands beside others; write it alone".to_owned().into()),
                word => peers.networks.push(network(word)?),
            }
        }
        Ok(peers)
    }

    /// Whether the peer at `address`, on a UNIX socket where that is `None`, is believed.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        address.map_or(self.unix, |address| self.anybody || self.names(address))
    }

    /// Whether `address` is named; not whether it is because everybody is.
    pub fn names(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

fn network(word: &str) -> Result<IpNet, ParseError> {
    word.parse::<IpNet>()
        .or_else(|_| word.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| address.to_canonical().into()))
        .map_err(|_| {
            format!(
                "{word:?} is no address; write addresses or networks, such as 10.0.0.5 or 10.0.0.0/8, or private, \
                 unix, none, *"
            )
            .into()
        })
}

fn private() -> impl Iterator<Item = IpNet> {
    let v4 = PRIVATE_V4.into_iter().filter_map(|(octets, length)| Ipv4Net::new(octets.into(), length).ok());
    let v6 = PRIVATE_V6.into_iter().filter_map(|(first, last, length)| {
        Ipv6Net::new([first, 0, 0, 0, 0, 0, 0, last].into(), length).ok()
    });
    v4.map(IpNet::V4).chain(v6.map(IpNet::V6))
}

/// The fields of a believed proxy that are used (`--forwarded-headers`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardedHeaders {
    /// `for`: X-Forwarded-For, and `for` of Forwarded.
    pub client: bool,
    /// `proto`: `--secure-scheme-headers`, and `proto` of Forwarded.
    pub scheme: bool,
    /// `host`: X-Forwarded-Host, and `host` of Forwarded.
    pub host: bool,
    /// `port`: X-Forwarded-Port.
    pub port: bool,
    /// `prefix`: X-Forwarded-Prefix.
    pub prefix: bool,
    /// `forwarded`: Forwarded itself (RFC 7239).
    pub forwarded: bool,
}

impl ForwardedHeaders {
    /// Reads the words of `--forwarded-headers`.
    ///
    /// # Errors
    /// One is not known.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, ParseError> {
        let mut headers = Self::default();
        for word in words {
            match word.to_ascii_lowercase().as_str() {
                "for" => headers.client = true,
                "proto" => headers.scheme = true,
                "host" => headers.host = true,
                "port" => headers.port = true,
                "prefix" => headers.prefix = true,
                "forwarded" => headers.forwarded = true,
                "none" if words.len() == 1 => {}
                _ => {
                    return Err(format!(
                        "{word:?} is not known; write some of for, proto, host, port, prefix, forwarded, or none"
                    ).into());
                }
            }
        }
        Ok(headers)
    }
}

/// A field by which a proxy says that its client speaks TLS (`--secure-scheme-headers`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemeHeader {
    /// Its name, in lower case.
    pub name: String,
    /// The value that means `https`.
    pub value: String,
}

impl SchemeHeader {
    /// Reads the pairs of `--secure-scheme-headers`.
    ///
    /// # Errors
    /// One is no `NAME=VALUE`.
    pub(crate) fn parse(pairs: &[&str]) -> Result<Vec<Self>, ParseError> {
        let parse = |pair: &&str| {
            let (name, value) = pair.split_once('=').filter(|(name, _)| is_field_name(name.trim()))?;
            Some(Self { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned() })
        };
        if pairs == ["none"] {
            return Ok(Vec::new());
        }
        pairs
            .iter()
            .map(|pair| {
                parse(pair).ok_or_else(|| {
                    format!("{pair:?} is no pair; write NAME=VALUE, such as X-Forwarded-Proto=https, or none")
                        .into()
                })
            })
            .collect()
    }
}

/// The treatment of fields whose names have underscores (`--header-map`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMap {
    /// They are left out.
    #[default]
    Drop,
    /// Their requests are refused.
    Refuse,
    /// They are joined with the fields that have hyphens in their place.
    Dangerous,
}

/// Whom `103 Early Hints` are sent to (`--early-hints`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyHints {
    /// Clients, but not proxies that tell of theirs.
    #[default]
    Direct,
    /// Proxies too.
    Always,
    /// Nobody.
    Never,
}

/// The versions of the PROXY protocol that trusted peers have to begin with (`--proxy-protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None.
    #[default]
    Off,
    /// Text.
    V1,
    /// Binary.
    V2,
    /// Either.
    Auto,
}

/// The proxy or balancer that stands in front (`--behind`), whose ways other settings follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Behind {
    Alb,
    Gclb,
    Heroku,
    Nginx,
    Cloudflare,
}

impl Behind {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Alb => "alb",
            Self::Gclb => "gclb",
            Self::Heroku => "heroku",
            Self::Nginx => "nginx",
            Self::Cloudflare => "cloudflare",
        }
    }

    /// What it is by that word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        [Self::Alb, Self::Gclb, Self::Heroku, Self::Nginx, Self::Cloudflare]
            .into_iter()
            .find(|behind| behind.word().eq_ignore_ascii_case(word))
    }
}

/// Whether `text` is a token (RFC 9110, section 5.6.2), as names of fields are.
pub(crate) fn is_field_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str], address: &str) -> bool {
        TrustedPeers::parse(words).unwrap().names(address.parse().unwrap())
    }

    #[test]
    fn addresses_and_networks() {
        assert!(names(&["10.1.2.3"], "10.1.2.3") && !names(&["10.1.2.3"], "10.1.2.4"));
        assert!(names(&["10.0.0.9/8"], "10.255.0.1") && !names(&["10.0.0.0/8"], "11.0.0.1"));
        assert!(names(&["2001:db8::/32", "::1"], "2001:db8::7") && names(&["[::1]"], "::1"));
        assert!(names(&["::ffff:10.1.2.3"], "10.1.2.3"));
        assert!(names(&["0.0.0.0/0"], "203.0.113.9") && !names(&["0.0.0.0/0"], "2001:db8::1"));
        for word in ["10.0.0", "10.0.0.0/33", "localhost", "fe80::1%eth0", "privat", "10.0.0.1-9"] {
            assert!(TrustedPeers::parse(&[word]).unwrap_err().to_string().contains("no address"), "{word}");
        }
    }

    #[test]
    fn private_is_what_the_internet_does_not_lead_to() {
        for inside in [
            "127.0.0.2",
            "10.0.0.1",
            "172.31.9.9",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.9.9",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(names(&["private"], inside), "{inside}");
        }
        for outside in ["172.32.0.1", "100.128.0.1", "8.8.8.8", "2001:db8::1", "192.169.0.1", "::2"] {
            assert!(!names(&["private"], outside), "{outside}");
        }
    }

    #[test]
    fn a_peer_is_admitted_by_name_by_socket_or_with_everybody() {
        for (words, named, other, unix) in [
            (&["10.0.0.0/8"][..], true, false, true),
            (&["*"], true, true, true),
            (&["none"], false, false, false),
            (&["unix"], false, false, true),
        ] {
            let peers = TrustedPeers::parse(words).unwrap();
            assert_eq!(peers.admits(Some([10, 0, 0, 1].into())), named, "{words:?}");
            assert_eq!(peers.admits(Some([192, 0, 2, 1].into())), other, "{words:?}");
            assert_eq!(peers.admits(None), unix, "{words:?}");
        }
    }

    #[test]
    fn everybody_is_nobody_by_name() {
        let peers = TrustedPeers::parse(&["*", "10.0.0.1"]).unwrap();
        assert!(peers.anybody && peers.unix && peers.names([10, 0, 0, 1].into()));
        assert!(!peers.names([10, 0, 0, 2].into()));
        assert_eq!(TrustedPeers::parse(&["none"]).unwrap(), TrustedPeers::default());
        assert!(TrustedPeers::parse(&["unix"]).unwrap().unix);
        assert!(TrustedPeers::parse(&["none", "unix"]).is_err());
    }
}
