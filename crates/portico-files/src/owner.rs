//! Whose the workers are.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Uid, fchown};

/// Whose the workers are, and so whom files are given to that root makes for them: a user, a group, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Another user.
    pub user: Option<u32>,
    /// Another group.
    pub group: Option<u32>,
}

impl Owner {
    /// Whether it may do less than root, so that there is something to protect.
    pub fn is_lesser(&self) -> bool {
        self.user.is_some_and(|user| user != 0)
    }

    /// Gives it a file that this process has made.
    ///
    /// # Errors
    /// The kernel's: this process is not root.
    pub(crate) fn take(&self, file: impl AsFd) -> io::Result<()> {
        Ok(fchown(file, self.user.map(Uid::from_raw), self.group.map(Gid::from_raw))?)
    }
}
