//! Where to listen: the grammar of `--bind`, gunicorn's with a scheme before it and parameters behind it, what
//! comes of it, and the resolution of host names.
//!
//! ```text
//! bind    = [ scheme "://" ] address [ "?" "proxy=" ( "off" / "v1" / "v2" / "auto" ) ]
//! scheme  = "http" / "https" / "uwsgi" / "scgi" / "fastcgi" / "redirect"
//! address = [ "tcp://" ] tcp / "unix:" [ "//" ] path / "fd://" ( number / name )
//! tcp     = "" / host / [ host ] ":" port / "[" IPv6address "]" [ ":" port ]
//! ```
//! A missing port is 8000, whatever the scheme, and a missing host `0.0.0.0`. `systemd.rs` has replaced the
//! names of descriptors by numbers before.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use crate::error::ParseError;
use crate::proxies::ProxyProtocol;

/// An address to listen at and the protocol that is spoken there: one `--bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where.
    pub address: BindAddress,
    /// What clients speak, within TLS where that is spoken.
    pub protocol: WireProtocol,
    /// Whether they speak TLS.
    pub tls: bool,
    /// Whether the operator named a scheme. Where none is named, other settings decide on it.
    pub named: bool,
    /// Which versions of the PROXY protocol its trusted peers have to begin with; where it does not say,
    /// `--proxy-protocol` does.
    pub proxy: Option<ProxyProtocol>,
}

impl Bind {
    /// The scheme that asks for it.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { self.protocol.scheme() }
    }
}

impl From<BindAddress> for Bind {
    /// Plain HTTP, by no name.
    fn from(address: BindAddress) -> Self {
        Self { address, protocol: WireProtocol::Http, tls: false, named: false, proxy: None }
    }
}

/// The protocol that the clients of a listener speak, within TLS where that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireProtocol {
    /// HTTP.
    #[default]
    Http,
    /// uwsgi.
    Uwsgi,
    /// SCGI.
    Scgi,
    /// FastCGI.
    Fastcgi,
    /// HTTP; every request is told to come again by https.
    Redirect,
}

impl WireProtocol {
    /// Its scheme in `--bind`.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Uwsgi => "uwsgi",
            Self::Scgi => "scgi",
            Self::Fastcgi => "fastcgi",
            Self::Redirect => "redirect",
        }
    }
}

/// The address of a socket that listens: what `--bind` names, its host names looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// Addresses that one `host:port` resolved to, with the text it came from.
    Tcp {
        /// As the operator wrote it.
        text: String,
        /// At least one address.
        addresses: Vec<SocketAddr>,
    },
    /// `unix:PATH`
    Unix(PathBuf),
    /// `fd://N`: a listening socket that this process inherited.
    Fd(i32),
}

/// Below it are standard input, output and error.
pub(crate) const FIRST_INHERITED: i32 = 3;

const PORT_DEFAULT: u16 = 8000;

/// Bytes of a UNIX socket's path: Linux' `sockaddr_un.sun_path` has 108, the last of them NUL (unix(7)).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// Reads one bind address, looking its host name up.
///
/// # Errors
/// What is wrong with `text` and what to write instead; also when its host has no address.
pub(crate) fn bind(text: &str) -> Result<Bind, ParseError> {
    let (scheme, rest) = split_scheme(text);
    let (rest, parameters) = split_parameters(rest);
    let (protocol, tls) = match scheme {
        None => (WireProtocol::Http, false),
        Some("https") => (WireProtocol::Http, true),
        Some(scheme) => (PROTOCOLS.into_iter().find(|it| it.scheme() == scheme).unwrap_or_default(), false),
    };
    let proxy = parameters.map(|parameters| proxy(parameters, text)).transpose()?;
    Ok(Bind { address: address(rest, text)?, protocol, tls, named: scheme.is_some(), proxy })
}

/// The address that `rest`, what stands behind a scheme, begins with, and what stands behind its question mark.
pub(crate) fn split_parameters(rest: &str) -> (&str, Option<&str>) {
    rest.split_once('?').map_or((rest, None), |(address, parameters)| (address, Some(parameters)))
}

/// Reads `parameters` of the bind `text`; there is one.
fn proxy(parameters: &str, text: &str) -> Result<ProxyProtocol, ParseError> {
    match parameters {
        "proxy=off" => Ok(ProxyProtocol::Off),
        "proxy=v1" => Ok(ProxyProtocol::V1),
        "proxy=v2" => Ok(ProxyProtocol::V2),
        "proxy=auto" => Ok(ProxyProtocol::Auto),
        _ => Err(format!(
            "{text:?}: {parameters:?} is no parameter of a bind; behind the '?' write proxy=off, proxy=v1, \
             proxy=v2 or proxy=auto"
        )
        .into()),
    }
}

/// The scheme that `text` begins with, if it is one of those above, and the address behind it.
pub(crate) fn split_scheme(text: &str) -> (Option<&str>, &str) {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme == "https" || PROTOCOLS.iter().any(|it| it.scheme() == scheme) => {
            (Some(scheme), rest)
        }
        _ => (None, text),
    }
}

const PROTOCOLS: [WireProtocol; 5] = [
    WireProtocol::Http,
    WireProtocol::Uwsgi,
    WireProtocol::Scgi,
    WireProtocol::Fastcgi,
    WireProtocol::Redirect,
];

/// Reads `rest`, the address of the bind `text`.
fn address(rest: &str, text: &str) -> Result<BindAddress, ParseError> {
    if let Some(path) = rest.strip_prefix("unix:") {
        return unix(path.strip_prefix("//").unwrap_or(path), text);
    }
    if let Some(number) = rest.strip_prefix("fd://") {
        return number
            .parse()
            .ok()
            .filter(|fd: &i32| *fd >= FIRST_INHERITED && number.bytes().all(|byte| byte.is_ascii_digit()))
            .map(BindAddress::Fd)
            .ok_or_else(|| {
                format!(
                    "{text:?} names no file descriptor; write a number from {FIRST_INHERITED} up, or a name"
                )
                .into()
            });
    }
    let (host, port) = host_and_port(rest.strip_prefix("tcp://").unwrap_or(rest), text)?;
    let addresses = resolve(host, port)?;
    Ok(BindAddress::Tcp { text: text.to_owned(), addresses })
}

fn unix(path: &str, text: &str) -> Result<BindAddress, ParseError> {
    if path.is_empty() {
        return Err(format!("{text:?} has no path; write unix:/run/app.sock").into());
    }
    if path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        return Err(format!(
            "{text:?} cannot be a UNIX socket; a path has at most {UNIX_PATH_BYTES_MAX} bytes and no NUL"
        )
        .into());
    }
    Ok(BindAddress::Unix(PathBuf::from(path)))
}

fn host_and_port<'a>(tcp: &'a str, text: &str) -> Result<(&'a str, u16), ParseError> {
    let hint = "write HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N";
    let (host, port) = match tcp.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) =
                bracketed.split_once(']').ok_or_else(|| format!("{text:?} lacks a ']'; {hint}"))?;
            let port = match rest {
                "" => None,
                rest => {
                    Some(rest.strip_prefix(':').ok_or_else(|| format!("{text:?} is no address; {hint}"))?)
                }
            };
            (host, port)
        }
        None if tcp.matches(':').count() > 1 => {
            return Err(format!(
                "{text:?} has more than one ':'; put an IPv6 address in brackets: [::1]:8000"
            )
            .into());
        }
        None => tcp.split_once(':').map_or((tcp, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        // As a host it would be an IPv4 address, 8000 that of 0.0.31.64.
        None if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Err(format!("{text:?} is no address; for a port write :{host}").into());
        }
        None => PORT_DEFAULT,
        Some(digits) => {
            digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(
                || format!("{text:?}: {digits:?} is not a port; write a number from 0 to 65535"),
            )?
        }
    };
    Ok((if host.is_empty() { "0.0.0.0" } else { host }, port))
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ParseError> {
    let remedy = "write an address or a name of this machine, such as 127.0.0.1:8000";
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("host {host:?} cannot be looked up ({error}); {remedy}"))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("host {host:?} has no address; {remedy}").into());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_forms() {
        for (text, address) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            (":9000", "0.0.0.0:9000"),
            ("", "0.0.0.0:8000"),
            (":0", "0.0.0.0:0"),
            ("tcp://127.0.0.1:9000", "127.0.0.1:9000"),
            ("tcp://127.0.0.1", "127.0.0.1:8000"),
            ("[::1]:9000", "[::1]:9000"),
            ("[::1]", "[::1]:8000"),
            ("tcp://[::1]:9000", "[::1]:9000"),
        ] {
            let expected =
                BindAddress::Tcp { text: text.to_owned(), addresses: vec![address.parse().unwrap()] };
            assert_eq!(bind(text), Ok(expected.into()), "{text:?}");
        }
    }

    #[test]
    fn a_name_resolves_to_each_of_its_addresses_once() {
        let Ok(Bind { address: BindAddress::Tcp { addresses, .. }, .. }) = bind("localhost:9000") else {
            panic!("localhost has no address")
        };
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 9000));
        let mut once = addresses.clone();
        once.dedup();
        assert_eq!(once, addresses);
    }

    #[test]
    fn unix_forms() {
        for (text, path) in
            [("unix:/run/a.sock", "/run/a.sock"), ("unix:///run/a.sock", "/run/a.sock"), ("unix:a", "a")]
        {
            assert_eq!(bind(text), Ok(BindAddress::Unix(PathBuf::from(path)).into()), "{text}");
        }
        let longest = format!("unix:/{}", "a".repeat(UNIX_PATH_BYTES_MAX - 1));
        assert!(bind(&longest).is_ok());
        assert!(bind(&format!("{longest}a")).is_err());
    }

    #[test]
    fn descriptors() {
        assert_eq!(bind("fd://3"), Ok(BindAddress::Fd(3).into()));
        assert_eq!(bind("fd://42"), Ok(BindAddress::Fd(42).into()));
    }

    #[test]
    fn a_scheme_says_what_is_spoken() {
        use WireProtocol::{Fastcgi, Http, Redirect, Scgi, Uwsgi};
        for (text, protocol, tls) in [
            ("http://127.0.0.1:1", Http, false),
            ("https://127.0.0.1:1", Http, true),
            ("uwsgi://127.0.0.1:1", Uwsgi, false),
            ("scgi://127.0.0.1:1", Scgi, false),
            ("fastcgi://127.0.0.1:1", Fastcgi, false),
            ("redirect://127.0.0.1:1", Redirect, false),
        ] {
            let address =
                BindAddress::Tcp { text: text.to_owned(), addresses: vec!["127.0.0.1:1".parse().unwrap()] };
            let found = bind(text).unwrap();
            assert_eq!(found, Bind { address, protocol, tls, named: true, proxy: None });
            assert!(text.starts_with(found.scheme()));
        }
        let address = |text: &str| bind(text).unwrap().address;
        assert_eq!(address("uwsgi://unix:/run/a.sock"), BindAddress::Unix("/run/a.sock".into()));
        assert_eq!(address("scgi://unix:///run/a.sock"), BindAddress::Unix("/run/a.sock".into()));
        assert_eq!(address("https://fd://3"), BindAddress::Fd(3));
        assert!(matches!(address("https://[::1]:443"), BindAddress::Tcp { .. }));
        assert!(matches!(address("https://tcp://[::1]:443"), BindAddress::Tcp { .. }));
    }

    #[test]
    fn a_parameter_says_which_proxy_protocol() {
        for (text, proxy) in [
            ("127.0.0.1:1", None),
            ("127.0.0.1:1?proxy=off", Some(ProxyProtocol::Off)),
            ("https://127.0.0.1:1?proxy=v1", Some(ProxyProtocol::V1)),
            ("redirect://[::1]?proxy=v2", Some(ProxyProtocol::V2)),
            ("?proxy=auto", Some(ProxyProtocol::Auto)),
        ] {
            assert_eq!(bind(text).unwrap().proxy, proxy, "{text}");
        }
        let found = bind("uwsgi://unix:/run/a.sock?proxy=v2").unwrap();
        assert_eq!(found.address, BindAddress::Unix("/run/a.sock".into()));
        assert_eq!((found.protocol, found.proxy), (WireProtocol::Uwsgi, Some(ProxyProtocol::V2)));
        let found = bind("fd://3?proxy=v1").unwrap();
        assert_eq!(found, Bind { proxy: Some(ProxyProtocol::V1), ..BindAddress::Fd(3).into() });
        let BindAddress::Tcp { addresses, .. } = bind("https://127.0.0.1:1?proxy=v1").unwrap().address else {
            panic!("no TCP")
        };
        assert_eq!(addresses, ["127.0.0.1:1".parse().unwrap()]);
    }

    #[test]
    fn other_parameters_are_refused_and_the_known_ones_named() {
        for parameters in
            ["", "proxy", "proxy=", "proxy=v3", "proxy=V1", "proxy=v1&proxy=v2", "proxy=v1?", "backlog=5"]
        {
            for address in ["127.0.0.1:1", "https://[::1]:1", "unix:/a", "fd://3"] {
                let refused = bind(&format!("{address}?{parameters}")).unwrap_err().to_string();
                assert!(refused.contains(&format!("{parameters:?} is no parameter")), "{refused}");
                assert!(refused.contains("proxy=off, proxy=v1, proxy=v2 or proxy=auto"), "{refused}");
            }
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "127.0.0.1:",
            "127.0.0.1:http",
            "127.0.0.1:+80",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "::1",
            "::1:8000",
            "[::1",
            "[::1]8000",
            "[::1]:",
            "unix:",
            "unix://",
            "unix:/a\0b",
            "fd://",
            "fd://x",
            "fd://-1",
            "fd://2",
            "fd://+3",
            "fd://99999999999",
            "ftp://127.0.0.1:80",
            "HTTPS://127.0.0.1:80",
            "http://127.0.0.1:80/",
            "https://https://127.0.0.1:80",
            "tcp://https://127.0.0.1:80",
            "uwsgi://unix:",
            "https://fd://x",
            "8000",
            "tcp://8000",
        ] {
            assert!(bind(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(bind("8000"), Err("\"8000\" is no address; for a port write :8000".into()));
    }

    #[test]
    fn a_name_without_an_address_is_refused() {
        // Longer than a name may be (RFC 1035 section 2.3.4), so that no name server is asked.
        let refused = bind(&"a".repeat(300)).unwrap_err().to_string();
        assert!(refused.contains("cannot be looked up"), "{refused}");
    }
}
