//! Where a worker has its certificates from.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::reloader::CertificateReloader;
use super::shared::SharedCertificates;

/// The shared certificates; and whoever looks after the files, where no other process does.
#[derive(Clone, Debug)]
pub struct CertificateSource {
    shared: SharedCertificates,
    reloader: Option<Arc<Mutex<CertificateReloader>>>,
}

impl CertificateSource {
    /// The shared certificates, after a look at the files, if that is this process' part and it is time to.
    pub(super) fn shared(&self) -> &SharedCertificates {
        if let Some(reloader) = &self.reloader {
            reloader.lock().unwrap_or_else(PoisonError::into_inner).look_if_due();
        }
        &self.shared
    }
}

impl AsFd for CertificateSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

/// Another process looks after the files.
impl From<SharedCertificates> for CertificateSource {
    fn from(shared: SharedCertificates) -> Self {
        Self { shared, reloader: None }
    }
}

/// A process that has no other beside it looks after the files itself, when clients come.
impl From<CertificateReloader> for CertificateSource {
    fn from(reloader: CertificateReloader) -> Self {
        Self { shared: reloader.shared(), reloader: Some(Arc::new(Mutex::new(reloader))) }
    }
}
