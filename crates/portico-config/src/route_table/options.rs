//! Options that are short spellings of a route: `--static /static=dist`.

use std::path::PathBuf;

use super::{RouteDraft, paths, reading};
use crate::error::ParseError;
use crate::route::{HeaderAction, Route, RouteOrigin, RoutePath, RouteResponse};

/// `--static /static=dist`
pub(crate) fn static_option(text: &str) -> Result<Route, ParseError> {
    let (path, folder) = pair(text, "/static=FOLDER")?;
    let response = RouteResponse::Files(vec![PathBuf::from(folder)]);
    Ok(Route { response: Some(response), ..at(path, "--static", text)? })
}

/// `--mount /shop=shop:app`
pub(crate) fn mount_option(text: &str) -> Result<Route, ParseError> {
    let (path, target) = pair(text, "/shop=MODULE:NAME")?;
    let response = RouteResponse::Application(target.to_owned());
    Ok(Route { response: Some(response), ..at(path, "--mount", text)? })
}

/// `--redirect /old=/new`
pub(crate) fn redirect_option(text: &str) -> Result<Route, ParseError> {
    let (from, to) = pair(text, "/old=/new")?;
    let mut draft = RouteDraft::default();
    draft.route.path = RoutePath::Exact(paths::exact(from)?);
    draft.route.origin = RouteOrigin::Option(format!("--redirect {text}"));
    draft.respond(RouteResponse::Redirect { to: paths::target(to)?, status: REDIRECT_STATUS })?;
    draft.finish()
}

/// `--limit /login=5/m`
pub(crate) fn limit_option(text: &str) -> Result<Route, ParseError> {
    let (path, rate) = pair(text, "/login=5/m")?;
    Ok(Route { limit: Some(reading::rate(rate)?), ..at(path, "--limit", text)? })
}

/// `--auth /admin=htpasswd`
pub(crate) fn auth_option(text: &str) -> Result<Route, ParseError> {
    let (path, file) = pair(text, "/admin=FILE")?;
    Ok(Route { auth: Some(PathBuf::from(file)), ..at(path, "--auth", text)? })
}

/// `--header 'X-Frame-Options: DENY'`; `Name?: value` where it is absent, `Name:` to take it out.
pub(crate) fn header_option(text: &str) -> Result<Route, ParseError> {
    let wrong = || ParseError::from(format!("{text:?} is no header; write 'Name: value'"));
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = value.trim().to_owned();
    let (name, action) = match (name.strip_suffix('?'), value.is_empty()) {
        (Some(name), false) => (name, HeaderAction::SetIfAbsent(value)),
        (None, false) => (name, HeaderAction::Set(value)),
        (None, true) => (name, HeaderAction::Remove),
        (Some(_), true) => return Err(wrong()),
    };
    let headers = vec![reading::header_rule(name, action)?];
    Ok(Route { headers, ..at("/", "--header", text)? })
}

/// `--compress`
pub(crate) fn compress_option() -> Route {
    let origin = RouteOrigin::Option("--compress".to_owned());
    Route { compress: Some(true), origin, ..Route::default() }
}

/// What a redirect has that says no status. A browser keeps 301 for ever, so a mistake in one cannot be taken
/// back.
pub(super) const REDIRECT_STATUS: u16 = 302;

fn at(path: &str, option: &str, text: &str) -> Result<Route, ParseError> {
    let prefix = paths::prefix(path)?;
    let path = if prefix.is_empty() { RoutePath::Any } else { RoutePath::Prefix(prefix) };
    Ok(Route { path, origin: RouteOrigin::Option(format!("{option} {text}")), ..Route::default() })
}

fn pair<'t>(text: &'t str, form: &str) -> Result<(&'t str, &'t str), ParseError> {
    let parts = text.split_once('=').filter(|(left, right)| !left.is_empty() && !right.is_empty());
    parts.ok_or_else(|| format!("{text:?} is not {form}; write it so").into())
}
