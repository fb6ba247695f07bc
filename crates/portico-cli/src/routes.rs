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
    build(config, &config.chdir.clone().unwrap_or_default(), names_application(config))
}

fn names_application(config: &Config) -> bool {
    config.app.is_some() || config.paste.is_some()
}

/// The routes of a worker that runs in `folder`; `None` where there are none. `is_given`: the main application is there
/// already, and no target of the configuration.
///
/// # Errors
/// They cannot be served, and why; one line.
pub fn router_of_worker(
    config: &Config,
    folder: &Path,
    is_given: bool,
) -> Result<Option<EdgeRouter>, String> {
    if config.edge.routes.is_empty() && config.edge.error_pages.is_none() {
        return Ok(None);
    }
    // It has found an application where none is named, unless routes have enough of their own.
    let has_main = config.edge.needs_main_application(is_given || names_application(config));
    build(config, folder, has_main).map(Some)
}

fn build(config: &Config, folder: &Path, names_application: bool) -> Result<EdgeRouter, String> {
    refuse_exposed(config, folder)?;
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
        None => refuse_exposed(config, &config.chdir.clone().unwrap_or_default()),
    }
}

/// Refuses folders that would show the application's own files: its code, and often its passwords.
fn refuse_exposed(config: &Config, folder: &Path) -> Result<(), String> {
    let mounted = config.edge.routes.iter().filter_map(|route| match &route.response {
        Some(RouteResponse::Application(target)) => Some(target.as_str()),
        _ => None,
    });
    let applications: Vec<&str> = config.app.as_deref().into_iter().chain(mounted).collect();
    for route in &config.edge.routes {
        let Some(RouteResponse::Files(served)) = &route.response else { continue };
        for served in served.iter().map(|served| folder.join(served)) {
            let exposed = ["manage.py", ".git"].into_iter().map(PathBuf::from);
            let modules = applications.iter().flat_map(|application| module_files(application, &served));
            if let Some(file) =
                exposed.chain(modules).find(|file| served.join(file).symlink_metadata().is_ok())
            {
                return Err(format!(
                    "{}: static: {} has {}: it is the folder of an application, whose files are not for clients; \
                     name the folder that has files for them alone",
                    route.origin,
                    served.display(),
                    file.display()
                ));
            }
        }
    }
    Ok(())
}

/// Where the module of `application` would be, if `served` were a folder from which it is imported, or one of its
/// packages.
fn module_files(application: &str, served: &Path) -> Vec<PathBuf> {
    let module = application.split([':', '(']).next().unwrap_or_default();
    let names: Vec<&str> = module.split('.').filter(|name| !name.is_empty()).collect();
    let mut files = Vec::new();
    for at in 0..names.len() {
        let above: PathBuf = names[..at].iter().collect();
        if served.ends_with(&above) {
            let rest: PathBuf = names[at..].iter().collect();
            files.push(rest.with_extension("py"));
            files.push(rest.join("__init__.py"));
            files.push(PathBuf::from(names[at]).join("__init__.py"));
        }
    }
    files
}

/// What is wrong with a key that is not served.
const UNSERVED: &str = "it can be checked and explained (portico check, portico route), but this version does \
    not do it yet; remove it";

/// The first key of `route` that is not served yet.
fn unserved_key(route: &Route) -> Option<&'static str> {
    let response = match &route.response {
        Some(
            RouteResponse::MainApplication
            | RouteResponse::Application(_)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_application_is() {
        let files = |application: &str, served: &str| -> Vec<String> {
            module_files(application, Path::new(served)).iter().map(|it| it.display().to_string()).collect()
        };
        assert_eq!(files("app:app", "/srv"), ["app.py", "app/__init__.py", "app/__init__.py"]);
        let of_project = files("mysite.wsgi:application", "/srv/project");
        assert_eq!(of_project, ["mysite/wsgi.py", "mysite/wsgi/__init__.py", "mysite/__init__.py"]);
        let of_package = files("mysite.wsgi", "/srv/project/mysite");
        assert!(of_package.contains(&"wsgi.py".to_owned()), "{of_package:?}");
        assert!(files("", "/srv").is_empty());
    }
}
