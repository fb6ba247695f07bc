//! Which of several certificates a client gets: by the name that it asks for, and by what it can check.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a server, the first of which is for clients that ask for none that there is.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    keys: Vec<NamedKey>,
    /// Names in lower case, each with the certificates that are for it.
    names: HashMap<String, Vec<usize>>,
}

/// A certificate with its key, and the names that it is for.
#[derive(Debug)]
struct NamedKey {
    key: Arc<CertifiedKey>,
    names: Arc<[String]>,
}

/// What a client has asked for in its greeting, and what it got. A connection keeps it until its handshake is
/// done.
#[derive(Debug)]
pub(crate) struct ShownCertificate {
    /// The name that it has asked for (RFC 6066, section 3).
    pub asked: Option<Box<str>>,
    /// The names of the certificate that it was shown.
    pub names: Arc<[String]>,
}

thread_local! {
    /// Of the client whose greeting this thread has read last. rustls keeps it to itself.
    static SHOWN: RefCell<Option<ShownCertificate>> = const { RefCell::new(None) };
}

/// What the client was shown whose greeting this thread has just read.
pub(crate) fn take_shown() -> Option<ShownCertificate> {
    SHOWN.take()
}

impl Resolver {
    /// Adds a certificate that is for `names`, of which some may begin with `*.`.
    pub(super) fn add(&mut self, key: CertifiedKey, names: &[String]) {
        let index = self.keys.len();
        self.keys.push(NamedKey { key: Arc::new(key), names: names.into() });
        for name in names {
            self.names.entry(name.to_ascii_lowercase()).or_default().push(index);
        }
    }

    /// Those that are for `name`; where there are none, all of them.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &NamedKey> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let exact = self.names.get(&name);
            // A star stands for one label (RFC 6125, section 6.4.3).
            exact.or_else(|| self.names.get(&format!("*.{}", name.split_once('.')?.1)))
        });
        let (some, all) = match found {
            Some(indices) => (&indices[..], &[][..]),
            None => (&[][..], &self.keys[..]),
        };
        some.iter().filter_map(|index| self.keys.get(*index)).chain(all)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let usable = |it: &&NamedKey| it.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let found = self.candidates(name).find(usable).or_else(|| self.keys.iter().find(usable))?;
        SHOWN.set(Some(ShownCertificate { asked: name.map(Into::into), names: Arc::clone(&found.names) }));
        Some(Arc::clone(&found.key))
    }
}
