//! Passwords of routes (`auth`): who a request is from, asked at its head and found out off the engine.
//!
//! A request without credentials gets 401 at once. Credentials that were right a moment ago are known. Others are
//! verified on the thread for blocking work, while the body comes in; equal ones that come meanwhile wait for the
//! same result. The request goes on when it is whole and its user is known, whichever is later.
//!
//! A client that gives wrong passwords may try so many in a minute and no more. Each try is counted before it is
//! verified, so that many at once are no way around, and taken back where the password was right.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico_edge::FlatAuth;
use portico_edge::access::{BasicCredentials, CredentialsMac, KnownLogins, LOGINS_KEY_BYTES};
use portico_edge::limit::{LimitSubject, Rate};
use portico_log::Occurrences;
use rustix::rand::{GetRandomFlags, getrandom};

use super::router::{Routed, note_refusal};
use super::work::{Finish, Resume, WORK_TIMEOUT};
use super::{Connection, ConnectionId, Deadline, EngineContext, Phase, Reply, Step};
use crate::blocking_work::{Effort, JobFate};

/// The logins that a worker knows and verifies.
#[derive(Debug)]
pub(super) struct Logins {
    /// `None` if the system has no random numbers: then nobody comes in.
    known: Option<KnownLogins>,
    /// Who waits for the result for which credentials.
    pending: HashMap<CredentialsMac, Vec<WaitingRequest>>,
    failures: Rate,
    /// How often a password was wrong.
    wrong: Occurrences,
}

/// A request that waits for a result: its connection, and its number there.
type WaitingRequest = (ConnectionId, u32);

/// Wrong passwords that a client may try in a minute, all at once if it likes: people mistype, and a script that
/// guesses needs years for the weakest that anybody should have.
const FAILURES_PER_MINUTE: u32 = 10;

/// What has come of credentials.
#[derive(Clone, Debug)]
enum LoginResult {
    /// They are this user's.
    Right(Arc<str>),
    Wrong,
    /// The server itself has failed.
    Failed,
    /// There were too many others to verify.
    Full,
}

impl Logins {
    pub(super) fn new() -> Self {
        let mut key = [0; LOGINS_KEY_BYTES];
        // Not from aws-lc, which gathers randomness of its own for a tenth of a second first.
        let is_random = getrandom(&mut key, GetRandomFlags::empty()) == Ok(key.len());
        Self {
            known: is_random.then(|| KnownLogins::new(key)),
            pending: HashMap::new(),
            failures: Rate::of(FAILURES_PER_MINUTE, Duration::from_secs(60)),
            wrong: Occurrences::new(),
        }
    }

    /// Notes the result for `mac`; returns who waits for it.
    fn finish(&mut self, mac: &CredentialsMac, result: &LoginResult, now: Instant) -> Vec<WaitingRequest> {
        if let (LoginResult::Right(_), Some(known)) = (result, &mut self.known) {
            known.remember(*mac, now);
        }
        self.pending.remove(mac).unwrap_or_default()
    }
}

impl Connection {
    /// Asks who the request is from whose head has come, if its route wants to know: it may be refused, or wait.
    pub(super) fn ask_login(&mut self, routed: &mut Routed, context: &mut EngineContext) {
        let route = Arc::clone(&routed.route);
        let Some(auth) = route.auth.as_ref().filter(|_| !routed.is_refused()) else { return };
        let value = self.request().and_then(|request| request.head.field(b"authorization"));
        let Some(credentials) = value.and_then(BasicCredentials::parse) else {
            routed.reply = Some(unauthorized(auth));
            return;
        };
        match self.look_up(auth, credentials, context) {
            Ok(Some(user)) => self.set_user(user),
            Ok(None) => routed.awaits_login = true,
            Err(reply) => routed.reply = Some(reply),
        }
    }

    /// The user whose `credentials` are known to be right; `None` where that is being found out.
    fn look_up(
        &self,
        auth: &Arc<FlatAuth>,
        credentials: BasicCredentials,
        context: &mut EngineContext,
    ) -> Result<Option<Arc<str>>, Reply> {
        let address = self.request().and_then(|request| request.sender().ip());
        let (waiting, now) = ((context.working, self.served), context.now);
        let Some(routes) = &mut context.routes else { return Err(unauthorized(auth)) };
        let guards = &mut routes.guards;
        let user: Arc<str> = credentials.user().into();
        let mac = guards.logins.known.as_ref().map(|known| known.mac_of(auth.id, &credentials));
        // There is nothing to recognise credentials by.
        let Some(mac) = mac else { return Err(Reply::LoginsFull) };
        if guards.logins.known.as_ref().is_some_and(|known| known.knows(&mac, now)) {
            return Ok(Some(user));
        }
        if let Some(others) = guards.logins.pending.get_mut(&mac) {
            others.push(waiting);
            return Ok(None);
        }
        guards.count_login(address, now)?;
        let users = Arc::clone(auth);
        let verify = move |fate| -> Finish {
            let verify = AssertUnwindSafe(|| users.users.verify(&credentials));
            let result = match (fate == JobFate::Run).then(|| catch_unwind(verify)) {
                Some(Ok(true)) => LoginResult::Right(user),
                Some(Ok(false)) => LoginResult::Wrong,
                Some(Err(_)) => LoginResult::Failed,
                None => LoginResult::Full,
            };
            Box::new(move |context| context.finish_login(&mac, &result, address))
        };
        if context.submit_for_many(Effort::Compute, self.job_owner(context), verify).is_err() {
            context.reports.work_refused();
            context.take_login_back(address);
            return Err(Reply::LoginsFull);
        }
        if let Some(routes) = &mut context.routes {
            routes.guards.logins.pending.insert(mac, vec![waiting]);
        }
        Ok(None)
    }

    /// The request has come whole, but its user is not known yet.
    pub(super) fn await_login(&mut self, context: &EngineContext) -> Step {
        self.phase = Phase::Calling;
        self.due = Some((Deadline::Work, context.now + WORK_TIMEOUT));
        Step::Keep
    }

    /// It has been found out who the request is from.
    fn take_login(&mut self, result: LoginResult, context: &mut EngineContext) -> Step {
        let Some(routed) = self.exchange.as_mut().and_then(|exchange| exchange.routed.as_mut()) else {
            return Step::Keep;
        };
        if !std::mem::take(&mut routed.awaits_login) {
            return Step::Keep;
        }
        let is_whole = self.phase == Phase::Calling;
        let reply = match (result, &routed.route.auth) {
            (LoginResult::Right(user), _) => {
                self.set_user(user);
                return if is_whole { self.go_on(context) } else { Step::Keep };
            }
            (LoginResult::Wrong, Some(auth)) => unauthorized(auth),
            (LoginResult::Wrong, None) | (LoginResult::Failed, _) => Reply::ApplicationFailed,
            (LoginResult::Full, _) => Reply::LoginsFull,
        };
        // What the route has for its users is not for this one.
        (routed.reply, routed.file) = (None, None);
        self.due = None;
        note_refusal(self.exchange_or_new(), &reply, context);
        self.respond_instead(reply, context)
    }

    fn set_user(&mut self, user: Arc<str>) {
        if let Some(request) = self.exchange.as_mut().and_then(|exchange| exchange.request.as_mut()) {
            // Nobody else has it yet, so that nothing is copied.
            Arc::make_mut(request).user = Some(user);
        }
    }
}

impl EngineContext {
    /// The result for the credentials of `mac` has come, from a client of this address: who goes on with it, and
    /// how.
    fn finish_login(
        &mut self,
        mac: &CredentialsMac,
        result: &LoginResult,
        address: Option<IpAddr>,
    ) -> Vec<(ConnectionId, u32, Resume)> {
        match result {
            LoginResult::Right(_) => self.take_login_back(address),
            LoginResult::Full => {
                self.reports.work_refused();
                self.take_login_back(address);
            }
            LoginResult::Wrong => self.report_wrong_login(address),
            LoginResult::Failed => {}
        }
        let now = self.now;
        let Some(routes) = &mut self.routes else { return Vec::new() };
        let waiting = routes.guards.logins.finish(mac, result, now).into_iter();
        let resume = |result: LoginResult| -> Resume {
            Box::new(move |connection, context| connection.take_login(result, context))
        };
        waiting.map(|(id, served)| (id, served, resume(result.clone()))).collect()
    }

    /// A login that was counted as a wrong one was right, or none.
    fn take_login_back(&self, address: Option<IpAddr>) {
        if let Some(routes) = &self.routes {
            let rate = routes.guards.logins.failures;
            routes.guards.table.take_back(&LimitSubject::failed_logins(address), rate);
        }
    }

    #[cold]
    fn report_wrong_login(&self, address: Option<IpAddr>) {
        let times = self.routes.as_ref().and_then(|routes| routes.guards.logins.wrong.note());
        if let Some(times) = times {
            let from = address.map_or_else(|| "a UNIX socket".to_owned(), |address| address.to_string());
            log::info!("answered 401 to a request of {from}: wrong password, or no such user{times}");
        }
    }
}

impl super::guards::Guards {
    /// Counts a login of a client of this address as one that may be wrong.
    ///
    /// # Errors
    /// It has tried as many as it may.
    fn count_login(&mut self, address: Option<IpAddr>, now: Instant) -> Result<(), Reply> {
        let subject = LimitSubject::failed_logins(address);
        self.check(&subject, self.logins.failures, now)
            .map_or(Ok(()), |retry_after_seconds| Err(Reply::TooManyRequests { retry_after_seconds }))
    }
}

fn unauthorized(auth: &FlatAuth) -> Reply {
    Reply::Unauthorized { challenge: auth.challenge.clone() }
}

#[cfg(test)]
mod tests;
