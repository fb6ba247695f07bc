//! The configuration's routes as a router: what portico-edge decides about a request, as what the server does.
//!
//! portico-edge decides without I/O. What it needs of the world is had here: who the client is, and whether the
//! files of `if_file` are there. That is looked at once a second at most, when a request comes; where the kernel
//! would have to ask a disk, off the engine, and what was seen last counts meanwhile.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_config::{Config, RouteResponse};
use portico_edge::access::admits;
use portico_edge::files::content_type;
use portico_edge::host::RequestHost;
use portico_edge::path::encode;
use portico_edge::{EdgeRouter, FlatRoute, Refusal, RouteAction, RouteRequest};
use portico_proto::{ScriptPath, percent_decode, split_root_path};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::guards::Guards;
use super::router::{Routed, Router};
use super::static_files::{FileDecision, ServedFiles};
use super::work::Change;
use super::{Decision, EngineContext, Reply};
use crate::blocking_work::{Effort, JobFate, JobOwner};
use crate::client::RequestContext;
use crate::limits::{ConcurrencyPlace, SharedLimits};

/// The routes of a worker, and which of the files are there that they ask for.
#[derive(Debug)]
pub struct Routes {
    pub(super) router: EdgeRouter,
    /// Their files.
    pub(super) files: ServedFiles,
    /// A route has files for the application to name.
    pub(super) has_internal: bool,
    /// `--root-path`, which is no matter of routes.
    root_path: String,
    pub(super) guards: Guards,
    /// The files of `if_file`, in the router's order.
    watched: Vec<PathBuf>,
    present: Vec<bool>,
    /// When they are to be looked at again; `None` while they are, off the engine.
    look_at: Option<Instant>,
}

/// How long what was seen of a file counts. A maintenance page comes and goes within it; a look costs a call of
/// the system.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Routes {
    /// The routes of `router`, whose relative paths begin at `folder`. They are for paths below `--root-path`.
    /// Small files of theirs are kept in memory, as far as `config` has room for them; what they limit is counted
    /// in `limits`.
    pub fn new(
        router: EdgeRouter,
        folder: &Path,
        config: &Config,
        limits: SharedLimits,
        now: Instant,
    ) -> Self {
        let watched: Vec<PathBuf> = router.watched_files().iter().map(|file| folder.join(file)).collect();
        // At the start there is nobody who would have to wait.
        let present = look(&watched);
        let files = ServedFiles::new(&router, folder, config.edge.static_cache_bytes);
        let has_internal = files.sites().iter().any(|site| site.route().internal);
        let root_path = config.root_path.clone();
        let guards = Guards::new(&router, limits, now);
        Self { present, router, files, has_internal, root_path, guards, watched, look_at: Some(now) }
    }

    /// The route of requests of which nothing is known.
    pub(super) fn root(&self) -> &Arc<FlatRoute> {
        self.router.root()
    }

    /// Whether it is time to look at the files that routes ask for.
    #[inline]
    pub(super) fn is_look_due(&self, now: Instant) -> bool {
        !self.watched.is_empty() && self.look_at.is_some_and(|at| at <= now)
    }

    /// Takes what has been seen of the files that routes ask for; the next look is due at `again`.
    fn take_look(&mut self, present: Vec<bool>, again: Instant) {
        self.present = present;
        self.look_at = Some(again);
    }

    /// Asks the guards of the route of `request` whose head has come: they may refuse it. One that is `admitted`
    /// has passed them in another worker.
    #[inline]
    pub(super) fn ask_guards(
        &mut self,
        routed: &mut Routed,
        request: &RequestContext,
        admitted: bool,
        now: Instant,
    ) {
        let route = &routed.route;
        let has_guards = route.limit.is_some() || route.concurrent.is_some();
        if !has_guards || admitted || routed.is_refused() {
            return;
        }
        if let Some(refusal) = self.guards.refuse(route, request, now) {
            routed.reply = Some(refusal);
        }
    }

    /// The place of a request of `route` that is to run, where there is a limit to them; the refusal where there
    /// is no place.
    pub(super) fn place(
        &self,
        route: &FlatRoute,
        admitted: bool,
    ) -> Result<Option<Arc<ConcurrencyPlace>>, Reply> {
        let Some(limit) = route.concurrent else { return Ok(None) };
        self.guards.place(limit, admitted).map(Some).ok_or(Reply::TooManyAtOnce)
    }

    /// The server's response by a route that does not call the application.
    fn reply(route: &FlatRoute, action: RouteAction<'_>) -> Reply {
        match action {
            RouteAction::Redirect { status, location } => Reply::Moved { status, location },
            RouteAction::Respond { status } => fixed(route, status),
            RouteAction::Refuse(Refusal::NotFound) if matches!(route.response, RouteResponse::Files(_)) => {
                Reply::NoFile(404)
            }
            RouteAction::Refuse(Refusal::MethodNotAllowed(methods)) => Reply::MethodNotAllowed(methods),
            RouteAction::Refuse(refusal) => Reply::Refused(refusal.status(), refusal.text().into()),
            // They are no replies.
            RouteAction::Serve(_) | RouteAction::Call(_) => {
                Reply::Refused(404, Refusal::NotFound.text().into())
            }
        }
    }
}

impl EngineContext {
    /// Looks at the files that routes ask for: as far as the kernel knows them, and else off the engine.
    #[cold]
    pub(super) fn look_at_files(&mut self) {
        let again = self.now + LOOK_INTERVAL;
        let Some(routes) = &mut self.routes else { return };
        if let Some(present) = look_in_memory(&routes.watched) {
            return routes.take_look(present, again);
        }
        let files = routes.watched.clone();
        let look = move |fate| -> Change {
            let present = (fate == JobFate::Run).then(|| look(&files));
            Box::new(move |context| {
                let again = context.now + LOOK_INTERVAL;
                if let Some(routes) = &mut context.routes {
                    let present = present.unwrap_or_else(|| routes.present.clone());
                    routes.take_look(present, again);
                }
            })
        };
        let is_away = self.submit_for_all(Effort::Disk, JobOwner::SERVER, look).is_ok();
        if let Some(routes) = &mut self.routes {
            routes.look_at = if is_away { None } else { Some(again) };
        }
    }
}

/// Which of `files` are there.
fn look(files: &[PathBuf]) -> Vec<bool> {
    files.iter().map(|file| file.exists()).collect()
}

/// The same, if the kernel can tell without a disk (openat2(2), `RESOLVE_CACHED`, since Linux 5.12).
fn look_in_memory(files: &[PathBuf]) -> Option<Vec<bool>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let is_there = |file: &PathBuf| match openat2(CWD, file, flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(_) => Some(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Some(false),
        Err(_) => None,
    };
    files.iter().map(is_there).collect()
}

impl Routes {
    /// What stands before the path that routes are for, and that path: the one with which the main application
    /// would be called, percent-encoded. Otherwise one could ask for what a route guards by a path that the
    /// application takes for the guarded one. A gateway's own SCRIPT_NAME is a part of it, and its path is encoded
    /// anew: gateways rewrite paths and leave the target as their client has sent it.
    fn divided_path<'r>(&self, request: &'r RequestContext) -> (&'r [u8], Cow<'r, [u8]>) {
        let head = &request.head;
        if head.is_gateway() {
            let path = ScriptPath::of(head, self.root_path.as_bytes());
            return (b"", Cow::Owned(encode(&path.whole()).into_bytes()));
        }
        let told = request.forwarded.as_deref().and_then(|forwarded| forwarded.script_name.as_deref());
        let root_path = told.map_or(Cow::Borrowed(self.root_path.as_bytes()), percent_decode);
        let (prefix, path) = split_root_path(head.path(), &root_path);
        (prefix, Cow::Borrowed(path))
    }
}

impl Router for Routes {
    fn route(&self, request: &RequestContext) -> Decision {
        if self.router.is_idle() {
            return Decision::Application; // There are pages for errors, and no route.
        }
        if self.router.names_hosts() && is_misdirected(request) {
            let reply = Reply::Refused(421, MISDIRECTED.into());
            let route = Arc::clone(self.root());
            return Decision::Routed(Box::new(Routed {
                route,
                reply: Some(reply),
                file: None,
                rewritten: None,
                awaits_login: false,
            }));
        }
        let head = &request.head;
        let (prefix, path) = self.divided_path(request);
        let asked = RouteRequest {
            method: head.method(),
            path: &path,
            query: Some(head.query()).filter(|query| !query.is_empty()),
            host: request.host(),
        };
        let decision = self.router.decide_below(prefix, &asked, &self.present);
        let route = decision.route;
        let refused = || Reply::Refused(403, "this is not for clients of this address".into());
        let mut routed = Routed {
            route: Arc::clone(route),
            reply: None,
            file: None,
            awaits_login: false,
            rewritten: None,
        };
        match (is_admitted(route, request), decision.action) {
            (false, _) => routed.reply = Some(refused()),
            (true, RouteAction::Call(call)) => routed.rewritten = call.rewritten,
            (true, RouteAction::Serve(lookup)) => {
                match self.files.decide(head.method(), route, lookup.path) {
                    FileDecision::Serve(file) => routed.file = Some(file),
                    FileDecision::Reply(reply) => routed.reply = Some(reply),
                    FileDecision::Application => {}
                }
            }
            (true, action) => routed.reply = Some(Self::reply(route, action)),
        }
        Decision::Routed(Box::new(routed))
    }
}

const MISDIRECTED: &str = "the certificate of this connection is not for the host that was asked for";

/// Whether a request came on a connection that is not for its host (RFC 9110, section 7.4): its client has asked
/// for another name, and the certificate that it was shown does not cover this one. Clients that ask for no name,
/// as probes by address do, have said nothing of which host they want; proxies speak for others.
fn is_misdirected(request: &RequestContext) -> bool {
    let Some(tls) = request.client.tls.as_deref().filter(|_| !request.trusted) else { return false };
    let (Some(asked), Some(authority)) = (tls.server_name.as_deref(), request.head.authority()) else {
        return false;
    };
    // What is no host is refused with its reason by the router.
    RequestHost::parse(authority).is_ok_and(|host| {
        !host.is_covered_by([asked]) && !host.is_covered_by(tls.shown_names.iter().map(String::as_str))
    })
}

/// Whether the client may have what the route has. One without an address is in no network.
fn is_admitted(route: &FlatRoute, request: &RequestContext) -> bool {
    match request.sender().ip() {
        Some(address) => admits(route.allow.as_deref(), &route.deny, address),
        None => route.allow.is_none(),
    }
}

/// What a route has respond with `status`.
fn fixed(route: &FlatRoute, status: u16) -> Reply {
    let name = match &route.response {
        RouteResponse::Fixed { page: Some(page), .. } => page.as_os_str().as_encoded_bytes(),
        _ => b"",
    };
    let content_type = content_type(name, &route.files.mime).into_owned();
    Reply::Fixed { status, page: route.page.clone(), content_type: content_type.into() }
}

#[cfg(test)]
mod tests;
