//! uWSGI's ini files for `portico migrate`: what their options are called here, or what to do instead. `ini.rs`
//! reads them.

mod ini;
mod routing;
mod static_files;

use crate::draft::MigrationDraft;
use crate::setting::Setting;
use crate::settings;
pub(crate) use ini::Ini;
use ini::{IniOption, is_false};

/// Options whose value a setting here takes as it is.
const SAME: &[(&str, Option<&Setting>)] = &[
    ("chdir", Some(&settings::CHDIR)),
    ("harakiri", Some(&settings::TIMEOUT)),
    ("max-requests", Some(&settings::MAX_REQUESTS)),
    ("max-requests-delta", Some(&settings::MAX_REQUESTS_JITTER)),
    ("max-worker-lifetime", Some(&settings::MAX_LIFETIME)),
    ("reload-mercy", Some(&settings::GRACEFUL_TIMEOUT)),
    ("worker-reload-mercy", Some(&settings::GRACEFUL_TIMEOUT)),
    ("buffer-size", Some(&settings::LIMIT_REQUEST_HEAD)),
    ("limit-post", Some(&settings::LIMIT_REQUEST_BODY)),
    ("socket-timeout", Some(&settings::BODY_TIMEOUT)),
    ("uid", Some(&settings::USER)),
    ("gid", Some(&settings::GROUP)),
    ("pidfile", Some(&settings::PIDFILE)),
    ("safe-pidfile", Some(&settings::PIDFILE)),
    ("pidfile2", Some(&settings::PIDFILE)),
    ("safe-pidfile2", Some(&settings::PIDFILE)),
    ("procname", Some(&settings::PROC_NAME)),
    ("procname-master", Some(&settings::PROC_NAME)),
    ("lazy-apps", None),
    ("lazy", None),
    ("master", None),
    ("enable-threads", None),
    ("single-interpreter", None),
    ("die-on-term", None),
    ("vacuum", None),
    ("strict", None),
    ("need-app", None),
    ("thunder-lock", None),
    ("no-orphans", None),
    ("auto-procname", None),
    ("harakiri-verbose", None),
    ("plugin", None),
    ("plugins", None),
    ("protocol", None),
    ("so-keepalive", None),
    ("close-on-exec", None),
    ("callable", None),
    ("socket-protocol", None),
    ("reuse-port", Some(&settings::REUSE_PORT)),
    ("http-auto-chunked", None),
    ("http-chunked-input", None),
    ("http-raw-body", None),
    ("ignore-sigpipe", None),
    ("ignore-write-errors", None),
    ("disable-write-exception", None),
    ("log-master", None),
    ("logdate", None),
    ("log-date", None),
    ("log-micros", None),
    ("threaded-logger", None),
    ("procname-prefix", None),
    ("procname-prefix-spaced", None),
    ("py-call-osafterfork", None),
    ("need-plugin", None),
    ("plugins-dir", None),
    ("plugin-dir", None),
    ("pcre-jit", None),
    ("max-fd", None),
    ("tcp-nodelay", None),
    ("manage-script-name", None),
    ("log-reopen", None),
    ("min-worker-lifetime", None),
    ("post-buffering-bufsize", None),
    ("skip-atexit", None),
    ("honour-stdin", None),
    ("forkbomb-delay", None),
    ("http-processes", None),
    ("cheaper", None),
    ("cheaper-initial", None),
    ("cheaper-algo", None),
    ("cheaper-step", None),
    ("static-gzip", None),
    ("static-gzip-all", None),
    ("static-gzip-dir", None),
    ("static-gzip-prefix", None),
    ("static-gzip-ext", None),
    ("static-gzip-suffix", None),
    ("static-cache-paths", None),
    ("fileserve-mode", None),
];

/// Options that have no setting here, and what to do instead.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["home", "virtualenv", "venv", "pyhome"], "run the portico of that environment: its bin/portico"),
    (
        &[
            "response-header",
            "route-qs",
            "route-if",
            "route-if-not",
            "route-label",
            "route-remote-addr",
            "route-remote-user",
            "route-user-agent",
            "final-route",
            "error-route",
            "response-route",
            "collect-header",
        ],
        "a route has no such condition; `portico help route` lists those that it has, or use middleware",
    ),
    (
        &["static-skip-ext", "static-skip-dir"],
        "all files of a folder are served; keep what is not public elsewhere",
    ),
    (&["offload-threads"], "it is not needed: slow clients take no thread"),
    (
        &["reload-on-as", "evil-reload-on-as", "limit-as", "never-swap"],
        "worker_max_rss bounds the memory that a worker really has",
    ),
    (&["uwsgi-cpu-affinity", "cpu-affinity"], "leave it to the kernel, or to taskset and systemd"),
    (&["log-4xx", "log-5xx", "log-zero"], "the access log has all requests or none"),
    (
        &["log-maxsize", "log-backupname", "touch-logrotate", "touch-logreopen", "log-truncate"],
        "rotate with logrotate, and send USR1 for the files to be opened again",
    ),
    (
        &[
            "hook-pre-app",
            "hook-post-app",
            "hook-asap",
            "exec-asap",
            "exec-pre-app",
            "exec-post-app",
            "exec-as-root",
        ],
        "do it before the server starts, as with ExecStartPre of systemd",
    ),
    (&["py-tracebacker"], "ask with `portico stacks PID`"),
    (&["enable-proxy-protocol", "http-enable-proxy-protocol"], "say proxy_protocol, and proxy_allow_ips"),
    (&["gevent-monkey-patch", "gevent-early-monkey-patch"], "have the application patch itself"),
    (
        &["mule", "mules", "farm", "spooler", "spooler-processes", "attach-daemon", "smart-attach-daemon"],
        "run it as a service of its own, or give long work to a task queue such as Celery",
    ),
    (&["cron", "cron2", "unique-cron", "timer"], "use cron, a systemd timer or the platform's scheduler"),
    (&["stats", "stats-server", "stats-http", "memory-report"], "ask with `portico status PID`"),
    (&["master-fifo"], "use `portico reload PID`, `portico upgrade PID` and signals"),
    (
        &["touch-reload", "touch-chain-reload", "fs-reload"],
        "reload with `portico reload PID` at a deploy; --reload is for development",
    ),
    (&["log-format", "logformat"], "write it with gunicorn's atoms in access_logformat"),
    (&["log-encoder", "log-req-encoder", "log-route"], "say access_logformat json or logfmt"),
    (
        &["log-x-forwarded-for"],
        "trust the proxy with forwarded_allow_ips, and the log has the client's address",
    ),
    (&["ugreen", "asyncio", "greenlet", "loop"], "use threads, as many as requests run at once"),
    (&["suwsgi-socket", "ssl-socket"], "uwsgi within TLS is not spoken; use https-socket"),
    (&["chown-socket"], "give the socket's folder that owner or group"),
    (
        &["emperor", "vassals", "subscribe-to", "zerg", "zerg-server"],
        "run each application as a service of its own",
    ),
    (&["http-timeout", "http-connect-timeout"], "timeout and write_timeout are what there is"),
    (&["import", "shared-import", "hook-post-fork", "py-import"], "import it in the application"),
    (&["cache", "cache2", "queue", "sharedarea", "locks"], "use Redis, memcached or the database"),
];

impl MigrationDraft {
    /// Takes what a file of uWSGI says.
    pub(crate) fn take_uwsgi(&mut self, ini: Ini) {
        self.notes.extend(ini.notes.iter().cloned());
        self.problems.extend(ini.problems.iter().cloned());
        for option in &ini.options {
            let place = format!("{}: {}", option.place, option.name);
            // What stays of placeholders in a format of lines is the format's own.
            if option.unknown.is_empty() || INSTEAD.iter().any(|(names, _)| names.contains(&&*option.name)) {
                self.take_option(&ini, option, &place);
            } else if !ini.used.contains(&option.name) {
                let unknown = option.unknown.join(", ");
                self.problems.push(format!("{place}: left out, it is not known what {unknown} stands for"));
            }
        }
        self.take_routes(&ini);
        self.take_defaults(&ini);
    }

    /// What uWSGI does where nothing is said of it, and Portico does not.
    fn take_defaults(&mut self, ini: &Ini) {
        let file = &ini.file;
        let mut say = |setting: &'static Setting, text: &str, note: &str| {
            if !self.says(setting) {
                self.say(file, setting, vec![text.to_owned()]);
                self.notes.push(format!("{file}: names no {note}"));
            }
        };
        say(&settings::WORKERS, "1", "processes, which is 1 for uWSGI and written so");
        say(
            &settings::THREADS,
            "1",
            "threads, which is 1 for uWSGI and written so; remove it where the application is thread-safe",
        );
        say(
            &settings::TIMEOUT,
            "0",
            "harakiri, so that requests may take for ever, and written so; a time is better",
        );
        if !ini.is_on("disable-logging") && !self.says(&settings::ACCESS_LOGFILE) {
            // Where its other lines go.
            let log =
                ["logto", "logto2", "daemonize", "daemonize2"].into_iter().find_map(|name| ini.last(name));
            self.say(file, &settings::ACCESS_LOGFILE, vec![log.unwrap_or("-").to_owned()]);
        }
    }

    fn take_option(&mut self, ini: &Ini, option: &IniOption, place: &str) {
        let value = option.value.as_str();
        let mut say = |setting: &'static Setting, text: String| self.say(place, setting, vec![text]);
        match option.name.as_str() {
            "socket" | "s" | "uwsgi-socket" | "fastcgi-socket" | "scgi-socket" | "http-socket" | "http"
            | "http11-socket" | "https" | "https-socket" | "http2-socket" | "shared-socket" => {
                self.take_socket(ini, option, place);
            }
            "processes" | "workers" | "p" => say(&settings::WORKERS, workers(ini, value)),
            "threads" => say(&settings::THREADS, value.to_owned()),
            "gevent" | "async" => {
                if ini.last("threads").is_none() {
                    say(&settings::THREADS, at_most(value, GREENLETS_MAX));
                }
                self.notes.push(format!(
                    "{place}: served by threads, {GREENLETS_MAX} at most; an application that patches itself has \
                     its greenlets"
                ));
            }
            "module" | "wsgi" | "w" | "wsgi-file" | "file" => say(&settings::APP, application(ini, value)),
            "mount" => self.take_mount(ini, value, place),
            "pythonpath" | "python-path" | "pp" => say(&settings::PYTHONPATH, value.replace(':', ",")),
            "env" => say(&settings::RAW_ENV, value.to_owned()),
            "umask" => say(&settings::UMASK, format!("0{}", value.trim_start_matches('0'))),
            "listen" | "l" => say(&settings::BACKLOG, at_most(value, BACKLOG_MAX)),
            "http-keepalive" | "so-keepalive-timeout" => match value.parse::<u32>() {
                // Whether, and not how long.
                Ok(1) => {}
                _ if is_false(value) => say(&settings::KEEP_ALIVE, "0".to_owned()),
                Ok(seconds) => say(&settings::KEEP_ALIVE, seconds.to_string()),
                Err(_) => {}
            },
            "post-buffering" => match value.parse::<u64>() {
                Ok(bytes) if bytes >= BUFFER_BYTES_MIN => say(&settings::REQUEST_BUFFER, bytes.to_string()),
                _ => {} // Bodies are buffered in any case.
            },
            "reload-on-rss" | "evil-reload-on-rss" => say(&settings::WORKER_MAX_RSS, format!("{value}m")),
            "log-slow" => say(&settings::SLOW_REQUEST, format!("{value}ms")),
            "chmod-socket" | "C" if value == "true" => say(&settings::SOCKET_MODE, "666".to_owned()),
            "chmod-socket" | "C" => say(&settings::SOCKET_MODE, value.to_owned()),
            "daemonize" | "daemonize2" | "d" => {
                say(&settings::DAEMON, "true".to_owned());
                say(&settings::ERROR_LOGFILE, value.to_owned());
            }
            "logto" | "logto2" => say(&settings::ERROR_LOGFILE, value.to_owned()),
            "logger" | "req-logger" | "log-req" => self.take_logger(option, place),
            "disable-logging" => {}
            name if routing::takes(name) => {} // All together, when all are known.
            "py-autoreload" if is_false(value) => {}
            "py-autoreload" => say(&settings::RELOAD, "true".to_owned()),
            "ini-paste" | "paste" | "ini-paste-logged" => {
                say(&settings::PASTE, value.strip_prefix("config:").unwrap_or(value).to_owned());
            }
            name => match SAME.iter().find(|(theirs, _)| *theirs == name) {
                Some((_, None)) => {}
                Some((_, Some(ours))) => say(ours, value.to_owned()),
                None if ini.used.iter().any(|used| used == name) => {}
                None if routing::restricts(name, value) => self
                    .problems
                    .push(format!("{place}: left out, and it restricts access; {}", instead(name))),
                None => self.notes.push(format!("{place}: {}", instead(name))),
            },
        }
    }

    fn take_socket(&mut self, ini: &Ini, option: &IniOption, place: &str) {
        let value = shared(ini, &option.value);
        let protocol = ini.last("protocol").or(ini.last("socket-protocol"));
        match (option.name.as_str(), protocol) {
            ("shared-socket", _) => {} // Others name it by its number.
            ("socket" | "s", Some("http")) | ("http-socket" | "http" | "http11-socket", _) => {
                self.say(place, &settings::BIND, vec![address(&value)]);
            }
            ("socket" | "s", Some("scgi")) | ("scgi-socket", _) => self.take_gateway("scgi", &value, place),
            ("socket" | "s", Some("fastcgi")) | ("fastcgi-socket", _) => {
                self.take_gateway("fastcgi", &value, place);
            }
            ("socket" | "s" | "uwsgi-socket", _) => self.take_gateway("uwsgi", &value, place),
            _ => {
                // ADDRESS,CERTIFICATE,KEY[,CIPHERS[,CLIENTS' CA]]
                let settings = [
                    &settings::BIND,
                    &settings::CERTFILE,
                    &settings::KEYFILE,
                    &settings::CIPHERS,
                    &settings::CA_CERTS,
                ];
                for (setting, part) in settings.into_iter().zip(value.split(',')) {
                    if *setting == settings::CA_CERTS && !part.is_empty() {
                        // `!` asks for a certificate, which a client may have otherwise.
                        let demand = if part.starts_with('!') { "2" } else { "1" };
                        self.say(place, &settings::CERT_REQS, vec![demand.to_owned()]);
                    }
                    let part = shared(ini, part.trim_start_matches('!'));
                    let text =
                        if *setting == settings::BIND { format!("https://{}", address(&part)) } else { part };
                    if !text.is_empty() {
                        self.say(place, setting, vec![text]);
                    }
                }
            }
        }
    }

    fn take_mount(&mut self, ini: &Ini, value: &str, place: &str) {
        match value.split_once('=') {
            Some((prefix, target)) if !self.says(&settings::APP) => {
                self.say(place, &settings::APP, vec![application(ini, target.trim())]);
                let prefix = prefix.trim().trim_end_matches('/');
                if !prefix.is_empty() {
                    self.say(place, &settings::ROOT_PATH, vec![prefix.to_owned()]);
                }
            }
            _ => self
                .notes
                .push(format!("{place}: one application is served; run another portico for this one")),
        }
    }

    /// `file:PATH`, `syslog:…`, each perhaps after a name.
    fn take_logger(&mut self, option: &IniOption, place: &str) {
        let value = option.value.rsplit(' ').next().unwrap_or_default();
        let setting = match option.name.as_str() {
            "logger" => &settings::ERROR_LOGFILE,
            _ => &settings::ACCESS_LOGFILE,
        };
        match value.split_once(':') {
            Some(("file", path)) => self.say(place, setting, vec![path.to_owned()]),
            Some(("stdio", _)) | None if value.starts_with("stdio") => {
                self.say(place, setting, vec!["-".to_owned()]);
            }
            _ if value.starts_with("syslog") || value.starts_with("rsyslog") => {
                self.notes.push(format!("{place}: say log_syslog, and log_syslog_to for another machine"));
            }
            _ => self.notes.push(format!("{place}: name a file in access_logfile and error_logfile")),
        }
    }

    /// Takes an address where web servers speak `protocol`.
    fn take_gateway(&mut self, protocol: &str, value: &str, place: &str) {
        let address = address(value);
        let near = ["unix:", "127.", "localhost:", "[::1]"].iter().any(|start| address.starts_with(start));
        self.say(place, &settings::BIND, vec![format!("{protocol}://{address}")]);
        if !near {
            self.notes.push(format!(
                "{place}: only 127.0.0.1 and ::1 may speak {protocol} there; name others in uwsgi_allow_ips, \
                 or listen on 127.0.0.1"
            ));
        }
    }
}

/// The most threads for greenlets; gevent's workers have as many here.
const GREENLETS_MAX: u64 = 128;

/// What the table takes.
const BACKLOG_MAX: u64 = 65_535;

/// Below it somebody has switched buffering on, and not said how much of it.
const BUFFER_BYTES_MIN: u64 = 4096;

/// A number, lowered to what there may be.
fn at_most(value: &str, max: u64) -> String {
    value.parse::<u64>().map_or_else(|_| value.to_owned(), |number| number.min(max).to_string())
}

/// `--workers` for so many, and for what `cheaper` says of their least number.
fn workers(ini: &Ini, value: &str) -> String {
    match ini.last("cheaper") {
        Some(least) if least != value => format!("{least}..{value}"),
        _ => value.to_owned(),
    }
}

/// An address, or that of the shared socket that `=NUMBER` names.
fn shared(ini: &Ini, value: &str) -> String {
    let number = value.strip_prefix('=').and_then(|number| number.parse::<usize>().ok());
    let mut sockets = ini.options.iter().filter(|option| option.name == "shared-socket");
    let socket = number.and_then(|number| sockets.nth(number));
    socket.map_or_else(|| value.to_owned(), |socket| socket.value.clone())
}

/// What to do where there is no setting.
fn instead(name: &str) -> &'static str {
    let known = INSTEAD.iter().find(|(names, _)| names.contains(&name));
    known.map_or("not known here; docs/reference/settings.md has what there is", |(_, instead)| *instead)
}

/// uWSGI's `:8000`, `*:8000`, `127.0.0.1:8000` and `/run/app.sock`.
fn address(value: &str) -> String {
    let path = value.starts_with(['/', '.', '@']) || !value.contains(':');
    if path { format!("unix:{value}") } else { value.strip_prefix('*').unwrap_or(value).to_owned() }
}

/// `module:callable` or a file, with the name of `callable` if none is given.
fn application(ini: &Ini, target: &str) -> String {
    match ini.last("callable") {
        Some(callable) if !target.contains(':') => format!("{target}:{callable}"),
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::environment;

    fn migrated(text: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.ini");
        std::fs::write(&path, text).unwrap();
        let env = environment(&[("APP_PORT", "9000")]);
        let done = crate::migrate::migrate(&path, None, &env, None).unwrap();
        let lines: Vec<&str> = done.text.lines().skip(1).collect();
        (lines.join("\n"), [done.notes, done.problems].concat().join("\n"))
    }

    #[test]
    fn what_has_a_setting_is_written() {
        let (text, notes) = migrated(
            "; a site\n[uwsgi]\nbase = /\nmaster = true\nchdir = %(base)\n\
             # of theirs\nmodule = site.wsgi\ncallable = app\n\
             http-socket = 127.0.0.1:$(APP_PORT)\nhttp-socket = /run/app.sock\nprocesses = 8\ncheaper = 2\n\
             threads = 4\nharakiri = 20\nmax-requests = 5000\nreload-on-rss = 256\nchmod-socket = 660\n\
             buffer-size = 32768\nvacuum = true\ndie-on-term\n[other]\nthreads = 9\n",
        );
        let expected = "app = \"site.wsgi:app\"\n\
            chdir = \"/\"\n\
            bind = [\"127.0.0.1:9000\", \"unix:/run/app.sock\"]\n\
            socket_mode = \"660\"\n\
            workers = \"2..8\"\n\
            max_requests = 5000\n\
            worker_max_rss = \"256m\"\n\
            threads = 4\n\
            timeout = 20\n\
            limit_request_head = 32768\n\
            access_logfile = \"-\"";
        assert_eq!(text, expected);
        assert_eq!(notes, "");
    }

    #[test]
    fn what_has_none_is_noted_with_its_line() {
        let (text, notes) = migrated(
            "[uwsgi]\nsocket = :3031\nworkers = 2\nstatic-safe = /srv\nmule\ncron = 1\n\
             stats = :1\nnonsense = 1\n",
        );
        assert_eq!(
            text,
            "bind = [\"uwsgi://:3031\"]\nworkers = 2\nthreads = 1\ntimeout = 0\naccess_logfile = \"-\""
        );
        for note in [
            "u.ini:2: socket: only 127.0.0.1 and ::1 may speak uwsgi there",
            "u.ini:4: static-safe: left out, links",
            "u.ini:5: mule: run it as a service",
            "u.ini:6: cron: use cron",
            "u.ini:7: stats: ask with",
            "u.ini:8: nonsense: not known here",
            "u.ini: names no threads",
        ] {
            assert!(notes.contains(note), "{note} in\n{notes}");
        }
    }

    #[test]
    fn sockets_speak_what_they_spoke() {
        let (text, notes) = migrated(
            "[uwsgi]\nsocket = /run/app.sock\nscgi-socket = 127.0.0.1:4000\nfastcgi-socket = 127.0.0.1:5000\n\
             https-socket = 0.0.0.0:8443,/etc/site.crt,/etc/site.key,,!/etc/ca.pem\nthreads = 2\n\
             workers = 3\nharakiri = 9\ndisable-logging = true\n",
        );
        let expected = "bind = [\"uwsgi://unix:/run/app.sock\", \"scgi://127.0.0.1:4000\", \
                        \"fastcgi://127.0.0.1:5000\", \"https://0.0.0.0:8443\"]\n\
                        certfile = [\"/etc/site.crt\"]\nkeyfile = [\"/etc/site.key\"]\n\
                        cert_reqs = \"2\"\nca_certs = \"/etc/ca.pem\"\nworkers = 3\nthreads = 2\ntimeout = 9";
        assert_eq!((text.as_str(), notes.as_str()), (expected, ""));
        let (text, _) = migrated("[uwsgi]\nprotocol = http\nsocket = 127.0.0.1:4000\nthreads = 2\n");
        assert!(text.starts_with("bind = [\"127.0.0.1:4000\"]\n"), "{text}");
    }
}
