//! The ways in: the command line and `portico.serve`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyImportError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList, PyString, PyTuple};

use portico_config::{
    InspectionCommand, Parsed, Printout, ProfileOrder, Resolved, empty_list, escaped, from_pairs, is_list,
    is_octal,
};
use portico_os::fill_standard;
use portico_worker::{logging, settle_start, tell_start};

use super::app::LoadError;
use super::configuration::Configuration;
use super::source::Source;
use super::start_error::StartError;
use super::{alone, check, tree};
use crate::fork::unblock_all;
use crate::{import_path, interpreter};

/// Runs the command line and returns the exit status.
///
/// # Errors
/// What a handler of a signal raises, and what Python's own output streams do.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<i32> {
    own_standard_streams();
    unblock_all(py)?;
    let status = run_command(py, arguments);
    py.detach(logging::flush);
    status
}

fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<i32> {
    import_path::begin(py)?;
    interpreter::watch(py)?;
    let mut configuration = Configuration::new(arguments);
    match configuration.read(py) {
        Ok(Parsed::Run(resolved)) => match begin(py, &resolved, configuration) {
            Ok(status) => {
                settle_start(status);
                Ok(status)
            }
            Err(StartError::Raised(error)) => Err(error),
            Err(error) => {
                log::error!("{}", error.told());
                let line = format!("portico: error: {}", error.told());
                let in_log = logging::goes_to_stderr();
                if !tell_start(&format!("{line}\n"), in_log) && !in_log {
                    write(py, "stderr", &line)?;
                }
                let status = if resolved.config.only_checks() { 1 } else { error.exit_status() };
                settle_start(status);
                Ok(status)
            }
        },
        Ok(Parsed::Command(command)) => tell(py, &portico_cli::run(command, &mut |time| pause(py, time))?),
        Ok(Parsed::Inspect(InspectionCommand::Profile(order))) if order.is_external => tell(
            py,
            &portico_cli::Output { output: String::new(), error: Some(profile_outside(py, &order)?) },
        ),
        Ok(Parsed::Inspect(command)) => {
            tell(py, &portico_cli::inspect(&command, &mut |time| pause(py, time))?)
        }
        Ok(Parsed::DevCert(folder)) => tell(py, &portico_cli::make_dev_cert(&folder)),
        Ok(Parsed::HashPassword(user)) => tell(py, &portico_cli::make_password_hash(user.as_deref())),
        Ok(Parsed::Route(resolved, question)) => {
            tell(py, &portico_cli::explain_route(&resolved.config, &question))
        }
        Ok(Parsed::Maintenance(resolved, order)) => {
            tell(py, &portico_cli::run_maintenance(&resolved.config, &order))
        }
        Ok(Parsed::Check(resolved)) => {
            let found = check::check(py, &resolved, configuration.start())?;
            for line in &found.wrong {
                write(py, "stderr", &format!("portico: error: {line}"))?;
            }
            for line in &found.right {
                write(py, "stdout", line)?;
            }
            Ok(i32::from(!found.wrong.is_empty()))
        }
        Ok(Parsed::Print(printout)) => print(py, &printout),
        Ok(Parsed::Help(text) | Parsed::Version(text)) => {
            write(py, "stdout", text.trim_end())?;
            Ok(0)
        }
        Err(error) => {
            write(py, "stderr", &format!("portico: error: {error}"))?;
            Ok(i32::from(error.exit_status()))
        }
    }
}

/// Has descriptors 0 to 2 belong to nothing but standard streams, before anything else is opened.
fn own_standard_streams() {
    // Where there is no /dev/null, what gets one of these numbers is moved away from it all the same.
    let _ = fill_standard();
}

/// Lets some time pass, in which Ctrl-C ends the command.
fn pause(py: Python<'_>, time: Duration) -> PyResult<()> {
    py.detach(|| thread::sleep(time));
    py.check_signals()
}

/// Becomes Python's own sampling profiler (`profiling.sampling`), which looks at a worker from outside. Returns
/// why that cannot be.
fn profile_outside(py: Python<'_>, order: &ProfileOrder) -> PyResult<String> {
    let find = py.import("importlib.util")?.getattr("find_spec")?;
    let is_there = |module: &str| find.call1((module,)).is_ok_and(|spec| !spec.is_none());
    if !(is_there("profiling") && is_there("profiling.sampling")) {
        return Ok(
            "profile: --external needs Python's module profiling.sampling, which this Python has not (it \
                   came with 3.15); without --external Portico samples itself"
                .to_owned(),
        );
    }
    let pid = match portico_cli::worker_to_profile(order) {
        Ok(pid) => pid,
        Err(problem) => return Ok(problem),
    };
    let python: OsString = py.import("sys")?.getattr("executable")?.extract()?;
    let seconds = order.duration.as_secs().max(1).to_string();
    let mut program = Command::new(python);
    program.args(["-m", "profiling.sampling", "attach", "-d", &seconds, &pid.to_string()]);
    Ok(format!("profile: python -m profiling.sampling cannot be run: {}", program.exec()))
}

/// Prints what a command has to say; returns the exit status.
fn tell(py: Python<'_>, told: &portico_cli::Output) -> PyResult<i32> {
    if !told.output.is_empty() {
        write(py, "stdout", told.output.trim_end())?;
    }
    if let Some(error) = &told.error {
        write(py, "stderr", &format!("portico: error: {error}"))?;
    }
    Ok(i32::from(told.error.is_some()))
}

/// Serves; prints the settings first where that is asked for.
fn begin(py: Python<'_>, resolved: &Resolved, configuration: Configuration) -> Result<i32, StartError> {
    if resolved.config.checks.print {
        write(py, "stdout", resolved.show().trim_end())?;
    }
    tree::run(py, resolved, configuration)
}

/// Writes what was asked for where it belongs; returns the exit status.
fn print(py: Python<'_>, printout: &Printout) -> PyResult<i32> {
    for note in &printout.notes {
        write(py, "stderr", &format!("portico: {note}"))?;
    }
    for problem in &printout.problems {
        write(py, "stderr", &format!("portico: error: {problem}"))?;
    }
    let Some(file) = &printout.file else {
        write(py, "stdout", printout.text.trim_end())?;
        return Ok(i32::from(!printout.problems.is_empty()));
    };
    // A file that is there may have taken somebody an afternoon.
    let written = File::create_new(file).and_then(|mut file| file.write_all(printout.text.as_bytes()));
    if let Err(error) = &written {
        write(py, "stderr", &format!("portico: error: {} cannot be written: {error}", file.display()))?;
    }
    Ok(i32::from(written.is_err() || !printout.problems.is_empty()))
}

/// Serves `app`, a WSGI callable or a target such as `"mysite.wsgi:application"`, until a signal stops it.
///
/// Settings are keyword arguments by the names of docs/reference/settings.md, e.g. `bind="127.0.0.1:0",
/// threads=8`; repeatable ones take a list. To be called in the main thread: elsewhere no signal can stop it.
///
/// # Errors
/// `ValueError` for a setting, `TypeError` for its value's type or an `app` that cannot be called,
/// `ImportError` for a target that cannot be loaded, `OSError` for an address that cannot be listened on.
#[pyfunction]
#[pyo3(signature = (app, /, **settings))]
pub(crate) fn serve(
    py: Python<'_>,
    app: &Bound<'_, PyAny>,
    settings: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    own_standard_streams();
    interpreter::watch(py)?;
    let mut pairs = Vec::new();
    if let Some(settings) = settings {
        for (name, value) in settings {
            add_pairs(&mut pairs, &name.extract::<String>()?, &value, false)?;
        }
    }
    let source = match app.cast::<PyString>() {
        Ok(target) => {
            pairs.push(("app".to_owned(), target.to_str()?.to_owned()));
            Source::Target
        }
        Err(_) if app.is_callable() => Source::Callable(app.clone().unbind()),
        Err(_) => {
            return Err(PyTypeError::new_err(
                "app must be a WSGI callable or a target such as 'module:attribute'",
            ));
        }
    };
    let resolved = from_pairs(&pairs, &|name| std::env::var_os(name))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    portico_cli::refuse_exposed_folders(&resolved.config).map_err(PyValueError::new_err)?;
    if resolved.config.workers.max > 1 {
        return Err(PyValueError::new_err(
            "portico.serve() serves in the process that calls it, with one worker; for more run the command: \
             portico --workers N module:attribute",
        ));
    }
    if resolved.config.reload {
        return Err(PyValueError::new_err(
            "reload: portico.serve() serves in the process that calls it, which cannot import itself anew; run \
             the command: portico --reload module:attribute",
        ));
    }
    alone::run(py, &resolved, source).map_err(|error| match error {
        StartError::Raised(error) => error,
        StartError::Load(LoadError { message, cause, .. }) => {
            let error = PyImportError::new_err(message);
            error.set_cause(py, cause);
            error
        }
        StartError::Listen(message) => PyOSError::new_err(message),
        StartError::Hook(message)
        | StartError::System(message)
        | StartError::Unforkable(message)
        | StartError::WarmUp(message) => PyRuntimeError::new_err(message),
    })
}

/// Adds a keyword argument in the form of the command line: text, once for each item of a list.
fn add_pairs(
    pairs: &mut Vec<(String, String)>,
    name: &str,
    value: &Bound<'_, PyAny>,
    is_item: bool,
) -> PyResult<()> {
    if value.is_none() {
        return Ok(());
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        if value.is_empty()? {
            pairs.extend(empty_list(name).map(|text| (name.to_owned(), text.to_owned())));
        }
        return value.try_iter()?.try_for_each(|item| add_pairs(pairs, name, &item?, true));
    }
    let text = match value.cast::<PyBool>() {
        Ok(value) => value.is_true().to_string(),
        // `socket_mode=0o660` arrives as 432.
        Err(_) if is_octal(name) && value.is_instance_of::<PyInt>() => {
            format!("{:o}", value.extract::<u32>()?)
        }
        Err(_) => value.str()?.to_str()?.to_owned(),
    };
    let text = if is_item && is_list(name) { escaped(&text) } else { text };
    pairs.push((name.to_owned(), text));
    Ok(())
}

/// Prints a line to one of Python's streams, if that was open when Python began.
fn write(py: Python<'_>, stream: &str, line: &str) -> PyResult<()> {
    let stream = py.import("sys")?.getattr(stream)?;
    if stream.is_none() {
        return Ok(());
    }
    stream.call_method1("write", (format!("{line}\n"),))?;
    stream.call_method0("flush").map(drop)
}
