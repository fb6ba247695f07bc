//! Where the processes look for modules that run before any of the application's: the supervisor, and a worker
//! that has not become its user yet.
//!
//! They may be root's. So the application's folders are put on `sys.path` in the workers alone, and what could be
//! anybody's is off it as long as root would import from it. What the supervisor may need later is imported before
//! that: nothing is looked for once it serves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice};

use portico_files::exposure;
use rustix::process::geteuid;

/// An entry of `sys.path` that was taken off.
struct WithheldFolder {
    /// How many entries were left before it.
    index: usize,
    entry: OsString,
}

/// Those that [`restore`] puts back, in the order in which they were taken off.
static WITHHELD: Mutex<Vec<WithheldFolder>> = Mutex::new(Vec::new());

/// How the databases of users and groups are asked.
const ACCOUNTS: [&str; 2] = ["grp", "pwd"];

/// What the supervisor, and each worker before its application, have in any case.
const NEEDED: [&str; 5] = ["faulthandler", "gc", "portico._logs", "threading", "traceback"];

/// What they may come to need: what a reload may ask for that was not there at the start, and what Python imports
/// while it tells of an error.
const POSSIBLY_NEEDED: [&str; 11] = [
    "_colorize",
    "_suggestions",
    "ast",
    "logging.config",
    "logging.handlers",
    "portico._gunicorn.conf_file",
    "portico._gunicorn.server",
    "portico._statsd",
    "tokenize",
    "unicodedata",
    "warnings",
];

/// Takes off what `python -m` and `python -c` have put first, the current folder, until [`restore`].
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn begin(py: Python<'_>) -> PyResult<()> {
    if !is_safe(py) {
        let current = std::env::current_dir().unwrap_or_default();
        let is_current = |entry: &Path| entry.as_os_str().is_empty() || entry == current;
        withhold(py, &|index, entry| index == 0 && is_current(entry))?;
    }
    // Whether there is a lesser user is found out with these.
    if geteuid().is_root() { import_guarded(py, &ACCOUNTS) } else { Ok(()) }
}

/// Whether Python leaves the current folder out by itself (`-P`), which it can from 3.11 on.
pub(crate) fn is_safe(py: Python<'_>) -> bool {
    let flags = py.import("sys").and_then(|sys| sys.getattr("flags"));
    flags.and_then(|flags| flags.getattr("safe_path")?.is_truthy()).unwrap_or_default()
}

/// Imports what the supervisor may need later, and with `everything` what it needs after a reload only.
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn import_ahead(py: Python<'_>, everything: bool) -> PyResult<()> {
    import_guarded(py, &NEEDED)?;
    if everything { import_guarded(py, &POSSIBLY_NEEDED) } else { Ok(()) }
}

/// Imports these, in a process of root's only from where nobody else can put modules. Not every Python has them
/// all.
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn import_guarded(py: Python<'_>, names: &[&str]) -> PyResult<()> {
    let whole = path(py)?.as_any().call_method0("copy")?;
    if geteuid().is_root() {
        take_off(py, &|_, entry| is_exposed(py, entry))?;
    }
    for name in names {
        if let Err(error) = py.import(*name) {
            log::debug!("{name} is not imported ahead: {error}");
        }
    }
    path(py)?.as_any().set_item(PySlice::full(py), whole)
}

/// Why root should not have imported from the first such entry; `None` if there is none.
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn first_exposed(py: Python<'_>) -> PyResult<Option<String>> {
    let entries = path(py)?.iter().filter_map(|entry| entry.extract::<PathBuf>().ok()).collect::<Vec<_>>();
    Ok(entries.iter().filter(|entry| is_exposed(py, entry)).find_map(|entry| reason(entry)))
}

/// Takes off every entry that others than root can change, until [`restore`]. Returns what is to be told of those
/// that were not known yet, one line each.
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn withhold_exposed(py: Python<'_>) -> PyResult<Vec<String>> {
    let taken = withhold(py, &|_, entry| is_exposed(py, entry))?;
    let told = |entry: &OsString| {
        let reason = reason(Path::new(entry)).unwrap_or_default();
        format!("root imports nothing from {} any more, since {reason}; the workers do", entry.display())
    };
    Ok(taken.iter().map(told).collect())
}

/// What is to be told of a start by `python -m` in this folder, which others than root can change.
pub(crate) fn unsafe_start(folder: &Path) -> Option<String> {
    let reason = reason(folder)?;
    Some(format!(
        "python -m portico looks for Python's own modules in {} first, as root, and {reason}; start with the \
         command portico, or with python -P -m portico",
        folder.display()
    ))
}

/// Puts back what was taken off: for the application, in a process that is its user's.
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn restore(py: Python<'_>) -> PyResult<()> {
    let path = path(py)?;
    // Where one was, it was when those before it had been taken off already.
    for it in std::mem::take(&mut *withheld()).into_iter().rev() {
        if !path.contains(&it.entry)? {
            path.insert(it.index.min(path.len()), it.entry)?;
        }
    }
    Ok(())
}

/// What was taken off.
pub(crate) fn entries_withheld() -> Vec<OsString> {
    withheld().iter().map(|it| it.entry.clone()).collect()
}

/// Makes `folder` the first that imports look in.
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn put_first(py: Python<'_>, folder: &Path) -> PyResult<()> {
    let path = path(py)?;
    let folder = folder.as_os_str().into_pyobject(py)?;
    if path.get_item(0).is_ok_and(|first| first.eq(&folder).unwrap_or(false)) {
        return Ok(());
    }
    path.insert(0, folder)
}

/// Makes `folder` the first that imports look in, if they do not look there anyway. With `guarded`, only if root
/// alone can change it; returns why not.
///
/// # Errors
/// `sys.path` is not the list that it should be.
pub(crate) fn add(py: Python<'_>, folder: &Path, guarded: bool) -> PyResult<Option<String>> {
    if let Some(reason) = why_not(folder, guarded) {
        return Ok(Some(reason));
    }
    match path(py)?.contains(folder.as_os_str())? {
        true => Ok(None),
        false => put_first(py, folder).map(|()| None),
    }
}

/// Why nothing is imported from `folder`, if that is so.
pub(crate) fn why_not(folder: &Path, guarded: bool) -> Option<String> {
    guarded.then(|| reason(folder)).flatten()
}

fn path(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    Ok(py.import("sys")?.getattr("path")?.cast_into::<PyList>()?)
}

fn withheld() -> MutexGuard<'static, Vec<WithheldFolder>> {
    WITHHELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes off the entries that `is_it` names by their places and texts, and notes them. Returns those that were not
/// noted before.
fn withhold(py: Python<'_>, is_it: &dyn Fn(usize, &Path) -> bool) -> PyResult<Vec<OsString>> {
    let mut known = withheld();
    let mut new = Vec::new();
    for it in take_off(py, is_it)? {
        if known.iter().all(|known| known.entry != it.entry) {
            new.push(it.entry.clone());
            known.push(it);
        }
    }
    Ok(new)
}

fn take_off(py: Python<'_>, is_it: &dyn Fn(usize, &Path) -> bool) -> PyResult<Vec<WithheldFolder>> {
    let path = path(py)?;
    let mut taken = Vec::new();
    let mut kept = Vec::new();
    for (index, entry) in path.iter().enumerate() {
        match entry.extract::<OsString>() {
            Ok(text) if is_it(index, Path::new(&text)) => {
                taken.push(WithheldFolder { index: kept.len(), entry: text });
            }
            _ => kept.push(entry),
        }
    }
    // In its place: others may have the list.
    path.as_any().set_item(PySlice::full(py), kept)?;
    Ok(taken)
}

/// Whether others than root can change what is imported from this entry. Python's own modules stay in any case:
/// without them there is none.
fn is_exposed(py: Python<'_>, entry: &Path) -> bool {
    !is_standard(py, entry) && reason(entry).is_some()
}

/// Why root does not import from this entry, if that is so.
fn reason(entry: &Path) -> Option<String> {
    if !entry.is_absolute() {
        return Some("it depends on the current folder".to_owned());
    }
    match exposure(entry) {
        Ok(exposure) => exposure.map(|exposure| exposure.to_string()),
        Err(error) => Some(format!("it cannot be looked at ({error})")),
    }
}

fn is_standard(py: Python<'_>, entry: &Path) -> bool {
    let file = py.import("os").and_then(|os| os.getattr("__file__")?.extract::<PathBuf>());
    let packages = |part: &std::ffi::OsStr| part.to_string_lossy().ends_with("-packages");
    file.is_ok_and(|file| file.parent().is_some_and(|standard| entry.starts_with(standard)))
        && !entry.components().any(|part| packages(part.as_os_str()))
}
