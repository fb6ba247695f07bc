//! uWSGI's ini files for `portico migrate`: what their options are called here, or what to do instead.

use std::path::Path;

use crate::draft::Draft;
use crate::environment::Environment;

/// The options of a file in its order, variables put in.
#[derive(Debug, Default)]
pub(crate) struct Ini {
    options: Vec<Entry>,
    /// Options that others have put in: variables of the file's own.
    used: Vec<String>,
    file: String,
}

#[derive(Debug)]
struct Entry {
    name: String,
    value: String,
    line: usize,
}

/// Options whose value a setting here takes as it is.
const SAME: &[(&str, &str)] = &[
    ("http-socket", "bind"),
    ("http", "bind"),
    ("http11-socket", "bind"),
    ("threads", "threads"),
    ("chdir", "chdir"),
    ("pythonpath", "pythonpath"),
    ("python-path", "pythonpath"),
    ("pp", "pythonpath"),
    ("harakiri", "timeout"),
    ("max-requests", "max_requests"),
    ("max-requests-delta", "max_requests_jitter"),
    ("max-worker-lifetime", "max_lifetime"),
    ("reload-mercy", "graceful_timeout"),
    ("worker-reload-mercy", "graceful_timeout"),
    ("buffer-size", "limit_request_head"),
    ("post-buffering", "request_buffer"),
    ("limit-post", "limit_request_body"),
    ("listen", "backlog"),
    ("socket-timeout", "body_timeout"),
    ("http-keepalive", "keep_alive"),
    ("uid", "user"),
    ("gid", "group"),
    ("umask", "umask"),
    ("env", "raw_env"),
    ("pidfile", "pidfile"),
    ("safe-pidfile", "pidfile"),
    ("pidfile2", "pidfile"),
    ("safe-pidfile2", "pidfile"),
    ("logto", "error_logfile"),
    ("logto2", "error_logfile"),
    ("procname", "proc_name"),
    ("procname-master", "proc_name"),
    ("py-autoreload", "reload"),
    ("ini-paste", "paste"),
    ("paste", "paste"),
    ("lazy-apps", ""),
    ("lazy", ""),
    ("master", ""),
    ("enable-threads", ""),
    ("single-interpreter", ""),
    ("die-on-term", ""),
    ("vacuum", ""),
    ("strict", ""),
    ("need-app", ""),
    ("thunder-lock", ""),
    ("no-orphans", ""),
    ("auto-procname", ""),
    ("harakiri-verbose", ""),
    ("disable-logging", ""),
    ("plugin", ""),
    ("plugins", ""),
    ("protocol", ""),
    ("so-keepalive", ""),
    ("close-on-exec", ""),
    ("callable", ""),
    ("protocol", ""),
    ("socket-protocol", ""),
    ("cheaper", ""),
    ("cheaper-initial", ""),
    ("cheaper-algo", ""),
    ("cheaper-step", ""),
];

/// Options that have no setting here, and what to do instead.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["home", "virtualenv", "venv", "pyhome"], "run the portico of that environment: its bin/portico"),
    (
        &["static-map", "static-map2", "check-static", "static-index", "static-expires", "offload-threads"],
        "let nginx serve files, or WhiteNoise in the application",
    ),
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
    (&["logger", "req-logger", "log-req"], "name a file in access_logfile and error_logfile"),
    (
        &["log-x-forwarded-for"],
        "trust the proxy with forwarded_allow_ips, and the log has the client's address",
    ),
    (
        &["gevent", "async", "ugreen", "asyncio", "greenlet", "loop"],
        "use threads, as many as requests run at once",
    ),
    (&["suwsgi-socket", "ssl-socket"], "uwsgi within TLS is not spoken; use https-socket"),
    (&["chown-socket"], "give the socket's folder that owner or group"),
    (
        &["emperor", "vassals", "subscribe-to", "zerg", "zerg-server"],
        "run each application as a service of its own",
    ),
    (&["http-timeout", "http-connect-timeout"], "timeout and write_timeout are what there is"),
    (&["import", "shared-import", "hook-post-fork", "py-import"], "import it in the application"),
    (&["cache", "cache2", "queue", "sharedarea", "locks"], "use Redis, memcached or the database"),
    (
        &["if-env", "if-not-env", "endif", "for", "endfor", "if-opt", "ini", "include"],
        "this logic is not followed",
    ),
];

impl Ini {
    /// Reads the section `uwsgi`. Nothing in it can be wrong but that it is not known.
    pub fn read(text: &str, path: &Path, env: Environment<'_>) -> Self {
        let mut ini = Self { file: path.display().to_string(), ..Self::default() };
        let mut ours = true;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(section) = line.strip_prefix('[') {
                ours = section.trim_end_matches(']') == "uwsgi";
            } else if ours && !line.is_empty() && !line.starts_with(['#', ';']) {
                let (name, value) = line.split_once('=').unwrap_or((line, "true"));
                let value = ini.put_in(value.trim(), path, env);
                ini.options.push(Entry { name: name.trim().replace('_', "-"), value, line: index + 1 });
            }
        }
        ini
    }

    /// Puts in `%(option)`, `$(VARIABLE)`, and `%d`, the file's folder.
    fn put_in(&mut self, value: &str, path: &Path, env: Environment<'_>) -> String {
        let mut rest = value;
        let mut whole = String::new();
        while let Some(at) = rest.find(['%', '$']) {
            let (before, from) = rest.split_at(at);
            whole.push_str(before);
            let named =
                from.get(1..).and_then(|text| text.strip_prefix('(')).and_then(|text| text.split_once(')'));
            let (found, length) = match named {
                Some((name, _)) if from.starts_with('%') => {
                    self.used.push(name.to_owned());
                    (self.last(name).map(str::to_owned), name.len() + 3)
                }
                Some((name, _)) => (env(name).and_then(|value| value.into_string().ok()), name.len() + 3),
                None if from.starts_with("%%") => (Some("%".to_owned()), 2),
                None if from.starts_with("%d") => (folder(path), 2),
                None => (None, 1),
            };
            let (placeholder, after) = from.split_at(length.min(from.len()));
            whole.push_str(found.as_deref().unwrap_or(placeholder));
            rest = after;
        }
        whole + rest
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|option| option.name == name).map(|option| option.value.as_str())
    }
}

fn folder(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    path.parent().map(|folder| format!("{}/", folder.display()))
}

impl Draft {
    /// Takes what a file of uWSGI says.
    pub fn take_uwsgi(&mut self, ini: Ini) {
        for option in &ini.options {
            let place = format!("{}:{}: {}", ini.file, option.line, option.name);
            self.take_option(&ini, option, &place);
        }
        if self.says("threads") {
            return;
        }
        self.say(&ini.file, "threads", vec!["1".to_owned()]);
        self.notes.push(format!(
            "{}: names no threads, which is 1 for uWSGI and written so; remove it where the application is \
             thread-safe",
            ini.file
        ));
    }

    fn take_option(&mut self, ini: &Ini, option: &Entry, place: &str) {
        let value = option.value.as_str();
        let mut say = |name: &str, text: String| self.say(place, name, vec![text]);
        match option.name.as_str() {
            "socket" => match ini.last("protocol").or(ini.last("socket-protocol")) {
                Some("http") => say("bind", address(value)),
                Some("scgi") => self.take_gateway("scgi", value, place),
                Some("fastcgi") => self.take_gateway("fastcgi", value, place),
                _ => self.take_gateway("uwsgi", value, place),
            },
            "uwsgi-socket" => self.take_gateway("uwsgi", value, place),
            "fastcgi-socket" => self.take_gateway("fastcgi", value, place),
            "scgi-socket" => self.take_gateway("scgi", value, place),
            "https" | "https-socket" | "http2-socket" => {
                // ADDRESS,CERTIFICATE,KEY[,CIPHERS[,CLIENTS' CA]]
                let names = ["bind", "certfile", "keyfile", "ciphers", "ca_certs"];
                for (name, part) in
                    names.into_iter().zip(value.split(',')).filter(|(_, part)| !part.is_empty())
                {
                    let part = part.trim_start_matches('!');
                    say(
                        name,
                        if name == "bind" { format!("https://{}", address(part)) } else { part.to_owned() },
                    );
                }
            }
            "http-socket" | "http" | "http11-socket" => say("bind", address(value)),
            "processes" | "workers" => say(
                "workers",
                match ini.last("cheaper") {
                    Some(least) => format!("{least}..{value}"),
                    None => value.to_owned(),
                },
            ),
            "module" | "wsgi" => say("app", application(ini, value)),
            "wsgi-file" | "file" => say("app", application(ini, value)),
            "mount" => match value.split_once('=') {
                Some((prefix, target)) if !self.says("app") => {
                    self.say(place, "app", vec![application(ini, target.trim())]);
                    self.say(place, "root_path", vec![prefix.trim().to_owned()]);
                }
                _ => self
                    .notes
                    .push(format!("{place}: one application is served; run another portico for this one")),
            },
            "reload-on-rss" | "evil-reload-on-rss" => say("worker_max_rss", format!("{value}m")),
            "log-slow" => say("slow_request", format!("{value}ms")),
            "chmod-socket" if value != "true" => say("socket_mode", value.to_owned()),
            "chmod-socket" => say("socket_mode", "666".to_owned()),
            "daemonize" | "daemonize2" => {
                say("daemon", "true".to_owned());
                say("error_logfile", value.to_owned());
            }
            "py-autoreload" if value == "0" => {}
            "py-autoreload" => say("reload", "true".to_owned()),
            "ini-paste" | "paste" => {
                say("paste", value.strip_prefix("config:").unwrap_or(value).to_owned());
            }
            name => match SAME.iter().find(|(theirs, _)| *theirs == name) {
                Some((_, "")) => {}
                Some((_, ours)) => say(ours, value.to_owned()),
                None if ini.used.iter().any(|used| used == name) => {}
                None => self.notes.push(format!("{place}: {}", instead(name))),
            },
        }
    }

    /// Takes an address where web servers speak `protocol`.
    fn take_gateway(&mut self, protocol: &str, value: &str, place: &str) {
        let address = address(value);
        let near = ["unix:", "127.", "localhost:", "[::1]"].iter().any(|start| address.starts_with(start));
        self.say(place, "bind", vec![format!("{protocol}://{address}")]);
        if !near {
            self.notes.push(format!(
                "{place}: only 127.0.0.1 and ::1 may speak {protocol} there; name others in uwsgi_allow_ips, \
                 or listen on 127.0.0.1"
            ));
        }
    }
}

/// What to do where there is no setting.
fn instead(name: &str) -> &'static str {
    let known = INSTEAD.iter().find(|(names, _)| names.contains(&name));
    known.map_or("not known here; docs/reference/settings.md has what there is", |(_, instead)| *instead)
}

/// uWSGI's `:8000`, `127.0.0.1:8000` and `/run/app.sock`.
fn address(value: &str) -> String {
    let path = value.starts_with(['/', '.', '@']) || !value.contains(':');
    if path { format!("unix:{value}") } else { value.to_owned() }
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
    use super::*;
    use crate::testing::environment;

    fn migrated(text: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.ini");
        std::fs::write(&path, text).unwrap();
        let env = environment(&[("APP_PORT", "9000")]);
        let done = crate::migrate::migrate(&path, None, &env, None).unwrap();
        let lines: Vec<&str> = done.text.lines().skip(1).collect();
        (lines.join("\n"), done.notes.join("\n"))
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
            limit_request_head = 32768";
        assert_eq!(text, expected);
        assert_eq!(notes, "");
    }

    #[test]
    fn what_has_none_is_noted_with_its_line() {
        let (text, notes) = migrated(
            "[uwsgi]\nsocket = :3031\nworkers = 2\nstatic-map = /s=/srv\nmule\ncron = 1\n\
             stats = :1\nnonsense = 1\n",
        );
        assert_eq!(text, "bind = [\"uwsgi://:3031\"]\nworkers = 2\nthreads = 1");
        for note in [
            "u.ini:2: socket: only 127.0.0.1 and ::1 may speak uwsgi there",
            "u.ini:4: static-map: let nginx",
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
             https-socket = 0.0.0.0:8443,/etc/site.crt,/etc/site.key,,!/etc/ca.pem\nthreads = 2\n",
        );
        let expected = "bind = [\"uwsgi://unix:/run/app.sock\", \"scgi://127.0.0.1:4000\", \
                        \"fastcgi://127.0.0.1:5000\", \"https://0.0.0.0:8443\"]\n\
                        certfile = [\"/etc/site.crt\"]\nkeyfile = [\"/etc/site.key\"]\n\
                        ca_certs = \"/etc/ca.pem\"\nthreads = 2";
        assert_eq!((text.as_str(), notes.as_str()), (expected, ""));
        let (text, _) = migrated("[uwsgi]\nprotocol = http\nsocket = 127.0.0.1:4000\nthreads = 2\n");
        assert_eq!(text, "bind = [\"127.0.0.1:4000\"]\nthreads = 2");
    }

    #[test]
    fn each_setting_of_the_table_exists() {
        for (theirs, ours) in SAME.iter().filter(|(_, ours)| !ours.is_empty()) {
            assert!(crate::settings::named(ours).is_some(), "{theirs} = {ours}");
        }
    }
}
