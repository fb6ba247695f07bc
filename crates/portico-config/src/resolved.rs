//! The configuration as the server uses it: every value present, checked and in its own type.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Addresses that one `host:port` resolved to, with the text it came from.
    Tcp {
        /// As the operator wrote it.
        text: String,
        /// At least one address.
        addresses: Vec<SocketAddr>,
    },
    /// `unix:PATH`
    Unix(PathBuf),
    /// `fd://N`: a listening socket that this process inherited.
    Fd(i32),
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// `-` for the access log.
    Stdout,
    /// `-` for the error log.
    Stderr,
    /// A path.
    File(PathBuf),
}

/// Lines of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Common Log Format.
    Common,
    /// Common Log Format with Referer and User-Agent.
    Combined,
}

/// Least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// Resolved configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `APP_MODULE`; `None` asks for discovery.
    pub app: Option<String>,
    /// `--bind`; never empty.
    pub binds: Vec<Bind>,
    /// `--backlog`
    pub backlog: u32,
    /// `--workers`; at least 1.
    pub workers: u32,
    /// `--threads`; at least 1.
    pub threads: u32,
    /// `--max-queue`: complete requests that may wait for a thread; beyond it 503.
    pub max_queue: usize,
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
    /// `--write-timeout`: for the next byte that the peer takes.
    pub write_timeout: Duration,
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
    /// `--request-buffer`: bytes of a request body kept in memory, beyond them an unlinked file.
    pub request_buffer_bytes: usize,
    /// `--response-buffer`: bytes of an answer buffered for a slow client before the application waits.
    pub response_buffer_bytes: usize,
    /// `--stream-request-body`: call the application when the head is in, the body arriving as it is read.
    pub stream_request_body: bool,
    /// `--allow-half-close`: a queued request whose client has sent FIN is run all the same.
    pub allow_half_close: bool,
    /// `--socket-mode`: permissions of UNIX sockets.
    pub socket_mode: u32,
    /// `--no-sendfile` clears it.
    pub sendfile: bool,
    /// `--root-path`: SCRIPT_NAME; empty or begins with `/` and does not end with it.
    pub root_path: String,
    /// `--access-logfile`
    pub access_log: Option<LogTarget>,
    /// `--access-logformat` (`common`, `combined`)
    pub access_log_format: AccessLogFormat,
    /// `--error-logfile`
    pub error_log: LogTarget,
    /// `--log-level`
    pub log_level: LogLevel,
    /// `--chdir`
    pub chdir: Option<PathBuf>,
    /// `--pythonpath`, split at commas
    pub pythonpath: Vec<PathBuf>,
    /// `--check-config`: import the application and exit.
    pub check_config: bool,
}
