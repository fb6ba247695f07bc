//! The credentials of a request, as `Authorization: Basic` has them (RFC 7617).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A user's name and password, as a client has sent them.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    user: String,
    password: Vec<u8>,
}

/// Passwords are not shown.
impl std::fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Longest credentials that are looked at, encoded: what is hashed takes time in proportion to its length.
const CREDENTIALS_BYTES_MAX: usize = 1024;

impl BasicCredentials {
    /// Reads the value of `Authorization`; `None` where it has no credentials of this scheme.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?.trim();
        let (scheme, rest) = text.split_once(' ')?;
        let encoded = rest.trim_start_matches(' ');
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > CREDENTIALS_BYTES_MAX {
            return None;
        }
        let decoded = STANDARD.decode(encoded).ok()?;
        let colon = memchr::memchr(b':', &decoded)?;
        let user = str::from_utf8(&decoded[..colon]).ok()?;
        // Section 2: neither may have control characters.
        let has_controls = decoded.iter().any(|byte| *byte < b' ' || *byte == 0x7f);
        if user.is_empty() || has_controls {
            return None;
        }
        Some(Self { user: user.to_owned(), password: decoded[colon + 1..].to_vec() })
    }

    /// The user's name. It has no control characters and no colon.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password.
    pub fn password(&self) -> &[u8] {
        &self.password
    }
}

/// The value of `WWW-Authenticate` that asks for credentials. Section 2.1: the client is to send them in UTF-8.
pub fn challenge(realm: &str) -> String {
    let quoted: String = realm
        .chars()
        .filter(|char| char.is_ascii_graphic() || *char == ' ')
        .flat_map(|char| matches!(char, '"' | '\\').then_some('\\').into_iter().chain([char]))
        .collect();
    format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Option<(String, Vec<u8>)> {
        BasicCredentials::parse(value.as_bytes()).map(|it| (it.user().to_owned(), it.password().to_vec()))
    }

    /// RFC 7617, sections 2 and 2.1.
    #[test]
    fn credentials_are_read_as_the_rfc_has_them() {
        let aladdin = Some(("Aladdin".to_owned(), b"open sesame".to_vec()));
        assert_eq!(parsed("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        assert_eq!(parsed("bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        assert_eq!(parsed("Basic dGVzdDoxMjPCow=="), Some(("test".to_owned(), "123£".into())));
        let with = |text: &str| parsed(&format!("Basic {}", STANDARD.encode(text)));
        assert_eq!(with("a:b:c"), Some(("a".to_owned(), b"b:c".to_vec())), "a password may have colons");
        assert_eq!(with("a:"), Some(("a".to_owned(), Vec::new())));
        for text in [":b", "ab", "a\n:b", "a:b\0", "a:\x7f"] {
            assert_eq!(with(text), None, "{text:?}");
        }
        for value in ["", "Basic", "Basic ", "Basic !", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "BasicQQ== x"]
        {
            assert_eq!(parsed(value), None, "{value:?}");
        }
    }

    #[test]
    fn credentials_have_a_longest_length() {
        let of =
            |length: usize| format!("Basic {}", STANDARD.encode(format!("a:{}", "b".repeat(length - 2))));
        assert!(parsed(&of(768)).is_some(), "{} bytes encoded", STANDARD.encode("b".repeat(768)).len());
        assert!(parsed(&of(769)).is_none());
    }

    #[test]
    fn a_challenge_is_a_quoted_string() {
        assert_eq!(challenge("a \"b\"\r\n"), "Basic realm=\"a \\\"b\\\"\", charset=\"UTF-8\"");
    }

    #[test]
    fn passwords_are_not_shown() {
        let credentials = BasicCredentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert!(!format!("{credentials:?}").contains("sesame"));
    }
}
