//! The applications of a process: the main one, and those that routes choose beside it.
//!
//! All are imported when the worker starts, so that a mistake in one shows there and not at its first request.
//! They share threads and queue, and everything else that Python has once for a process; what cannot be shared,
//! Django's settings, is refused.

use pyo3::prelude::*;

use portico_config::{Config, conceal_arguments};

use super::app::{self, LoadError, Loaded};
use super::discovery::SETTINGS_VARIABLE;

/// Imports the main application by `main`, unless routes have enough of their own, and then those that routes
/// name.
///
/// # Errors
/// One cannot be imported, and which route names it; two need different settings of Django.
pub(crate) fn load(
    py: Python<'_>,
    config: &Config,
    is_named: bool,
    main: impl FnOnce() -> Result<Loaded, LoadError>,
) -> Result<Loaded, LoadError> {
    let routes = config.edge.applications();
    if routes.is_empty() {
        return main();
    }
    let failed = |error: PyErr| LoadError::raised(py, "reading the environment failed", &error);
    let mut settings = DjangoSettings::of_environment(py).map_err(failed)?;
    let mut loaded = match config.edge.needs_main_application(is_named) {
        true => Some(settings.watch("the main application", main)?),
        false => None,
    };
    let mut mounted = Vec::new();
    let mut modules = loaded.as_ref().map(|loaded| loaded.modules.clone()).unwrap_or_default();
    for (target, route) in routes {
        let named = |error: LoadError| {
            let origin = route.origin.to_string();
            LoadError { message: format!("{}: {}", conceal_arguments(&origin), error.message), ..error }
        };
        let other = settings.watch(&conceal_arguments(target), || app::load(py, target)).map_err(named)?;
        modules.extend_from_slice(&other.modules);
        let told = format!("{} for {}", other.target, route.place());
        loaded = Some(match loaded {
            Some(loaded) => Loaded { target: format!("{}, {told}", loaded.target), ..loaded },
            None => Loaded {
                application: other.application.clone_ref(py),
                target: told,
                mounted: Vec::new(),
                modules: Vec::new(),
            },
        });
        mounted.push(other.application);
    }
    settings.restore().map_err(failed)?;
    let loaded = loaded.ok_or_else(|| LoadError::missing("no application was named"))?;
    Ok(Loaded { mounted, modules, ..loaded })
}

/// Which settings module Django has in this process, and for which application.
///
/// A project's wsgi.py names its module where none is named yet: the second project of a process would silently
/// run with the settings, the database and the secret key of the first. So the name is taken out of the
/// environment before another application is imported, unless the operator has set it.
struct DjangoSettings<'py> {
    /// `os.environ`
    environ: Bound<'py, PyAny>,
    /// Whether the operator has named it.
    is_told: bool,
    first: Option<SettingsModule>,
}

struct SettingsModule {
    name: String,
    /// Whose it is, for people.
    of: String,
}

impl<'py> DjangoSettings<'py> {
    fn of_environment(py: Python<'py>) -> PyResult<Self> {
        let environ = py.import("os")?.getattr("environ")?;
        let mut settings = Self { environ, is_told: false, first: None };
        let of = "the environment".to_owned();
        settings.first = settings.named()?.map(|name| SettingsModule { name, of });
        settings.is_told = settings.first.is_some();
        Ok(settings)
    }

    fn named(&self) -> PyResult<Option<String>> {
        self.environ.call_method1("get", (SETTINGS_VARIABLE,))?.extract()
    }

    /// Imports the application `of` by `import`.
    fn watch(
        &mut self,
        of: &str,
        import: impl FnOnce() -> Result<Loaded, LoadError>,
    ) -> Result<Loaded, LoadError> {
        let py = self.environ.py();
        let failed = |error: PyErr| LoadError::raised(py, "reading the environment failed", &error);
        if !self.is_told {
            self.environ.call_method1("pop", (SETTINGS_VARIABLE, py.None())).map_err(failed)?;
        }
        let loaded = import();
        let Some(name) = self.named().map_err(failed)? else { return loaded };
        match &self.first {
            None => self.first = Some(SettingsModule { name, of: of.to_owned() }),
            // Also where its import failed: with the other's settings it hardly could be imported.
            Some(first) if first.name != name => return Err(LoadError::usage(first.told(of, &name))),
            Some(_) => {}
        }
        loaded
    }

    /// Has the environment name the module that counts.
    fn restore(&self) -> PyResult<()> {
        match &self.first {
            Some(first) => self.environ.set_item(SETTINGS_VARIABLE, &first.name),
            None => Ok(()),
        }
    }
}

impl SettingsModule {
    /// Why another application, which needs the module `name`, cannot be served beside this one's.
    fn told(&self, other: &str, name: &str) -> String {
        let Self { name: first, of } = self;
        format!(
            "{other} is a Django project with the settings {name}, and {of} has {first}; Django takes one \
             settings module in a process. Serve one of the projects by a portico of its own, and have the proxy \
             in front of both choose by path"
        )
    }
}
