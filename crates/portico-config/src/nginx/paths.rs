//! Which paths a location of nginx is for, what a route cannot say of them, and in which order locations count.

use super::NginxSite;
use super::known::is_guarded;
use super::location::LocationPath;
use super::routes::{LocatedBlock, contains};
use super::syntax::NginxDirective;
use crate::draft::MigrationDraft;
use crate::path_regex::{self, RegexPlace};

/// A path of a location.
pub(super) struct LocatedPath {
    pub path: LocationPath,
    /// Whether the route for it has more paths than the location.
    pub is_wider: bool,
}

/// In which order nginx looks for the locations of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LocationKind {
    /// `= /path` and `^~ /path`: if it is the longest, no expression is tried.
    Final,
    /// An expression, which counts before longer prefixes.
    Regex,
    Prefix,
}

/// Whether a block denies all clients everything, and says nothing else that counts.
fn is_denied(inner: &[NginxDirective]) -> bool {
    let is_denial = |it: &NginxDirective| it.name == "deny" && it.first() == "all";
    let is_silent = |it: &NginxDirective| matches!(it.name.as_str(), "access_log" | "log_not_found");
    inner.iter().any(is_denial) && inner.iter().all(|it| is_denial(it) || is_silent(it))
}

/// The paths whose first segment begins with a dot.
const DOT_PATHS: [&str; 2] = ["/.{name}", "/.{name}/{rest…}"];

impl MigrationDraft {
    /// The paths of a location; none where no route can say them, which is told.
    pub(super) fn paths(
        &mut self,
        location: &NginxDirective,
        inner: &[NginxDirective],
        site: &NginxSite<'_>,
    ) -> Vec<LocatedPath> {
        let (operator, text) = match &location.arguments[..] {
            [operator, text] => (operator.as_str(), text.as_str()),
            [text] => ("", text.as_str()),
            _ => ("?", ""),
        };
        let prefix = |path: &str| LocationPath::Prefix(path.trim_end_matches('/').to_owned());
        let (place, shown) = (&location.place, location.shown());
        match operator {
            "" if text.starts_with('@') => {
                // Nobody asks for it by its name.
                site.settle(inner.iter().filter(|it| it.name == "internal"));
                Vec::new() // Where others name it.
            }
            "" | "^~" => {
                if !text.ends_with('/') && (is_guarded(inner) || !text.contains('.')) {
                    self.tell_narrower(
                        inner,
                        format!(
                            "{place}: {shown}: nginx takes {text}-more by it too; a route ends at a slash"
                        ),
                    );
                }
                vec![LocatedPath { path: prefix(text), is_wider: false }]
            }
            "=" => vec![LocatedPath { path: LocationPath::Exact(text.to_owned()), is_wider: false }],
            "~" | "~*" => self.regex_paths(location, inner, site),
            _ => {
                self.problems.push(format!("{place}: {shown}: it is no location"));
                site.settle(inner);
                Vec::new()
            }
        }
    }

    /// The paths of a location with a regular expression.
    fn regex_paths(
        &mut self,
        location: &NginxDirective,
        inner: &[NginxDirective],
        site: &NginxSite<'_>,
    ) -> Vec<LocatedPath> {
        let (place, shown) = (&location.place, location.shown());
        let text = location.arguments.last().map_or("", String::as_str);
        let is_of_both_cases = location.first() == "~*";
        let text = if is_of_both_cases { format!("(?i){text}") } else { text.to_owned() };
        let found = path_regex::read(&text).unwrap_or_default();
        let mut paths = Vec::new();
        for it in &found {
            let path = match &it.place {
                RegexPlace::Any => LocationPath::Prefix(String::new()),
                RegexPlace::Prefix(path) => LocationPath::Prefix(path.trim_end_matches('/').to_owned()),
                RegexPlace::Exact(path) => LocationPath::Exact(path.clone()),
                RegexPlace::DotFiles => {
                    paths.extend(self.dot_files(location, inner, site));
                    continue;
                }
                RegexPlace::Extensions(_) => {
                    site.settle(inner);
                    self.extensions(location, inner);
                    continue;
                }
            };
            for remark in &it.remarks {
                let line = format!("{place}: {shown}: {remark}");
                match *remark {
                    path_regex::ONE_SEGMENT => self.notes.push(line),
                    _ => self.tell_narrower(inner, line),
                }
            }
            let is_wider = it.remarks.contains(&path_regex::ONE_SEGMENT);
            paths.push(LocatedPath { path, is_wider });
        }
        if found.is_empty() {
            self.problems.push(format!("{place}: {shown}: left out, no route can say which paths it is for"));
            site.settle(inner);
        }
        paths
    }

    /// Tells that a route has other paths than a location: a problem where somebody is kept out of them.
    fn tell_narrower(&mut self, inner: &[NginxDirective], line: String) {
        match is_guarded(inner) {
            true => self.problems.push(format!("{line}; the location restricts access")),
            false => self.notes.push(line),
        }
    }

    /// A location for names that begin with a dot. No file of that kind is served, but the application is asked:
    /// what is denied to everybody becomes routes for such names at the top, below which it has no files.
    fn dot_files(
        &mut self,
        location: &NginxDirective,
        inner: &[NginxDirective],
        site: &NginxSite<'_>,
    ) -> Vec<LocatedPath> {
        let line = format!(
            "{}: {}: left out, files whose names begin with a dot are never served",
            location.place,
            location.shown()
        );
        // An expression may spare names such as .well-known, which a route cannot.
        let is_for_all = location.arguments.last().is_some_and(|regex| regex == r"/\.");
        match site.application.is_some() && is_guarded(inner) {
            true if is_for_all && is_denied(inner) => {
                self.notes.push(format!(
                    "{}: {}: as routes for names at the top; files whose names begin with a dot are never served",
                    location.place,
                    location.shown()
                ));
                let exact = |path: &&str| LocatedPath {
                    path: LocationPath::Exact((*path).to_owned()),
                    is_wider: false,
                };
                return DOT_PATHS.iter().map(exact).collect();
            }
            true => self.problems.push(format!("{line}, but the application gets requests for such paths")),
            false => self.notes.push(line),
        }
        site.settle(inner);
        Vec::new()
    }

    /// A location for extensions of files: what it says of how long they are kept is for `max_age`.
    fn extensions(&mut self, location: &NginxDirective, inner: &[NginxDirective]) {
        let harmless =
            ["expires", "add_header", "access_log", "log_not_found", "etag", "gzip_static", "try_files"];
        let (place, shown) = (&location.place, location.shown());
        if inner.iter().all(|it| harmless.contains(&it.name.as_str())) {
            self.notes.push(format!(
                "{place}: {shown}: left out, a route is for paths; write max_age, immutable or headers into the \
                 route with static that has these files"
            ));
        } else {
            self.problems
                .push(format!("{place}: {shown}: left out, a route is for paths, not for extensions"));
        }
    }

    /// Tells of guards that count for a request in nginx and not among routes, as another location comes first.
    pub(super) fn tell_other_order(&mut self, all: &[LocatedBlock<'_>]) {
        for regex in all.iter().filter(|it| it.kind == LocationKind::Regex) {
            for other in all.iter().filter(|it| it.path != regex.path) {
                // `/a/{rest…}` is before all paths, and other expressions are before longer paths in nginx alone.
                let literal = regex.path.text().split('{').next().unwrap_or_default();
                let has_captures = literal.len() < regex.path.text().len();
                let overlaps = has_captures
                    && (other.path.text().starts_with(literal) || contains(&other.path, &regex.path));
                let (lost, winner) = match other.kind {
                    LocationKind::Prefix if contains(&regex.path, &other.path) => (regex, other),
                    LocationKind::Final if overlaps && !matches!(other.path, LocationPath::Exact(_)) => {
                        (other, regex)
                    }
                    _ => continue,
                };
                if lost.is_guarded {
                    self.problems.push(format!(
                        "{}: location: it restricts access, and the one in {} comes before it here",
                        lost.place, winner.place
                    ));
                }
            }
        }
    }
}
