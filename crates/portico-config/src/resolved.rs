//! The configuration as the server uses it: every value present, checked and in its own type.
//!
//! One file because it is one value: whoever looks for a field finds all of them here.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::access_log_format::AccessLogFormat;
use crate::bind::{Bind, WireProtocol};
use crate::health::HealthSettings;
use crate::hosts::AllowedHosts;
use crate::proxies::{
    Behind, EarlyHints, ForwardedHeaders, HeaderMap, ProxyProtocol, SchemeHeader, TrustedPeers,
};
use crate::route::EdgeSettings;
use crate::telemetry::Telemetry;

/// The number of worker processes that serve, or a range that follows the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// At least 1.
    pub min: u32,
    /// At least `min`; the number varies between both where it is more.
    pub max: u32,
}

impl Workers {
    /// More would not be a number of processes but a port typed in the wrong place.
    pub(crate) const RANGE: RangeInclusive<u64> = 1..=512;
}

/// A user or a group, as `--user` and `--group` name it; it is looked up where processes change to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By its number.
    Id(u32),
    /// By its name on this machine.
    Name(String),
}

/// The way of calling the application that a class of gunicorn's workers amounts to here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkerClass {
    /// Threads.
    #[default]
    Threads,
    /// One request at a time.
    Sync,
    /// Greenlets or another loop: many threads.
    Green,
}

/// The choice of `--preload`: importing the application once for all workers, or in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preload {
    /// Each worker imports it.
    #[default]
    Off,
    /// A template process imports it and forks the workers.
    On,
    /// As `On`, and what does not survive a fork is refused.
    Strict,
}

/// The way in which `--reload` notices changes, and the files that count beside those that are imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadWatch {
    /// `--reload-engine`
    pub engine: ReloadEngine,
    /// `--reload-extra-file`: globs.
    pub extra_files: Vec<PathBuf>,
}

/// The request bodies that reach the application while they arrive (`--stream-request-body`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamRequestBody {
    /// None: each is buffered first.
    #[default]
    Off,
    /// Those whose length is announced: the others could not be told from none.
    On,
    /// All.
    Always,
}

/// The way in which changes of files are noticed under `--reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReloadEngine {
    /// As `Inotify`, and `Poll` where that cannot be had.
    #[default]
    Auto,
    /// By looking again and again.
    Poll,
    /// The kernel tells.
    Inotify,
}

/// The treatment of a running request whose client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Nothing; the application may ask.
    #[default]
    Ignore,
    /// `portico.ClientDisconnected` is raised in it.
    Raise,
}

/// A request that each worker answers before it counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warmup {
    /// `GET` or `HEAD`.
    pub method: String,
    /// In origin form (RFC 9112 section 3.2.1): begins with `/`, visible ASCII.
    pub target: String,
}

/// The time that requests below a path may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTimeout {
    /// Begins with `/` and, but for `/` itself, does not end with it. As it is sent: percent-encoded.
    pub prefix: String,
    /// Zero means without end.
    pub timeout: Duration,
}

impl PathTimeout {
    /// Whether `path` is the prefix or below it.
    fn covers(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.prefix.trim_end_matches('/').as_bytes())
            .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
    }
}

/// The destination of a log, as a name: the program opens it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// `-` for the access log.
    Stdout,
    /// `-` for the error log.
    #[default]
    Stderr,
    /// A path.
    File(PathBuf),
}

/// The least severe level that is logged (`--log-level`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
    Critical,
}

/// The files and rules of TLS, for all binds that speak it. The files are named and not read here: the
/// process that may read keys does that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// `--certfile`
    pub certificates: Vec<PathBuf>,
    /// `--keyfile`: none, or one for each certificate.
    pub keys: Vec<PathBuf>,
    /// `--ocsp-file`: none, or one for each certificate.
    pub ocsp_responses: Vec<PathBuf>,
    /// `--cert-reqs`
    pub client_certificate: ClientCertificate,
    /// `--ca-certs`
    pub authorities: Option<PathBuf>,
    /// `--crl-file`
    pub revocations: Option<PathBuf>,
    /// `--ciphers`, by OpenSSL's names; none where it is not said.
    pub ciphers: Vec<&'static str>,
    /// `--handshake-timeout`
    pub handshake_timeout: Duration,
}

/// The demand for a certificate of the client (`--cert-reqs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// None is asked for.
    #[default]
    None,
    /// One is asked for.
    Optional,
    /// Without one nobody is served.
    Required,
}

/// Whose the server's processes are, what they are called, what they find in their environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// `--pid`
    pub pidfile: Option<PathBuf>,
    /// `--daemon`
    pub daemon: bool,
    /// `--enable-stdio-inheritance`
    pub stdio_inheritance: bool,
    /// `--user`; `None` leaves it as it is, as for the next one.
    pub user: Option<Account>,
    /// `--group`
    pub group: Option<Account>,
    /// `--initgroups`
    pub initgroups: bool,
    /// `--allow-new-privileges`
    pub allow_new_privileges: bool,
    /// `--umask`; it has gone into `socket_mode`.
    pub umask: Option<u32>,
    /// `--env`: names and values.
    pub raw_env: Vec<(String, String)>,
    /// `--name`
    pub proc_name: Option<String>,
}

/// The settings that have the server's own log go through Python's `logging`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PythonLogging {
    /// `--logger-class`, where it is not gunicorn's own.
    pub class: Option<String>,
    /// `logconfig_dict` is given; only Python has it.
    pub dict: bool,
    /// `--log-config-json`
    pub json: Option<PathBuf>,
    /// `--log-config`
    pub file: Option<PathBuf>,
}

impl PythonLogging {
    /// Whether anything of it is given.
    pub fn is_in_force(&self) -> bool {
        *self != Self::default()
    }
}

/// The checks that are asked for instead of serving; the application is imported in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// `--check-config`: import the application and exit.
    pub import: bool,
    /// `--print-config`: print the settings first.
    pub print: bool,
}

/// Every setting of a server, resolved: each value is present and within its limits, and what does not go
/// together was refused. Processes share it and never change it; a reload makes another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `APP_MODULE`; `None` asks for discovery.
    pub app: Option<String>,
    /// `--bind`; never empty.
    pub binds: Vec<Bind>,
    /// What those of `binds` that speak TLS go by.
    pub tls: TlsSettings,
    /// `--backlog`
    pub backlog: u32,
    /// `--workers`
    pub workers: Workers,
    /// `--workers auto`, or nothing was said: their number is that of the CPUs, and may be lowered to what
    /// memory has room for.
    pub workers_auto: bool,
    /// `--worker-class`
    pub worker_class: WorkerClass,
    /// `--worker-connections`, where it was said.
    pub worker_connections: Option<u32>,
    /// `--preload`
    pub preload: Preload,
    /// `--max-requests`: requests after which a worker is replaced; 0 turns it off.
    pub max_requests: u64,
    /// `--max-requests-jitter`: at most so many requests are added to `max_requests`, by chance; `None` means
    /// a tenth of it.
    pub max_requests_jitter: Option<u64>,
    /// `--worker-max-rss`: bytes of memory above which a worker is replaced; 0 turns it off.
    pub worker_rss_max: u64,
    /// `--max-lifetime`: after which a worker is replaced; zero turns it off.
    pub max_lifetime: Duration,
    /// `--warmup`, in the order in which they are sent.
    pub warmups: Vec<Warmup>,
    /// `--boot-timeout`: until a worker must be ready; zero turns it off.
    pub boot_timeout: Duration,
    /// `--threads`; at least 1.
    pub threads: u32,
    /// `--require-free-threading`: nothing is served by an interpreter that has a GIL.
    pub require_free_threading: bool,
    /// `--max-queue`: complete requests that may wait for a thread; beyond it 503.
    pub max_queue: usize,
    /// `--max-streams`: connections that the application has taken over; beyond it 503, and 0 lets it take
    /// none.
    pub max_streams: u32,
    /// `--timeout`: how long the application may take for a request without handing over a block; zero turns
    /// it off. See [`Config::timeout_for`].
    pub timeout: Duration,
    /// `--timeout-path`, the longest prefix first.
    pub path_timeouts: Vec<PathTimeout>,
    /// `--timeout-grace`: how long a raised `portico.RequestTimeout` has to end its request.
    pub timeout_grace: Duration,
    /// `--slow-request`: after which a request is logged with its stack; zero turns it off.
    pub slow_request: Duration,
    /// `--queue-timeout`: how long a request may wait for a thread before it is answered 503; zero turns it
    /// off.
    pub queue_timeout: Duration,
    /// `--on-disconnect`
    pub on_disconnect: OnDisconnect,
    /// `--drain-delay`: how long connections are still accepted once told to stop.
    pub drain_delay: Duration,
    /// `--keep-alive`: how long an idle kept connection stays open; zero closes after each answer.
    pub keep_alive: Duration,
    /// `--graceful-timeout`
    pub graceful_timeout: Duration,
    /// `--head-timeout`: for a request head, from its first byte (or the connection's start) to its end.
    pub head_timeout: Duration,
    /// `--body-timeout`: for the next byte of a request body.
    pub body_timeout: Duration,
    /// `--body-min-rate`: bytes a second that a body must average after the first `body_timeout`; 0 turns it
    /// off.
    pub body_rate_min: u64,
    /// `--write-timeout`: how long a client may take nothing of its response.
    pub write_timeout: Duration,
    /// `--response-min-rate`: bytes a second that a client must take on average; 0 turns it off.
    pub response_rate_min: u64,
    /// `--client-memory`, `--spool-total` and their like
    pub client_limits: ClientLimits,
    /// `--limit-request-line`
    pub request_line_bytes_max: usize,
    /// `--limit-request-fields`
    pub fields_max: usize,
    /// `--limit-request-field_size`
    pub field_bytes_max: usize,
    /// `--limit-request-head`
    pub head_bytes_max: usize,
    /// `--limit-request-body`; 0 means no limit.
    pub body_bytes_max: u64,
    /// `--limit-chunk-line`
    pub chunk_line_bytes_max: usize,
    /// `--http2-*` and `--http-protocols`
    pub http2: Http2,
    /// `--request-buffer`: bytes of a request body kept in memory, beyond them an unlinked file.
    pub request_buffer_bytes: usize,
    /// `--response-buffer`: bytes of a response kept in memory for a slow client.
    pub response_buffer_bytes: usize,
    /// `--stream-request-body`: call the application when the head is in, the body arriving as it is read.
    pub stream_request_body: StreamRequestBody,
    /// `--allow-half-close`: a queued request whose client has sent FIN is run all the same.
    pub allow_half_close: bool,
    /// `--reuse-port`: other servers may listen on the same TCP ports.
    pub reuse_port: bool,
    /// `--tmp-upload-dir`: where large request bodies and responses wait.
    pub tmp_upload_dir: Option<PathBuf>,
    /// `--socket-mode`, or what `--umask` leaves: permissions of UNIX sockets.
    pub socket_mode: u32,
    /// `--no-sendfile` clears it.
    pub sendfile: bool,
    /// `--server-header`; empty for none.
    pub server_header: String,
    /// `--strict-wsgi`: what PEP 3333 forbids to applications is refused, also where it can be put right.
    pub strict_wsgi: bool,
    /// `[[route]]`, `--static` and their like
    pub edge: EdgeSettings,
    /// `--proxy-protocol`
    pub proxy_protocol: ProxyProtocol,
    /// `--proxy-allow-from`
    pub proxy_allow: TrustedPeers,
    /// `--root-path`: SCRIPT_NAME; empty or begins with `/` and does not end with it.
    pub root_path: String,
    /// `--behind`
    pub behind: Option<Behind>,
    /// `--forwarded-allow-ips`
    pub forwarded_allow: TrustedPeers,
    /// `--uwsgi-allow-from`: gateways, whatever they speak
    pub gateway_allow: TrustedPeers,
    /// `--protocol`: of binds that name none; they have it by now
    pub protocol: WireProtocol,
    /// `--forwarded-headers`
    pub forwarded_headers: ForwardedHeaders,
    /// `--after-threads`
    pub after_threads: u32,
    /// `--allowed-hosts`
    pub allowed_hosts: AllowedHosts,
    /// `--health-path` and its like
    pub health: HealthSettings,
    /// `--secure-scheme-headers`
    pub secure_scheme_headers: Vec<SchemeHeader>,
    /// `--forwarder-headers`: in lower case, each with `*` at its end where it stands for all that begin so.
    pub forwarder_headers: Vec<String>,
    /// `--header-map`
    pub header_map: HeaderMap,
    /// `--early-hints`
    pub early_hints: EarlyHints,
    /// `--access-logfile`
    pub access_log: Option<LogTarget>,
    /// `--access-logformat`
    pub access_log_format: AccessLogFormat,
    /// `--statsd-host`, `--log-syslog` and their like
    pub telemetry: Telemetry,
    /// `--error-logfile`
    pub error_log: LogTarget,
    /// `--log-level`
    pub log_level: LogLevel,
    /// `--logger-class`, `--log-config` and their like.
    pub python_logging: PythonLogging,
    /// `--capture-output`: standard output and error go to the error log.
    pub capture_output: bool,
    /// `--disable-redirect-access-to-syslog` clears it.
    pub access_to_syslog: bool,
    /// `--chdir`
    pub chdir: Option<PathBuf>,
    /// `--pythonpath`, split at commas
    pub pythonpath: Vec<PathBuf>,
    /// `--paste`: a PasteDeploy file, with `#` and a name perhaps.
    pub paste: Option<PathBuf>,
    /// `--paste-global`
    pub paste_global: Vec<(String, String)>,
    /// The server's processes as the system sees them.
    pub system: System,
    /// `--check-config`, `--print-config`
    pub checks: Checks,
    /// `--reload`: restart when files of the application change.
    pub reload: bool,
    /// What it looks at, and how.
    pub reload_watch: ReloadWatch,
}

impl Config {
    /// Whether it is only to be seen that the application can be served.
    pub fn only_checks(&self) -> bool {
        self.checks.import || self.checks.print
    }

    /// The largest request body that any route takes; 0 means no limit.
    pub fn body_bytes_max_of_all(&self) -> u64 {
        let routes = self.edge.routes.iter().filter_map(|route| route.body_bytes_max);
        match self.body_bytes_max {
            0 => 0,
            own => routes.fold(own, u64::max),
        }
    }

    /// `--drain-delay`, as far as it leaves time to end: at most half of `--graceful-timeout` where it is not
    /// shorter. The operator has been warned of that.
    pub fn drain_delay_within_end(&self) -> Duration {
        match self.drain_delay < self.graceful_timeout {
            true => self.drain_delay,
            false => self.graceful_timeout / 2,
        }
    }

    /// How long the application may take for a request of `path` without handing over a block; zero means
    /// without end. `path` is that of the request target as it was sent, without its query.
    pub fn timeout_for(&self, path: &[u8]) -> Duration {
        self.path_timeouts.iter().find(|limit| limit.covers(path)).map_or(self.timeout, |limit| limit.timeout)
    }
}

/// The limits on what is held for clients. Zero stands for what is found out at the start, see
/// [`ClientLimits::fit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// `--client-memory`: bytes that a worker holds for all clients; 0 until it is fitted to the memory.
    pub memory_bytes: u64,
    /// `--connection-memory`: bytes for one connection with all of its streams.
    pub connection_bytes: usize,
    /// `--response-spool`: bytes of one response in a temporary file; 0 means no file.
    pub response_spool_bytes: u64,
    /// `--spool-total`: bytes in all temporary files of a worker; 0 until it is fitted to the disk.
    pub spool_bytes: u64,
    /// `--connections-per-client`; 0 means no limit.
    pub connections_per_client: u32,
}

impl ClientLimits {
    /// Fills in what the operator left to the machine: `memory_bytes` of it and `disk_bytes` that are free are
    /// shared by `workers`. `None` where that is not known.
    pub fn fit(&mut self, memory_bytes: Option<u64>, disk_bytes: Option<u64>, workers: u32) {
        const MIB: u64 = 1 << 20;
        let workers = u64::from(workers.max(1));
        if self.memory_bytes == 0 {
            let share = memory_bytes.map_or(64 * MIB, |bytes| bytes / 8 / workers);
            self.memory_bytes = share.clamp(16 * MIB, 1024 * MIB);
        }
        if self.spool_bytes == 0 {
            let share = disk_bytes.map_or(1024 * MIB, |bytes| bytes / 2 / workers);
            self.spool_bytes = share.max(16 * MIB);
        }
    }
}

/// The settings of HTTP/2: whether it is offered, and its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http2 {
    /// `--http-protocols` has h2: it is offered in TLS handshakes.
    pub offered: bool,
    /// `--http2-cleartext`: clients without TLS may begin with it, where it is offered at all.
    pub cleartext: bool,
    /// `--http2-max-concurrent-streams`
    pub concurrent_streams_max: u32,
    /// `--http2-initial-window-size`
    pub window_bytes: u32,
    /// `--http2-max-frame-size`
    pub frame_bytes_max: u32,
    /// `--http2-max-header-list-size`
    pub header_list_bytes_max: u32,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::testing::config;

    #[test]
    fn workers_share_memory_and_disk_within_bounds() {
        let fitted = |args: &[&str], memory: Option<u64>, disk, workers| {
            let mut limits = config(args).client_limits;
            limits.fit(memory, disk, workers);
            (limits.memory_bytes >> 20, limits.spool_bytes >> 20)
        };
        assert_eq!(fitted(&[], Some(8 << 30), Some(40 << 30), 4), (256, 5120));
        assert_eq!(fitted(&[], Some(128 << 20), Some(1 << 20), 4), (16, 16));
        assert_eq!(fitted(&[], Some(1 << 40), None, 1), (1024, 1024));
        assert_eq!(fitted(&[], None, None, 0), (64, 1024));
        let told = ["--client-memory", "9m", "--spool-total", "2m"];
        assert_eq!(fitted(&told, Some(8 << 30), Some(1 << 40), 1), (9, 2));
    }

    #[test]
    fn the_longest_prefix_that_ends_at_a_segment_counts() {
        let config = config(&["-t", "9", "--timeout-path", "/a=1,/a/b/=2,/off=0", "--timeout-path=/a/b/c=3"]);
        for (path, seconds) in [
            ("/", 9),
            ("/a", 1),
            ("/a/", 1),
            ("/ab", 9),
            ("/ab/c", 9),
            ("/a/c", 1),
            ("/a/b", 2),
            ("/a/bc", 1),
            ("/a/b/c", 3),
            ("/a/b/c/d", 3),
            ("/off/x", 0),
            ("/x/a", 9),
            ("*", 9),
            ("", 9),
        ] {
            assert_eq!(config.timeout_for(path.as_bytes()), Duration::from_secs(seconds), "{path}");
        }
    }

    #[test]
    fn the_largest_body_is_that_of_any_route() {
        use crate::testing::with_environment;
        let routes =
            [("PORTICO_ROUTE", "[{ path = '/a', limit_request_body = '5m' }, { path = '/b', app = true }]")];
        for (own, max) in [("1m", 5 << 20), ("9m", 9 << 20), ("0", 0)] {
            let config = with_environment(&routes, &["--limit-request-body", own]);
            assert_eq!(config.body_bytes_max_of_all(), max, "{own}");
        }
    }

    #[test]
    fn the_root_covers_every_path() {
        let config = config(&["--timeout-path", "/=5,/a=6"]);
        for (path, seconds) in [("/", 5), ("/b", 5), ("//", 5), ("/a/b", 6), ("*", 30)] {
            assert_eq!(config.timeout_for(path.as_bytes()), Duration::from_secs(seconds), "{path}");
        }
    }
}
