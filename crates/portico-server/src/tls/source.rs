//! Where a worker has its certificates from.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::reloader::Keeper;
use super::shared::Vault;

/// A vault; and whoever looks after the files, where no other process does.
#[derive(Clone, Debug)]
pub struct Supply {
    vault: Vault,
    keeper: Option<Arc<Mutex<Keeper>>>,
}

impl Supply {
    /// The vault, after a look at the files, if that is this process' part and it is time to.
    pub(super) fn vault(&self) -> &Vault {
        if let Some(keeper) = &self.keeper {
            keeper.lock().unwrap_or_else(PoisonError::into_inner).look_if_due();
        }
        &self.vault
    }
}

impl AsFd for Supply {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.vault.as_fd()
    }
}

/// Another process looks after the files.
impl From<Vault> for Supply {
    fn from(vault: Vault) -> Self {
        Self { vault, keeper: None }
    }
}

/// A process that has no other beside it looks after the files itself, when clients come.
impl From<Keeper> for Supply {
    fn from(keeper: Keeper) -> Self {
        Self { vault: keeper.vault(), keeper: Some(Arc::new(Mutex::new(keeper))) }
    }
}
