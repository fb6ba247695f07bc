//! Rules for what may be called where: nothing prints, nothing is left undone, the protocols do no I/O.

use crate::finding::Finding;
use crate::source::RustFile;

/// Macros that have no place in the product.
const BANNED_MACROS: [(&str, &str); 7] = [
    ("dbg", "remove it"),
    ("eprint", "log it"),
    ("eprintln", "log it"),
    ("print", "log it"),
    ("println", "log it"),
    ("todo", "do it"),
    ("unimplemented", "implement it"),
];

/// Modules that a protocol must not name: what it needs from outside is passed in.
const BANNED_IN_PROTO: [&[&str]; 7] = [
    &["std", "env"],
    &["std", "fs"],
    &["std", "io"],
    &["std", "net"],
    &["std", "process"],
    &["std", "thread"],
    &["log"],
];

/// Clocks, by whatever path they are named.
const CLOCKS: [&str; 2] = ["Instant", "SystemTime"];

pub(crate) fn check(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, remedy) in BANNED_MACROS {
        // A build script talks to cargo by what it prints.
        if name == "println" && file.path.ends_with("/build.rs") {
            continue;
        }
        for line in product_lines(file, &[name, "!"]) {
            findings.push(file.finding(line, format!("{name}! outside tests; {remedy}")));
        }
    }
    for line in product_lines(file, &[".", "unwrap", "("]) {
        findings.push(file.finding(line, ".unwrap() outside tests; handle it, or expect(\"why it holds\")"));
    }
    if file.crate_name() == Some("portico-proto") {
        for path in file.paths.iter().filter(|path| !file.is_test_line(path.line)) {
            let clock = path.segments.iter().any(|segment| CLOCKS.contains(&segment.as_str()));
            if clock || BANNED_IN_PROTO.iter().any(|banned| path.begins_with(banned)) {
                let name = path.segments.join("::");
                findings.push(file.finding(path.line, format!("{name} in a protocol; have it passed in")));
            }
        }
    }
    findings
}

fn product_lines<'a>(file: &'a RustFile, pattern: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
    file.occurrences(pattern).filter(|line| !file.is_test_line(*line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, code: &str) -> usize {
        check(&RustFile::sample(path, &format!("fn f() {{\n{code};\n}}\n"))).len()
    }

    #[test]
    fn banned_macros_are_found_outside_tests() {
        for (name, _) in BANNED_MACROS {
            let code = format!("{name}!(x)");
            assert_eq!(count("crates/a/src/b.rs", &code), 1, "{name}");
            assert_eq!(count("crates/a/tests/b.rs", &code), 0, "{name}");
            let test = RustFile::sample("crates/a/src/b.rs", &format!("#[test]\nfn f() {{ {code}; }}"));
            assert_eq!(check(&test), []);
        }
        assert_eq!(count("crates/a/build.rs", "println!(\"cargo::error=x\")"), 0);
        assert_eq!(count("crates/a/build.rs", "eprintln!(x)"), 1);
        assert_eq!(count("crates/a/src/b.rs", "// println!()\nwriteln!(f, \"todo!()\")"), 0);
    }

    #[test]
    fn unwrap_is_found_within_macros_too() {
        assert_eq!(count("crates/a/src/b.rs", "x.unwrap()"), 1);
        assert_eq!(count("crates/a/src/b.rs", "write!(f, \"{}\", x.unwrap())"), 1);
        assert_eq!(count("crates/a/src/b.rs", "x.unwrap_or(1)"), 0);
    }

    #[test]
    fn a_protocol_that_reaches_out_is_found() {
        for code in
            ["std::fs::read(x)", "std::time::Instant::now()", "SystemTime::now()", "log::warn!(\"x\")"]
        {
            assert_eq!(count("crates/portico-proto/src/date.rs", code), 1, "{code}");
            assert_eq!(count("crates/portico-server/src/engine.rs", code), 0, "{code}");
        }
        for import in ["std::net::SocketAddr", "std::{env, fmt}", "std::{fmt, time::Instant}"] {
            let file = RustFile::sample("crates/portico-proto/src/a.rs", &format!("use {import};"));
            assert_eq!(check(&file).len(), 1, "{import}");
        }
    }
}
