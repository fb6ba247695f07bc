//! The configuration as the command has it: its arguments, read now and at each reload.
//!
//! A file of it that root reads decides what root does. Where the workers are another user's, it has to be one
//! that root alone can write; so do the folders above it, in which it could be replaced.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use rustix::process::geteuid;

use portico_config::{
    Account, Config, ConfigError, FileAccess, FileValue, Parsed, PythonFile, Resolved, WorkerKind,
    misspelt_variables, parse_again, parse_with_files,
};
use portico_files::{Owner, exposure};
use portico_os::Folder;
use portico_supervisor::upgrade;
use portico_worker::plain;

use super::identity::is_lesser;
use crate::conf::ConfFiles;
use crate::import_path;

/// The sources of the settings, which a reload reads again.
pub(crate) struct Configuration {
    arguments: Vec<OsString>,
    /// Where the program was started; `None` if that folder is gone.
    start: Option<Folder>,
    /// The file in Python, if there is one.
    pub(crate) files: ConfFiles,
    /// Whose the workers are that run.
    pub(crate) workers: Option<Owner>,
    /// What the server runs with, from its start on: some of it stays at a reload.
    pub(crate) running: Option<Resolved>,
}

/// One reading of the configuration, under way. It lives for that reading alone, and notes what it has let in
/// before it knew the workers' user: for a lesser user's workers no file counts that this user can change.
struct ConfigurationReader<'a, 'py> {
    py: Python<'py>,
    files: &'a mut ConfFiles,
    start: Option<&'a Folder>,
    workers: Option<Owner>,
    /// The workers are to be a lesser user's, as far as is known.
    guarded: bool,
    /// What was read before that was known.
    admitted: Vec<PathBuf>,
    /// What others could have put before the modules that a file in Python has imported before that was known.
    imported_from: Option<String>,
}

/// What to do about a configuration file that is not read.
const NAME_ANOTHER: &str = "or name another file with --config";

impl Configuration {
    /// Of a program that was started with these arguments, without its name, in the current folder.
    pub(crate) fn new(arguments: Vec<OsString>) -> Self {
        Self {
            arguments,
            start: Folder::current().ok(),
            files: ConfFiles::default(),
            workers: None,
            running: None,
        }
    }

    /// Where the program was started; `None` if that folder is gone.
    pub(crate) fn start(&self) -> Option<&Folder> {
        self.start.as_ref()
    }

    /// Reads what there is now; for a reload once something runs.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn read(&mut self, py: Python<'_>) -> Result<Parsed, ConfigError> {
        let mut reading = ConfigurationReader {
            py,
            files: &mut self.files,
            start: self.start.as_ref(),
            workers: self.workers,
            guarded: false,
            admitted: Vec::new(),
            imported_from: None,
        };
        let arguments = self.arguments.iter().cloned();
        let mut parsed = match &self.running {
            None => parse_with_files(arguments, &upgrade::variable, &mut reading)?,
            Some(running) => parse_again(arguments, &upgrade::variable, &mut reading, running)?,
        };
        if let Parsed::Run(resolved) | Parsed::Check(resolved) = &parsed {
            reading.look_back(&resolved.config)?;
        }
        if let Parsed::Run(resolved) = &parsed {
            portico_cli::refuse_exposed_folders(&resolved.config).map_err(ConfigError::new)?;
            reading.check_routes(&resolved.config)?;
        }
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let misspelt = misspelt_variables(names).into_iter().chain(self.files.warnings.iter().cloned());
        match &mut parsed {
            Parsed::Run(resolved) | Parsed::Check(resolved) => resolved.warnings.extend(misspelt),
            Parsed::Print(printout) if printout.of_settings => printout.notes.extend(misspelt),
            _ => {}
        }
        Ok(parsed)
    }

    /// Reads it again, in the current folder.
    ///
    /// # Errors
    /// It cannot be used, for this reason.
    pub(crate) fn read_again(&mut self, py: Python<'_>) -> Result<Resolved, String> {
        match self.read(py) {
            Ok(Parsed::Run(resolved)) => Ok(*resolved),
            Ok(_) => Err("the command line asks for something else now".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl ConfigurationReader<'_, '_> {
    /// All is read, and so it is known whose the workers are to be: looks at what was read before that was, and at
    /// the files that `config` names.
    fn look_back(&self, config: &Config) -> Result<(), ConfigError> {
        if !config.system.user.as_ref().is_some_and(|user| is_lesser(self.py, user)) {
            return Ok(());
        }
        let module = self.files.path(self.py);
        for path in self.admitted.iter().map(PathBuf::as_path).chain(module.as_deref()) {
            refuse_exposed(&path.display().to_string(), path, NAME_ANOTHER)?;
        }
        if let Some(reason) = &self.imported_from {
            return Err(ConfigError::new(format!(
                "the configuration file says whose the workers are, and root could have imported modules for it \
                 that are not root's, since {reason}; say --user on the command line or PORTICO_USER, where it is \
                 known before"
            )));
        }
        let folder = config.chdir.clone().unwrap_or_default();
        let logging = &config.python_logging;
        for (option, path) in [("--log-config", &logging.file), ("--log-config-json", &logging.json)] {
            if let Some(path) = path {
                let name = format!("{option}: {}", path.display());
                refuse_exposed(&name, &folder.join(path), "or leave it out")?;
            }
        }
        Ok(())
    }
}

impl ConfigurationReader<'_, '_> {
    /// Whether the routes can be served: a worker that finds out would be no help to a reload, after which each
    /// worker that dies is replaced by one with the new routes.
    fn check_routes(&self, config: &Config) -> Result<(), ConfigError> {
        let is_lesser = |user: &Account| is_lesser(self.py, user);
        let guarded = self.guarded || config.system.user.as_ref().is_some_and(is_lesser);
        // What root may not read, because others could have it read anything, the workers look at.
        let may_read = |path: &Path| !guarded || matches!(exposure(path), Ok(None));
        portico_cli::check_routes(config, &may_read).map_err(ConfigError::new)
    }
}

impl FileAccess for ConfigurationReader<'_, '_> {
    fn begin(&mut self, user: Option<&str>) {
        let running = self.workers.is_some_and(|workers| workers.is_lesser());
        self.guarded = running || user.is_some_and(|user| is_lesser(self.py, &account(user)));
    }

    fn admit(&mut self, path: &Path) -> Result<(), ConfigError> {
        if self.guarded {
            return refuse_exposed(&path.display().to_string(), path, NAME_ANOTHER);
        }
        self.admitted.extend(std::path::absolute(path).ok());
        Ok(())
    }

    fn evaluate(&mut self, file: &PythonFile) -> Result<Vec<FileValue>, ConfigError> {
        if let PythonFile::Path(path) = file
            && path.exists()
        {
            self.admit(path)?;
            // Its own modules are not to be anybody's either, if it is about to say so.
            let is_roots = || matches!(exposure(path), Ok(None));
            self.guarded |= geteuid().is_root() && is_roots() && ConfFiles::names_user(self.py, path);
        }
        let values = self.files.evaluate(self.py, file, self.start.map(Folder::path), self.guarded)?;
        if geteuid().is_root() && !self.guarded {
            let exposed = import_path::first_exposed(self.py);
            self.imported_from = exposed.map_err(|error| ConfigError::new(error.to_string()))?;
        }
        Ok(values)
    }

    fn judge_worker(&mut self, name: &str, folders: &[PathBuf]) -> Result<WorkerKind, ConfigError> {
        let start = self.start.map_or_else(PathBuf::new, |start| start.path().to_owned());
        let folders: Vec<PathBuf> = folders.iter().map(|folder| plain(&start.join(folder))).collect();
        self.files.judge_worker(self.py, name, &folders, self.guarded)
    }
}

/// As `--user` names it.
fn account(user: &str) -> Account {
    user.parse().map_or_else(|_| Account::Name(user.to_owned()), Account::Id)
}

/// Whether root may read the file at `path`, which messages call `name`.
fn refuse_exposed(name: &str, path: &Path, otherwise: &str) -> Result<(), ConfigError> {
    let reason = match exposure(path) {
        Ok(None) => return Ok(()),
        Ok(Some(exposure)) => exposure.to_string(),
        Err(error) => format!("it cannot be looked at ({error})"),
    };
    Err(ConfigError::new(format!(
        "{name}: root does not read it for a server of --user, since {reason}: whoever can change it would become \
         root; give the file and all folders above it to root alone (chown root, chmod go-w), {otherwise}"
    )))
}
