//! Rules for who may name whom: imports point downward, between the crates and within them.

use std::collections::HashMap;

use crate::source::NamedPath;
use crate::{Finding, RustFile};

/// What each crate may name of the others, and of what they alone may name. The protocols, what opens files for
/// root and what handles descriptors stand on nothing; the data plane on all; Python is the top's alone.
const CRATES: [(&str, &[&str]); 8] = [
    ("portico-proto", &[]),
    ("portico-files", &[]),
    ("portico-config", &["portico_files"]),
    ("portico-os", &["portico_files"]),
    ("portico-server", &["portico_config", "portico_files", "portico_os", "portico_proto"]),
    ("portico-reload", &["portico_config"]),
    ("portico-supervisor", &["portico_config", "portico_files", "portico_os"]),
    (
        "portico-python",
        &[
            "portico_config",
            "portico_files",
            "portico_os",
            "portico_proto",
            "portico_reload",
            "portico_server",
            "portico_supervisor",
            "pyo3",
        ],
    ),
];

/// Names that the table above is about.
const GUARDED: [&str; 9] = [
    "portico_config",
    "portico_files",
    "portico_os",
    "portico_proto",
    "portico_python",
    "portico_reload",
    "portico_server",
    "portico_supervisor",
    "pyo3",
];

/// The modules of a crate from the bottom up; one may name its own row and those before it.
struct Order {
    crate_name: &'static str,
    rows: &'static [&'static [&'static str]],
    /// The seam: plain types that any module may name.
    seam: &'static str,
}

const ORDERS: [Order; 4] = [
    Order {
        crate_name: "portico-os",
        rows: &[&["folder", "standard"], &["memory", "sink", "vital"], &["backlog"], &["log_output"]],
        seam: "",
    },
    Order {
        crate_name: "portico-server",
        rows: &[
            &["heap", "occurrences", "spool"],
            &["body", "forwarded", "request_id"],
            &["statsd", "syslog"],
            &["access_log", "metrics"],
            &["reactor"],
            &["tls"],
            &["listener", "transport"],
            &["handover"],
            &["static_files"],
            &["route"],
            &["connection"],
            &["queue"],
            &["engine"],
            // The two ends of a call.
            &["lending", "responder"],
        ],
        seam: "application",
    },
    Order {
        crate_name: "portico-supervisor",
        rows: &[
            &["descriptors"],
            &["backlog", "control", "scoreboard", "memory", "notify", "signals"],
            &["capacity", "pidfile", "stacks_file"],
            &["post"],
            &["autoscale", "state"],
            &["report", "process", "upgrade", "host"],
            &["supervisor"],
        ],
        seam: "",
    },
    Order {
        crate_name: "portico-python",
        rows: &[
            &["raw"],
            &["error"],
            &["fork", "import_path"],
            &["daemon"],
            &["logging"],
            &["hub", "interpreter", "record", "stacks", "stray", "conf"],
            &["gateway"],
            &["command"],
            &["worker"],
        ],
        seam: "",
    },
];

/// The folder whose files alone name the kernel's readiness interface.
const REACTOR: &str = "crates/portico-server/src/reactor/";

/// What they name it by.
const POLLERS: [&[&str]; 2] = [&["rustix", "event", "epoll"], &["mio"]];

/// What a crate's root re-exports: (crate, name) to the module that it comes from.
type Exports<'a> = HashMap<(&'a str, &'a str), &'a str>;

/// Checks all files of the repository together: which module a name of a crate's root comes from is in its
/// `lib.rs`.
pub(crate) fn check(files: &[RustFile]) -> Vec<Finding> {
    let exports = exports(files);
    let mut findings = Vec::new();
    for file in files {
        let Some(crate_name) = file.crate_name() else { continue };
        for path in file.paths.iter().filter(|path| !file.is_test_line(path.line)) {
            findings.extend(between_crates(file, crate_name, path));
            findings.extend(within_crate(file, crate_name, path, &exports));
            findings.extend(poller(file, path));
        }
        findings.extend(placed(file, crate_name));
    }
    findings
}

fn exports(files: &[RustFile]) -> Exports<'_> {
    let mut exports = Exports::new();
    for file in files.iter().filter(|file| file.path.ends_with("/src/lib.rs")) {
        for path in &file.paths {
            let segments = path.segments.iter().map(String::as_str).collect::<Vec<_>>();
            if let (Some(crate_name), [module, .., name]) = (file.crate_name(), segments.as_slice()) {
                exports.insert((crate_name, name), module);
            }
        }
    }
    exports
}

fn between_crates(file: &RustFile, crate_name: &str, path: &NamedPath) -> Option<Finding> {
    let (_, allowed) = CRATES.iter().find(|(name, _)| *name == crate_name)?;
    let named = path.segments.first()?.as_str();
    (GUARDED.contains(&named) && !allowed.contains(&named))
        .then(|| file.finding(path.line, format!("{crate_name} must not name {named}")))
}

fn within_crate(
    file: &RustFile,
    crate_name: &str,
    path: &NamedPath,
    exports: &Exports<'_>,
) -> Option<Finding> {
    let order = ORDERS.iter().find(|order| order.crate_name == crate_name)?;
    let from = file.top_module()?;
    let name = file.name_from_root(path)?;
    let to = exports.get(&(crate_name, name)).copied().unwrap_or(name);
    let (from_row, to_row) = (order.row(from)?, order.row(to)?);
    (from_row < to_row)
        .then(|| file.finding(path.line, format!("{from} must not name {to}, which is above it")))
}

fn poller(file: &RustFile, path: &NamedPath) -> Option<Finding> {
    let names_it = POLLERS.iter().any(|poller| path.begins_with(poller));
    (file.crate_name() == Some("portico-server") && names_it && !file.path.starts_with(REACTOR))
        .then(|| file.finding(path.line, "the poller outside reactor/"))
}

/// A new module must be given its place, or the order would wither unseen.
fn placed(file: &RustFile, crate_name: &str) -> Option<Finding> {
    let order = ORDERS.iter().find(|order| order.crate_name == crate_name)?;
    let module = file.top_module()?;
    let known = order.row(module).is_some() || module == order.seam || module == "lib";
    (!known && !file.is_test_file())
        .then(|| file.finding(1, format!("{module} has no place in the order in crates/tidy/src/layers.rs")))
}

impl Order {
    fn row(&self, module: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.contains(&module))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<RustFile> = files.iter().map(|(path, text)| RustFile::sample(path, text)).collect();
        check(&files).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_crate_that_looks_upward_is_found() {
        let sample =
            |crate_name: &str, code: &str| messages(&[(&format!("crates/{crate_name}/src/lib.rs"), code)]);
        assert_eq!(
            sample("portico-proto", "use portico_server::Body;"),
            ["portico-proto must not name portico_server"]
        );
        assert_eq!(sample("portico-config", "fn f() { portico_proto::x(); }").len(), 1);
        assert_eq!(sample("portico-server", "use pyo3::prelude::*;").len(), 1);
        assert_eq!(sample("portico-supervisor", "use {portico_server::Body};").len(), 1);
        assert_eq!(sample("portico-python", "use portico_server::Body; use pyo3::Python;"), [""; 0]);
        assert_eq!(sample("portico-server", "#[cfg(test)]\nmod t { use pyo3::prelude::*; }"), [""; 0]);
    }

    #[test]
    fn a_module_that_looks_upward_is_found_however_it_spells_the_name() {
        let expected = "transport must not name connection, which is above it";
        let lib = ("crates/portico-server/src/lib.rs", "pub use connection::Connection;");
        for (path, code) in [
            ("transport/tcp.rs", "use crate::connection::Table;"),
            ("transport/tcp.rs", "use crate::{body::Body, connection::Table};"),
            ("transport/tcp.rs", "use crate::Connection;"),
            ("transport/tcp.rs", "use super::super::connection::Table;"),
            ("transport/mod.rs", "use super::connection::Table;"),
            ("transport/mod.rs", "fn f(x: &crate::connection::Table) {}"),
            ("transport/mod.rs", "fn f() { assert!(crate::connection::g()); }"),
        ] {
            let path = format!("crates/portico-server/src/{path}");
            assert_eq!(messages(&[lib, (&path, code)]), [expected], "{code}");
        }
        let downward = "use crate::transport::Transport;";
        assert_eq!(messages(&[("crates/portico-server/src/connection/mod.rs", downward)]), [""; 0]);
        let sibling = "use super::connection::Table;";
        assert_eq!(messages(&[("crates/portico-server/src/transport/tcp.rs", sibling)]), [""; 0]);
    }

    #[test]
    fn a_module_without_a_place_is_found() {
        let path = "crates/portico-server/src/helpers/mod.rs";
        assert!(messages(&[(path, "")])[0].starts_with("helpers has no place"));
    }

    #[test]
    fn the_poller_is_found_outside_the_reactor() {
        let code = "use rustix::event::{epoll, Timespec};";
        assert_eq!(
            messages(&[("crates/portico-server/src/engine.rs", code)]),
            ["the poller outside reactor/"]
        );
        assert_eq!(messages(&[("crates/portico-server/src/reactor/poll.rs", code)]), [""; 0]);
    }
}
