//! The house rules that a reader would tire of checking, as one test: `cargo test -p tidy`.
//!
//! Each rule is a function from files to findings and is tested here on a bad sample, so that it is known to
//! be able to fail. `tests/house_rules.rs` runs them all over the repository. What rustfmt, clippy and ruff
//! check already is left to them.
#![forbid(unsafe_code)]

mod calls;
mod exports;
mod finding;
mod layers;
mod names;
mod retired;
mod shape;
mod source;
mod text;
mod walk;

use finding::Finding;
use source::RustFile;
use text::TextFile;
pub use walk::text_files;

/// What every rule says about these files, all of the repository.
pub fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files.iter().flat_map(text::check).collect();
    findings.extend(files.iter().flat_map(retired::check));
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        match RustFile::parse(file) {
            Ok(source) => sources.push(source),
            Err(finding) => findings.push(finding),
        }
    }
    for source in &sources {
        findings.extend(shape::check(source));
        findings.extend(calls::check(source));
    }
    findings.extend(exports::check(&sources));
    findings.extend(layers::check(&sources));
    findings.extend(names::check(&sources));
    findings
}
