//! Runs every rule over the repository.

use std::path::Path;

#[test]
fn the_repository_keeps_the_house_rules() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let files = tidy::text_files(root).unwrap();
    assert!(
        files.iter().any(|file| file.path == "crates/tidy/tests/house_rules.rs"),
        "looked in the wrong place"
    );
    let findings = tidy::check(&files);
    let report: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    assert!(findings.is_empty(), "{} findings:\n{report}", findings.len());
}
