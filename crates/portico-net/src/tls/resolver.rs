//! Which of several certificates a client gets: by the name that it asks for, and by what it can check.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a server, the first of which is for clients that ask for none that there is.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    keys: Vec<Arc<CertifiedKey>>,
    /// Names in lower case, each with the certificates that are for it.
    names: HashMap<String, Vec<usize>>,
}

thread_local! {
    /// The name that the client asked for whose greeting this thread has read last. rustls keeps it to itself.
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The name that the client has asked for whose greeting this thread has just read.
pub(crate) fn take_asked() -> Option<Box<str>> {
    ASKED.take()
}

impl Resolver {
    /// Adds a certificate that is for `names`, of which some may begin with `*.`.
    pub(super) fn add(&mut self, key: CertifiedKey, names: &[String]) {
        let index = self.keys.len();
        self.keys.push(Arc::new(key));
        for name in names {
            self.names.entry(name.to_ascii_lowercase()).or_default().push(index);
        }
    }

    /// Those that are for `name`; where there are none, all of them.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
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
        ASKED.set(name.map(Into::into));
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.candidates(name).find(usable).or_else(|| self.keys.iter().find(usable)).cloned()
    }
}
