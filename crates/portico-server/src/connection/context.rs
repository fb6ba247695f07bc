//! What every connection of an engine uses in turn: configuration, buffers, the date, metrics.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portico_config::{Config, ProxyProtocol, WireProtocol};
use portico_log::{AccessLog, Moment, RequestId, RequestIds};
use portico_metrics::{Counter, EndedRequests, Metrics};
use portico_net::{Acceptor, Server, Transport};
use portico_otlp::Tracer;
use portico_proto::{
    AddedFields, HttpDate, Limits, Peer, ProxyVersions, RequestHead, SERVER, fastcgi, http2,
};

use super::exchange::nanos;
use super::reports::Reports;
use super::work::WorkHandle;
use super::{ConnectionId, HttpsRedirect, Ledger, MemoryLeft, Routes};
use crate::forwarded::{Heard, Policy};
use crate::health::Health;
use crate::spool::Spools;

/// The state that an engine lends to the connection that works: configuration, limits, clock, buffers, ledger and
/// metrics. Owned by the engine; a connection never keeps any of it.
///
/// One struct of many fields because each of them is the engine's once and is used by connections in turn: to pass
/// them in groups would only add to what is passed. Of the booleans three are stages of a worker's end that can
/// come in any order, and two are about the connection that works now.
#[derive(Debug)]
pub(crate) struct EngineContext {
    /// Settings.
    pub config: Arc<Config>,
    /// Limits on what peers may send.
    pub limits: Limits,
    /// What HTTP/2 peers are told.
    pub http2: http2::Settings,
    /// What FastCGI peers are told.
    pub fastcgi: fastcgi::Settings,
    /// Which proxies are believed, and what of their word.
    pub policy: Policy,
    /// What they have sent so far.
    pub heard: Heard,
    /// The present moment; set by whoever drives, before it works.
    pub now: Instant,
    /// The server is stopping.
    pub draining: bool,
    /// It is stopping in favour of other workers, which get its connections.
    pub retiring: bool,
    /// It is about to stop: every response is its connection's last.
    pub announcing: bool,
    /// The connection that works now.
    pub working: ConnectionId,
    /// Where work goes that takes long or may wait for a disk.
    pub work: WorkHandle,
    /// Connections for whose files there was no place among what is done off the engine.
    pub starved: VecDeque<ConnectionId>,
    /// What clients that speak TLS are greeted with.
    pub tls: Option<Arc<Acceptor>>,
    /// What becomes of requests to `redirect://` listeners.
    pub https_redirect: HttpsRedirect,
    /// The configuration's routes; `None` where there are none.
    pub routes: Option<Box<Routes>>,
    /// Where the server's health is told; `None` where it is not.
    pub health: Option<Box<Health>>,
    /// Where reads go.
    pub scratch: Vec<u8>,
    /// Where responses are encoded.
    pub out: Vec<u8>,
    /// What is held in memory for all clients.
    pub ledger: Ledger,
    /// What is held of that for the connection that works now, with its streams.
    pub held: usize,
    /// Whether that has not had its share of temporary files.
    pub may_spool: bool,
    /// How many streams share its client's line, at least 1.
    pub sharers: u64,
    /// What a connection has just done may have taken long.
    pub may_have_taken_long: bool,
    /// Where large bodies and responses go.
    pub spools: Arc<Spools>,
    /// Where finished requests are noted.
    pub access_log: Option<AccessLog>,
    /// Where they have spans.
    pub tracer: Option<Box<Tracer>>,
    /// Where it is counted what happens.
    pub metrics: Metrics<'static>,
    /// Where requests are noted that were slow or failed, and from how many nanoseconds on one is slow.
    pub ended: Option<EndedRequests<'static>>,
    pub slow_nanos: u64,
    /// Where requests get ids.
    ids: Option<RequestIds>,
    /// What has been said, to say it once.
    pub reports: Reports,
    added: AddedFields,
    second: u64,
    date_until: Instant,
    millis: u64,
    millis_until: Instant,
}

/// Where an engine records what happens: each request, and how often.
#[derive(Debug)]
pub struct Recording {
    /// Where finished requests are noted.
    pub access_log: Option<AccessLog>,
    /// Where they have spans, with `--otlp`.
    pub tracer: Option<Box<Tracer>>,
    /// Where it is counted. Nobody else writes there what the engine does.
    pub metrics: Metrics<'static>,
    /// Where requests are noted that were slow or failed, if somebody may want to see them.
    pub ended: Option<EndedRequests<'static>>,
    /// One moment, as this process has it and in nanoseconds of the machine's clock: others are told when
    /// something began, and not how old it is.
    pub origin: (Instant, u64),
}

impl Recording {
    /// One that only counts, for nobody else.
    pub fn private() -> Self {
        let (metrics, origin) = (Metrics::private(), (Instant::now(), 0));
        Self { access_log: None, tracer: None, metrics, ended: None, origin }
    }
}

/// What an operator should know of when a worker ends, for the log; `None` if there is nothing.
pub fn error_summary(metrics: Metrics<'_>) -> Option<String> {
    let told = [
        ("requests refused (malformed, too large or too slow)", Counter::Refused),
        ("requests answered 503 because the queue was full (--max-queue)", Counter::QueueFull),
        ("requests answered 503 after too long a wait (--queue-timeout)", Counter::QueueTimeouts),
        ("requests answered 429 (`limit` of a route)", Counter::Limited),
        (
            "requests answered 503 because as many ran as `concurrent` of a route allows",
            Counter::TooManyAtOnce,
        ),
        ("queued requests not run because their client had left", Counter::Abandoned),
        ("idle connections closed to make room for new ones", Counter::Evicted),
    ];
    let told = told.iter().map(|(what, counter)| (what, metrics.since_start(*counter)));
    let told: Vec<_> =
        told.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}")).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Spool files that may be open at once: a quarter of the descriptors, so that the others are there for
/// connections.
fn spool_files_max() -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    u32::try_from(limit.unwrap_or(u64::MAX) / 4).unwrap_or(u32::MAX)
}

/// From how long on a request is slow, where `--slow-request` says nothing: a person has noticed the wait.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// From how long on a request is slow.
pub(super) fn slow_after(config: &Config) -> Duration {
    if config.slow_request.is_zero() { SLOW_AFTER } else { config.slow_request }
}

/// Requests on one FastCGI connection.
const FASTCGI_REQUESTS_MAX: usize = 1024;

/// Bytes read at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What a peer may send.
fn limits(config: &Config) -> Limits {
    Limits {
        request_line_bytes_max: config.request_line_bytes_max,
        fields_max: config.fields_max,
        field_bytes_max: config.field_bytes_max,
        head_bytes_max: config.head_bytes_max,
        // Routes with a lower one are asked once the request has one: see `upload`.
        body_bytes_max: config.body_bytes_max_of_all(),
        chunk_line_bytes_max: config.chunk_line_bytes_max,
    }
}

impl EngineContext {
    /// The context of an engine that starts at `now`.
    pub(crate) fn new(config: Arc<Config>, recording: Recording, now: Instant) -> Self {
        let Recording { access_log, tracer, metrics, ended, origin: _ } = recording;
        let slow_nanos = if ended.is_some() { nanos(slow_after(&config)) } else { u64::MAX };
        let limits = limits(&config);
        let http2 = http2::Settings {
            concurrent_streams_max: config.http2.concurrent_streams_max,
            window_bytes: config.http2.window_bytes,
            frame_bytes_max: config.http2.frame_bytes_max,
            header_list_bytes_max: config.http2.header_list_bytes_max,
        };
        // Those that can run and wait: beyond these a request would be answered 503.
        let requests_max =
            (config.threads as usize).saturating_add(config.max_queue).min(FASTCGI_REQUESTS_MAX);
        let fastcgi = fastcgi::Settings { connections_max: 1, requests_max: requests_max as u32 };
        let ids = config.telemetry.request_id || access_log.as_ref().is_some_and(AccessLog::needs_ids);
        let mut held = config.client_limits.clone();
        held.fit(None, None, 1); // The worker has fitted them; tests have not.
        let spools = Spools::new(config.tmp_upload_dir.clone(), held.spool_bytes, spool_files_max());
        let ledger = Ledger::new(&held, config.threads as usize);
        let server: &'static str = match config.server_header.as_str() {
            SERVER => SERVER,
            "" => "",
            other => Box::leak(Box::from(other)), // An engine lasts as long as its process.
        };
        Self {
            policy: Policy::new(&config),
            config,
            limits,
            http2,
            fastcgi,
            heard: Heard::default(),
            now,
            draining: false,
            retiring: false,
            announcing: false,
            working: ConnectionId { index: 0, generation: 0 },
            work: WorkHandle::new(),
            starved: VecDeque::new(),
            tls: None,
            https_redirect: HttpsRedirect::default(),
            routes: None,
            health: None,
            scratch: vec![0; SCRATCH_BYTES],
            out: Vec::new(),
            ledger,
            held: 0,
            may_spool: true,
            sharers: 1,
            may_have_taken_long: false,
            spools: Arc::new(spools),
            access_log,
            ended,
            slow_nanos,
            tracer,
            metrics,
            ids: ids.then(RequestIds::new),
            added: AddedFields { date: None, server },
            second: 0,
            date_until: now,
            millis: 0,
            millis_until: now,
            reports: Reports::default(),
        }
    }

    /// A connection that has just been accepted, with what is to come before its first request: the PROXY
    /// protocol, TLS. `None` if there are no certificates for it: what is secret is not to go in the clear.
    pub(crate) fn wrap_transport(
        &self,
        transport: Transport,
        peer: Peer,
        server: &Server,
    ) -> Option<Transport> {
        let transport = match &self.tls {
            _ if !server.tls => transport,
            Some(acceptor) => transport.secure(Arc::clone(acceptor)),
            None => {
                transport.shut_down();
                return None;
            }
        };
        let versions = match server.proxy.unwrap_or(self.config.proxy_protocol) {
            ProxyProtocol::Off => return Some(transport),
            ProxyProtocol::V1 => ProxyVersions::V1,
            ProxyProtocol::V2 => ProxyVersions::V2,
            ProxyProtocol::Auto => ProxyVersions::Auto,
        };
        let trusted = self.config.proxy_allow.admits(peer.ip());
        Some(if trusted { transport.await_header(versions) } else { transport })
    }

    /// Whether `peer` may speak to `server`: anybody, but the protocols of gateways, whose every word about
    /// clients is believed.
    pub(crate) fn is_allowed(&mut self, peer: Peer, server: &Server) -> bool {
        match server.protocol {
            WireProtocol::Http | WireProtocol::Redirect => return true,
            WireProtocol::Uwsgi | WireProtocol::Scgi | WireProtocol::Fastcgi => {}
        }
        let admitted = self.config.gateway_allow.admits(peer.ip());
        if !admitted {
            self.reports.foreign_gateway(peer, server.protocol.scheme());
        }
        admitted
    }

    /// What the connection that works now may add to what is held for it.
    pub(crate) fn memory_left(&self) -> MemoryLeft {
        self.ledger.left(self.held)
    }

    /// Replaces a buffer that was lost with a connection that failed while it used it.
    pub(crate) fn restore(&mut self) {
        self.scratch.resize(SCRATCH_BYTES, 0);
    }

    /// What is added to responses, with today's date, which is made once a second.
    pub(crate) fn added_fields(&mut self) -> &AddedFields {
        if self.now >= self.date_until {
            self.look_at_wall();
        }
        &self.added
    }

    #[cold]
    fn look_at_wall(&mut self) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.second = since_epoch.as_secs();
        self.added.date = Some(HttpDate::from_unix(self.second));
        let rest = 1_000_000_000 - since_epoch.subsec_nanos();
        self.date_until = self.now + Duration::from_nanos(rest.into());
    }

    /// The present moment of the clock on the wall, without a look at it but once a second.
    pub(crate) fn moment(&mut self) -> Moment {
        // Past it, and at it, there is nothing left of the second.
        let mut rest = self.date_until.saturating_duration_since(self.now);
        if rest.is_zero() {
            self.look_at_wall();
            rest = self.date_until.saturating_duration_since(self.now);
        }
        let nanos = if rest.as_secs() == 0 { 1_000_000_000 - rest.subsec_nanos() } else { 0 };
        Moment { second: self.second, nanos }
    }

    /// The id of a request of a peer that is `trusted` or not; none where nobody asks for it.
    pub(crate) fn id_of(&mut self, head: &RequestHead, trusted: bool) -> RequestId {
        if self.ids.is_none() {
            return RequestId::None;
        }
        if self.now >= self.millis_until {
            let Moment { second, nanos } = self.moment();
            self.millis = second * 1000 + u64::from(nanos / 1_000_000);
            self.millis_until = self.now + Duration::from_nanos(u64::from(1_000_000 - nanos % 1_000_000));
        }
        self.ids.as_mut().map_or(RequestId::None, |ids| ids.id_of(head, trusted, self.millis))
    }
}
