//! Folders of static files that applications have set up themselves, Django's STATIC_ROOT and Flask's folder:
//! found after the import, and served without a setting.
//!
//! What there is, `portico._static_folders` finds; which routes come of it, portico-edge decides.

use std::path::Path;
use std::time::Duration;

use portico_cli::{ApplicationFolder, RoutesWithFolders, router_with_folders};
use portico_config::{Config, RoutePath};
use pyo3::prelude::*;

use super::app::Loaded;
use crate::error::one_line;

/// Folders, and why others are left to the application: a line each.
type FoundFolders = (Vec<ApplicationFolder>, Vec<String>);

/// The routes of a worker with those of its applications' folders.
pub(crate) struct WorkerRoutes {
    pub(crate) routes: RoutesWithFolders,
    /// Why folders are left to their applications: a line each.
    left: Vec<String>,
}

impl WorkerRoutes {
    /// What is served and what is not, for one worker of all to tell: the files are counted, which takes its time
    /// where there are many.
    pub(crate) fn told(&self, py: Python<'_>) -> Vec<String> {
        let served = py.detach(|| self.routes.told());
        served.into_iter().chain(self.left.iter().cloned()).collect()
    }
}

/// The routes of a worker with those of its applications' folders. `is_given` is as in
/// [`portico_cli::router_of_worker`].
///
/// # Errors
/// The routes cannot be served, and why; one line.
pub(crate) fn router(
    py: Python<'_>,
    config: &Config,
    folder: &Path,
    is_given: bool,
    loaded: &Loaded,
) -> Result<WorkerRoutes, String> {
    let (found, left) = match config.edge.django_static && !config.reload {
        // In development the application serves its sources.
        false => (Vec::new(), Vec::new()),
        true => find(py, config, is_given, loaded).unwrap_or_else(|error| {
            (Vec::new(), vec![format!("no static files are looked for: {}", one_line(py, &error))])
        }),
    };
    let routes = router_with_folders(config, folder, is_given, &loaded.modules, found)?;
    Ok(WorkerRoutes { routes, left })
}

fn find(py: Python<'_>, config: &Config, is_given: bool, loaded: &Loaded) -> PyResult<FoundFolders> {
    let module = py.import("portico._static_folders")?;
    let mounts = config.edge.applications().into_iter().map(|(_, route)| match &route.path {
        RoutePath::Prefix(path) => path.clone(),
        RoutePath::Any | RoutePath::Exact(_) => String::new(),
    });
    let mounts: Vec<String> = std::iter::once(String::new()).chain(mounts).collect();
    let has_main = portico_cli::has_main_application(config, is_given);
    let main = has_main.then_some(&loaded.application);
    let applications: Vec<_> = std::iter::once(main).chain(loaded.mounted.iter().map(Some)).collect();
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for one in module.call_method1("find", (applications, mounts, &config.root_path))?.try_iter()? {
        let one = one?;
        if let Ok(reason) = one.getattr("reason") {
            left.push(reason.extract()?);
            continue;
        }
        let number: usize = one.getattr("application")?.extract()?;
        let seconds: Option<u64> = one.getattr("max_age")?.extract()?;
        found.push(ApplicationFolder {
            kind: one.getattr("kind")?.extract()?,
            application: number.checked_sub(1),
            path: one.getattr("path")?.extract()?,
            is_relative: one.getattr("is_relative")?.extract()?,
            folder: one.getattr("folder")?.extract()?,
            allow_origin: one.getattr("allow_origin")?.extract()?,
            max_age: seconds.map(Duration::from_secs),
        });
    }
    Ok((found, left))
}
