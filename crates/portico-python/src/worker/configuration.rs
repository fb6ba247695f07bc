//! The configuration as the command has it: its arguments, read now and at each reload.

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;

use portico_config::{Config, ConfigError, Parsed, Resolved, misspelt_variables, parse_with_files};
use portico_supervisor::upgrade;

use crate::conf::ConfFiles;

/// Where the settings come from.
pub struct Configuration {
    arguments: Vec<OsString>,
    /// Where the program was started; `None` if that folder is gone.
    folder: Option<PathBuf>,
    /// The file in Python, if there is one.
    pub files: ConfFiles,
}

impl Configuration {
    /// Of a program that was started with these arguments, without its name, in the current folder.
    pub fn new(arguments: Vec<OsString>) -> Self {
        Self { arguments, folder: std::env::current_dir().ok(), files: ConfFiles::default() }
    }

    /// Reads what there is now.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(&mut self, py: Python<'_>) -> Result<Parsed, ConfigError> {
        let files = &mut self.files;
        let arguments = self.arguments.iter().cloned();
        let mut parsed =
            parse_with_files(arguments, &upgrade::variable, &mut |file| files.evaluate(py, file))?;
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let misspelt = misspelt_variables(names).into_iter().chain(files.warnings.iter().cloned());
        match &mut parsed {
            Parsed::Run(resolved) | Parsed::Check(resolved) => resolved.warnings.extend(misspelt),
            Parsed::Print(printout) if printout.of_settings => printout.notes.extend(misspelt),
            _ => {}
        }
        Ok(parsed)
    }

    /// Reads it again, from where the program was started.
    ///
    /// # Errors
    /// It cannot be used, for this reason.
    pub fn read_again(&mut self, py: Python<'_>) -> Result<Resolved, String> {
        let folder = std::env::current_dir().ok();
        let go = |folder: &Option<PathBuf>| folder.as_ref().map_or(Ok(()), std::env::set_current_dir);
        let _ = go(&self.folder); // If it is gone, names that are relative to it are not found, which is told.
        let read = self.read(py);
        go(&folder).map_err(|error| format!("going back to the server's folder failed: {error}"))?;
        match read {
            Ok(Parsed::Run(resolved)) => Ok(*resolved),
            Ok(_) => Err("the command line asks for something else now".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What of `new` cannot count before the program is started anew stays as in `old`, which is told.
pub fn keep_fixed(new: &mut Config, old: &Config) {
    let mut kept = Vec::new();
    let mut keep = |name: &'static str, changed: bool| {
        kept.extend(changed.then_some(name));
        changed
    };
    if keep("bind", new.binds != old.binds) {
        new.binds = old.binds.clone();
    }
    if keep("preload", new.preload != old.preload) {
        new.preload = old.preload;
    }
    // The scoreboard has room for so many.
    if keep("threads (more of them)", new.threads > old.threads) {
        new.threads = old.threads;
    }
    if !kept.is_empty() {
        log::warn!(
            "a reload cannot change {}: the former value stays; start the server anew, or upgrade it (SIGUSR2)",
            kept.join(", ")
        );
    }
}
