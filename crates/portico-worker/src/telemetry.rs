//! Syslog and statsd as the settings have them. What cannot be had is told once, and done without: telemetry never
//! keeps a server from serving.

use std::sync::Arc;

use portico_config::Config;
use portico_log::{AccessObserver, Destination, Outputs, Statsd, Syslog};

use crate::logging;
use crate::logs::{destination, path_of};
use crate::setup::WorkerSetup;

/// Has the error log tell them as well.
pub fn observe_log(config: &Config) {
    // What is told of opening one of them is not to be told to it.
    logging::observe(None, None);
    let statsd = Statsd::open(&config.telemetry.statsd).ok().flatten();
    let syslog = syslog(config, "error");
    logging::observe(syslog, statsd);
}

/// Who is told of requests. Where a logger of Python has the access log, no line of it goes elsewhere; what the
/// gateway cannot tell that logger of, `teller` does.
pub fn outputs(setup: &WorkerSetup, access_observer: Option<AccessObserver>) -> Outputs {
    let config = &setup.config;
    let lines = !config.python_logging.is_in_force();
    let path = setup.config.access_log.as_ref().and_then(path_of);
    let opened = setup.access_log.as_ref().zip(path);
    let opened = opened.map(|(file, path)| Destination::Opened { file: Arc::clone(file), path });
    Outputs {
        lines: opened.or_else(|| config.access_log.as_ref().filter(|_| lines).map(destination)),
        syslog: (lines && config.access_to_syslog).then(|| syslog(config, "access")).flatten(),
        statsd: statsd(config),
        observer: access_observer,
    }
}

fn syslog(config: &Config, log: &str) -> Option<Syslog> {
    Syslog::open(&config.telemetry.syslog, config.app.as_deref(), log).unwrap_or_else(|error| {
        log::warn!("nothing is sent to syslog at {}: {error}", config.telemetry.syslog.endpoint);
        None
    })
}

fn statsd(config: &Config) -> Option<Statsd> {
    Statsd::open(&config.telemetry.statsd).unwrap_or_else(|error| {
        let endpoint = config.telemetry.statsd.endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
        log::warn!("no metrics are sent to statsd at {endpoint}: {error}");
        None
    })
}
