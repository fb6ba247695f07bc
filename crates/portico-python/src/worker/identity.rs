//! Whose the workers are: `--user`, `--group`, `--initgroups`. The supervisor stays root's.

use portico_net::Listener;
use pyo3::exceptions::{PyKeyError, PyPermissionError};
use pyo3::prelude::*;
use pyo3::types::PyAny;
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;

use portico_config::{Account, Config};
use portico_files::Owner;

use super::start_error::StartError;
use crate::error::one_line;

/// The user and the group that processes become: another user, another group, or both.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    user: Option<u32>,
    group: Option<u32>,
    /// Whose groups the workers have; those of `group` alone otherwise.
    member: Option<String>,
    /// Whether what they start may be another user's, by set-user-ID bits.
    may_gain: bool,
}

/// The entry of a user in the system's database.
struct UserEntry {
    id: u32,
    /// Its name and its own group, if there is an entry for it.
    known: Option<(String, u32)>,
}

impl Identity {
    /// The one that is asked for; `None` if this process is that already.
    ///
    /// # Errors
    /// There is no such user or group, or this process may not become it.
    pub(crate) fn find(py: Python<'_>, config: &Config) -> Result<Option<Self>, StartError> {
        let user = config.system.user.as_ref().map(|account| user(py, account)).transpose()?;
        let own = user.as_ref().and_then(|user| user.known.as_ref()).map(|(_, group)| *group);
        let group = config.system.group.as_ref().map(|account| group(py, account)).transpose()?.or(own);
        let name = user.as_ref().and_then(|user| user.known.as_ref()).map(|(name, _)| name.clone());
        if config.system.initgroups && config.system.user.is_some() && name.is_none() {
            return Err(refused("--initgroups: the user has no name on this machine; leave it out"));
        }
        let user = user.map(|user| user.id);
        let is_root = geteuid().is_root();
        let changes = user.is_some_and(|user| user != geteuid().as_raw())
            || group.is_some_and(|group| group != getegid().as_raw());
        if !(changes || is_root && config.system.initgroups) {
            return Ok(None);
        }
        if !is_root {
            return Err(refused(
                "--user, --group: only root can become another; start as root, or leave them out",
            ));
        }
        let member = name.filter(|_| config.system.initgroups);
        Ok(Some(Self { user, group, member, may_gain: config.system.allow_new_privileges }))
    }

    /// Whose the files are that the server has for its workers.
    pub(crate) fn owner(&self) -> Owner {
        Owner { user: self.user, group: self.group }
    }

    /// Makes this process theirs, for good.
    ///
    /// # Errors
    /// The system's: it lacks a capability.
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<()> {
        let os = py.import("os")?;
        let group = self.group.unwrap_or_else(|| getegid().as_raw());
        let groups = match &self.member {
            Some(name) => os.call_method1("initgroups", (name, group)),
            // Else they would go on being root's.
            None if self.user.is_some() => os.call_method1("setgroups", ([group],)),
            None => Ok(py.None().into_bound(py)),
        };
        match groups {
            Err(error) if error.is_instance_of::<PyPermissionError>(py) => {
                // As in a user namespace that forbids it.
                log::warn!("the worker keeps its supplementary groups: {}", one_line(py, &error));
            }
            groups => drop(groups?),
        }
        if let Some(group) = self.group {
            os.call_method1("setgid", (group,))?;
        }
        if let Some(user) = self.user {
            os.call_method1("setuid", (user,))?;
            // What the kernel takes away with it: without it the process cannot read its own /proc/self/fd, and
            // every subprocess closes descriptors one by one.
            if let Err(error) = set_dumpable_behavior(DumpableBehavior::Dumpable) {
                log::debug!("the worker is not dumpable: {error}");
            }
        }
        if self.owner().is_lesser() && !self.may_gain {
            set_no_new_privs(true).map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    /// Gives them the files of the UNIX sockets.
    pub(crate) fn give_sockets(&self, listeners: &[Listener]) {
        for listener in listeners {
            if let Err(error) = listener.give(self.owner()) {
                log::warn!("{} cannot be given to the workers' user: {error}", listener.url());
            }
        }
    }
}

/// Whether workers of the user that is named so can do less than this process, which is root. One that cannot be
/// found counts as such.
pub(crate) fn is_lesser(py: Python<'_>, account: &Account) -> bool {
    geteuid().is_root() && user(py, account).map_or(true, |entry| entry.id != 0)
}

fn user(py: Python<'_>, account: &Account) -> Result<UserEntry, StartError> {
    let found = match account {
        Account::Name(name) => look_up(py, "pwd", "getpwnam", name)?,
        Account::Id(id) => look_up(py, "pwd", "getpwuid", id)?,
    };
    match (found, account) {
        (Some(entry), _) => {
            let known = (entry.getattr("pw_name")?.extract()?, entry.getattr("pw_gid")?.extract()?);
            Ok(UserEntry { id: entry.getattr("pw_uid")?.extract()?, known: Some(known) })
        }
        (None, Account::Id(id)) => Ok(UserEntry { id: *id, known: None }),
        (None, Account::Name(name)) => {
            Err(refused(&format!("--user: there is no user {name:?} on this machine; write its number")))
        }
    }
}

fn group(py: Python<'_>, account: &Account) -> Result<u32, StartError> {
    match account {
        Account::Id(id) => Ok(*id),
        Account::Name(name) => match look_up(py, "grp", "getgrnam", name)? {
            Some(entry) => Ok(entry.getattr("gr_gid")?.extract()?),
            None => Err(refused(&format!(
                "--group: there is no group {name:?} on this machine; write its number"
            ))),
        },
    }
}

/// An entry of the user or group database; `None` if there is none.
fn look_up<'py>(
    py: Python<'py>,
    module: &str,
    function: &str,
    key: impl IntoPyObject<'py>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match py.import(module)?.getattr(function)?.call1((key,)) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.is_instance_of::<PyKeyError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

fn refused(message: &str) -> StartError {
    StartError::System(message.to_owned())
}
