//! Syslog and statsd as the settings have them. What cannot be had is told once, and done without: telemetry never
//! keeps a server from serving.

use std::io;
use std::sync::Arc;

use portico_config::Config;
use portico_log::{AccessObserver, Destination, Outputs, Statsd, Syslog};
use portico_metrics::Metrics;
use portico_otlp::Tracer;

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
        metrics: None,
    }
}

/// Where requests have spans; `None` without `--otlp`. To be called after the last fork.
///
/// # Errors
/// There is no certificate to trust, or the kernel has no thread.
pub fn tracer(config: &Config, metrics: Metrics<'static>) -> io::Result<Option<Box<Tracer>>> {
    let settings = config.telemetry.traces.as_deref();
    settings.map(|settings| Tracer::open(settings, metrics).map(Box::new)).transpose()
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

#[cfg(test)]
mod tests {
    use portico_config::{Endpoint, LogTarget};
    use portico_metrics::Observed;
    use portico_os::Folder;

    use super::*;
    use crate::setup::FormerEnvironment;

    fn setup(change: impl FnOnce(&mut Config)) -> WorkerSetup {
        let mut config =
            Config { access_log: Some(LogTarget::File("/var/log/access".into())), ..Config::default() };
        change(&mut config);
        let folder = Folder::current().unwrap();
        WorkerSetup {
            config: Arc::new(config),
            folder,
            former: FormerEnvironment::new(),
            access_log: None,
            read_from: Vec::new(),
        }
    }

    /// A host that nobody can have.
    fn nowhere() -> Endpoint {
        Endpoint::Inet { host: "\0".to_owned(), port: 8125 }
    }

    #[test]
    fn lines_go_where_the_settings_say() {
        let file = outputs(&setup(|_| {}), None);
        assert!(matches!(file.lines, Some(Destination::File(path)) if path.ends_with("access")));
        let stdout = outputs(&setup(|config| config.access_log = Some(LogTarget::Stdout)), None);
        assert!(matches!(stdout.lines, Some(Destination::Stdout)));
        assert!(outputs(&setup(|config| config.access_log = None), None).are_none());
    }

    #[test]
    fn a_file_that_is_open_is_written_to() {
        let opened = Arc::new(tempfile::tempfile().unwrap());
        let setup = WorkerSetup { access_log: Some(Arc::clone(&opened)), ..setup(|_| {}) };
        let Some(Destination::Opened { file, path }) = outputs(&setup, None).lines else {
            panic!("it is open")
        };
        assert!(Arc::ptr_eq(&file, &opened) && path.ends_with("access"));
    }

    #[test]
    fn no_line_goes_beside_a_logger_of_python() {
        let setup = setup(|config| {
            config.python_logging.class = Some("shop.Logger".to_owned());
            config.access_to_syslog = true;
            config.telemetry.syslog.on = true;
        });
        let outputs = outputs(&setup, Some(AccessObserver::new(|_| {})));
        assert!(outputs.lines.is_none() && outputs.syslog.is_none() && outputs.observer.is_some());
    }

    #[test]
    fn syslog_gets_accesses_if_asked_to() {
        let with = |access_to_syslog| {
            setup(move |config| {
                config.telemetry.syslog.on = true;
                config.telemetry.syslog.endpoint = Endpoint::Inet { host: "127.0.0.1".to_owned(), port: 514 };
                config.access_to_syslog = access_to_syslog;
            })
        };
        assert!(outputs(&with(true), None).syslog.is_some());
        assert!(outputs(&with(false), None).syslog.is_none(), "it may be for the error log alone");
    }

    #[test]
    fn what_cannot_be_had_is_done_without() {
        let setup = setup(|config| {
            config.telemetry.statsd.endpoint = Some(nowhere());
            config.telemetry.syslog.on = true;
            config.telemetry.syslog.endpoint = nowhere();
            config.access_to_syslog = true;
        });
        let outputs = outputs(&setup, None);
        assert!(outputs.statsd.is_none() && outputs.syslog.is_none() && outputs.lines.is_some());
    }

    #[test]
    fn metrics_go_where_somebody_listens() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let setup = setup(|config| {
            config.telemetry.statsd.endpoint = Some(Endpoint::Inet { host: "127.0.0.1".to_owned(), port });
            config.telemetry.statsd.prefix = "shop.".to_owned();
        });
        let mut statsd = outputs(&setup, None).statsd.unwrap();
        statsd.send(Observed::Workers.metric(), 2);
        statsd.flush();
        let mut datagram = [0; 64];
        let length = socket.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..length], b"shop.gunicorn.workers:2|g");
    }
}
