//! Rules for what the root of a crate exports: what somebody outside names, and nothing else.
//!
//! A type that is only returned or taken needs no export to be used; what is exported and named nowhere is a
//! promise that nobody asked for, and circles between modules hide behind it.

use std::collections::HashSet;

use crate::finding::Finding;
use crate::source::RustFile;

/// Checks all files of the repository together: who names an export is in other crates, in tests and in examples.
pub(crate) fn check(files: &[RustFile]) -> Vec<Finding> {
    let named: HashSet<(&str, &str)> = files
        .iter()
        .flat_map(|file| file.paths.iter())
        .filter_map(|path| match path.segments.as_slice() {
            [crate_name, name, ..] => Some((crate_name.as_str(), name.as_str())),
            _ => None,
        })
        .collect();
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("/src/lib.rs")) {
        let Some(crate_name) = file.crate_name() else { continue };
        let as_named = crate_name.replace('-', "_");
        for (name, line) in exported(&file.syntax) {
            if !named.contains(&(as_named.as_str(), name.as_str())) {
                let message = format!("{name} is exported, and nobody outside {crate_name} names it");
                findings.push(file.finding(line, message));
            }
        }
    }
    findings
}

/// Names and lines of the modules and imports of a root that are public.
fn exported(root: &syn::File) -> Vec<(String, usize)> {
    let mut names = Vec::new();
    for item in &root.items {
        match item {
            syn::Item::Mod(item) if is_public(&item.vis) => note(&item.ident, &mut names),
            syn::Item::Use(item) if is_public(&item.vis) => leaves(&item.tree, &mut names),
            _ => {}
        }
    }
    names
}

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

fn note(name: &syn::Ident, names: &mut Vec<(String, usize)>) {
    names.push((name.to_string(), name.span().start().line));
}

/// The names that an import brings.
fn leaves(tree: &syn::UseTree, names: &mut Vec<(String, usize)>) {
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, names),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, names)),
        syn::UseTree::Name(name) => note(&name.ident, names),
        syn::UseTree::Rename(rename) => note(&rename.rename, names),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "mod a;\npub mod b;\nuse a::Own;\npub use a::{One, inner::Two as Three};\n";

    fn messages(others: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<RustFile> = [("crates/portico-a/src/lib.rs", ROOT)]
            .iter()
            .chain(others)
            .map(|(path, text)| RustFile::sample(path, text))
            .collect();
        check(&files).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn an_export_that_nobody_names_is_found() {
        let at = |line, name| {
            format!(
                "crates/portico-a/src/lib.rs:{line}: {name} is exported, and nobody outside portico-a names it"
            )
        };
        assert_eq!(messages(&[]), [at(2, "b"), at(4, "One"), at(4, "Three")]);
        // By the name that it has outside.
        let other = ("crates/portico-b/src/c.rs", "use portico_a::{One, Two};");
        assert_eq!(messages(&[other]), [at(2, "b"), at(4, "Three")]);
    }

    #[test]
    fn other_crates_tests_and_targets_of_fuzzing_have_a_say() {
        for path in ["crates/portico-a/tests/t.rs", "crates/portico-b/src/c.rs", "fuzz/fuzz_targets/f.rs"] {
            let text = "use portico_a::b::f;\nfn g(_: portico_a::One) { m!(portico_a::Three) }";
            assert_eq!(messages(&[(path, text)]), [""; 0], "{path}");
        }
    }
}
