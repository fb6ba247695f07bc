//! Reads a route as TOML writes it, a table, and the options that are short spellings of one.
//!
//! The list of keys is here alone: the reading, its errors, the reference and the JSON Schema come from it.

mod keys;
mod options;
mod paths;
mod reading;

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::error::ParseError;
use crate::route::{Route, RoutePath, RouteResponse};

pub(crate) use keys::KEYS;
pub(crate) use options::{auth_option, compress_option, header_option, limit_option, mount_option};
pub(crate) use options::{redirect_option, static_option};
use paths::captures_of;

/// One key of a route.
pub(crate) struct RouteKey {
    pub name: &'static str,
    /// The types of JSON Schema that its value may have.
    pub types: &'static [&'static str],
    /// One line, for the reference.
    pub help: &'static str,
    set: fn(&mut RouteDraft, &DeValue<'_>) -> Result<(), ParseError>,
}

/// A route that is being read.
#[derive(Default)]
struct RouteDraft {
    route: Route,
    has_path: bool,
    status: Option<u16>,
    page: Option<std::path::PathBuf>,
}

/// What is wrong with a route, and where in the text that it was read from.
pub(crate) struct RouteError {
    pub span: Range<usize>,
    pub problem: ParseError,
}

/// Keys that belong to parts of the design which this version does not have. They are refused by name, because a
/// cache or a proxy that silently does nothing would be found out in production.
const LATER_KEYS: [&str; 6] = ["proxy", "strip_path", "balance", "health", "cache", "tunnel_timeout"];

/// Settings of the same parts.
const LATER_SETTINGS: [&str; 9] = [
    "proxy",
    "cache",
    "domain",
    "cache_size",
    "acme",
    "acme_dir",
    "acme_ca",
    "acme_ca_root",
    "tunnel_timeout",
];

/// Why a setting of that name is refused, if it is one of a later version.
pub(crate) fn later_setting(name: &str) -> Option<String> {
    LATER_SETTINGS.contains(&name.replace('-', "_").as_str()).then(|| not_in_this_version(name))
}

fn not_in_this_version(name: &str) -> String {
    format!("{name} is not in this version of Portico; remove it")
}

/// Where a redirect leads, as it is written in `redirect` and in files of `redirects`.
///
/// # Errors
/// It is neither a path nor a URI, or leads off the site without saying so; one line.
pub fn check_redirect(text: &str) -> Result<String, String> {
    paths::target(text).map_err(|problem| problem.to_string())
}

/// Reads the table of one route.
///
/// # Errors
/// A key is none of a route, a value is wrong, or what is said does not go together.
pub(crate) fn read(table: &DeTable<'_>, whole: Range<usize>) -> Result<Route, RouteError> {
    let mut draft = RouteDraft::default();
    let mut entries: Vec<_> = table.iter().collect();
    // The table is sorted by its keys; errors are told from its top.
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name: &str = key.get_ref();
        let known = KEYS.iter().find(|known| known.name == name);
        let known = known.ok_or_else(|| RouteError { span: key.span(), problem: unknown(name).into() })?;
        (known.set)(&mut draft, value.get_ref()).map_err(|problem| RouteError {
            span: value.span(),
            problem: format!("{name}: {problem}").into(),
        })?;
    }
    draft.finish().map_err(|problem| RouteError { span: whole, problem })
}

/// Reads routes from a text of TOML: a table, or an array of tables.
///
/// # Errors
/// It is neither, or one of them is wrong; what and, if there are several, which.
pub(crate) fn read_text(text: &str) -> Result<Vec<Route>, ParseError> {
    let document = format!("route = {text}");
    let example = "write a table of TOML, such as { path = \"/static\", static = \"dist\" }";
    let parsed = DeTable::parse(&document).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        ParseError::from(format!("{message}; {example}"))
    })?;
    let Some(value) = parsed.get_ref().get("route") else { return Ok(Vec::new()) };
    let one = |table: &DeTable<'_>| read(table, 0..0).map_err(|error| error.problem);
    match value.get_ref() {
        DeValue::Table(table) => Ok(vec![one(table)?]),
        DeValue::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| match item.get_ref() {
                DeValue::Table(table) => one(table)
                    .map_err(|problem| format!("the {} route: {problem}", ordinal(index + 1)).into()),
                _ => Err(example.into()),
            })
            .collect(),
        _ => Err(example.into()),
    }
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// From here on two names are hardly by chance so similar.
const SIMILAR: f64 = 0.8;

fn unknown(name: &str) -> String {
    if LATER_KEYS.contains(&name) {
        return not_in_this_version(name);
    }
    let similar = KEYS.iter().map(|key| (strsim::jaro_winkler(name, key.name), key.name));
    let likely = similar.filter(|(similarity, _)| *similarity > SIMILAR);
    match likely.max_by(|(left, _), (right, _)| left.total_cmp(right)) {
        Some((_, likely)) => format!("{name} is no key of a route; did you mean {likely}?"),
        None => format!("{name} is no key of a route; `portico help route` lists them"),
    }
}

impl RouteDraft {
    /// Has `response` respond.
    ///
    /// # Errors
    /// Something else does already.
    fn respond(&mut self, response: RouteResponse) -> Result<(), ParseError> {
        if let Some(other) = &self.route.response {
            return Err(format!("this route responds otherwise too ({other}); remove one of both").into());
        }
        self.route.response = Some(response);
        Ok(())
    }

    /// The route, if what it says goes together.
    fn finish(mut self) -> Result<Route, ParseError> {
        match (&mut self.route.response, self.status, self.page) {
            (_, None, None) => {}
            (Some(RouteResponse::Redirect { status, .. }), Some(said), None) => *status = said,
            (Some(RouteResponse::Fixed { page, .. }), None, Some(said)) => *page = Some(said),
            (_, Some(_), _) => {
                return Err("status goes with redirect alone; respond has its status itself".into());
            }
            (_, None, Some(_)) => return Err("page goes with respond alone; write respond = 503 too".into()),
        }
        let known = match &self.route.path {
            RoutePath::Exact(path) => captures_of(path),
            _ => Vec::new(),
        };
        let redirect = match &self.route.response {
            Some(RouteResponse::Redirect { to, .. }) => Some(("redirect", to)),
            _ => None,
        };
        for (key, template) in redirect.into_iter().chain(self.route.rewrite.iter().map(|to| ("rewrite", to)))
        {
            let unknown =
                captures_of(template).into_iter().find(|name| name != "path" && !known.contains(name));
            if let Some(name) = unknown {
                let problem = format!("{key}: {{{name}}} is in no exact path of this route; name it there");
                return Err(problem.into());
            }
        }
        let nothing = Route {
            hosts: self.route.hosts.clone(),
            path: self.route.path.clone(),
            methods: self.route.methods.clone(),
            if_file: self.route.if_file.clone(),
            ..Route::default()
        };
        if self.route == nothing {
            return Err("this route says nothing but where it applies; have it respond, or remove it".into());
        }
        Ok(self.route)
    }
}

#[cfg(test)]
mod tests;
