//! Folders of static files that applications have set up, as routes of a worker, and what a start tells of them.

use std::path::{Path, PathBuf};

use portico_config::{Config, RouteResponse};
use portico_edge::{ApplicationFolder, EdgeRouter, with_folder};

use crate::routes::{build, has_main, refuse_exposed};

/// Files that are counted. A folder with more is told as one of more.
const FILES_MAX: usize = 100_000;

/// The routes of a worker with those of the folders that its applications have set up, and which these are.
pub struct RoutesWithFolders {
    /// All routes; `None` where there are none.
    pub router: Option<EdgeRouter>,
    /// The folders that are served, with their paths.
    served: Vec<(ApplicationFolder, Vec<String>)>,
    /// Why others are not: a line each.
    left: Vec<String>,
}

/// The routes of a worker that runs in `folder`, whose applications have set up `found`. `is_given` is as in
/// [`crate::router_of_worker`]; `modules` are the files of the applications' modules, as they were imported.
///
/// # Errors
/// They cannot be served, and why; one line.
pub fn router_with_folders(
    config: &Config,
    folder: &Path,
    is_given: bool,
    modules: &[PathBuf],
    found: Vec<ApplicationFolder>,
) -> Result<RoutesWithFolders, String> {
    let (mut edge, mut served, mut left) = (config.edge.clone(), Vec::new(), Vec::new());
    for one in found {
        let placed = with_folder(&edge, &one);
        left.extend(placed.left);
        if placed.paths.is_empty() {
            continue;
        }
        match refuse_exposed(config, &placed.settings, folder, modules) {
            Ok(()) => {
                edge = placed.settings;
                served.push((one, placed.paths));
            }
            // What the operator has not asked for is no reason not to start.
            Err(problem) => left.push(problem),
        }
    }
    let router = match edge.routes.is_empty() && edge.error_pages.is_none() {
        true => None,
        false => Some(build(config, &edge, folder, has_main(config, is_given), modules)?),
    };
    Ok(RoutesWithFolders { router, served, left })
}

impl RoutesWithFolders {
    /// A line for each folder that is served: `serving /static/ from DIR (Django's STATIC_ROOT, 412 files, 398
    /// immutable)`; and why others are not. It reads the folders to count their files.
    pub fn told(&self) -> Vec<String> {
        let served = self.served.iter().map(|(folder, paths)| self.line(folder, paths));
        served.chain(self.left.iter().cloned()).collect()
    }

    fn line(&self, folder: &ApplicationFolder, paths: &[String]) -> String {
        let paths: Vec<String> = paths.iter().map(|path| format!("{path}/")).collect();
        let is_its = |response: &RouteResponse| match response {
            RouteResponse::Files(folders) => folders.contains(&folder.folder),
            _ => false,
        };
        let routes = self.router.iter().flat_map(EdgeRouter::routes);
        let listed =
            routes.filter(|route| is_its(&route.response)).map(|route| route.immutable.listed()).max();
        let immutable = match listed.unwrap_or_default() {
            0 => String::new(),
            listed => format!(", {listed} immutable"),
        };
        let files = match count(&folder.folder) {
            1 => "1 file".to_owned(),
            FILES_MAX => format!("at least {FILES_MAX} files"),
            number => format!("{number} files"),
        };
        format!(
            "serving {} from {} ({}, {files}{immutable})",
            paths.join(" and "),
            folder.folder.display(),
            folder.kind
        )
    }
}

/// How many files are in a folder and those below it, not through links; [`FILES_MAX`] at most.
fn count(folder: &Path) -> usize {
    let (mut waiting, mut files) = (vec![folder.to_owned()], 0);
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                Ok(_) => files += 1,
                Err(_) => {}
            }
            if files >= FILES_MAX {
                return FILES_MAX;
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use portico_config::{Parsed, parse};

    use super::*;

    fn config(routes: &str) -> Config {
        let text = std::ffi::OsString::from(routes);
        let env = |name: &str| (name == "PORTICO_ROUTE").then(|| text.clone());
        match parse([std::ffi::OsString::from("site:app")].into_iter(), &env) {
            Ok(Parsed::Run(resolved)) => resolved.config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_served_is_told_with_its_files() {
        let site = tempfile::tempdir().unwrap();
        let folder = site.path().join("static");
        std::fs::create_dir_all(folder.join("css")).unwrap();
        for (name, text) in [
            ("css/a.css", "a"),
            ("css/a.1.css", "a"),
            ("staticfiles.json", r#"{"paths": {"a": "b", "c": "c"}}"#),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let found = ApplicationFolder {
            kind: "Django's STATIC_ROOT".to_owned(),
            application: None,
            path: "/static".to_owned(),
            is_relative: false,
            folder: folder.clone(),
            allow_origin: true,
            max_age: None,
        };
        let routes =
            router_with_folders(&config("[]"), site.path(), false, &[], vec![found.clone()]).unwrap();
        let line = format!(
            "serving /static/ from {} (Django's STATIC_ROOT, 3 files, 1 immutable)",
            folder.display()
        );
        assert_eq!(routes.told(), [line]);
        assert!(routes.router.is_some_and(|router| !router.is_idle()));
        std::fs::write(folder.join("manage.py"), "").unwrap();
        let routes =
            router_with_folders(&config("[]"), site.path(), false, &[], vec![found.clone()]).unwrap();
        assert!(routes.router.is_none() && routes.told()[0].contains("has manage.py"), "{:?}", routes.told());
        std::fs::remove_file(folder.join("manage.py")).unwrap();
        let modules = [folder.join("css/a.css")];
        let routes =
            router_with_folders(&config("[]"), site.path(), false, &modules, vec![found.clone()]).unwrap();
        assert!(routes.router.is_none() && routes.told()[0].contains("has css/a.css"), "{:?}", routes.told());
        let guarded = config("[{ path = '/', methods = 'GET', deny = '0.0.0.0/0' }]");
        let routes = router_with_folders(&guarded, site.path(), false, &[], vec![found.clone()]).unwrap();
        let told = "Django's STATIC_ROOT is not served at /static/: a route for it would go around";
        assert!(routes.told()[0].starts_with(told), "{:?}", routes.told());
        let covered = config("[{ path = '/static', respond = 404 }]");
        let routes = router_with_folders(&covered, site.path(), false, &[], vec![found]).unwrap();
        assert_eq!(routes.told(), [""; 0]);
        let none = router_with_folders(&config("[]"), site.path(), false, &[], Vec::new()).unwrap();
        assert!(none.router.is_none(), "requests of a server without routes are not routed");
    }
}
