//! A Rust file as the rules look at it: its tree, its tokens, the paths that it names, and which lines are
//! tests.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::finding::Finding;
use crate::text::TextFile;

/// A source file that was parsed, with its tokens and the paths that it names. The rules read it and change
/// nothing.
pub struct RustFile {
    /// Path from the repository's root.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Its syntax tree.
    pub syntax: syn::File,
    /// Every token in order, those within macros included, which the tree does not open.
    pub tokens: Vec<Token>,
    /// Every path that it names: of imports, of code, and within macros.
    pub paths: Vec<NamedPath>,
    /// First and last lines of the items that are compiled for tests alone.
    tests: Vec<(usize, usize)>,
}

/// A word, a sign or an opening bracket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// As it is written.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
}

/// A path such as `crate::body::Body`, an import's braces taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// Its names in order.
    pub segments: Vec<String>,
    /// Line, from 1.
    pub line: usize,
}

impl NamedPath {
    /// Whether its first names are those.
    pub fn begins_with(&self, names: &[&str]) -> bool {
        self.segments.len() >= names.len()
            && self.segments.iter().zip(names).all(|(left, right)| left == right)
    }
}

impl RustFile {
    /// Parses a file.
    ///
    /// # Errors
    /// It is not Rust.
    pub fn parse(file: &TextFile) -> Result<Self, Finding> {
        let finding = |line, message| Finding { path: file.path.clone(), line, message };
        let syntax = syn::parse_file(&file.text)
            .map_err(|error| finding(error.span().start().line, error.to_string()))?;
        let stream: TokenStream = file.text.parse().map_err(|error| finding(1, format!("{error}")))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut tests = TestItems::default();
        tests.visit_file(&syntax);
        let mut paths = Paths::default();
        paths.visit_file(&syntax);
        Ok(Self {
            path: file.path.clone(),
            text: file.text.clone(),
            syntax,
            tokens,
            paths: paths.found,
            tests: tests.lines,
        })
    }

    /// Whether nothing of the file is in the product: a test, a bench, an example, or a module that a
    /// `#[cfg(test)]` brings in. Those are called `tests.rs` or `testing.rs` here.
    pub fn is_test_file(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        matches!(name, "tests.rs" | "testing.rs")
            || ["/tests/", "/benches/", "/examples/"].iter().any(|folder| self.path.contains(folder))
            || ["bench/", "fuzz/", "tests/"].iter().any(|folder| self.path.starts_with(folder))
    }

    /// Whether the line is compiled for tests alone.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// The crate that it is a source of: `portico-proto` for `crates/portico-proto/src/lib.rs`.
    pub fn crate_name(&self) -> Option<&str> {
        let (name, rest) = self.path.strip_prefix("crates/")?.split_once('/')?;
        rest.starts_with("src/").then_some(name)
    }

    /// The module directly below `folder` that it belongs to: `reactor` for `reactor/poll.rs` below
    /// `portico-net/src`. The file that stands for the folder itself is `lib` or `mod` there.
    pub fn module_below(&self, folder: &str) -> Option<&str> {
        let rest = self.path.strip_prefix("crates/")?.strip_prefix(folder)?.strip_prefix('/')?;
        Some(rest.split_once('/').map_or_else(|| rest.trim_end_matches(".rs"), |(module, _)| module))
    }

    /// The name directly below `folder` that `path` begins at, however it leads there: `app` below
    /// `portico-python/src/worker` for `crate::worker::app::load`, and for `super::app::load` in one of its files.
    /// `None` for a path that leads elsewhere, or begins at no module of this crate.
    pub fn name_below<'a>(&'a self, folder: &str, path: &'a NamedPath) -> Option<&'a str> {
        let crate_name = self.crate_name()?;
        let (named_crate, root) = folder.split_once("/src").filter(|(name, _)| *name == crate_name)?;
        let own = self.path.strip_prefix("crates/")?.strip_prefix(named_crate)?.strip_prefix("/src/")?;
        let own = own.trim_end_matches(".rs").trim_end_matches("/mod");
        let own: Vec<&str> = own.split('/').filter(|module| *module != "lib").collect();
        let root: Vec<&str> = root.split('/').filter(|module| !module.is_empty()).collect();
        let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
        let (begin, named) = match path.segments.first()?.as_str() {
            "crate" => (&own[..0], &path.segments[1..]),
            "super" => (own.get(..own.len().checked_sub(supers)?)?, &path.segments[supers..]),
            _ => return None,
        };
        let mut whole = begin.iter().copied().chain(named.iter().map(String::as_str));
        root.iter().all(|module| whole.next() == Some(module)).then(|| whole.next())?
    }

    /// Lines on which the tokens of `pattern` stand one after the other.
    pub fn occurrences(&self, pattern: &[&str]) -> impl Iterator<Item = usize> {
        self.tokens
            .windows(pattern.len())
            .filter(move |window| window.iter().zip(pattern).all(|(token, text)| token.text == *text))
            .map(|window| window[0].line)
    }

    /// A finding in this file.
    pub fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }

    /// For the rules' own tests.
    #[cfg(test)]
    pub fn sample(path: &str, text: &str) -> Self {
        Self::parse(&TextFile { path: path.to_owned(), text: text.to_owned() }).unwrap()
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let open = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => "(",
                    proc_macro2::Delimiter::Brace => "{",
                    proc_macro2::Delimiter::Bracket => "[",
                    proc_macro2::Delimiter::None => "",
                };
                tokens.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), tokens);
            }
            other => tokens.push(Token { text: other.to_string(), line }),
        }
    }
}

/// Collects the paths of code, of imports, and of the tokens that macros are given.
#[derive(Default)]
struct Paths {
    found: Vec<NamedPath>,
}

impl Paths {
    fn note_import(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.note_import(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_import(tree, before)),
            syn::UseTree::Name(name) => self.push(with(&name.ident), &name.ident),
            syn::UseTree::Rename(rename) => self.push(with(&rename.ident), &rename.ident),
            syn::UseTree::Glob(glob) => self.push(before.to_vec(), glob),
        }
    }

    fn note_tokens(&mut self, stream: TokenStream) {
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let is_name =
            |token: &Token| token.text.starts_with(|char: char| char.is_alphabetic() || char == '_');
        let mut rest = tokens.as_slice();
        while let Some((first, mut after)) = rest.split_first() {
            if is_name(first) {
                let mut segments = vec![first.text.clone()];
                while let [colon, second, name, ..] = after
                    && colon.text == ":"
                    && second.text == ":"
                    && is_name(name)
                {
                    segments.push(name.text.clone());
                    after = &after[3..];
                }
                self.found.push(NamedPath { segments, line: first.line });
            }
            rest = after;
        }
    }

    fn push(&mut self, segments: Vec<String>, at: &dyn Spanned) {
        self.found.push(NamedPath { segments, line: at.span().start().line });
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_import(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), path);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.note_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// Collects the lines of items under `#[test]` or `#[cfg(test)]`, `all(test, ...)` included.
#[derive(Default)]
struct TestItems {
    lines: Vec<(usize, usize)>,
}

impl TestItems {
    fn note(&mut self, attributes: &[syn::Attribute], item: &dyn Spanned) {
        if attributes.iter().any(is_for_tests) {
            let span = item.span();
            self.lines.push((span.start().line, span.end().line));
        }
    }
}

impl<'ast> Visit<'ast> for TestItems {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Fn(item) => self.note(&item.attrs, item),
            syn::Item::Impl(item) => self.note(&item.attrs, item),
            syn::Item::Macro(item) => self.note(&item.attrs, item),
            syn::Item::Mod(item) => self.note(&item.attrs, item),
            syn::Item::Use(item) => self.note(&item.attrs, item),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.attrs, item);
        visit::visit_impl_item_fn(self, item);
    }
}

fn is_for_tests(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let mut words = Vec::new();
    flatten(list.tokens.clone(), &mut words);
    let names = |text: &str| words.iter().any(|word| word.text == text);
    list.path.is_ident("cfg") && names("test") && !names("not") && !names("any")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_are_told_from_others() {
        let file = RustFile::sample(
            "crates/a/src/b.rs",
            "fn a() {}\n#[test]\nfn b() {\n}\n#[cfg(all(test, unix))]\nmod c {\n}\n#[cfg(not(test))]\n\
             fn d() {}\nstruct S;\nimpl S {\n#[cfg(test)]\nfn e() {\n}\n}\n",
        );
        let test_lines: Vec<usize> = (1..=15).filter(|line| file.is_test_line(*line)).collect();
        assert_eq!(test_lines, [2, 3, 4, 5, 6, 7, 12, 13, 14]);
    }

    #[test]
    fn a_file_knows_its_place() {
        let file = RustFile::sample("crates/portico-net/src/reactor/poll.rs", "");
        assert_eq!(file.crate_name(), Some("portico-net"));
        assert_eq!(file.module_below("portico-net/src"), Some("reactor"));
        assert_eq!(file.module_below("portico-net/src/reactor"), Some("poll"));
        assert_eq!(file.module_below("portico-net/src/tls"), None);
        let file = RustFile::sample("crates/portico-server/src/engine.rs", "");
        assert_eq!(file.module_below("portico-server/src"), Some("engine"));
        assert!(!file.is_test_file());
        for path in ["crates/a/tests/b.rs", "crates/a/src/b/tests.rs", "fuzz/fuzz_targets/a.rs"] {
            assert!(RustFile::sample(path, "").is_test_file(), "{path}");
        }
    }

    #[test]
    fn a_path_leads_to_the_same_name_however_it_is_spelt() {
        let name = |path: &str, folder: &str, code: &str| {
            let file = RustFile::sample(path, &format!("use {code};"));
            file.name_below(folder, &file.paths[0]).map(ToOwned::to_owned)
        };
        let worker = "a/src/worker";
        for (path, code) in [
            ("crates/a/src/gateway.rs", "crate::worker::app::load"),
            ("crates/a/src/gateway.rs", "super::worker::app::load"),
            ("crates/a/src/worker/mod.rs", "super::worker::app"),
            ("crates/a/src/worker/tree.rs", "super::app::load"),
            ("crates/a/src/worker/tree/host.rs", "super::super::app::load"),
        ] {
            assert_eq!(name(path, worker, code).as_deref(), Some("app"), "{path}: {code}");
        }
        assert_eq!(name("crates/a/src/worker/tree.rs", "a/src", "super::app").as_deref(), Some("worker"));
        assert_eq!(name("crates/a/src/lib.rs", "a/src", "crate::app").as_deref(), Some("app"));
        for (path, code) in [
            ("crates/a/src/worker/tree.rs", "crate::gateway::app"),
            ("crates/a/src/worker/tree.rs", "super::super::gateway::app"),
            ("crates/a/src/worker/tree.rs", "app::load"),
            ("crates/b/src/worker/tree.rs", "super::app::load"),
            ("crates/a/src/worker/tree.rs", "super"),
        ] {
            assert_eq!(name(path, worker, code), None, "{path}: {code}");
        }
    }

    #[test]
    fn paths_are_found_in_imports_code_and_macros() {
        let text = "use a::{b, c::{self, d as e}, f::*};\nfn g(_: h::I<j::K>) { m!(n::o(\"p::q\")) }";
        let paths: Vec<String> =
            RustFile::sample("a.rs", text).paths.iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(paths, ["a::b", "a::c::self", "a::c::d", "a::f", "h::I", "j::K", "n::o", "m"]);
    }

    #[test]
    fn tokens_within_macros_are_seen() {
        let file = RustFile::sample("a.rs", "fn f() {\n  assert!(g(\n    x.unwrap()));\n}");
        assert_eq!(file.occurrences(&[".", "unwrap", "("]).collect::<Vec<_>>(), [3]);
    }
}
