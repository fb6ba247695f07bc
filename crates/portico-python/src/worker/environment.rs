//! The environment of the application: what `--env` sets in it and a reload takes back, and what is not its
//! business.

use pyo3::prelude::*;
use pyo3::types::PyAny;

use portico_config::Config;
use portico_worker::FormerEnvironment;

/// How systemd talks with the supervisor. What the application and its subprocesses said to it would be taken for
/// the server's words.
const MANAGERS: [&str; 6] =
    ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Sets `--env`, and the variable by which applications know that a server runs them. Some look for gunicorn's
/// name in it: hence the way in which browsers name each other.
///
/// # Errors
/// Python's own: a name or a value that no variable can have.
pub(crate) fn fill(py: Python<'_>, config: &Config) -> PyResult<FormerEnvironment> {
    let environ = environ(py)?;
    environ
        .set_item("SERVER_SOFTWARE", concat!("portico/", env!("CARGO_PKG_VERSION"), " (like gunicorn)"))?;
    let mut former = FormerEnvironment::new();
    for (name, value) in &config.system.raw_env {
        if !former.iter().any(|(known, _)| known == name) {
            former.push((name.clone(), environ.call_method1("get", (name,))?.extract()?));
        }
        environ.set_item(name, value)?;
    }
    Ok(former)
}

/// Makes the variables what they were.
///
/// # Errors
/// Python's own.
pub(crate) fn restore(py: Python<'_>, former: &FormerEnvironment) -> PyResult<()> {
    let environ = environ(py)?;
    former.iter().try_for_each(|(name, value)| match value {
        Some(value) => environ.set_item(name, value),
        None => environ.call_method1("pop", (name, py.None())).map(drop),
    })
}

/// Takes away from the application what the service manager has said to the supervisor, unless `--env` says it.
///
/// # Errors
/// Python's own.
pub(crate) fn keep_manager_apart(py: Python<'_>, config: &Config) -> PyResult<()> {
    let environ = environ(py)?;
    let asked = |name: &str| config.system.raw_env.iter().any(|(asked, _)| asked == name);
    MANAGERS
        .into_iter()
        .filter(|name| !asked(name))
        .try_for_each(|name| environ.call_method1("pop", (name, py.None())).map(drop))
}

fn environ(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("os")?.getattr("environ")
}
