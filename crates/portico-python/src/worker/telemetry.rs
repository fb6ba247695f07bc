//! Syslog and statsd as the settings have them. What cannot be had is told once, and done without: telemetry never
//! keeps a server from serving.

use portico_config::Config;
use portico_server::{Statsd, Syslog};

use crate::logging;

/// Has the error log tell them as well.
pub fn observe_log(config: &Config) {
    // What is told of opening one of them is not to be told to it.
    logging::observe(None, None);
    let statsd = Statsd::open(&config.telemetry.statsd).ok().flatten();
    let syslog = syslog(config, "error");
    logging::observe(syslog, statsd);
}

/// A sender of the log called `log`.
pub fn syslog(config: &Config, log: &str) -> Option<Syslog> {
    Syslog::open(&config.telemetry.syslog, config.app.as_deref(), log).unwrap_or_else(|error| {
        log::warn!("nothing is sent to syslog at {}: {error}", config.telemetry.syslog.endpoint);
        None
    })
}

/// A sender of metrics.
pub fn statsd(config: &Config) -> Option<Statsd> {
    Statsd::open(&config.telemetry.statsd).unwrap_or_else(|error| {
        let endpoint = config.telemetry.statsd.endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
        log::warn!("no metrics are sent to statsd at {endpoint}: {error}");
        None
    })
}
