//! Names of types: each stands once in the workspace, so that whoever reads or searches one knows which it is.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use crate::Finding;
use crate::source::RustFile;

/// Types that each protocol or crate has of its own, by the same name on purpose, and why.
const PAIRS: [(&str, &str); 4] = [
    ("Connection", "one for each protocol, which `protocol.rs` puts together, and the server's own"),
    ("Event", "of a protocol, of its session and of the reactor, each behind its module's name"),
    ("Receive", "the state of reading, one for each protocol"),
    ("Session", "one for each protocol with streams, which `session::Session` puts together"),
];

/// Names that stand more than once for no good reason, with how often. The list may shrink, and never grow: a new
/// type gets a name of its own.
const TO_BE_RENAMED: &[(&str, usize)] = &[
    ("Answer", 3),
    ("Asked", 2),
    ("Block", 2),
    ("Body", 2),
    ("Call", 3),
    ("Crew", 2),
    ("Draft", 2),
    ("Entry", 4),
    ("Exchange", 3),
    ("Facts", 2),
    ("FieldList", 2),
    ("Fields", 2),
    ("Found", 3),
    ("Gateway", 2),
    ("Inquiry", 2),
    ("Keeper", 2),
    ("Lane", 2),
    ("Lent", 2),
    ("Limits", 2),
    ("Line", 2),
    ("Link", 2),
    ("Member", 2),
    ("Offence", 2),
    ("Pair", 2),
    ("Part", 2),
    ("Pipe", 2),
    ("Place", 4),
    ("Port", 3),
    ("Progress", 2),
    ("Queue", 2),
    ("Reading", 2),
    ("Record", 3),
    ("Refusal", 2),
    ("Request", 3),
    ("Setting", 2),
    ("Settings", 3),
    ("Shared", 3),
    ("Slot", 3),
    ("Source", 5),
    ("Stage", 2),
    ("State", 7),
    ("Step", 2),
    ("Stream", 4),
    ("Table", 3),
    ("Target", 2),
    ("Thread", 2),
    ("Times", 2),
    ("Told", 2),
    ("Waiting", 2),
    ("Wake", 2),
    ("Watch", 3),
    ("Watcher", 2),
    ("Withheld", 2),
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
        let known = TO_BE_RENAMED.iter().find(|(known, _)| known == name).map_or(1, |(_, count)| *count);
        if places.len() > known && !PAIRS.iter().any(|(pair, _)| pair == name) {
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
    fn what_is_listed_may_stand_as_often_as_it_is_listed() {
        let declare = |path: &'static str| (path, "struct Connection;");
        assert_eq!(messages(&[declare("crates/a/src/a.rs"), declare("crates/b/src/b.rs")]), [""; 0]);
        let mut names: Vec<&str> = TO_BE_RENAMED.iter().map(|(name, _)| *name).collect();
        names.dedup();
        assert_eq!(names.len(), TO_BE_RENAMED.len(), "each once, in the order of the alphabet");
        assert!(names.is_sorted());
    }
}
