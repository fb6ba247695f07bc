//! Names of types: each stands once in the workspace, so that whoever reads or searches one knows which it is.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use crate::finding::Finding;
use crate::source::RustFile;

/// Types that each protocol or crate has of its own, by the same name on purpose, and why.
const PAIRS: [(&str, &str); 7] = [
    ("Connection", "one for each protocol, which `protocol.rs` puts together, and the server's own"),
    ("Event", "of a protocol, of its session and of the reactor, each behind its module's name"),
    ("Receive", "the state of reading, one for each protocol"),
    ("Session", "one for each protocol with streams, which `session::Session` puts together"),
    ("Settings", "of a session, one for each protocol with streams"),
    ("Stream", "one for each protocol with streams"),
    ("StreamIo", "one for each protocol with streams, which `session::StreamIo` puts together"),
];

/// Checks all files of the repository together.
pub(crate) fn check(files: &[RustFile]) -> Vec<Finding> {
    let mut types = BTreeMap::<String, Vec<(&RustFile, usize)>>::new();
    for file in files.iter().filter(|file| file.crate_name().is_some() && !file.is_test_file()) {
        let mut found = Types::default();
        found.visit_file(&file.syntax);
        for (name, line) in found.found.into_iter().filter(|(_, line)| !file.is_test_line(*line)) {
            types.entry(name).or_default().push((file, line));
        }
    }
    let mut findings = Vec::new();
    for (name, places) in &types {
        if places.len() > 1 && !PAIRS.iter().any(|(pair, _)| pair == name) {
            let all: Vec<&str> = places.iter().map(|(file, _)| file.path.as_str()).collect();
            let message = format!(
                "the type {name} stands {} times ({}); give the new one a name of its own",
                places.len(),
                all.join(", ")
            );
            findings.extend(places.last().map(|(file, line)| file.finding(*line, message)));
        }
    }
    findings
}

/// Collects the types that files declare, those of traits' implementations aside.
#[derive(Default)]
struct Types {
    found: Vec<(String, usize)>,
}

impl Types {
    fn note(&mut self, name: &syn::Ident) {
        self.found.push((name.to_string(), name.span().start().line));
    }
}

impl<'ast> Visit<'ast> for Types {
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.note(&item.ident);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        visit::visit_item_mod(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.note(&item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.note(&item.ident);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.note(&item.ident);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<RustFile> = files.iter().map(|(path, text)| RustFile::sample(path, text)).collect();
        check(&files).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_type_that_stands_twice_is_found() {
        let first = ("crates/a/src/lib.rs", "pub struct Parcel;");
        for second in ["enum Parcel {}", "trait Parcel {}", "type Parcel = u8;", "\nmod m { struct Parcel; }"]
        {
            let found = messages(&[first, ("crates/b/src/x.rs", second)]);
            assert_eq!(found.len(), 1, "{second}");
            assert!(found[0].contains("Parcel stands 2 times (crates/a/src/lib.rs, crates/b/src/x.rs)"));
        }
    }

    #[test]
    fn tests_and_associated_types_have_what_names_they_like() {
        let first = ("crates/a/src/lib.rs", "struct Parcel;");
        for (path, text) in [
            ("crates/b/tests/x.rs", "struct Parcel;"),
            ("crates/b/src/x/tests.rs", "struct Parcel;"),
            ("crates/b/src/x.rs", "#[cfg(test)]\nmod tests { struct Parcel; }"),
            ("crates/b/src/x.rs", "impl T for U { type Parcel = u8; }"),
            ("crates/b/src/x.rs", "fn f() -> Parcel { Parcel }"),
        ] {
            assert_eq!(messages(&[first, (path, text)]), [""; 0], "{text}");
        }
    }

    #[test]
    fn names_that_protocols_share_may_stand_twice() {
        let declare = |path: &'static str| (path, "struct Connection;");
        assert_eq!(messages(&[declare("crates/a/src/a.rs"), declare("crates/b/src/b.rs")]), [""; 0]);
    }
}
