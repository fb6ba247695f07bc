//! From field names to keys of the environ: `User-Agent` to `HTTP_USER_AGENT`.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Keys for the names that requests have shown, one `str` object for each. Its hash has no secret: both tables are
/// bounded and compare whole names, so that colliding ones cost time in proportion to the bound and nothing else.
pub(crate) struct FieldNames {
    keys: HashMap<Box<[u8]>, Py<PyString>, FixedState>,
    /// Names of gateways' variables, which are keys as they are.
    variables: HashMap<Box<[u8]>, Py<PyString>, FixedState>,
}

/// Names that are kept besides the well-known ones: what an attacker sends cannot grow the table further.
const NAMES_MAX: usize = 128;

/// Longest name that is kept.
const NAME_BYTES_MAX: usize = 64;

/// The names that browsers, proxies and clients of APIs send. Their keys are interned: an application's own
/// `environ["HTTP_HOST"]` then finds its value by comparing pointers.
const WELL_KNOWN: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-ray",
    "cf-visitor",
    "connection",
    "cookie",
    "dnt",
    "expect",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy-authorization",
    "range",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "te",
    "traceparent",
    "tracestate",
    "true-client-ip",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    "x-api-key",
    "x-csrftoken",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-request-start",
    "x-requested-with",
];

impl FieldNames {
    /// The table with the well-known names.
    pub(crate) fn new(py: Python<'_>) -> Self {
        let key = |name: &&str| PyString::intern(py, &environ_key(name.as_bytes())).unbind();
        let keys = WELL_KNOWN.iter().map(|name| (name.as_bytes().into(), key(name))).collect();
        Self { keys, variables: HashMap::default() }
    }

    /// The key for `name`, a token (RFC 9110, section 5.6.2) in any case.
    pub(crate) fn key<'py>(&mut self, py: Python<'py>, name: &[u8]) -> Bound<'py, PyString> {
        let mut buffer = [0; NAME_BYTES_MAX];
        let Some(lower) = buffer.get_mut(..name.len()) else {
            return PyString::new(py, &environ_key(name));
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        if let Some(key) = self.keys.get(&*lower) {
            return key.bind(py).clone();
        }
        let key = PyString::new(py, &environ_key(lower));
        if self.keys.len() < WELL_KNOWN.len() + NAMES_MAX {
            self.keys.insert((&*lower).into(), key.clone().unbind());
        }
        key
    }
}

impl FieldNames {
    /// The key for a gateway's variable. The first names that come are kept: gateways do not make up new ones.
    pub(crate) fn variable<'py>(&mut self, py: Python<'py>, name: &[u8]) -> Bound<'py, PyString> {
        if let Some(key) = self.variables.get(name) {
            return key.bind(py).clone();
        }
        let text: String = name.iter().map(|&byte| char::from(byte)).collect();
        if name.len() > NAME_BYTES_MAX || self.variables.len() >= NAMES_MAX {
            return PyString::new(py, &text);
        }
        let key = PyString::intern(py, &text);
        self.variables.insert(name.into(), key.clone().unbind());
        key
    }
}

fn environ_key(name: &[u8]) -> String {
    let upper =
        name.iter().map(|&byte| if byte == b'-' { '_' } else { char::from(byte.to_ascii_uppercase()) });
    "HTTP_".chars().chain(upper).collect()
}
