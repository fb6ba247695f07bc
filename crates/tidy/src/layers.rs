//! Rules for who may name whom: imports point downward, between the crates and within them.

mod orders;

use std::collections::HashMap;

use self::orders::{CRATES, ORDERS, Order, PYO3};
use crate::finding::Finding;
use crate::source::NamedPath;
use crate::source::RustFile;

/// The folder whose files alone name the kernel's readiness interface.
const REACTOR: &str = "crates/portico-net/src/reactor/";

/// What they name it by.
const POLLERS: [&[&str]; 2] = [&["rustix", "event", "epoll"], &["mio"]];

/// The folder whose files alone ask which protocol a client speaks.
const CONNECTION: &str = "/src/connection/";

/// What of `portico_proto` says which one that is.
const PROTOCOLS: [&str; 5] = ["Protocol", "ProtocolViolation", "Session", "fastcgi", "http2"];

/// The names that the file of a folder imports, by which others see them: (folder, name) to the module that it
/// comes from.
type Exports<'a> = HashMap<(&'a str, &'a str), &'a str>;

/// Checks all files of the repository together: which module a name of a crate's root comes from is in its
/// `lib.rs`.
pub(crate) fn check(files: &[RustFile]) -> Vec<Finding> {
    let exports = exports(files);
    let mut findings = Vec::new();
    for file in files {
        let Some(crate_name) = file.crate_name() else { continue };
        let orders: Vec<&Order> = ORDERS.iter().filter(|order| order.places(file)).collect();
        for path in file.paths.iter().filter(|path| !file.is_test_line(path.line)) {
            findings.extend(between_crates(file, crate_name, path));
            findings.extend(orders.iter().filter_map(|order| within_folder(file, order, path, &exports)));
            findings.extend(poller(file, path));
            findings.extend(protocol(file, path));
        }
        findings.extend(placed(file, crate_name));
    }
    findings.extend(ghosts(files));
    findings
}

/// What an order names must be there, or it would say less than it seems to.
fn ghosts(files: &[RustFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for order in ORDERS {
        // A sample of some files has not all modules.
        if !files.iter().any(|file| order.is_own_file(file)) {
            continue;
        }
        let modules: Vec<&str> = files.iter().filter_map(|file| file.module_below(order.folder)).collect();
        for name in order.rows.iter().copied().flatten().filter(|name| !modules.contains(name)) {
            findings.push(Finding {
                path: ORDERS_FILE.to_owned(),
                line: 1,
                message: format!("{} has no module {name}; remove it from the order", order.folder),
            });
        }
    }
    findings
}

/// Where the orders are.
const ORDERS_FILE: &str = "crates/tidy/src/layers/orders.rs";

fn exports(files: &[RustFile]) -> Exports<'_> {
    let mut exports = Exports::new();
    for order in ORDERS {
        for path in files.iter().filter(|file| order.is_own_file(file)).flat_map(|file| &file.paths) {
            if let [module, .., name] = path.segments.as_slice()
                && order.row(module).is_some()
            {
                exports.insert((order.folder, name), module);
            }
        }
    }
    exports
}

fn between_crates(file: &RustFile, crate_name: &str, path: &NamedPath) -> Option<Finding> {
    let (_, allowed) = CRATES.iter().find(|(name, _)| *name == crate_name)?;
    let named = path.segments.first()?.as_str();
    let is_guarded = named == PYO3 || CRATES.iter().any(|(name, _)| name.replace('-', "_") == named);
    (is_guarded && !allowed.contains(&named))
        .then(|| file.finding(path.line, format!("{crate_name} must not name {named}")))
}

fn within_folder(file: &RustFile, order: &Order, path: &NamedPath, exports: &Exports<'_>) -> Option<Finding> {
    let from = file.module_below(order.folder)?;
    let name = file.name_below(order.folder, path)?;
    let from_row = order.row(from)?;
    // A function that is exported may have the name of a module.
    let exported = exports.get(&(order.folder, name)).copied().filter(|_| order.row(name).is_none());
    let to = exported.unwrap_or(name);
    if from == to {
        return None;
    }
    let Some(to_row) = order.row(to) else {
        return Some(file.finding(
            path.line,
            format!(
                "{from} must not name {name}, which is in the file of {}; give it a module",
                order.folder
            ),
        ));
    };
    if from_row < to_row {
        return Some(file.finding(path.line, format!("{from} must not name {to}, which is above it")));
    }
    if from_row == to_row {
        return Some(file.finding(path.line, format!("{from} must not name {to}, which is beside it")));
    }
    exported.map(|module| {
        file.finding(
            path.line,
            format!("{name} by the file of {}; name it in its module: {module}::{name}", order.folder),
        )
    })
}

fn poller(file: &RustFile, path: &NamedPath) -> Option<Finding> {
    let names_it = POLLERS.iter().any(|poller| path.begins_with(poller));
    let outside = file.path.starts_with("crates/portico-") && !file.path.starts_with(REACTOR);
    (names_it && outside).then(|| file.finding(path.line, "the poller outside reactor/"))
}

fn protocol(file: &RustFile, path: &NamedPath) -> Option<Finding> {
    let named = PROTOCOLS.into_iter().find(|name| path.begins_with(&["portico_proto", name]))?;
    (file.crate_name() != Some("portico-proto") && !file.path.contains(CONNECTION)).then(|| {
        file.finding(path.line, format!("{named} outside connection/, which alone knows the protocols"))
    })
}

/// A new module must be given its place, or the order would wither unseen.
fn placed(file: &RustFile, crate_name: &str) -> Vec<Finding> {
    if file.is_test_file() {
        return Vec::new();
    }
    let without_place = |folder: &str, module: &str| {
        file.finding(1, format!("{module} has no place in the order of {folder} in {ORDERS_FILE}"))
    };
    let root = format!("{crate_name}/src");
    let no_order = || file.module_below(&root).map(|module| without_place(&root, module));
    let orders = || ORDERS.iter().filter(|order| file.module_below(order.folder).is_some());
    let unordered = (!orders().any(|order| order.folder == root)).then(no_order).flatten();
    let unplaced = orders().filter(|order| !order.is_own_file(file)).filter_map(|order| {
        let module = file.module_below(order.folder)?;
        order.row(module).is_none().then(|| without_place(order.folder, module))
    });
    unordered.into_iter().chain(unplaced).collect()
}

impl Order {
    fn row(&self, module: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.contains(&module))
    }

    /// Whether the file belongs to one of its modules.
    fn places(&self, file: &RustFile) -> bool {
        file.module_below(self.folder).is_some_and(|module| self.row(module).is_some())
    }

    /// Whether the file is the folder's own, which lists its modules.
    fn is_own_file(&self, file: &RustFile) -> bool {
        let path = file.path.strip_prefix("crates/").and_then(|path| path.strip_prefix(self.folder));
        matches!(path, Some("/lib.rs" | "/mod.rs" | ".rs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<RustFile> = files.iter().map(|(path, text)| RustFile::sample(path, text)).collect();
        check(&files).into_iter().map(|finding| finding.message).collect()
    }

    /// As [`messages`], without what is said of modules that the sample does not have.
    fn of_names(files: &[(&str, &str)]) -> Vec<String> {
        let mut messages = messages(files);
        messages.retain(|message| !message.contains("has no module"));
        messages
    }

    #[test]
    fn a_crate_that_looks_upward_is_found() {
        let sample =
            |crate_name: &str, code: &str| of_names(&[(&format!("crates/{crate_name}/src/lib.rs"), code)]);
        assert_eq!(
            sample("portico-proto", "use portico_server::Body;"),
            ["portico-proto must not name portico_server"]
        );
        assert_eq!(sample("portico-config", "fn f() { portico_proto::x(); }").len(), 1);
        assert_eq!(sample("portico-server", "use pyo3::prelude::*;").len(), 1);
        assert_eq!(sample("portico-supervisor", "use {portico_server::Body};").len(), 1);
        assert_eq!(sample("portico-lending", "use portico_proto::Peer;").len(), 1);
        assert_eq!(sample("portico-log", "use portico_net::Server;").len(), 1);
        assert_eq!(sample("portico-net", "use portico_log::Occurrences;").len(), 1);
        assert_eq!(sample("portico-python", "use portico_server::Body; use pyo3::Python;"), [""; 0]);
        assert_eq!(sample("portico-server", "#[cfg(test)]\nmod t { use pyo3::prelude::*; }"), [""; 0]);
    }

    #[test]
    fn a_module_that_looks_upward_is_found_however_it_spells_the_name() {
        let expected = "connection must not name engine, which is above it";
        let lib = ("crates/portico-server/src/lib.rs", "pub use engine::Engine;");
        for (path, code) in [
            ("connection/gateway.rs", "use crate::engine::Call;"),
            ("connection/gateway.rs", "use crate::{body::Body, engine::Call};"),
            ("connection/gateway.rs", "use crate::Engine;"),
            ("connection/gateway.rs", "use super::super::engine::Call;"),
            ("connection/mod.rs", "use super::engine::Call;"),
            ("connection/mod.rs", "fn f(x: &crate::engine::Call) {}"),
            ("connection/mod.rs", "fn f() { assert!(crate::engine::g()); }"),
        ] {
            let path = format!("crates/portico-server/src/{path}");
            assert_eq!(of_names(&[lib, (&path, code)]), [expected], "{code}");
        }
        let downward = "use crate::connection::Table;";
        assert_eq!(of_names(&[("crates/portico-server/src/engine/accept.rs", downward)]), [""; 0]);
        let sibling = "use super::engine::Call;";
        assert_eq!(of_names(&[("crates/portico-server/src/connection/gateway.rs", sibling)]), [""; 0]);
    }

    #[test]
    fn a_module_without_a_place_is_found() {
        let path = "crates/portico-server/src/helpers/mod.rs";
        assert!(of_names(&[(path, "")])[0].starts_with("helpers has no place"));
    }

    #[test]
    fn a_crate_without_an_order_is_found() {
        let path = "crates/portico-new/src/router.rs";
        assert!(messages(&[(path, "")])[0].contains("the order of portico-new"));
    }

    #[test]
    fn an_order_that_names_a_module_which_is_not_there_is_found() {
        let found =
            messages(&[("crates/portico-reload/src/lib.rs", ""), ("crates/portico-reload/src/kind.rs", "")]);
        let expected = "portico-reload/src has no module watch; remove it from the order";
        assert!(found.contains(&expected.to_owned()));
        assert!(!found.iter().any(|message| message.contains("module kind")), "{found:?}");
    }

    #[test]
    fn an_order_holds_beside_and_behind_the_root_too() {
        let lib = ("crates/portico-files/src/lib.rs", "use owner::Owner;\nstruct Own;");
        let found = |code: &str| of_names(&[lib, ("crates/portico-files/src/log.rs", code)]);
        assert_eq!(found("use crate::read::read_text;"), ["log must not name read, which is beside it"]);
        assert_eq!(found("use crate::owner::Owner;"), [""; 0]);
        assert_eq!(
            found("use crate::Owner;"),
            ["Owner by the file of portico-files/src; name it in its module: owner::Owner"]
        );
        assert_eq!(
            found("use crate::Own;"),
            ["log must not name Own, which is in the file of portico-files/src; give it a module"]
        );
    }

    #[test]
    fn the_modules_within_a_folder_have_an_order_as_well() {
        let own_file = ("crates/portico-python/src/worker/mod.rs", "use app::Loaded;\nstruct Own;");
        let found = |file: &str, code: &str| {
            of_names(&[own_file, (&format!("crates/portico-python/src/worker/{file}"), code)])
        };
        for code in ["use super::tree::run;", "use crate::worker::tree::run;"] {
            assert_eq!(found("start.rs", code), ["start must not name tree, which is above it"], "{code}");
        }
        assert_eq!(found("tree.rs", "use super::alone;"), ["tree must not name alone, which is beside it"]);
        assert!(found("tree.rs", "use super::Loaded;")[0].contains("name it in its module: app::Loaded"));
        assert!(found("tree.rs", "use super::Own;")[0].contains("give it a module"));
        assert!(found("helpers.rs", "")[0].starts_with("helpers has no place in the order"));
        assert_eq!(found("tree.rs", "use super::start::set_up;\nuse crate::gateway::call;"), [""; 0]);
    }

    #[test]
    fn a_protocol_is_found_outside_the_connection() {
        let sample = |path: &str, code: &str| of_names(&[(&format!("crates/{path}"), code)]);
        for code in ["use portico_proto::Protocol;", "fn f(_: portico_proto::http2::Settings) {}"] {
            assert!(sample("portico-server/src/queue.rs", code)[0].contains("outside connection/"), "{code}");
            assert!(
                sample("portico-python/src/conf/mod.rs", code)[0].contains("outside connection/"),
                "{code}"
            );
            assert_eq!(sample("portico-server/src/connection/mod.rs", code), [""; 0], "{code}");
        }
        let fine = "use portico_proto::{NewStream, RequestHead, http1};";
        assert_eq!(sample("portico-server/src/queue.rs", fine), [""; 0]);
    }

    #[test]
    fn the_poller_is_found_outside_the_reactor() {
        let code = "use rustix::event::{epoll, Timespec};";
        assert_eq!(
            messages(&[("crates/portico-server/src/engine.rs", code)]),
            ["the poller outside reactor/"]
        );
        assert_eq!(messages(&[("crates/portico-net/src/reactor/poll.rs", code)]), [""; 0]);
    }
}
