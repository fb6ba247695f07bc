//! The folders that the server was started in and works in, followed by their names: where a name is that of a
//! link (`current -> r2`), a reload, a worker that starts and an upgrade go to where it leads by then.
//!
//! Root of a server of `--user` follows a name only where root alone can have it lead elsewhere; its workers,
//! which are their user's by then, follow it in any case.

use std::io;
use std::path::{Path, PathBuf};

use portico_config::Config;
use portico_files::redirection;
use portico_os::{Entered, Folder};

use crate::error::SystemError;
use crate::setup::{going_to, plain};

/// Goes to where the name of `folder` leads now. With `guarded`, to the folder as it was where others than root
/// can have the name lead elsewhere.
///
/// # Errors
/// The kernel's.
pub fn go_to(folder: &Folder, guarded: bool) -> io::Result<()> {
    if let Some(reason) = distrust(folder, guarded) {
        log::info!("Root stays in {} as it was, since {reason}; the workers follow it", shown(folder));
        return folder.enter();
    }
    tell(folder, &folder.enter_by_name()?);
    Ok(())
}

/// Goes to the folder of a configuration that was read again in the first of the `known` folders, those that the
/// server was started in and works in. Returns the one that it works in from now on.
///
/// # Errors
/// There is none.
pub fn enter_again(
    config: &Config,
    known: [Option<&Folder>; 2],
    guarded: bool,
) -> Result<Folder, SystemError> {
    let finding = |error| SystemError::new("finding the current folder", &error);
    let [start, former] = known;
    let start = match start {
        Some(start) => start.clone(),
        None => Folder::current().map_err(finding)?,
    };
    let Some(chdir) = &config.chdir else {
        // A configuration in Python may have gone elsewhere.
        go_to(&start, guarded).map_err(|error| SystemError::new(&going_to(start.path()), &error))?;
        return Folder::named(start.path().to_owned()).map_err(finding);
    };
    let path = plain(&start.path().join(chdir));
    match former.filter(|former| former.path() == path) {
        Some(former) => go_to(former, guarded).map_err(|error| SystemError::new(&going_to(&path), &error))?,
        None => {
            std::env::set_current_dir(&path).map_err(|error| SystemError::new(&going_to(&path), &error))?
        }
    }
    Folder::named(path).map_err(finding)
}

/// A new worker, or template, went to where the name of its folder leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed<'f> {
    /// Where it is to look for modules first.
    pub path: &'f Path,
    /// It is another folder than before: what Python's finders remember of the former one is not there.
    pub moved: bool,
}

/// Has a new worker, or template, go to where the name of `folder` leads now, unless a hook has taken it
/// elsewhere.
///
/// # Errors
/// The kernel's.
pub fn follow(folder: &Folder) -> io::Result<Followed<'_>> {
    if !folder.is_current() {
        return Ok(Followed { path: folder.path(), moved: false });
    }
    let entered = folder.enter_by_name()?;
    tell(folder, &entered);
    Ok(match entered {
        Entered::ByName { moved } => Followed { path: folder.path(), moved },
        // Where the process is.
        Entered::AsItWas(_) => Followed { path: Path::new(""), moved: false },
    })
}

/// Where to start a program that is to work in `folder`.
pub fn path_for_another(folder: &Folder, guarded: bool) -> PathBuf {
    if let Some(reason) = distrust(folder, guarded) {
        log::info!(
            "The new supervisor is started in {} as it was, since {reason}; its workers follow it",
            shown(folder)
        );
        return folder.held_path();
    }
    match folder.path().metadata() {
        Ok(_) => folder.path().to_owned(),
        Err(error) => {
            tell(folder, &Entered::AsItWas(error));
            folder.held_path()
        }
    }
}

/// Why root does not follow the name, if that is so.
fn distrust(folder: &Folder, guarded: bool) -> Option<String> {
    match redirection(folder.path()) {
        _ if !guarded => None,
        Ok(exposure) => exposure.map(|exposure| exposure.to_string()),
        // What leads nowhere now may lead somewhere in a moment.
        Err(error) => Some(format!("it cannot be looked at ({error})")),
    }
}

fn tell(folder: &Folder, entered: &Entered) {
    match entered {
        Entered::ByName { moved: false } => {}
        Entered::ByName { moved: true } => {
            log::info!("{} is another folder than before; going on in that", shown(folder));
        }
        Entered::AsItWas(error) => log::warn!(
            "{} cannot be entered any more ({error}); going on in the folder that it was",
            shown(folder)
        ),
    }
}

fn shown(folder: &Folder) -> impl std::fmt::Display {
    folder.path().display()
}
