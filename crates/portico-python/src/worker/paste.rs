//! `--paste`: the application of a PasteDeploy file, by the package of that name.

use std::path::Path;

use portico_config::Config;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use super::app::{LoadError, Loaded, check_callable, import};

/// The application in a file that has several, where none is named.
const MAIN: &str = "main";

/// Loads the application of `paste`: a path, and perhaps `#` and a name.
///
/// # Errors
/// The package or the file is not there, or what they import raised.
pub(crate) fn load(py: Python<'_>, paste: &Path, config: &Config) -> Result<Loaded, LoadError> {
    let text = paste.to_string_lossy();
    let (file, name) = text.rsplit_once('#').unwrap_or((&text, MAIN));
    let path = Path::new(file)
        .canonicalize()
        .map_err(|error| LoadError::usage(format!("--paste: {file:?} cannot be read: {error}")))?;
    let package = import(py, "paste.deploy").map_err(|error| match error.traceback {
        None => {
            LoadError::missing("--paste needs the package PasteDeploy; install it: pip install PasteDeploy")
        }
        Some(_) => error,
    })?;
    let failed = |error: PyErr| LoadError::raised(py, &format!("loading {text} failed"), &error);
    let keywords = PyDict::new(py);
    let loaded = keywords
        .set_item("name", name)
        .and_then(|()| keywords.set_item("global_conf", config.paste_global.clone().into_py_dict(py)?))
        .and_then(|()| {
            package.call_method("loadapp", (format!("config:{}", path.display()),), Some(&keywords))
        });
    let application = loaded.map_err(failed)?;
    check_callable(&application, &text)?;
    Ok(Loaded {
        application: application.unbind(),
        target: text.into_owned(),
        mounted: Vec::new(),
        modules: vec![path],
    })
}
