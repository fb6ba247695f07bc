//! Fields that only believed proxies may send, under the very names that were agreed on (`--forwarder-headers`).
//!
//! In environ `OIDC_CLAIM_sub` and `OIDC-CLAIM-sub` have one key. A proxy that sets the one may well pass the
//! other on from its client, so that of each key one spelling counts.

use portico_proto::{Initials, RequestHead};

use super::{ForwardedRefusal, hyphen, hyphened, prefix};

/// The names, and what it takes to find them.
#[derive(Debug)]
pub(super) struct Names {
    patterns: Vec<Pattern>,
    /// Whether `*` is among them.
    any: bool,
    initials: Initials,
}

/// A name of `--forwarded-headers`, or the beginning of all names that are meant. Made from the configuration
/// once; it is only compared with.
#[derive(Debug)]
struct Pattern {
    /// In lower case, without the `*`.
    stem: Vec<u8>,
    /// Whether it stands for all that begin so.
    open: bool,
}

/// gunicorn's default names: they come with underscores or not at all. Looking for their likes with hyphens would
/// have every browser's request gone through.
const UNDERSCORED_ONLY: [&str; 2] = ["script_name", "path_info"];

impl Names {
    /// From the configuration's names.
    pub(super) fn new(names: &[String]) -> Self {
        let patterns = names.iter().filter(|name| *name != "*").map(|name| {
            let (stem, open) = name.strip_suffix('*').map_or((name.as_str(), false), |stem| (stem, true));
            Pattern { stem: stem.into(), open }
        });
        let patterns: Vec<Pattern> = patterns.collect();
        let mut initials = Initials::default();
        for pattern in &patterns {
            if pattern.open || !UNDERSCORED_ONLY.iter().any(|name| name.as_bytes() == pattern.stem) {
                pattern.stem.first().iter().for_each(|first| initials.insert(**first));
            }
        }
        Self { patterns, any: names.iter().any(|name| name == "*"), initials }
    }

    /// Letters with which fields begin that have to be looked at though they have no underscore.
    pub(super) fn initials(&self) -> Initials {
        self.initials
    }

    /// Whether `name` has the key in environ of one that only proxies may send, however it is spelled.
    pub(super) fn claims(&self, name: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name, |stem, byte| hyphen(stem) == hyphen(byte)))
    }

    /// Whether `name` is one of them as it is spelled.
    fn has(&self, name: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name, |stem, byte| stem == byte))
    }

    /// Lets those in that are spelled as agreed, and takes those out that have the key of one and are not.
    ///
    /// # Errors
    /// One key is spelled in two ways that both were agreed on.
    pub(super) fn admit(&self, head: &mut RequestHead) -> Result<(), ForwardedRefusal> {
        if head.dropped().len() == 0 && !head.initials().meets(self.initials) {
            return Ok(());
        }
        head.restore_dropped(|name| {
            self.has(name) || (self.any && !self.claims(name) && !frames_or_forwards(name))
        });
        head.retain_fields(|name, _| self.has(name) || !self.claims(name));
        if !head.is_edited() {
            return Ok(());
        }
        // A restored name stands for its key alone.
        let restored: Vec<Vec<u8>> = head
            .fields()
            .filter(|(name, _)| name.contains(&b'_'))
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        let keys: Vec<Vec<u8>> = restored.iter().map(|name| hyphened(name)).collect();
        let is_twice = keys.iter().zip(&restored).enumerate().any(|(at, (key, name))| {
            keys[..at].iter().zip(&restored).any(|(other_key, other)| other_key == key && other != name)
        });
        if is_twice {
            return Err(ForwardedRefusal::ValueConflict);
        }
        head.retain_fields(|name, _| name.contains(&b'_') || !keys.contains(&name.to_ascii_lowercase()));
        Ok(())
    }

    /// What a proxy says of SCRIPT_NAME.
    pub(super) fn script_name(&self, head: &RequestHead) -> Result<Option<Box<[u8]>>, ForwardedRefusal> {
        if !head.is_edited() {
            return Ok(None);
        }
        let mut values = head
            .fields()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"script_name"))
            .map(|(_, value)| value);
        let Some(first) = values.next().filter(|_| self.any || self.has(b"script_name")) else {
            return Ok(None);
        };
        if values.any(|value| value != first) {
            return Err(ForwardedRefusal::ValueConflict);
        }
        prefix(first).map(Some)
    }
}

impl Pattern {
    /// Whether this stands for `name`, whose letters may be large; `same` says which bytes are alike otherwise.
    fn matches(&self, name: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
        let length = self.stem.len();
        (name.len() == length || (self.open && name.len() > length))
            && self.stem.iter().zip(name).all(|(stem, byte)| same(*stem, byte.to_ascii_lowercase()))
    }
}

/// Whether `name`, which has an underscore, would pass for one that frames a body or tells of the client.
fn frames_or_forwards(name: &[u8]) -> bool {
    let name = hyphened(name);
    [&b"content-length"[..], b"transfer-encoding", b"x-real-ip"].contains(&&*name)
        || name.starts_with(b"x-forwarded-")
}
