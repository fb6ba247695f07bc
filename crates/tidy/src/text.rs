//! Rules for any file of text: the length of lines, the paths of a machine, the index that packages come
//! from.

use crate::finding::Finding;

/// A file as it is in the repository.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// Path from the repository's root, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// Columns of a line. rustfmt and ruff hold code to 110; comments may be a little wider.
const COLUMNS_MAX: usize = 115;

/// Folders that are on somebody's machine and nobody else's. In halves, or this file would break its own
/// rule.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tmp/", "target"),
];

/// Options of pip that name where packages come from: that is each machine's own affair.
const INDEX_OPTIONS: [&str; 2] = [concat!("--index", "-url"), concat!("--extra-index", "-url")];

pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let code = [".rs", ".py", ".pyi"].iter().any(|extension| file.path.ends_with(extension));
    let mut findings = Vec::new();
    let mut find = |line: usize, message: String| {
        findings.push(Finding { path: file.path.clone(), line, message });
    };
    for (index, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if code && columns > COLUMNS_MAX {
            find(index + 1, format!("{columns} columns; at most {COLUMNS_MAX}"));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(line, path)) {
            find(index + 1, format!("{path} is a path of one machine"));
        }
        if let Some(option) = INDEX_OPTIONS.iter().find(|option| line.contains(*option)) {
            find(index + 1, format!("{option} belongs into the machine's own configuration"));
        }
    }
    findings
}

/// Whether `path` begins a path in `line`: in `tests/home/x` and `https://example.org/home/` it does not.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before
            .is_some_and(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '}' | ')' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let file = TextFile { path: path.to_owned(), text: text.to_owned() };
        check(&file).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_long_line_of_code_is_found_by_columns_not_bytes() {
        let long = "x".repeat(116);
        assert_eq!(messages("a.py", &format!("ok\n{long}\n")), ["a.py:2: 116 columns; at most 115"]);
        assert_eq!(messages("a.rs", &"é".repeat(115)), [""; 0]);
        assert_eq!(messages("a.md", &long), [""; 0]);
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        for path in MACHINE_PATHS {
            assert_eq!(messages("a.md", &format!("see {path}x")).len(), 1, "{path}");
            assert_eq!(messages("a.toml", &format!("p = \"{path}x\"")).len(), 1, "{path}");
            assert_eq!(messages("a.md", &format!("https://example.org{path}x")), [""; 0]);
        }
    }

    #[test]
    fn a_package_index_is_found() {
        assert_eq!(messages("r.txt", &format!("{} x\nruff==1\n", INDEX_OPTIONS[0])).len(), 1);
    }
}
