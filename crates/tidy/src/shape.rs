//! Rules for the shape of a Rust file: its head, its length, the length of its functions, the size of its structs,
//! where `unsafe` may stand.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::finding::Finding;
use crate::source::RustFile;

/// Lines of a function from its signature to its closing brace: what fits a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines of code in a file, without its tests, comments and blank lines.
const FILE_LINES_MAX: usize = 500;

/// What a longer file says in its head, followed by the reason.
const LONG_FILE_REASON: &str = "One file because";

/// Crates of the data plane: what has all states of a client at once is where they are mixed up.
const DATA_PLANE: [&str; 5] =
    ["portico-lending", "portico-log", "portico-net", "portico-proto", "portico-server"];

/// Fields of a struct there, and booleans among them; a larger one says "because" in its doc comment.
const FIELDS_MAX: usize = 15;
const BOOLEANS_MAX: usize = 3;

/// Files in which `unsafe` may stand, each block with its `SAFETY:` comment (clippy sees to that).
const UNSAFE_FILES: [&str; 9] = [
    "crates/portico-lending/src/slot.rs",
    "crates/portico-net/src/listener.rs",
    "crates/portico-net/src/transport/unsent.rs",
    "crates/portico-python/src/raw.rs",
    "crates/portico-server/src/heap.rs",
    "crates/portico-supervisor/src/scoreboard.rs",
    "crates/portico-supervisor/src/signals.rs",
    "crates/portico-supervisor/src/stacks.rs",
    "crates/portico-worker/src/raw.rs",
];

pub(crate) fn check(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    head(file, &mut findings);
    length(file, &mut findings);
    unsafe_code(file, &mut findings);
    Functions { file, findings: &mut findings }.visit_file(&file.syntax);
    findings
}

fn head(file: &RustFile, findings: &mut Vec<Finding>) {
    let first = file.text.lines().find(|line| !line.starts_with("#!") && !line.is_empty());
    if !first.is_some_and(|line| line.starts_with("//! ")) {
        findings.push(file.finding(1, "no `//!` head that says what the file owns"));
    }
}

fn length(file: &RustFile, findings: &mut Vec<Finding>) {
    let lines = file
        .text
        .lines()
        .enumerate()
        .filter(|(index, line)| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with("//") && !file.is_test_line(index + 1)
        })
        .count();
    let reasoned = file
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .any(|line| line.contains(LONG_FILE_REASON));
    if lines > FILE_LINES_MAX && !reasoned {
        let remedy = format!("split the file or say in its head \"{LONG_FILE_REASON} ...\"");
        findings.push(file.finding(1, format!("{lines} lines of code; past {FILE_LINES_MAX} {remedy}")));
    }
}

fn unsafe_code(file: &RustFile, findings: &mut Vec<Finding>) {
    if UNSAFE_FILES.contains(&file.path.as_str()) || file.is_test_file() {
        return;
    }
    for line in file.occurrences(&["unsafe"]) {
        findings.push(file.finding(line, "unsafe outside the files that crates/tidy/src/shape.rs lists"));
    }
}

struct Functions<'a> {
    file: &'a RustFile,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let lines = last + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let message = format!("{} has {lines} lines; at most {FUNCTION_LINES_MAX}", signature.ident);
            self.findings.push(self.file.finding(first, message));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let line = item.ident.span().start().line;
        let in_data_plane = self.file.crate_name().is_some_and(|name| DATA_PLANE.contains(&name));
        if in_data_plane && !self.file.is_test_file() && !self.file.is_test_line(line) {
            let booleans = item.fields.iter().filter(|field| is_boolean(&field.ty)).count();
            let fields = item.fields.len();
            if (fields > FIELDS_MAX || booleans > BOOLEANS_MAX) && !says_because(&item.attrs) {
                let message = format!(
                    "{} has {fields} fields and {booleans} booleans; past {FIELDS_MAX} and {BOOLEANS_MAX} \
                     divide it, or say in its doc comment why not: \"because ...\"",
                    item.ident
                );
                self.findings.push(self.file.finding(line, message));
            }
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn is_boolean(ty: &syn::Type) -> bool {
    matches!(ty, syn::Type::Path(path) if path.path.is_ident("bool"))
}

fn says_because(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => text.value().contains("because"),
            _ => false,
        },
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&RustFile::sample(path, text)).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_missing_head_is_found() {
        assert_eq!(messages("a.rs", "use std::fmt;").len(), 1);
        assert_eq!(messages("a.rs", "// What it owns.\nuse std::fmt;").len(), 1);
        assert_eq!(messages("a.rs", "//! What it owns.\nuse std::fmt;"), [""; 0]);
        assert_eq!(messages("a.rs", "#![no_main]\n//! What it owns.\nuse std::fmt;"), [""; 0]);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = "let _ = 1;\n".repeat(68);
        for (before, after) in [("", ""), ("struct S;\nimpl S {\n", "}"), ("trait T {\n", "}")] {
            let fits = format!("//! Head.\n{before}fn f() {{\n{body}}}\n{after}");
            assert_eq!(messages("a.rs", &fits), [""; 0]);
            let long = format!("//! Head.\n{before}fn f() {{\n{body}\n}}\n{after}");
            assert_eq!(messages("a.rs", &long).len(), 1, "{before}");
            assert!(messages("a.rs", &long)[0].ends_with("f has 71 lines; at most 70"));
        }
    }

    #[test]
    fn a_long_file_is_found_unless_its_head_has_a_reason() {
        let code = "const A: u8 = 1;\n// Comments do not count.\n\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(messages("a.rs", &format!("//! Head.\n{code}{tests}")), [""; 0]);
        assert_eq!(messages("a.rs", &format!("//! Head.\n{code}const B: u8 = 1;\n")).len(), 1);
        let reason = format!("//! Head. {LONG_FILE_REASON} it is one table.\n{code}const B: u8 = 1;\n");
        assert_eq!(messages("a.rs", &reason), [""; 0]);
    }

    #[test]
    fn a_large_struct_of_the_data_plane_gives_a_reason() {
        let of = |doc: &str, types: &[&str]| {
            let fields: Vec<_> = types.iter().enumerate().map(|(at, ty)| format!("f{at}: {ty}")).collect();
            format!("//! Head.\n{doc}struct S {{ {} }}\n", fields.join(", "))
        };
        let (path, reason) = ("crates/portico-server/src/a.rs", "/// One, because they go together.\n");
        for (largest, larger) in [(vec!["u8"; 15], vec!["u8"; 16]), (vec!["bool"; 3], vec!["bool"; 4])] {
            assert_eq!(messages(path, &of("", &largest)), [""; 0]);
            assert_eq!(messages(path, &of("/// Large.\n", &larger)).len(), 1);
            assert_eq!(messages(path, &of(reason, &larger)), [""; 0]);
            assert_eq!(messages("crates/portico-config/src/a.rs", &of("", &larger)), [""; 0]);
        }
    }

    #[test]
    fn unsafe_is_found_outside_the_listed_files() {
        let text = "//! Head.\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(messages("crates/portico-server/src/engine.rs", text).len(), 1);
        assert_eq!(messages(UNSAFE_FILES[0], text), [""; 0]);
        assert_eq!(messages("a.rs", "//! Head.\n#![forbid(unsafe_code)]\n"), [""; 0]);
    }
}
