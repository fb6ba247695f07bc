//! `--otlp`: where traces go and which requests have one, as OpenTelemetry's variables say it.
//!
//! The variables are those of the specification ("Environment Variable Specification" and "OTLP Exporter
//! Configuration"), so that one set of them serves the application's SDK and Portico. A value that cannot be used
//! stops the start, where an SDK would log and go on without it: nobody looks for missing spans on the first day.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{ConfigError, ParseError};

/// The settings of traces, once `--otlp` is given.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// Where spans are sent.
    pub collector: CollectorUrl,
    /// Header fields of each request to it.
    pub headers: Vec<(String, String)>,
    /// How long one request to it may take.
    pub timeout: Duration,
    /// Whether requests to it are compressed.
    pub gzip: bool,
    /// A file of certificates that https trusts; `None` trusts those of the system.
    pub certificate: Option<PathBuf>,
    /// What is said of the process that the spans come from.
    pub resource: Vec<(String, String)>,
    /// Which requests' spans are sent.
    pub sampler: TraceSampler,
    /// `--otlp-parents`
    pub parents: TraceParents,
}

/// The address of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl {
    /// https.
    pub tls: bool,
    /// Without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
    /// Path and query.
    pub target: String,
}

/// The rule by which traces are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceSampler {
    /// Whether a request that says whether its trace is sampled is believed.
    pub is_parent_based: bool,
    /// What decides otherwise.
    pub root: RootSampler,
}

/// The rule for requests that begin a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSampler {
    /// All are sampled.
    AlwaysOn,
    /// None is.
    AlwaysOff,
    /// Those whose trace id, its last 64 bits, is below this number. Each SDK decides so, and they agree.
    Below(u64),
}

/// The clients whose `traceparent` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceParents {
    /// All, as W3C Trace Context has it.
    #[default]
    Any,
    /// Gateways, and peers that `--forwarded-allow-ips` names.
    Trusted,
}

/// The parts of the settings that Portico's own options say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceOptions<'a> {
    /// `--otlp-endpoint`
    pub endpoint: Option<&'a CollectorUrl>,
    /// `--otlp-parents`
    pub parents: TraceParents,
    /// `--env`, whose variables come before those of the environment.
    pub raw_env: &'a [(String, String)],
}

/// Looks variables up, those of `--env` first.
struct Variables<'a> {
    raw_env: &'a [(String, String)],
    environment: &'a dyn Fn(&str) -> Option<OsString>,
}

/// The path that is added to `OTEL_EXPORTER_OTLP_ENDPOINT`.
const TRACES_PATH: &str = "/v1/traces";

/// How long a request to the collector may take if nobody says otherwise: the specification's.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest timeout that is taken.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// The specification counts `OTEL_EXPORTER_OTLP_TIMEOUT` in milliseconds, Python's SDK in seconds. Nobody means a
/// timeout of less than this many milliseconds, so a smaller number is one of seconds.
const MILLIS_MIN: f64 = 100.0;

/// Fields that the exporter sets itself.
const OWN_FIELDS: [&str; 7] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "user-agent",
];

/// Reads the variables.
///
/// # Errors
/// A value cannot be used; the line names the variable. Values of headers are not told.
pub(crate) fn settings(
    options: TraceOptions<'_>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<TraceSettings, ConfigError> {
    let variables = Variables { raw_env: options.raw_env, environment };
    let collector = match options.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => collector(&variables)?,
    };
    Ok(TraceSettings {
        collector,
        headers: variables.of_exporter("HEADERS", headers)?.unwrap_or_default(),
        timeout: variables.of_exporter("TIMEOUT", timeout)?.unwrap_or(TIMEOUT),
        gzip: variables.of_exporter("COMPRESSION", gzip)?.unwrap_or(false),
        certificate: variables.of_exporter("CERTIFICATE", |text| Ok(PathBuf::from(text)))?,
        resource: resource(&variables)?,
        sampler: sampler(&variables)?,
        parents: options.parents,
    })
}

/// Reads `--otlp-endpoint`; without a path it is that of traces.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn endpoint(text: &str) -> Result<CollectorUrl, ParseError> {
    let mut url = CollectorUrl::parse(text)?;
    if url.target == "/" {
        TRACES_PATH.clone_into(&mut url.target);
    }
    Ok(url)
}

impl Variables<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let own = self.raw_env.iter().rev().find(|(own, _)| own == name);
        let text = match own {
            Some((_, text)) => Some(text.clone()),
            None => match (self.environment)(name).map(OsString::into_string).transpose() {
                Ok(text) => text,
                Err(_) => return Err(refused(name, "its value is not UTF-8")),
            },
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    fn read<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ConfigError> {
        let text = self.text(name)?;
        text.map(|text| read(&text).map_err(|problem| refused(name, problem))).transpose()
    }

    /// The variable of the exporter of traces, or else that of all exporters.
    fn of_exporter<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ConfigError> {
        match self.read(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), &read)? {
            Some(value) => Ok(Some(value)),
            None => self.read(&format!("OTEL_EXPORTER_OTLP_{name}"), &read),
        }
    }
}

fn refused(name: &str, problem: impl fmt::Display) -> ConfigError {
    ConfigError::new(format!("{name}: {problem}"))
}

fn collector(variables: &Variables<'_>) -> Result<CollectorUrl, ConfigError> {
    // Its address would be that of another protocol.
    variables.of_exporter("PROTOCOL", protocol)?;
    if let Some(url) = variables.read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", CollectorUrl::parse)? {
        return Ok(url);
    }
    let base = variables.read("OTEL_EXPORTER_OTLP_ENDPOINT", CollectorUrl::parse)?;
    Ok(base.map_or_else(CollectorUrl::default, CollectorUrl::with_traces_path))
}

fn protocol(text: &str) -> Result<(), ParseError> {
    match text {
        // Whoever takes JSON takes protobuf as well.
        "http/protobuf" | "http/json" => Ok(()),
        "grpc" => Err("Portico sends spans over HTTP, not gRPC, and these have different ports; name the \
                       collector's port for OTLP over HTTP, such as --otlp-endpoint http://HOST:4318"
            .into()),
        _ => Err(format!("{text:?} is no protocol of OTLP; write http/protobuf").into()),
    }
}

impl Default for CollectorUrl {
    fn default() -> Self {
        Self { tls: false, host: "localhost".to_owned(), port: 4318, target: TRACES_PATH.to_owned() }
    }
}

impl CollectorUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong. The text is not told if a secret may be in it.
    fn parse(text: &str) -> Result<Self, ParseError> {
        if text.contains('@') {
            return Err("a URL with a user and password is not taken; write these as a header: \
                        OTEL_EXPORTER_OTLP_HEADERS=Authorization=Basic%20..."
                .into());
        }
        let wrong = || {
            let shown = text.split('?').next().unwrap_or_default();
            ParseError::from(format!(
                "{shown:?} is no address of a collector; write http://HOST:4318 or https://HOST"
            ))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = host_and_port(authority, if tls { 443 } else { 80 }).ok_or_else(wrong)?;
        if target.contains('#') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { tls, host, port, target })
    }

    fn with_traces_path(mut self) -> Self {
        let at = self.target.find('?').unwrap_or(self.target.len());
        let (path, query) = self.target.split_at(at);
        self.target = format!("{}{TRACES_PATH}{query}", path.trim_end_matches('/'));
        self
    }

    /// Host and port, as the field Host has them.
    pub fn authority(&self) -> String {
        let port = if self.port == if self.tls { 443 } else { 80 } {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        if self.host.contains(':') {
            format!("[{}]{port}", self.host)
        } else {
            format!("{}{port}", self.host)
        }
    }
}

impl fmt::Display for CollectorUrl {
    /// Without the query, which may have a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for TraceSettings {
    /// Without the values of headers, which are keys as a rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("TraceSettings")
            .field("collector", &self.collector.to_string())
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("gzip", &self.gzip)
            .field("certificate", &self.certificate)
            .field("resource", &self.resource)
            .field("sampler", &self.sampler)
            .field("parents", &self.parents)
            .finish()
    }
}

fn host_and_port(authority: &str, port_default: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let port = match port {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None => port_default,
    };
    (!host.is_empty() && host.bytes().all(is_name) && port != 0).then(|| (host.to_owned(), port))
}

/// Pairs as in W3C's field `baggage`, without properties: `a=b,c=d%20e`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, ParseError> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).enumerate();
    items
        .map(|(index, item)| {
            let number = index + 1;
            let (name, value) = item.split_once('=').ok_or_else(|| {
                format!(
                    "item {number} has no \"=\"; write NAME=VALUE,NAME=VALUE, with %2C for a comma in a value"
                )
            })?;
            let decode = |text| {
                percent_decode(text).ok_or_else(|| {
                    format!(
                        "item {number} has a \"%\" that no two hexadecimal digits follow; write %25 for one"
                    )
                })
            };
            let (name, value) = (decode(name.trim())?, decode(value.trim())?);
            if name.is_empty() {
                return Err(format!("item {number} has no name; write NAME=VALUE").into());
            }
            Ok((name, value))
        })
        .collect()
}

/// `None` for what is no percent-encoding of UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        decoded.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = after;
    }
    String::from_utf8(decoded).ok()
}

fn headers(text: &str) -> Result<Vec<(String, String)>, ParseError> {
    let pairs = pairs(text)?;
    for (name, value) in &pairs {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.bytes().all(is_token) {
            return Err(format!("{name:?} cannot be a header's name").into());
        }
        // Anything else could be read as further lines of the head.
        if !value.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f) {
            return Err(format!("the value of {name} has a control character").into());
        }
        if OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(format!("{name} is set by Portico itself; leave it out").into());
        }
    }
    Ok(pairs)
}

fn timeout(text: &str) -> Result<Duration, ParseError> {
    let wrong = || format!("{text:?} is no timeout; write milliseconds, such as 10000");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    let seconds = if number < MILLIS_MIN { number } else { number / 1000.0 };
    let timeout = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err(format!("{text:?} is not between 100 milliseconds and 10 minutes").into());
    }
    Ok(timeout)
}

fn gzip(text: &str) -> Result<bool, ParseError> {
    match text {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(format!("{text:?} is no compression of OTLP; write gzip or none").into()),
    }
}

fn resource(variables: &Variables<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let mut resource = variables.read("OTEL_RESOURCE_ATTRIBUTES", pairs)?.unwrap_or_default();
    // The later of two values of a name counts.
    for at in (0..resource.len()).rev() {
        if resource[at + 1..].iter().any(|(name, _)| *name == resource[at].0) {
            resource.remove(at);
        }
    }
    let name = variables.text("OTEL_SERVICE_NAME")?;
    match resource.iter_mut().find(|(attribute, _)| attribute == "service.name") {
        Some((_, value)) => name.into_iter().for_each(|name| *value = name),
        None => {
            let name = name.unwrap_or_else(|| "unknown_service:portico".to_owned());
            resource.insert(0, ("service.name".to_owned(), name));
        }
    }
    Ok(resource)
}

fn sampler(variables: &Variables<'_>) -> Result<TraceSampler, ConfigError> {
    const VARIABLE: &str = "OTEL_TRACES_SAMPLER";
    let name = variables.text(VARIABLE)?.unwrap_or_else(|| "parentbased_always_on".to_owned());
    let (is_parent_based, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name.as_str()),
    };
    let root = match root {
        "always_on" => RootSampler::AlwaysOn,
        "always_off" => RootSampler::AlwaysOff,
        "traceidratio" => variables.read("OTEL_TRACES_SAMPLER_ARG", ratio)?.unwrap_or(RootSampler::AlwaysOn),
        _ => {
            return Err(refused(
                VARIABLE,
                format!(
                    "{name:?} is no sampler that Portico has; write always_on, always_off or traceidratio, \
                     alone or behind parentbased_"
                ),
            ));
        }
    };
    Ok(TraceSampler { is_parent_based, root })
}

fn ratio(text: &str) -> Result<RootSampler, ParseError> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    let ratio =
        ratio.ok_or_else(|| format!("{text:?} is no ratio; write a number from 0 to 1, such as 0.01"))?;
    Ok(if ratio == 1.0 {
        RootSampler::AlwaysOn
    } else if ratio == 0.0 {
        RootSampler::AlwaysOff
    } else {
        RootSampler::Below((ratio * 2f64.powi(64)) as u64)
    })
}

#[cfg(test)]
mod tests;
