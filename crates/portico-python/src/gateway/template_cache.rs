//! Field lines that repeat: from their bytes to a dict that already holds every header entry of the environ.
//!
//! Between the requests of one connection, and between those of like clients, the field lines repeat byte for
//! byte. A repeated head then costs a hash, a comparison and a copy of a dict. A head that never repeats
//! costs the hash: a dict is kept only when the same bytes come a second time.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use portico_net::Server;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::start_response::Callables;
use crate::raw::{Rewritable, latin1};

/// A dict that environs are copied from. It holds the thread's callables and the address of the peer, so that no
/// environ is given them.
pub(crate) struct Template {
    dict: Py<PyDict>,
    /// Number of those callables.
    callables: u64,
    /// That address, once there is one.
    peer: Option<Address>,
    /// The request's id in it, once there is one; a reference beside the dict's own.
    id: Option<Rewritable>,
}

/// The address of a peer, as environ has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// There.
    Ip(IpAddr),
    /// At the other end of a UNIX socket, which has no address.
    Unix,
}

/// Strings of the addresses that have come last, so that they are not made anew.
pub(crate) struct Addresses(Vec<(IpAddr, Py<PyString>)>);

/// Client addresses whose strings are kept: a proxy has one or a few.
const ADDRESSES_MAX: usize = 8;

/// One thread's templates: at most [`SLOTS`], each for field lines of at most [`LINES_BYTES_MAX`] bytes.
pub(crate) struct TemplateCache {
    slots: Vec<CacheSlot>,
}

/// Number of templates; a power of two. With the largest heads they hold about half a megabyte.
const SLOTS: usize = 64;

/// Longer field lines are not looked up.
const LINES_BYTES_MAX: usize = 2048;

/// A place of the cache, for all heads whose hashes fall on it. It stores nothing on a first miss, so that heads
/// which never repeat cost no template.
#[derive(Default)]
struct CacheSlot {
    /// Hash of the field lines that last came here and were not found.
    missed: u64,
    entry: Option<CacheEntry>,
}

/// A template with the field lines and the listener that it was made of. A thread's cache owns it; it is used only
/// where the lines are the same byte for byte, not where the hash alone is.
struct CacheEntry {
    hash: u64,
    lines: Box<[u8]>,
    reading: FieldsReading,
    server: Arc<Server>,
    template: Template,
}

/// Field lines, and what else the header entries that come of them hang on.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    /// As they came.
    pub(crate) bytes: &'a [u8],
    /// What has been made of them.
    pub(crate) reading: FieldsReading,
    /// Where they came through.
    pub(crate) server: &'a Arc<Server>,
}

/// The reading of field lines by the engine: all of them, or as believed or other peers are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldsReading {
    /// All fields that they have.
    Whole,
    /// Without some, or with more, as believed peers are read.
    OfBelieved,
    /// Without some, or with more, as other peers are read.
    OfOthers,
}

/// The outcome of a look-up, by which the caller builds from the template, stores one, or builds without.
pub(crate) enum Lookup<'c> {
    /// The template.
    Hit(&'c mut Template),
    /// These lines came a second time: the template is to be stored under this hash.
    Store(u64),
    /// Nothing is to be stored.
    Miss,
}

impl Template {
    /// `dict`, into which `callables` are put.
    pub(crate) fn new(dict: &Bound<'_, PyDict>, callables: &Callables) -> PyResult<Self> {
        callables.put_into(dict)?;
        Ok(Self { dict: dict.clone().unbind(), callables: callables.number, peer: None, id: None })
    }

    /// Puts the peer's address into it, if it is not there: most requests come from where the last one came.
    pub(crate) fn meet(&mut self, py: Python<'_>, peer: Address, addresses: &mut Addresses) -> PyResult<()> {
        if self.peer == Some(peer) {
            return Ok(());
        }
        let dict = self.dict.bind(py);
        let (remote, name) = match peer {
            Address::Ip(ip) => {
                let text = addresses.text(py, ip);
                (text.clone(), text)
            }
            // RFC 3875, section 4.1.8, has no word for it.
            Address::Unix => (intern!(py, "").clone(), intern!(py, "unix").clone()),
        };
        dict.set_item(intern!(py, "REMOTE_ADDR"), remote)?;
        dict.set_item(intern!(py, "portico.peer"), name)?;
        self.peer = Some(peer);
        Ok(())
    }

    /// Puts the request's id into it. If nobody has kept the last one, its `str` is written anew: another one in
    /// each dict costs as much as a line of the log.
    pub(crate) fn meet_id(&mut self, py: Python<'_>, id: &[u8]) -> PyResult<()> {
        if self.id.as_ref().is_some_and(|last| last.write(py, 2, id)) {
            return Ok(());
        }
        let text = latin1(py, id)?;
        self.dict.bind(py).set_item(intern!(py, "portico.request_id"), &text)?;
        self.id = Rewritable::new(&text);
        Ok(())
    }

    /// A copy, with `callables` in it: where they are other ones than the last time, they are replaced first.
    pub(crate) fn copy<'py>(
        &mut self,
        py: Python<'py>,
        callables: &Callables,
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = self.dict.bind(py);
        if self.callables != callables.number {
            callables.put_into(dict)?;
            self.callables = callables.number;
        }
        dict.copy()
    }
}

impl Addresses {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    fn text<'py>(&mut self, py: Python<'py>, ip: IpAddr) -> Bound<'py, PyString> {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| *known == ip) {
            return known.bind(py).clone();
        }
        let text = PyString::new(py, &ip.to_string());
        if self.0.len() >= ADDRESSES_MAX {
            self.0.remove(0);
        }
        self.0.push((ip, text.clone().unbind()));
        text
    }
}

impl TemplateCache {
    /// An empty cache; its memory comes with its entries.
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// Looks for `lines`.
    pub(crate) fn lookup(&mut self, lines: Lines<'_>) -> Lookup<'_> {
        if lines.bytes.len() > LINES_BYTES_MAX {
            return Lookup::Miss;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, CacheSlot::default);
        }
        let hash = hash(lines.bytes);
        let slot = &mut self.slots[hash as usize % SLOTS];
        match &slot.entry {
            Some(entry)
                if entry.hash == hash
                    && *entry.lines == *lines.bytes
                    && entry.reading == lines.reading
                    && Arc::ptr_eq(&entry.server, lines.server) =>
            {
                // Looked at twice because a returned borrow in one arm would last through the others.
            }
            _ if slot.missed == hash => return Lookup::Store(hash),
            _ => {
                slot.missed = hash;
                return Lookup::Miss;
            }
        }
        match &mut self.slots[hash as usize % SLOTS].entry {
            Some(entry) => Lookup::Hit(&mut entry.template),
            None => Lookup::Miss,
        }
    }

    /// Keeps `template` for the `lines` whose look-up answered [`Lookup::Store`] with `hash`.
    pub(crate) fn store(&mut self, hash: u64, lines: Lines<'_>, template: Template) {
        if let Some(slot) = self.slots.get_mut(hash as usize % SLOTS) {
            let Lines { bytes, reading, server } = lines;
            slot.entry =
                Some(CacheEntry { hash, lines: bytes.into(), reading, server: Arc::clone(server), template });
        }
    }
}

/// Without a secret: the cache is bounded and compares the whole key, so that colliding lines cost a miss and
/// nothing else.
fn hash(lines: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(lines);
    hasher.finish()
}
