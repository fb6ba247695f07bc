//! Where the application comes from, and finding it there.

use std::path::Path;

use pyo3::prelude::*;

use portico_config::Config;
use portico_os::fill_standard;

use super::app::{self, LoadError, Loaded};
use super::{development, discovery, mounts, paste};
use crate::error::one_line;
use crate::{forked_children, interpreter};

/// The source of the application: a target, a callable, or one that the process which forked this has imported.
pub(crate) enum Source {
    /// `Config::app`, or discovery.
    Target,
    /// A WSGI callable.
    Callable(Py<PyAny>),
    /// It is there already: the process that forked this one has imported it.
    Loaded(Loaded),
}

/// Characters of a callable's `repr` that are told of it.
const TARGET_CHARS_MAX: usize = 200;

pub(crate) fn find(
    py: Python<'_>,
    source: Source,
    config: &Config,
    folder: &Path,
) -> Result<Loaded, LoadError> {
    development::forget_hidden(py, config);
    let is_named = config.app.is_some() || config.paste.is_some();
    let found = match source {
        Source::Loaded(loaded) => Ok(loaded),
        Source::Callable(application) => mounts::load(py, config, true, || {
            let target = application.bind(py).repr().map(|text| text.to_string_lossy().into_owned());
            let target = target.unwrap_or_default().chars().take(TARGET_CHARS_MAX).collect();
            // The script that calls `portico.serve`.
            let main = py.import("__main__").ok();
            let modules = main.and_then(|main| app::file_of(&main)).into_iter().collect();
            Ok(Loaded { application, target, mounted: Vec::new(), modules })
        }),
        Source::Target => use_slots(py, config).and_then(|()| {
            mounts::load(py, config, is_named, || match (&config.paste, &config.app) {
                (Some(paste), _) => paste::load(py, paste, config),
                (None, Some(target)) => app::load(py, target),
                (None, None) => discovery::discover(py, folder),
            })
        }),
    };
    forked_children::end(py, found.as_ref().err().and_then(|error| error.cause.as_ref()), "its import");
    // It may have closed some, and the engine is about to open its own.
    if let Err(error) = fill_standard() {
        log::debug!("/dev/null cannot be opened: {error}");
    }
    let found = found?;
    portico_cli::check_modules(config, folder, &found.modules).map_err(LoadError::usage)?;
    // The import may have turned the GIL on.
    if config.require_free_threading {
        interpreter::require_free_threading(py)
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(LoadError::missing)?;
    }
    Ok(found)
}

/// With --prometheus-slots: before anything can make a metric.
fn use_slots(py: Python<'_>, config: &Config) -> Result<(), LoadError> {
    if !config.telemetry.prometheus_slots {
        return Ok(());
    }
    let used = py.import("portico.contrib.prometheus").and_then(|module| module.call_method0("use_slots"));
    used.map(drop)
        .map_err(|error| LoadError::missing(format!("--prometheus-slots: {}", one_line(py, &error))))
}
