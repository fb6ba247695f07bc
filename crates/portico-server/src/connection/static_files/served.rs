//! Which files are served: those of all routes, with what is kept of them in memory, and what a request is for.

use std::path::Path;
use std::sync::Arc;

use portico_config::{Fallback, RouteResponse};
use portico_edge::files::{ImmutableNames, MethodDecision, method_decision};
use portico_edge::{EdgeRouter, FlatRoute};
use portico_static::{FileCache, FileSite};

use crate::connection::Reply;
use crate::connection::accel::ApplicationHead;

/// The files of all routes, and what of them is kept in memory.
#[derive(Debug)]
pub(crate) struct ServedFiles {
    pub(super) sites: Vec<Arc<FileSite>>,
    /// The site of each route, sorted by the place of that in memory: routes stay where they are.
    by_route: Vec<(usize, u32)>,
    pub(super) cache: FileCache,
    /// No larger than what may be kept at all.
    pub(super) keeps: bool,
}

/// A file that a request is for.
#[derive(Debug)]
pub(crate) struct FileRequest {
    pub(super) site: u32,
    /// Below the site's folders: it begins with `/`, or is empty for the mount itself.
    pub(super) path: Vec<u8>,
    pub(super) purpose: FilePurpose,
    /// It has been found and was another one when it was opened.
    pub(super) was_changed: bool,
}

/// Why a file is sent.
#[derive(Debug)]
pub(super) enum FilePurpose {
    /// The request's path names it.
    Asked,
    /// What was asked for is not there (`fallback`).
    Fallback,
    /// The application has named it, in a response with this head.
    Internal(Box<ApplicationHead>),
}

impl ServedFiles {
    /// The files of the routes of `router`, whose relative paths begin at `base`; no more than `bytes_max` of
    /// them are kept in memory.
    pub(crate) fn new(router: &EdgeRouter, base: &Path, bytes_max: u64) -> Self {
        let (mut sites, mut by_route) = (Vec::new(), Vec::new());
        for route in router.routes() {
            let RouteResponse::Files(folders) = &route.response else { continue };
            by_route.push((place(route), sites.len() as u32));
            let names = ImmutableNames::clone(&route.immutable);
            sites.push(Arc::new(FileSite::new(Arc::clone(route), folders, base, names)));
        }
        by_route.sort_unstable();
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { cache: FileCache::new(sites.len(), bytes_max), sites, by_route, keeps: bytes_max > 0 }
    }

    /// What a request with this method becomes, which is for `path` below the folders of `route`.
    pub(crate) fn decide(&self, method: &[u8], route: &FlatRoute, path: Vec<u8>) -> FileDecision {
        let Some(site) = self.site(route) else {
            return FileDecision::Reply(Reply::NoFile(404));
        };
        match method_decision(method, &route.files.fallback) {
            MethodDecision::Serve { .. } => FileDecision::Serve(FileRequest {
                site,
                path,
                purpose: FilePurpose::Asked,
                was_changed: false,
            }),
            MethodDecision::Options => FileDecision::Reply(Reply::FileMethods),
            MethodDecision::NotAllowed => {
                FileDecision::Reply(Reply::MethodNotAllowed(FILE_METHODS.map(str::to_owned).to_vec()))
            }
            MethodDecision::Application => FileDecision::Application,
        }
    }

    /// The file that an application has named, below the folders of the internal `route`.
    pub(crate) fn internal(
        &self,
        route: &FlatRoute,
        path: Vec<u8>,
        head: ApplicationHead,
    ) -> Option<FileRequest> {
        let site = self.site(route)?;
        let purpose = FilePurpose::Internal(Box::new(head));
        Some(FileRequest { site, path, purpose, was_changed: false })
    }

    fn site(&self, route: &FlatRoute) -> Option<u32> {
        let at = self.by_route.binary_search_by_key(&place(route), |(place, _)| *place).ok()?;
        Some(self.by_route[at].1)
    }

    /// The routes that have files, with their folders as they are opened.
    pub(crate) fn sites(&self) -> &[Arc<FileSite>] {
        &self.sites
    }
}

/// What becomes of a request for a file.
#[derive(Debug)]
pub(crate) enum FileDecision {
    Serve(FileRequest),
    Reply(Reply),
    Application,
}

/// The methods that files take.
pub(crate) const FILE_METHODS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

fn place(route: &FlatRoute) -> usize {
    std::ptr::from_ref(route).addr()
}

impl FileRequest {
    /// Whether what is not there goes to the application, which is to have the request's body then.
    pub(crate) fn may_be_for_application(route: &FlatRoute) -> bool {
        route.files.fallback == Fallback::Application
    }
}
