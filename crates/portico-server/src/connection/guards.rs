//! What a route asks before its request runs, beside the client's address: how often the client comes, and how
//! many requests of the route run already.
//!
//! A router decides without clock and memory; these have both. They are asked in this order: addresses (by the
//! router), rate, password (`login`), what runs at once. The last one is asked when the request is whole, so that
//! a client that sends its body slowly takes no place; one that brings a body is refused at its head already while
//! there is none.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use portico_config::LimitKey;
use portico_edge::limit::{ConcurrencyLimit, LimitSubject, LimitTable, Rate, Verdict};
use portico_edge::{EdgeRouter, FlatLimit, FlatRoute};
use portico_log::Occurrences;
use portico_proto::{Framing, Peer, RequestHead};

use super::Reply;
use super::login::Logins;
use crate::client::RequestContext;
use crate::limits::{ConcurrencyPlace, LimitMemory, SharedLimits, TableWords};

/// The guards of all routes of a worker.
#[derive(Debug)]
pub(super) struct Guards {
    pub(super) table: LimitTable<TableWords, std::hash::RandomState>,
    memory: Arc<dyn LimitMemory>,
    /// One moment by the engine's clock and by the one that all workers share.
    same_moment: (Instant, u64),
    /// How often requests were refused, and how often they would have been (`dry_run`).
    refused: Occurrences,
    spared: Occurrences,
    crowd: Crowd,
    pub(super) logins: Logins,
}

impl Guards {
    /// For the routes of `router`, counting together with the other workers; it is `now`.
    pub(super) fn new(router: &EdgeRouter, limits: SharedLimits, now: Instant) -> Self {
        let SharedLimits { memory, keys } = limits;
        for limit in router.routes().iter().filter_map(|route| route.concurrent) {
            ConcurrencyPlace::declare(limit, &*memory);
        }
        Self {
            same_moment: (now, memory.now_nanos()),
            table: LimitTable::new(TableWords(Arc::clone(&memory)), keys),
            memory,
            refused: Occurrences::new(),
            spared: Occurrences::new(),
            crowd: Crowd::default(),
            logins: Logins::new(),
        }
    }

    /// The refusal of a request of `route` whose head has come; `None` where it may go on.
    pub(super) fn refuse(
        &mut self,
        route: &FlatRoute,
        request: &RequestContext,
        now: Instant,
    ) -> Option<Reply> {
        if let Some(limit) = &route.limit
            && let Some(reply) = self.refuse_by_rate(route, limit, request, now)
        {
            return Some(reply);
        }
        let limit = route.concurrent?;
        let has_body = !matches!(request.head.framing, Framing::None | Framing::Length(0));
        let is_refused = has_body && ConcurrencyPlace::are_taken(limit, &*self.memory);
        is_refused.then_some(Reply::TooManyAtOnce)
    }

    /// A place for a request that is to run; `None` where there is none. One that is `admitted` had one in another
    /// worker.
    pub(super) fn place(&self, limit: ConcurrencyLimit, admitted: bool) -> Option<Arc<ConcurrencyPlace>> {
        ConcurrencyPlace::take(limit, &self.memory, admitted)
    }

    fn refuse_by_rate(
        &mut self,
        route: &FlatRoute,
        limit: &FlatLimit,
        request: &RequestContext,
        now: Instant,
    ) -> Option<Reply> {
        let value = match &limit.said.by {
            LimitKey::Client => None,
            LimitKey::Header(name) => value_of(&request.head, name.as_bytes()),
        };
        let client = request.sender().ip();
        let subject = match (&value, client) {
            (Some(value), _) => LimitSubject::header(limit.id, value),
            (None, Some(address)) => LimitSubject::client(limit.id, address),
            (None, None) => LimitSubject::unnamed(limit.id),
        };
        if value.is_none() {
            self.crowd.note(request);
        }
        let retry_after_seconds = self.check(&subject, limit.rate, now)?;
        self.report(route, limit, request);
        (!limit.said.dry_run).then_some(Reply::TooManyRequests { retry_after_seconds })
    }

    /// Counts a request of `subject`; when it may come again, in seconds, if it is one too many.
    pub(super) fn check(&self, subject: &LimitSubject<'_>, rate: Rate, now: Instant) -> Option<u64> {
        match self.table.check(subject, rate, self.nanos_of(now)) {
            Verdict::Admit => None,
            Verdict::Refuse { retry_after_seconds } => Some(retry_after_seconds),
        }
    }

    /// `now` by the clock that all workers share, without a look at it.
    fn nanos_of(&self, now: Instant) -> u64 {
        let (moment, nanos) = self.same_moment;
        let after = now.saturating_duration_since(moment).as_nanos() as u64;
        let before = moment.saturating_duration_since(now).as_nanos() as u64;
        nanos.saturating_add(after).saturating_sub(before)
    }

    /// Says that a request is one too many: the first, the second, the fourth time and so on.
    #[cold]
    fn report(&mut self, route: &FlatRoute, limit: &FlatLimit, request: &RequestContext) {
        let counts = if limit.said.dry_run { &self.spared } else { &self.refused };
        if let Some(times) = counts.note() {
            let from = match request.sender() {
                Peer::Inet(address) => address.ip().to_string(),
                Peer::Unix => "a UNIX socket".to_owned(),
            };
            let (place, said) = (route.place(), &limit.said);
            let rate = format!("{} in {} s, burst {}", said.requests, said.period.as_secs(), said.burst);
            match said.dry_run {
                false => log::info!("answered 429 to a request of {from} for {place} ({rate}){times}"),
                true => {
                    log::info!("dry_run: a request of {from} for {place} would have got 429 ({rate}){times}")
                }
            }
        }
        self.crowd.warn();
    }
}

/// The value of the header `name`; of several fields all of them, as the application sees them.
fn value_of<'h>(head: &'h RequestHead, name: &[u8]) -> Option<Cow<'h, [u8]>> {
    let mut values = head.fields().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let mut value = Cow::Borrowed(values.next()?.1);
    for (_, more) in values {
        value.to_mut().push(b',');
        value.to_mut().extend_from_slice(more);
    }
    (!value.is_empty()).then_some(value)
}

/// Whether nearly all requests under limits come from one private address whose word about clients counts for
/// nothing: most likely a proxy that nobody has told the server of, whose clients share one limit
/// (alextselegidis/easyappointments#1946, express-rate-limit/express-rate-limit#216).
#[derive(Debug, Default)]
struct Crowd {
    /// The one of whom there are most, as far as there is one.
    peer: Option<Peer>,
    of_peer: u64,
    all: u64,
    is_told: bool,
}

/// Requests after which a share says something.
const CROWD_REQUESTS_MIN: u64 = 64;

/// Share of the requests, in percent, that is said to be nearly all.
const CROWD_PERCENT: u64 = 95;

impl Crowd {
    fn note(&mut self, request: &RequestContext) {
        let peer = request.client.peer;
        let is_unknown_proxy =
            !request.trusted && !request.head.is_gateway() && request.forwarded.is_none() && is_private(peer);
        self.all += 1;
        if !is_unknown_proxy {
            return;
        }
        if self.peer.is_none_or(|known| known.ip() != peer.ip() && self.of_peer * 2 < self.all) {
            // Counted from here on.
            (self.peer, self.of_peer, self.all) = (Some(peer), 0, 1);
        }
        self.of_peer += u64::from(self.peer.is_some_and(|known| known.ip() == peer.ip()));
    }

    /// Says so once, when a request has been refused.
    fn warn(&mut self) {
        let Some(peer) = self.peer.filter(|_| self.is_crowded() && !self.is_told) else { return };
        self.is_told = true;
        let (from, trust) = match peer {
            Peer::Inet(address) => (address.ip().to_string(), address.ip().to_string()),
            Peer::Unix => ("a UNIX socket".to_owned(), "unix".to_owned()),
        };
        log::warn!(
            "nearly all requests under limits come from {from}: if that is a proxy, its clients share one limit; \
             add --forwarded-allow-ips {trust}, or say with --behind what is in front (said once)"
        );
    }

    fn is_crowded(&self) -> bool {
        self.all >= CROWD_REQUESTS_MIN && self.of_peer * 100 >= self.all * CROWD_PERCENT
    }
}

/// Whether a proxy of the operator's own may have this address: no client comes from it over the internet.
fn is_private(peer: Peer) -> bool {
    match peer.ip().map(|address| address.to_canonical()) {
        None => true,
        Some(IpAddr::V4(address)) => {
            let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xC0 == 64; // RFC 6598
            address.is_private() || address.is_loopback() || address.is_link_local() || is_shared
        }
        Some(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests;
