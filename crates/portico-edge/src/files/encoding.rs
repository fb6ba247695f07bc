//! Codings of a content: which a client takes (RFC 9110, section 12.5.3), and which file beside a file has one.

use std::time::SystemTime;

/// A coding that files may have been compressed with beforehand, in the order in which they are preferred: the
/// smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentCoding {
    /// `br` (RFC 7932)
    Brotli,
    /// `zstd` (RFC 8878)
    Zstd,
    /// `gzip` (RFC 1952)
    Gzip,
}

impl ContentCoding {
    /// In the order of preference.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The value of Content-Encoding.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What is added to the name of the file.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// What a client takes: weights in thousandths, 0 for what it does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedCodings {
    codings: [u16; 3],
    identity: u16,
    /// The weight that the client has named for the content as it is, which is wanted least otherwise.
    identity_named: u16,
}

impl AcceptedCodings {
    /// Reads Accept-Encoding; without one, only the content as it is is sent, because such clients are programs
    /// that do not decode.
    pub fn parse(value: Option<&[u8]>) -> Self {
        let Some(text) = value.and_then(|value| str::from_utf8(value).ok()) else {
            return Self { codings: [0; 3], identity: 1000, identity_named: 0 };
        };
        let (mut named, mut identity, mut others) = ([None; 3], None, None);
        for item in text.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(weight).unwrap_or(Some(1000));
            // What has no weight that can be read is not taken.
            let weight = weight.unwrap_or(0);
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match ContentCoding::ALL.iter().position(|coding| is(coding.name())) {
                Some(at) => named[at] = Some(weight),
                None if is("x-gzip") => named[2] = Some(weight),
                None if is("identity") => identity = Some(weight),
                None if name == "*" => others = Some(weight),
                None => {}
            }
        }
        Self {
            codings: named.map(|weight| weight.or(others).unwrap_or(0)),
            // It is taken unless it is refused by name or by `*;q=0`.
            identity_named: identity.unwrap_or(0),
            identity: identity.unwrap_or(if others == Some(0) { 0 } else { 1000 }),
        }
    }

    /// The weight of a coding.
    fn of(&self, coding: ContentCoding) -> u16 {
        self.codings[coding as usize]
    }

    /// Whether the content may be sent as it is.
    pub fn takes_identity(&self) -> bool {
        self.identity > 0
    }

    /// The codings that are taken, those that are wanted most first.
    pub fn wanted(&self) -> impl Iterator<Item = ContentCoding> {
        let mut all: Vec<ContentCoding> =
            ContentCoding::ALL.into_iter().filter(|coding| self.of(*coding) > 0).collect();
        all.sort_by_key(|coding| std::cmp::Reverse(self.of(*coding)));
        all.into_iter()
    }

    /// The coding that is wanted most, of equals the first of `preference`; `None` if the content as it is is
    /// wanted more.
    pub fn preferred(&self, preference: [ContentCoding; 3]) -> Option<ContentCoding> {
        let best =
            self.codings.iter().copied().max().filter(|best| *best > 0 && *best >= self.identity_named)?;
        preference.into_iter().find(|coding| self.of(*coding) == best)
    }
}

/// `q=0.5` in thousandths (RFC 9110, section 12.4.2); the outer `None` where it is another parameter.
fn weight(parameter: &str) -> Option<Option<u16>> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_valid =
        matches!(whole, "0" | "1") && fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let thousandths = format!("{fraction:0<3}").parse::<u16>().unwrap_or(0);
    Some(match whole {
        _ if !is_valid => None,
        "1" if thousandths > 0 => None,
        "1" => Some(1000),
        _ => Some(thousandths),
    })
}

/// A file beside a file with its content in a coding, as its opened descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Its coding.
    pub coding: ContentCoding,
    /// Its bytes.
    pub size: u64,
    /// Its time.
    pub modified: SystemTime,
}

/// Which of `sidecars` is sent for a file of `size` bytes that was modified at `modified`. One that is older has
/// another content (cloudhead/node-static#116), and one that is larger is worth nothing.
pub fn choose_sidecar(
    accepted: &AcceptedCodings,
    size: u64,
    modified: SystemTime,
    sidecars: &[Sidecar],
) -> Option<Sidecar> {
    let is_good = |sidecar: &&Sidecar| sidecar.modified >= modified && sidecar.size < size;
    accepted
        .wanted()
        .filter(|coding| accepted.of(*coding) >= accepted.identity_named)
        .find_map(|coding| sidecars.iter().filter(is_good).find(|sidecar| sidecar.coding == coding))
        .copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ContentCoding::{Brotli, Gzip, Zstd};
    use super::*;

    /// RFC 9110, sections 12.4.2 and 12.5.3.
    #[test]
    fn codings_are_taken_by_their_weights() {
        for (value, wanted, identity) in [
            ("gzip, deflate, br, zstd", &[Brotli, Zstd, Gzip][..], true),
            ("gzip", &[Gzip], true),
            ("GZip", &[Gzip], true),
            ("x-gzip", &[Gzip], true),
            ("gzip;q=0", &[], true),
            ("gzip;q=0.000, br", &[Brotli], true),
            ("gzip;q=1.0, br;q=0.5", &[Gzip, Brotli], true),
            ("gzip ; q=0.2,br; q=0.1", &[Gzip, Brotli], true),
            ("*", &[Brotli, Zstd, Gzip], true),
            ("*;q=0", &[], false),
            ("gzip, *;q=0", &[Gzip], false),
            ("gzip, *;q=0, identity", &[Gzip], true),
            ("br, identity;q=0", &[Brotli], false),
            ("br;q=0, *", &[Zstd, Gzip], true),
            ("gzip;q=2", &[], true),
            ("gzip;q=0.1234", &[], true),
            ("gzip;q=1.001", &[], true),
            ("gzip;q=x", &[], true),
            ("gzip;level=9", &[Gzip], true),
            ("agzip, gzipx", &[], true),
            ("", &[], true),
        ] {
            let accepted = AcceptedCodings::parse(Some(value.as_bytes()));
            assert_eq!(accepted.wanted().collect::<Vec<_>>(), wanted, "{value}");
            assert_eq!(accepted.takes_identity(), identity, "{value}");
        }
        let without = AcceptedCodings::parse(None);
        assert!(without.wanted().next().is_none() && without.takes_identity());
    }

    #[test]
    fn a_sidecar_is_sent_if_it_is_newer_and_smaller() {
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let sidecar = |coding, size, seconds| Sidecar { coding, size, modified: time(seconds) };
        let chosen = |value: &str, sidecars: &[Sidecar]| {
            let accepted = AcceptedCodings::parse(Some(value.as_bytes()));
            choose_sidecar(&accepted, 100, time(10), sidecars).map(|sidecar| sidecar.coding)
        };
        let (brotli, gzip) = (sidecar(Brotli, 50, 10), sidecar(Gzip, 40, 11));
        assert_eq!(chosen("gzip, br", &[gzip, brotli]), Some(Brotli));
        assert_eq!(chosen("gzip", &[gzip, brotli]), Some(Gzip));
        assert_eq!(chosen("gzip, br;q=0.5", &[gzip, brotli]), Some(Gzip));
        assert_eq!(chosen("zstd", &[gzip, brotli]), None);
        assert_eq!(
            chosen("br, gzip", &[sidecar(Brotli, 50, 9), gzip]),
            Some(Gzip),
            "an old one is of other bytes"
        );
        assert_eq!(chosen("br, gzip", &[sidecar(Brotli, 100, 10), gzip]), Some(Gzip), "nothing is gained");
        assert_eq!(chosen("br;q=0", &[brotli]), None);
        assert_eq!(chosen("br;q=0.5, identity", &[brotli]), None, "the content as it is is wanted more");
    }
}
