//! From a target such as `mysite.wsgi:application` to the callable: parsing, importing, and saying what is
//! wrong.
//!
//! Which target to take when none is named is `discovery`'s business.

use std::path::{Path, PathBuf};

use pyo3::exceptions::{
    PyKeyboardInterrupt, PyModuleNotFoundError, PySyntaxError, PySystemExit, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyModule, PyTuple};

use portico_config::conceal_arguments;

use crate::error::{one_line, traceback};
use crate::import_path;

/// An application that was found and imported, with those that are mounted beside it and the name that logs and
/// `portico check` give it. A worker owns it, or the template, whose forks have copies; the name never has the
/// arguments of a factory.
pub(crate) struct Loaded {
    /// The WSGI callable.
    pub(crate) application: Py<PyAny>,
    /// Its target, in full but for the arguments of a factory, which may be secret; with the others', for people.
    pub(crate) target: String,
    /// The applications that routes choose, in the order in which the configuration numbers them.
    pub(crate) mounted: Vec<Py<PyAny>>,
    /// The files of their modules, as far as they are known: no client may have them.
    pub(crate) modules: Vec<PathBuf>,
}

/// The reason for which there is no application to serve.
#[derive(Debug)]
pub(crate) struct LoadError {
    /// One line for the operator.
    pub(crate) message: String,
    /// The application's own exception, if it raised one, as Python prints it.
    pub(crate) traceback: Option<String>,
    /// That exception itself.
    pub(crate) cause: Option<PyErr>,
    /// Whether it was a signal that ended the import.
    pub(crate) interrupted: bool,
    /// The exit status: gunicorn's for the same.
    pub(crate) exit_status: i32,
}

impl LoadError {
    /// The target is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            traceback: None,
            cause: None,
            interrupted: false,
            exit_status: LOAD_FAILED,
        }
    }

    /// The target, or what it takes to load it, is not there.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self { exit_status: BOOT_FAILED, ..Self::usage(message) }
    }

    /// No target was named.
    pub(crate) fn unnamed(message: impl Into<String>) -> Self {
        Self { exit_status: 1, ..Self::usage(message) }
    }

    /// The application's code raised `error` while `doing`.
    pub(crate) fn raised(py: Python<'_>, doing: &str, error: &PyErr) -> Self {
        let message = match error.is_instance_of::<PySystemExit>(py) {
            true => format!("{doing}: it asked to exit ({})", one_line(py, error)),
            false => format!("{doing}: {}", one_line(py, error)),
        };
        let mut traceback = traceback(py, error);
        if error.is_instance_of::<PySyntaxError>(py) && error.traceback(py).is_none() {
            // Raised by the compiler for the target itself: no frame is left but those of the import.
            traceback.insert_str(0, "Traceback (most recent call last):\n");
        }
        let interrupted = error.is_instance_of::<PyKeyboardInterrupt>(py);
        Self {
            message,
            traceback: Some(traceback),
            cause: Some(error.clone_ref(py)),
            interrupted,
            exit_status: BOOT_FAILED,
        }
    }
}

/// Exit status of a worker that does not come to serve: gunicorn's WORKER_BOOT_ERROR. Also of one whose
/// application raises at its import, or whose module does not exist.
pub(crate) const BOOT_FAILED: i32 = 3;

/// Exit status for a module that has no application under that name: gunicorn's APP_LOAD_ERROR.
const LOAD_FAILED: i32 = 4;

/// Names that are tried in a module for which none is given; the first is PEP 3333's and mod_wsgi's.
pub(crate) const CALLABLE_NAMES: [&str; 2] = ["application", "app"];

/// The name of the function that is called for an application where there is none.
pub(crate) const FACTORY_NAME: &str = "create_app";

/// Loads `target`: `module`, `module:attribute`, `module:factory()`, with literal arguments if need be, or
/// the path of a file in place of the module.
///
/// # Errors
/// See [`LoadError`].
pub(crate) fn load(py: Python<'_>, target: &str) -> Result<Loaded, LoadError> {
    let (place, expression) = match target.split_once(':') {
        Some((place, expression)) => (place, Some(expression)),
        None => (target, None),
    };
    if place.is_empty() || expression.is_some_and(str::is_empty) {
        return Err(LoadError::usage(format!("{target:?} is no target: write module:attribute")));
    }
    let module = match place.ends_with(".py") || place.contains('/') {
        true => import_file(py, Path::new(place))?,
        false => import(py, place)?,
    };
    let (application, target) = match expression {
        Some(expression) => (evaluate(&module, place, expression)?, conceal_arguments(target).into_owned()),
        None => {
            let (application, name) = default_callable(&module, place)?;
            (application, format!("{place}:{name}"))
        }
    };
    check_callable(&application, &target)?;
    let modules = file_of(&module).into_iter().collect();
    Ok(Loaded { application: application.unbind(), target, mounted: Vec::new(), modules })
}

/// The file of a module that has one.
pub(crate) fn file_of(module: &Bound<'_, PyAny>) -> Option<PathBuf> {
    module.getattr("__file__").and_then(|file| file.extract()).ok()
}

/// Imports a module by its dotted name.
///
/// # Errors
/// It is not there, or its code raised.
pub(crate) fn import<'py>(py: Python<'py>, name: &str) -> Result<Bound<'py, PyModule>, LoadError> {
    py.import(name).map_err(|error| match is_missing(py, name, &error) {
        true => LoadError::missing(missing_module(py, name)),
        false => LoadError::raised(py, &format!("importing {name} failed"), &error),
    })
}

/// Whether `error` says that the module `name` itself, or a package that it lies in, does not exist. A module
/// that it imports and that is missing is the application's own failure.
fn is_missing(py: Python<'_>, name: &str, error: &PyErr) -> bool {
    if !error.is_instance_of::<PyModuleNotFoundError>(py) {
        return false;
    }
    let missing = error.value(py).getattr("name").and_then(|missing| missing.extract::<String>());
    missing.is_ok_and(|missing| {
        name.strip_prefix(missing.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn missing_module(py: Python<'_>, name: &str) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    let mut message = format!("no module named {name:?} (looked in {} and on sys.path)", folder.display());
    if let Some((package, last)) = name.rsplit_once('.')
        && py.import(package).is_ok_and(|package| package.hasattr(last).unwrap_or(false))
    {
        message.push_str(&format!("; did you mean {package}:{last}?"));
    }
    message
}

/// Imports a file under the name that it has in its package, from the folder that holds the outermost
/// package.
fn import_file<'py>(py: Python<'py>, file: &Path) -> Result<Bound<'py, PyModule>, LoadError> {
    let with_suffix = file.with_extension("py");
    let path = [file, &with_suffix]
        .into_iter()
        .find(|path| path.is_file())
        .and_then(|path| path.canonicalize().ok());
    let Some(path) = path else {
        return Err(LoadError::usage(format!("there is no file {}", file.display())));
    };
    let (folder, name) = module_name(&path);
    let failed =
        |error: PyErr| LoadError::raised(py, &format!("importing {} failed", path.display()), &error);
    import_path::put_first(py, &folder).map_err(failed)?;
    let module = import(py, &name)?;
    if file_of(&module).and_then(|origin| origin.canonicalize().ok()).is_none_or(|origin| origin != path) {
        return Err(LoadError::usage(format!(
            "{} cannot be imported: another module is called {name:?}; rename the file",
            path.display()
        )));
    }
    Ok(module)
}

/// The folder to import from and the dotted name of the module in the file at `path`, which is absolute.
fn module_name(path: &Path) -> (PathBuf, String) {
    let mut parts = vec![path.file_stem().unwrap_or_default().to_string_lossy().into_owned()];
    let mut folder = path.parent().unwrap_or(Path::new("/"));
    if parts[0] == "__init__" && folder.file_name().is_some() {
        parts.clear();
    }
    while parts.is_empty() || folder.join("__init__.py").is_file() {
        let (Some(name), Some(parent)) = (folder.file_name(), folder.parent()) else { break };
        parts.insert(0, name.to_string_lossy().into_owned());
        folder = parent;
    }
    (folder.to_owned(), parts.join("."))
}

fn default_callable<'py>(
    module: &Bound<'py, PyModule>,
    place: &str,
) -> Result<(Bound<'py, PyAny>, &'static str), LoadError> {
    for name in CALLABLE_NAMES {
        if let Ok(found) = module.getattr(name) {
            return Ok((found, name));
        }
    }
    let [first, second] = CALLABLE_NAMES;
    let mut message =
        format!("module {place:?} has neither {first:?} nor {second:?}: write {place}:attribute");
    if module.hasattr(FACTORY_NAME).unwrap_or(false) {
        message = format!("{message}, or {place}:{FACTORY_NAME}() to have it call that function");
    }
    Err(LoadError::usage(message))
}

/// The value of `name`, `name.name`, or `name(literals)` in `module`.
fn evaluate<'py>(
    module: &Bound<'py, PyModule>,
    place: &str,
    expression: &str,
) -> Result<Bound<'py, PyAny>, LoadError> {
    let py = module.py();
    let (path, arguments) = match expression.split_once('(') {
        Some((path, _)) => (path.trim_end(), Some(arguments(py, place, expression)?)),
        None => (expression, None),
    };
    let expression = &*conceal_arguments(expression); // For what is told of it.
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !path.split('.').all(is_name) {
        return Err(LoadError::usage(format!("{place}:{expression}: {path:?} is no name")));
    }
    let mut value = module.clone().into_any();
    for name in path.split('.') {
        value = value.getattr(name).map_err(|_| {
            LoadError::usage(format!("module {place:?} has no attribute {path:?}{}", similar(module, path)))
        })?;
    }
    let Some((positional, keywords)) = arguments else { return Ok(value) };
    if !value.is_callable() {
        return Err(LoadError::usage(format!(
            "{place}:{path} is {}, which cannot be called",
            a_class(&value)
        )));
    }
    let called = value.call(positional, Some(&keywords));
    called.map_err(|error| LoadError::raised(py, &format!("calling {place}:{expression} failed"), &error))
}

/// The arguments of a call such as `factory('name', debug=True)`; literals only, as in gunicorn.
fn arguments<'py>(
    py: Python<'py>,
    place: &str,
    expression: &str,
) -> Result<(Bound<'py, PyTuple>, Bound<'py, PyDict>), LoadError> {
    let keywords = PyDict::new(py);
    if expression.trim_end().strip_suffix("()").is_some() {
        return Ok((PyTuple::empty(py), keywords));
    }
    let read = || -> PyResult<Bound<'py, PyTuple>> {
        let ast = py.import("ast")?;
        let parsed = ast.call_method1("parse", (expression.trim(), "", "eval"))?.getattr("body")?;
        if !parsed.is_instance(&ast.getattr("Call")?)? {
            return Err(PyValueError::new_err("it is no call"));
        }
        let literal = |node: Bound<'py, PyAny>| ast.call_method1("literal_eval", (node,));
        for keyword in parsed.getattr("keywords")?.try_iter()? {
            let keyword = keyword?;
            keywords.set_item(keyword.getattr("arg")?, literal(keyword.getattr("value")?)?)?;
        }
        let positional =
            parsed.getattr("args")?.try_iter()?.map(|node| literal(node?)).collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, positional)
    };
    let expression = conceal_arguments(expression);
    match read() {
        Ok(positional) => Ok((positional, keywords)),
        Err(error)
            if error.is_instance_of::<PySyntaxError>(py) || error.is_instance_of::<PyValueError>(py) =>
        {
            Err(LoadError::usage(format!(
                "{place}:{expression}: only a call with literal arguments can stand there"
            )))
        }
        Err(error) => Err(LoadError::raised(py, &format!("reading {place}:{expression} failed"), &error)),
    }
}

/// The likely names, if the module has some.
fn similar(module: &Bound<'_, PyModule>, path: &str) -> String {
    let likely =
        CALLABLE_NAMES.into_iter().filter(|&name| name != path && module.hasattr(name).unwrap_or(false));
    let likely: Vec<_> = likely.collect();
    if likely.is_empty() { String::new() } else { format!("; it has {}", likely.join(" and ")) }
}

/// Whether `application` can be called as WSGI has it.
///
/// # Errors
/// It cannot.
pub(crate) fn check_callable(application: &Bound<'_, PyAny>, target: &str) -> Result<(), LoadError> {
    if !application.is_callable() {
        return Err(LoadError::usage(format!("{target} is {}, not a callable", a_class(application))));
    }
    if is_coroutine_function(application) {
        return Err(LoadError::usage(format!(
            "{target} is an ASGI application; Portico serves WSGI applications"
        )));
    }
    if let Some(count) = too_few_parameters(application) {
        return Err(LoadError::usage(format!(
            "{target} cannot be called with environ and start_response: it takes {count} argument{}; if it \
             returns the application, write {target}()",
            if count == 1 { "" } else { "s" }
        )));
    }
    Ok(())
}

/// How many arguments `application` takes, if it is a Python function that cannot take the two of WSGI: most
/// likely a factory that was named without its parentheses.
fn too_few_parameters(application: &Bound<'_, PyAny>) -> Option<u32> {
    const CO_VARARGS: u32 = 0x04;
    let function = application.cast_exact::<PyFunction>().ok()?;
    let code = function.getattr("__code__").ok()?;
    let number = |name: &str| code.getattr(name).and_then(|number| number.extract::<u32>()).ok();
    let count = number("co_argcount")?;
    (count < 2 && number("co_flags")? & CO_VARARGS == 0).then_some(count)
}

/// Whether calling it gives a coroutine, as in ASGI: it, or the `__call__` of its class, is an `async def`.
fn is_coroutine_function(application: &Bound<'_, PyAny>) -> bool {
    const CO_COROUTINE: u32 = 0x80;
    let flags = |function: &Bound<'_, PyAny>| -> PyResult<u32> {
        function.getattr("__code__")?.getattr("co_flags")?.extract()
    };
    let call = application.get_type().getattr("__call__");
    let found = flags(application).or_else(|_| call.and_then(|call| flags(&call)));
    found.is_ok_and(|flags| flags & CO_COROUTINE != 0)
}

fn a_class(value: &Bound<'_, PyAny>) -> String {
    format!("of type {}", value.get_type().name().map(|name| name.to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_has_the_name_of_its_packages() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("shop/views");
        fs::create_dir_all(&package).unwrap();
        for init in ["shop/__init__.py", "shop/views/__init__.py"] {
            fs::write(folder.path().join(init), "").unwrap();
        }
        let name = |file: &str| module_name(&folder.path().join(file));
        let top = folder.path().to_owned();
        assert_eq!(name("wsgi.py"), (top.clone(), "wsgi".to_owned()));
        assert_eq!(name("shop/wsgi.py"), (top.clone(), "shop.wsgi".to_owned()));
        assert_eq!(name("shop/views/index.py"), (top.clone(), "shop.views.index".to_owned()));
        assert_eq!(name("shop/views/__init__.py"), (top, "shop.views".to_owned()));
    }
}
