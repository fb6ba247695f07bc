//! How long clients may keep a file: for ever only on evidence that its name changes with its content.

use std::collections::HashSet;
use std::time::Duration;

use glob::{MatchOptions, Pattern};
use serde_json::Value as Json;

/// Names that have a hash of their content, as a build has listed them, and patterns of the operator. A name that
/// merely looks as if it had one is no evidence: `report-20240131.pdf` changes.
#[derive(Clone, Debug, Default)]
pub struct ImmutableNames {
    /// Below the folder, without a slash at their beginning.
    listed: HashSet<String>,
    patterns: Vec<Pattern>,
}

/// Names that a manifest may list.
const NAMES_MAX: usize = 1_000_000;

/// In which no `*` matches a slash, but `**` does.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl ImmutableNames {
    /// Adds what Django's `staticfiles.json` lists. Returns how many names are new.
    ///
    /// # Errors
    /// It is no manifest.
    pub fn add_django(&mut self, manifest: &[u8]) -> Result<usize, String> {
        let json = parse(manifest)?;
        let paths = json.get("paths").and_then(Json::as_object).ok_or("it has no paths")?;
        // A name that stands for itself has no hash.
        let hashed =
            paths.iter().filter_map(|(name, hashed)| hashed.as_str().filter(|hashed| hashed != name));
        Ok(self.add(hashed))
    }

    /// Adds what Vite's `.vite/manifest.json` lists.
    ///
    /// # Errors
    /// It is no manifest.
    pub fn add_vite(&mut self, manifest: &[u8]) -> Result<usize, String> {
        let json = parse(manifest)?;
        let chunks = json.as_object().ok_or("it is no table of chunks")?;
        let names = chunks.values().flat_map(|chunk| {
            let list = |key: &str| chunk.get(key).and_then(Json::as_array).into_iter().flatten();
            chunk.get("file").into_iter().chain(list("css")).chain(list("assets")).filter_map(Json::as_str)
        });
        Ok(self.add(names))
    }

    /// Adds a pattern of the operator, such as `/assets/**`.
    ///
    /// # Errors
    /// It is no pattern.
    pub fn add_pattern(&mut self, pattern: &str) -> Result<(), String> {
        let pattern = Pattern::new(pattern).map_err(|error| format!("{pattern:?} is no pattern: {error}"))?;
        self.patterns.push(pattern);
        Ok(())
    }

    fn add<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> usize {
        let before = self.listed.len();
        let room = NAMES_MAX - before;
        self.listed.extend(names.take(room).map(|name| name.trim_start_matches('/').to_owned()));
        self.listed.len() - before
    }

    /// Whether the file of this path below its folder never changes. `path` begins with a slash.
    pub fn has(&self, path: &str) -> bool {
        self.listed.contains(path.trim_start_matches('/'))
            || self.patterns.iter().any(|pattern| pattern.matches_with(path, MATCHING))
    }

    /// How many names are listed.
    pub fn listed(&self) -> usize {
        self.listed.len()
    }
}

fn parse(manifest: &[u8]) -> Result<Json, String> {
    serde_json::from_slice(manifest).map_err(|error| error.to_string())
}

/// What a 404 below a route of files has: one that a cache keeps would outlive the deploy that brings the file
/// (evansd/whitenoise#245).
pub const NOT_FOUND_CACHE_CONTROL: &str = "no-store";

/// The value of Cache-Control for a file of this type. One that is `for_some` is not for caches that several
/// share: with `public` they would give it to whoever asks, without a password (RFC 9111, section 3.5).
pub fn cache_control(is_immutable: bool, content_type: &str, max_age: Duration, for_some: bool) -> String {
    let whose = if for_some { "private" } else { "public" };
    if is_immutable {
        // A year, the most that RFC 9111, section 5.3, had in mind; `immutable` is RFC 8246.
        return format!("max-age=31536000, {whose}, immutable");
    }
    // A page names the files of its own build; an old one asks for files that are gone.
    if max_age.is_zero() || content_type.starts_with("text/html") {
        return if for_some { "no-cache, private" } else { "no-cache" }.to_owned();
    }
    format!("max-age={}, {whose}", max_age.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_immutable_on_evidence() {
        let mut names = ImmutableNames::default();
        let django =
            br#"{"paths": {"a.css": "a.55e7cbb9ba48.css", "img/b.png": "img/b.1.png", "c.txt": "c.txt"},
                          "version": "1.1", "hash": "x"}"#;
        assert_eq!(names.add_django(django), Ok(2));
        let vite = br#"{"src/main.ts": {"file": "assets/main-BRBmoGS9.js", "css": ["assets/main-5UjPuW-k.css"],
                        "assets": ["assets/logo-x.svg"], "isEntry": true}, "_x.js": {"file": "assets/x-1.js"}}"#;
        assert_eq!(names.add_vite(vite), Ok(4));
        names.add_pattern("/hashed/**").unwrap();
        names.add_pattern("/*.woff2").unwrap();
        for path in
            ["/a.55e7cbb9ba48.css", "/img/b.1.png", "/assets/main-5UjPuW-k.css", "/hashed/x/y.js", "/f.woff2"]
        {
            assert!(names.has(path), "{path}");
        }
        for path in ["/a.css", "/c.txt", "/b.1.png", "/a.0123456789ab.css", "/x/f.woff2", "/assets/y-2.js"] {
            assert!(!names.has(path), "{path}");
        }
        assert_eq!(names.listed(), 6);
    }

    #[test]
    fn what_is_no_manifest_is_told() {
        let mut names = ImmutableNames::default();
        assert!(names.add_django(b"{}").unwrap_err().contains("no paths"));
        assert!(names.add_vite(b"[]").unwrap_err().contains("no table"));
        assert!(names.add_vite(b"{").is_err());
        assert!(names.add_pattern("/a***").is_err());
        assert_eq!(names.add_vite(br#"{"a": 7, "b": {"file": 7, "css": "x"}}"#), Ok(0));
    }

    #[test]
    fn cache_control_by_kind() {
        let of =
            |immutable, kind, seconds| cache_control(immutable, kind, Duration::from_secs(seconds), false);
        assert_eq!(of(true, "text/html; charset=utf-8", 60), "max-age=31536000, public, immutable");
        assert_eq!(of(false, "text/html; charset=utf-8", 60), "no-cache");
        assert_eq!(of(false, "text/css; charset=utf-8", 60), "max-age=60, public");
        assert_eq!(of(false, "text/css; charset=utf-8", 0), "no-cache");
        let of =
            |immutable, kind, seconds| cache_control(immutable, kind, Duration::from_secs(seconds), true);
        assert_eq!(of(true, "text/css", 60), "max-age=31536000, private, immutable");
        assert_eq!(of(false, "text/html; charset=utf-8", 60), "no-cache, private");
        assert_eq!(of(false, "text/css; charset=utf-8", 60), "max-age=60, private");
    }
}
