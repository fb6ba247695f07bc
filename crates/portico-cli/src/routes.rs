//! Routes outside of a server: `portico route URL`, and what a start and `portico check` have to say of them.

use std::io;
use std::path::{Path, PathBuf};

use portico_config::{Config, Route, RouteHost, RouteQuestion, RouteResponse};
use portico_edge::{EdgeRouter, RouteRequest, explain as explain_route, never_taken};

use crate::output::Output;

/// Largest file that a route may name: a page, or a table of redirects.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The routes of `config`, ready to decide.
///
/// # Errors
/// They cannot be served, and why; one line.
pub fn router(config: &Config) -> Result<EdgeRouter, String> {
    let names_application = config.app.is_some() || config.paste.is_some();
    build(config, &config.chdir.clone().unwrap_or_default(), names_application)
}

/// The routes of a worker, which has an application and runs in `folder`; `None` where there are none.
///
/// # Errors
/// They cannot be served, and why; one line.
pub fn router_of_worker(config: &Config, folder: &Path) -> Result<Option<EdgeRouter>, String> {
    if config.edge.routes.is_empty() && config.edge.error_pages.is_none() {
        return Ok(None);
    }
    build(config, folder, true).map(Some)
}

fn build(config: &Config, folder: &Path, names_application: bool) -> Result<EdgeRouter, String> {
    let mut read = |path: &Path| read_file(&folder.join(path));
    EdgeRouter::build(&config.edge, names_application, &mut read).map_err(|error| error.to_string())
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is no file, or one of more than 64 MiB"));
    }
    std::fs::read(path)
}

/// Explains which route a request gets, why, and what it says.
pub fn explain(config: &Config, question: &RouteQuestion) -> Output {
    let router = match router(config) {
        Ok(router) => router,
        Err(error) => return Output::failure(error),
    };
    let folder = config.chdir.clone().unwrap_or_default();
    let present: Vec<bool> = router.watched_files().iter().map(|file| is_there(&folder, file)).collect();
    let request = RouteRequest {
        method: question.method.as_bytes(),
        path: question.path.as_bytes(),
        query: question.query.as_deref().map(str::as_bytes),
        host: question.host.as_deref().map(str::as_bytes),
    };
    Output::of(explain_route(&router, &request, &present))
}

fn is_there(folder: &Path, file: &PathBuf) -> bool {
    folder.join(file).exists()
}

/// What an operator should know of routes that can be served all the same, a line each.
pub fn warnings(router: &EdgeRouter, config: &Config) -> Vec<String> {
    let mut warnings = never_taken(router);
    for route in router.routes() {
        if let Some(RouteHost::Exact(host)) = &route.host
            && !config.allowed_hosts.allows(host.as_bytes(), 80)
            && !config.allowed_hosts.allows(host.as_bytes(), 443)
        {
            let place = route.place();
            warnings.push(format!(
                "{}: no request can get the route for {place}: --allowed-hosts refuses its host",
                route.origin
            ));
        }
    }
    warnings.iter().map(|warning| format!("warning: {warning}")).collect()
}

/// Refuses what this version would not do: a password or a limit that silently does nothing would be found out by
/// whoever it was to keep out.
///
/// # Errors
/// A route says such a thing; one line that names it.
pub fn refuse_unserved(config: &Config) -> Result<(), String> {
    let unserved = |route| Some((route, unserved_key(route)?));
    match config.edge.routes.iter().find_map(unserved) {
        Some((route, key)) => Err(format!("{}: {key}: {UNSERVED}", route.origin)),
        None => Ok(()),
    }
}

/// What is wrong with a key that is not served.
const UNSERVED: &str = "it can be checked and explained (portico check, portico route), but this version does \
    not do it yet; remove it";

/// The first key of `route` that is not served yet.
fn unserved_key(route: &Route) -> Option<&'static str> {
    let response = match &route.response {
        Some(RouteResponse::Application(_)) => Some("app = \"module:attribute\""),
        Some(
            RouteResponse::MainApplication
            | RouteResponse::Files(_)
            | RouteResponse::Redirect { .. }
            | RouteResponse::Fixed { .. },
        )
        | None => None,
    };
    let keys = [
        (route.auth.is_some(), "auth"),
        (route.limit.is_some(), "limit"),
        (route.concurrent.is_some(), "concurrent"),
        (route.timeout.is_some(), "timeout"),
        (route.body_bytes_max.is_some(), "limit_request_body"),
        (route.compress.is_some(), "compress"),
        (route.intercept.is_some(), "intercept"),
    ];
    response.or_else(|| keys.into_iter().find(|(is_said, _)| *is_said).map(|(_, key)| key))
}
