//! Who may ask: pure decisions on the head of a request.
//!
//! A page on loopback is reached by every page that its user has open. Three things keep those out, each without
//! the others: the host must be this machine's own name (another page can have its name resolve to 127.0.0.1);
//! what acts needs a header that no form and no link sends, and from no other origin; and everything needs a
//! cookie that only the printed address gives (`SameSite=Strict`, so no other site's request carries it).

use std::sync::atomic::{AtomicBool, Ordering};

use portico_proto::RequestHead;

use crate::secret::Secret;

/// Names that a browser on this machine, or at the other end of a tunnel, asks for. A port may follow: a tunnel
/// has its own.
const OWN_NAMES: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// The header that each request of the page's own script has, and that no other page can send without being asked
/// for (Fetch, "CORS-preflight").
const MARK: &[u8] = b"X-Portico";

/// Whom the page is shown to.
#[derive(Debug)]
pub(crate) struct Access {
    cookie_name: String,
    session: Secret,
    token: Secret,
    is_token_used: AtomicBool,
}

/// The reason for which a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageRefusal {
    /// It is for another host: its name has been made to lead here.
    Host,
    /// Another page has made the browser send it.
    Origin,
    /// It has no cookie, or not the right one.
    Credentials,
    /// Its token is wrong, or has been used.
    Token,
}

impl PageRefusal {
    /// The status of its response.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Host => 421,
            Self::Origin | Self::Token => 403,
            Self::Credentials => 401,
        }
    }

    /// What the response says.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Host => "this page is served as localhost and 127.0.0.1 only",
            Self::Origin => "another page has sent this",
            Self::Credentials => "open the address that portico web has printed",
            Self::Token => "this address has been used or is wrong; start portico web again for another one",
        }
    }
}

impl Access {
    /// For a page at this port.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new(port: u16) -> std::io::Result<Self> {
        Ok(Self {
            // Cookies do not know ports: two pages of one machine would overwrite each other's.
            cookie_name: format!("portico-{port}"),
            session: Secret::random()?,
            token: Secret::random()?,
            is_token_used: AtomicBool::new(false),
        })
    }

    /// The token that lets one browser in.
    pub(crate) fn token(&self) -> &str {
        self.token.reveal()
    }

    /// Whether the request may be answered at all, whoever has sent it.
    pub(crate) fn check_sender(&self, head: &RequestHead) -> Result<(), PageRefusal> {
        let host = head.authority().ok_or(PageRefusal::Host)?;
        if !is_own_name(host) {
            return Err(PageRefusal::Host);
        }
        // Browsers say whose page has caused a request (Fetch Metadata); what else asks has no such field. A link
        // to the page itself may be anywhere.
        let site = head.field(b"Sec-Fetch-Site");
        let acts = head.method() != b"GET" && head.method() != b"HEAD";
        let is_own_page = site.is_none_or(|site| site == b"same-origin");
        if acts {
            let is_own_origin = head.field(b"Origin").is_none_or(|origin| is_origin_of(origin, host));
            if !(is_own_page && is_own_origin && head.field(MARK) == Some(b"1")) {
                return Err(PageRefusal::Origin);
            }
        } else if head.path() != b"/" && !(is_own_page || site == Some(b"none")) {
            return Err(PageRefusal::Origin);
        }
        Ok(())
    }

    /// Whether it has the cookie.
    pub(crate) fn check_session(&self, head: &RequestHead) -> Result<(), PageRefusal> {
        let cookies = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
        let mut pairs = cookies.flat_map(|(_, value)| value.split(|byte| *byte == b';'));
        let is_it = |pair: &[u8]| {
            let value = pair.trim_ascii().strip_prefix(self.cookie_name.as_bytes());
            value.and_then(|value| value.strip_prefix(b"=")).is_some_and(|value| self.session.is(value))
        };
        if pairs.any(is_it) { Ok(()) } else { Err(PageRefusal::Credentials) }
    }

    /// Takes a token: the cookie's field for the one who has brought the right one first.
    pub(crate) fn exchange(&self, token: &[u8]) -> Result<String, PageRefusal> {
        if !self.token.is(token) || self.is_token_used.swap(true, Ordering::AcqRel) {
            return Err(PageRefusal::Token);
        }
        let (name, session) = (&self.cookie_name, self.session.reveal());
        Ok(format!("{name}={session}; Path=/; HttpOnly; SameSite=Strict"))
    }
}

fn is_own_name(host: &[u8]) -> bool {
    OWN_NAMES.iter().any(|name| {
        let rest = host.get(name.len()..).unwrap_or_default();
        let begins = host.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
        begins && (rest.is_empty() || rest[0] == b':' && rest[1..].iter().all(u8::is_ascii_digit))
    })
}

fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let named = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    named.is_some_and(|named| named.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request_head;

    fn access() -> Access {
        Access::new(8123).unwrap()
    }

    fn sender(request: &str) -> Result<(), PageRefusal> {
        access().check_sender(&request_head(request))
    }

    #[test]
    fn other_hosts_that_lead_here_are_refused() {
        for host in ["127.0.0.1:8123", "localhost:9000", "LOCALHOST", "[::1]:8123"] {
            assert_eq!(sender(&format!("GET /state.json\r\nHost: {host}")), Ok(()), "{host}");
        }
        for host in [
            "evil.example:8123",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhostx",
            "127.0.0.2:8123",
            "[::2]",
        ] {
            assert_eq!(sender(&format!("GET /state.json\r\nHost: {host}")), Err(PageRefusal::Host), "{host}");
        }
    }

    #[test]
    fn what_acts_comes_from_the_page_itself() {
        let own = "POST /reload\r\nHost: localhost:9000\r\nX-Portico: 1";
        assert_eq!(sender(own), Ok(()), "a program of the operator's");
        let page = "Origin: http://localhost:9000\r\nSec-Fetch-Site: same-origin";
        assert_eq!(sender(&format!("{own}\r\n{page}")), Ok(()));
        for line in [
            "Origin: http://evil.example",
            "Origin: http://localhost:9001",
            "Origin: null",
            "Origin: http://localhost:9000.evil.example",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
            "Sec-Fetch-Site: none",
        ] {
            assert_eq!(sender(&format!("{own}\r\n{line}")), Err(PageRefusal::Origin), "{line}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let unmarked = format!("{method} /reload\r\nHost: localhost:9000");
            assert_eq!(sender(&unmarked), Err(PageRefusal::Origin), "{method}: forms send no X-Portico");
            assert_eq!(sender(&format!("{unmarked}\r\nX-Portico: 0")), Err(PageRefusal::Origin));
        }
    }

    #[test]
    fn other_pages_read_nothing() {
        let asked = |path: &str, site: &str| {
            sender(&format!("GET {path}\r\nHost: localhost:9000\r\nSec-Fetch-Site: {site}"))
        };
        assert_eq!(asked("/state.json", "same-origin"), Ok(()));
        assert_eq!(asked("/state.json", "none"), Ok(()), "from the address bar");
        assert_eq!(asked("/state.json", "cross-site"), Err(PageRefusal::Origin));
        assert_eq!(asked("/state.json", "same-site"), Err(PageRefusal::Origin));
        assert_eq!(asked("/", "cross-site"), Ok(()), "a link to it, in a chat");
    }

    #[test]
    fn a_session_is_known_by_its_cookie() {
        let access = access();
        let cookie = access.exchange(access.token().as_bytes()).unwrap();
        let pair = cookie.split(';').next().unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        let asked = |lines: &str| access.check_session(&request_head(&format!("GET /\r\nHost: x{lines}")));
        assert_eq!(asked(&format!("\r\nCookie: {pair}")), Ok(()));
        assert_eq!(asked(&format!("\r\nCookie: a=b; {pair}; c=d")), Ok(()));
        assert_eq!(asked(&format!("\r\nCookie: a=b\r\nCookie: {pair}")), Ok(()));
        let (name, value) = pair.split_once('=').unwrap();
        for other in [
            String::new(),
            format!("\r\nCookie: {name}="),
            format!("\r\nCookie: {name}={}", &value[1..]),
            format!("\r\nCookie: {name}={value}0"),
            format!("\r\nCookie: x{pair}"),
            format!("\r\nCookie: portico-8124={value}"),
            format!("\r\nAuthorization: Bearer {value}"),
            format!("\r\nCookie: {name}={}", access.token()),
        ] {
            assert_eq!(asked(&other), Err(PageRefusal::Credentials), "{other}");
        }
    }

    #[test]
    fn a_token_is_taken_once() {
        let access = access();
        assert_eq!(access.exchange(b""), Err(PageRefusal::Token));
        assert_eq!(access.exchange(&access.token().as_bytes()[1..]), Err(PageRefusal::Token));
        assert!(access.exchange(access.token().as_bytes()).is_ok(), "wrong ones do not use it up");
        assert_eq!(access.exchange(access.token().as_bytes()), Err(PageRefusal::Token));
    }
}
