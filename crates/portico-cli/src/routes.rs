//! Routes outside of a server: `portico route URL`, and what a start and `portico check` have to say of them.

use std::io;
use std::path::{Path, PathBuf};

use portico_config::{Config, EdgeSettings, RouteHost, RoutePath, RouteQuestion, RouteResponse};
use portico_edge::{
    EdgeRouter, FlatRoute, RouteAction, RouteRequest, bypassed_guards, explain as explain_route, never_taken,
};

use crate::output::Output;

/// Largest file that a route may name: a page, or a table of redirects.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The routes of `config`, ready to decide.
///
/// # Errors
/// They cannot be served, and why; one line.
pub fn router(config: &Config) -> Result<EdgeRouter, String> {
    build(config, &config.edge, &config.chdir.clone().unwrap_or_default(), names_application(config), &[])
}

fn names_application(config: &Config) -> bool {
    config.app.is_some() || config.paste.is_some()
}

/// The routes of a worker that runs in `folder`; `None` where there are none. `is_given`: the main application
/// is there already, and no target of the configuration.
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
    build(config, &config.edge, folder, has_main(config, is_given), &[]).map(Some)
}

/// Whether a worker has a main application: it has found one where none is named, unless routes have enough of
/// their own.
pub fn has_main(config: &Config, is_given: bool) -> bool {
    config.edge.needs_main_application(is_given || names_application(config))
}

/// Whether the routes of `config` can be served, for whoever starts a server or has it reload: before the old
/// routes are given up. The files that they name count as far as the calling process `may_read` them; the
/// workers, which may be another user's, read them all.
///
/// # Errors
/// They cannot, and why; one line.
pub fn check(config: &Config, may_read: &dyn Fn(&Path) -> bool) -> Result<(), String> {
    let mut config = config.clone();
    let folder = config.chdir.clone().unwrap_or_default();
    let is_left = |path: &mut PathBuf| !may_read(&folder.join(path));
    for route in &mut config.edge.routes {
        route.auth.take_if(is_left);
        route.redirects.take_if(is_left);
        route.error_pages.take_if(is_left);
        if let Some(RouteResponse::Fixed { page, .. }) = &mut route.response {
            page.take_if(is_left);
        }
    }
    config.edge.error_pages.take_if(is_left);
    // Manifests, which a folder may have or not.
    let mut read = |path: &Path| match may_read(&folder.join(path)) {
        true => read_file(&folder.join(path)),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    };
    let built = EdgeRouter::build(&config.edge, names_application(&config), &mut read);
    built.map(drop).map_err(|error| error.to_string())
}

/// Makes a router of routes whose relative paths begin at `folder`. `modules` are as in [`refuse_exposed`].
pub(crate) fn build(
    config: &Config,
    edge: &EdgeSettings,
    folder: &Path,
    names_application: bool,
    modules: &[PathBuf],
) -> Result<EdgeRouter, String> {
    refuse_exposed(config, edge, folder, modules)?;
    let mut read = |path: &Path| read_file(&folder.join(path));
    EdgeRouter::build(edge, names_application, &mut read).map_err(|error| error.to_string())
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
    if config.health.endpoints().any(|endpoint| endpoint == question.path) {
        return Output::of(HEALTH.to_owned());
    }
    let folder = config.chdir.clone().unwrap_or_default();
    let present: Vec<bool> = router.watched_files().iter().map(|file| is_there(&folder, file)).collect();
    let request = RouteRequest {
        method: question.method.as_bytes(),
        path: question.path.as_bytes(),
        query: question.query.as_deref().map(str::as_bytes),
        host: question.host.as_deref().map(str::as_bytes),
    };
    let note = match router.decide(&request, &present).action {
        RouteAction::Call(_) if config.edge.django_static && !config.reload => UNFOUND,
        _ => "",
    };
    Output::of(explain_route(&router, &request, &present) + note)
}

/// What `portico route` says of a path below `--health-path`.
const HEALTH: &str = "route     none: probes come before routes, their guards and hosts (--health-path)\n\
    responds  the server's health\n";

/// What `portico route` cannot know: it imports no application.
const UNFOUND: &str = "\nDjango's STATIC_ROOT and Flask's static folder get routes when the application is \
    imported; portico check and the server's log tell which\n";

fn is_there(folder: &Path, file: &PathBuf) -> bool {
    folder.join(file).exists()
}

/// What an operator should know of routes that can be served all the same, a line each.
pub fn warnings(router: &EdgeRouter, config: &Config) -> Vec<String> {
    let mut warnings = never_taken(router);
    warnings.extend(bypassed_guards(router));
    warnings.extend_from_slice(router.unread_manifests());
    warnings.extend(router.routes().iter().filter_map(|route| behind_health(route, config)));
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

/// What is to be said of a route that is for an endpoint of `--health-path`, or for paths below that alone: it
/// does not count there, nor does what it guards.
fn behind_health(route: &FlatRoute, config: &Config) -> Option<String> {
    let below = config.health.path.as_deref()?;
    let endpoint = config.health.endpoints().find(|endpoint| match &route.path {
        RoutePath::Exact(path) => path == endpoint,
        RoutePath::Prefix(path) => {
            let rest = path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            rest && endpoint
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        RoutePath::Any => false,
    })?;
    let (origin, place) = (&route.origin, route.place());
    Some(format!(
        "{origin}: the route for {place} does not count for {endpoint}: probes come first (--health-path)"
    ))
}

/// Refuses folders of `config` that would show the application's own files.
///
/// # Errors
/// A route names such a folder; one line that tells which.
pub fn refuse_exposed_folders(config: &Config) -> Result<(), String> {
    refuse_exposed(config, &config.edge, &config.chdir.clone().unwrap_or_default(), &[])
}

/// Whether the routes of `config` leave the application's own files alone, now that it is imported and its
/// `modules` are known as files.
///
/// # Errors
/// A folder that is served has one; one line that names the route.
pub fn check_modules(config: &Config, folder: &Path, modules: &[PathBuf]) -> Result<(), String> {
    refuse_exposed(config, &config.edge, folder, modules)
}

/// Refuses folders that would show the application's own files: its code, and often its passwords. `modules`
/// are those files, as far as they are known.
pub(crate) fn refuse_exposed(
    config: &Config,
    edge: &EdgeSettings,
    folder: &Path,
    modules: &[PathBuf],
) -> Result<(), String> {
    let mounted = config.edge.routes.iter().filter_map(|route| match &route.response {
        Some(RouteResponse::Application(target)) => Some(target.as_str()),
        _ => None,
    });
    let applications: Vec<&str> = config.app.as_deref().into_iter().chain(mounted).collect();
    let named = applications.iter().filter_map(|application| named_file(application));
    let sources: Vec<PathBuf> = named.chain(modules.to_vec()).map(|file| folder.join(file)).collect();
    for route in &edge.routes {
        let Some(RouteResponse::Files(served)) = &route.response else { continue };
        for written in served {
            let served = folder.join(written);
            let exposed = ["manage.py", ".git"].into_iter().map(PathBuf::from);
            let modules = applications.iter().flat_map(|application| module_files(application, &served));
            let is_there = |file: &PathBuf| served.join(file).symlink_metadata().is_ok();
            let below = || sources.iter().find_map(|file| path_below(file, &served));
            if let Some(file) = exposed.chain(modules).find(is_there).or_else(below) {
                return Err(format!(
                    "{}: static: {} has {}: it is the folder of an application, whose files are not for \
                     clients; name the folder that has files for them alone",
                    route.origin,
                    written.display(),
                    file.display()
                ));
            }
        }
    }
    Ok(())
}

/// The file that a target names in place of a module: `app.py`, `./app.py:app`, `site/wsgi`.
fn named_file(application: &str) -> Option<PathBuf> {
    let place = application.split([':', '(']).next().unwrap_or_default();
    (place.contains('/') || place.ends_with(".py")).then(|| Path::new(place).with_extension("py"))
}

/// The path of `file` below the folder `served`, through links or not.
fn path_below(file: &Path, served: &Path) -> Option<PathBuf> {
    let below = |file: &Path, served: &Path| file.strip_prefix(served).ok().map(Path::to_owned);
    let plain = |path: &Path| std::path::absolute(path).ok();
    below(&plain(file)?, &plain(served)?)
        .or_else(|| below(&file.canonicalize().ok()?, &served.canonicalize().ok()?))
}

/// Where the module of `application` would be, if `served` were a folder from which it is imported, or one of
/// its packages.
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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use portico_config::{Parsed, parse};

    use super::*;

    #[test]
    fn the_folder_of_a_named_file_is_refused() {
        let site = tempfile::tempdir().unwrap();
        for folder in ["src/pkg", "static"] {
            std::fs::create_dir_all(site.path().join(folder)).unwrap();
        }
        for file in ["app.py", "src/pkg/wsgi.py"] {
            std::fs::write(site.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(site.path(), site.path().join("static/link")).unwrap();
        let checked = |target: &str, served: &str, modules: &[PathBuf]| {
            let route = format!("[{{ path = '/s', static = '{served}' }}]");
            let env = |name: &str| (name == "PORTICO_ROUTE").then(|| std::ffi::OsString::from(&route));
            let config = match portico_config::parse([std::ffi::OsString::from(target)].into_iter(), &env) {
                Ok(portico_config::Parsed::Run(resolved)) => resolved.config,
                other => panic!("{target}: {other:?}"),
            };
            check_modules(&config, site.path(), modules)
        };
        let absolute = format!("{}/app.py:app", site.path().display());
        for target in ["app.py", "./app.py", "app.py:app", "./app:create('a')", &absolute] {
            for served in [".", "./static/..", "static/link"] {
                let refused = checked(target, served, &[]).unwrap_err();
                assert!(refused.contains("app.py: it is the folder of an application"), "{refused}");
            }
            assert_eq!(checked(target, "static", &[]), Ok(()), "{target}");
        }
        for served in [".", "src", "src/pkg"] {
            assert!(checked("src/pkg/wsgi.py", served, &[]).is_err(), "{served}");
        }
        // Found by discovery, or on PYTHONPATH: known after the import alone.
        let module = [site.path().join("src/pkg/wsgi.py")];
        assert!(checked("site:app", "src", &module).unwrap_err().contains("src has pkg/wsgi.py"));
        assert_eq!(checked("site:app", "src", &[]), Ok(()));
        assert_eq!(checked("site:app", "static", &module), Ok(()));
    }

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

    #[test]
    fn routes_behind_the_endpoints_of_health_are_told() {
        let told = |path: &str, route: &str| {
            let variable = |name: &str| (name == "PORTICO_ROUTE").then(|| route.into());
            let arguments = ["--health-path", path, "app:app"].map(OsString::from);
            let Ok(Parsed::Run(resolved)) = parse(arguments.into_iter(), &variable) else {
                panic!("{route}")
            };
            warnings(&router(&resolved.config).unwrap(), &resolved.config).join("\n")
        };
        for (path, route) in [
            ("/-", "[{ path = '/-', allow = ['10.0.0.0/8'] }]"),
            ("/-", "[{ exact = '/-/readyz', respond = 404 }]"),
            ("/", "[{ path = '/livez', respond = 200 }]"),
        ] {
            let told = told(path, route);
            assert!(
                told.contains("does not count for /") && told.contains("(--health-path)"),
                "{route}: {told}"
            );
        }
        for (path, route) in [
            ("off", "[{ path = '/-/livez', respond = 200 }]"),
            ("/-", "[{ path = '/', deny = ['10.0.0.0/8'] }]"),
            ("/a/b", "[{ path = '/a', deny = ['10.0.0.0/8'] }]"),
            ("/-", "[{ path = '/-x', respond = 200 }]"),
        ] {
            assert_eq!(told(path, route), "", "{route}");
        }
    }
}
