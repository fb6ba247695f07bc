//! Which application to serve when the command line names none: the one of the folder that it stands in.

use std::fs;
use std::path::Path;

use pyo3::prelude::*;

use super::app::{CALLABLE_NAMES, FACTORY_NAME, LoadError, Loaded, import, load};

/// Files that are looked at, in this order, after Django's `manage.py`.
const FILES: [&str; 3] = ["wsgi.py", "app.py", "main.py"];

/// Where the settings module of a Django project is named.
pub(crate) const SETTINGS_VARIABLE: &str = "DJANGO_SETTINGS_MODULE";

/// Finds the application of `folder`, which is on `sys.path`, and says which it took.
///
/// # Errors
/// There is none, or its import failed.
pub(crate) fn discover(py: Python<'_>, folder: &Path) -> Result<Loaded, LoadError> {
    if let Some(loaded) = django(py, folder)? {
        return Ok(loaded);
    }
    for file in FILES {
        if !folder.join(file).is_file() {
            continue;
        }
        let name = file.trim_end_matches(".py");
        let module = import(py, name)?;
        let callable = |name: &&str| module.getattr(*name).is_ok_and(|found| found.is_callable());
        let target = match CALLABLE_NAMES.iter().find(|name| callable(name)) {
            Some(attribute) => format!("{name}:{attribute}"),
            None if callable(&FACTORY_NAME) => format!("{name}:{FACTORY_NAME}()"),
            None => continue,
        };
        return Ok(found(load(py, &target)?, file));
    }
    let [first, second] = CALLABLE_NAMES;
    Err(LoadError::unnamed(format!(
        "no application was named and none was found in {}: there is no manage.py of a Django project, and no \
         {} that has {first}, {second} or {FACTORY_NAME}(). Name one: portico module:attribute",
        folder.display(),
        FILES.join(", "),
    )))
}

/// The WSGI_APPLICATION of the Django project whose `manage.py` stands in `folder`.
fn django(py: Python<'_>, folder: &Path) -> Result<Option<Loaded>, LoadError> {
    let Ok(manage) = fs::read_to_string(folder.join("manage.py")) else { return Ok(None) };
    let Some(named) = settings_module(&manage) else { return Ok(None) };
    let failed =
        |error: PyErr| LoadError::raised(py, "reading the settings of the Django project failed", &error);
    let environ = py.import("os").and_then(|os| os.getattr("environ")).map_err(failed)?;
    let settings = environ.call_method1("setdefault", (SETTINGS_VARIABLE, named)).map_err(failed)?;
    let settings: String = settings.extract().map_err(failed)?;
    let module = import(py, &settings)?;
    let path = module.getattr("WSGI_APPLICATION").ok().and_then(|path| path.extract::<String>().ok());
    let target = match path.as_deref().and_then(|path| path.rsplit_once('.')) {
        Some((module, attribute)) => format!("{module}:{attribute}"),
        None => {
            let package = settings.split('.').next().unwrap_or_default();
            format!("{package}.wsgi:application")
        }
    };
    Ok(Some(found(load(py, &target)?, "manage.py")))
}

/// The module that `manage.py` names: the first string after the variable's name, in quotes of either kind.
fn settings_module(manage: &str) -> Option<&str> {
    let (_, after) = manage.split_once(SETTINGS_VARIABLE)?;
    let after =
        after.trim_start_matches(['"', '\'']).trim_start_matches([']', ' ', ',', '=', '\n', '\r', '\t']);
    let quote = after.chars().next().filter(|&quote| quote == '"' || quote == '\'')?;
    let (name, _) = after[1..].split_once(quote)?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    is_name.then_some(name)
}

/// Its name goes into the log with how it was come by.
fn found(loaded: Loaded, file: &str) -> Loaded {
    Loaded { target: format!("{} (found through {file})", loaded.target), ..loaded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_module_is_read_from_manage_py() {
        for manage in [
            "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')",
            "os.environ.setdefault(\n    \"DJANGO_SETTINGS_MODULE\", \"shop.settings\"\n)",
            "os.environ[\"DJANGO_SETTINGS_MODULE\"] = 'shop.settings'",
        ] {
            assert_eq!(settings_module(manage), Some("shop.settings"), "{manage}");
        }
    }

    #[test]
    fn what_names_no_module_is_left_alone() {
        for manage in [
            "import os",
            "setdefault('DJANGO_SETTINGS_MODULE', settings())",
            "setdefault('DJANGO_SETTINGS_MODULE', '')",
            "setdefault('DJANGO_SETTINGS_MODULE', 'a b')",
            "setdefault('DJANGO_SETTINGS_MODULE', 'shop",
        ] {
            assert_eq!(settings_module(manage), None, "{manage}");
        }
    }
}
