//! From what was said to a [`Config`]: every default laid in, every value checked, and what does not go together.

use std::path::Path;
use std::time::Duration;

use portico_files::read_text;

use crate::conceal::conceal_assigned;
use crate::error::ConfigError;
use crate::gunicorn::{self, Eased};
use crate::preset;
use crate::raw::{RawConfig, SettingSource};
use crate::reload::keep_fixed;
use crate::resolution::{Effective, Resolved};
use crate::resolved::{Config, Preload, Workers};
use crate::setting::{Area, Setting};
use crate::settings;
use crate::systemd::SystemdSockets;

/// Resolves what was said. `running`: what the server runs with that reloads, some of which stays.
///
/// # Errors
/// One line for the operator: which value is wrong.
pub(crate) fn resolve(
    mut raw: RawConfig,
    inherited: &SystemdSockets,
    running: Option<&Resolved>,
) -> Result<Resolved, ConfigError> {
    inherited.say(&mut raw)?;
    let preset = preset::say(&mut raw)?;
    say_paste_logging(&mut raw);
    // Where every setting's default and then its value is laid in.
    let mut config = Config::default();
    let mut warnings = Vec::new();
    let mut effective = Vec::new();
    let mut of_tls = Vec::new();
    for setting in settings::all() {
        let (texts, source) = said(&raw, setting, &mut warnings);
        if !texts.is_empty() {
            match setting.value.apply(&mut config, &texts) {
                Ok(()) => {}
                Err(problem) if matters_with_tls(setting, &source) => {
                    of_tls.push((setting, source.clone(), problem));
                }
                Err(problem) => return Err(source.error(setting, &problem)),
            }
            // Before the options that are short for routes: what ties with one of them is told by its line.
            if *setting == settings::ROUTE {
                settings::place_routes(&mut config, &raw);
            }
            if let Some(why) = setting.value.ignores(&texts) {
                warnings.push(format!("{} has no effect: {why}", source.naming(setting)));
            }
        }
        effective.push(Effective { setting, texts, source });
    }
    if let Some(mask) = config.system.umask.filter(|_| raw.said(&settings::SOCKET_MODE).is_none()) {
        config.socket_mode = 0o777 & !mask;
        let shown = effective.iter_mut().find(|it: &&mut Effective| *it.setting == settings::SOCKET_MODE);
        shown.into_iter().for_each(|it| it.texts = vec![format!("{:o}", config.socket_mode)]);
    }
    if let (Some(app), Some(said)) = (&config.app, raw.said(&settings::PASTE)) {
        return Err(said
            .source
            .error(&settings::PASTE, format!("{app:?} is named too; leave one of both out")));
    }
    for bind in config.binds.iter_mut().filter(|bind| !bind.named) {
        bind.protocol = config.protocol;
    }
    settle_threads(&raw, &mut config, &mut effective, &mut warnings);
    let unlimited = unlimited_heads(&raw, &mut config);
    warnings.extend(unlimited);
    settings::settle_tls(&mut config, &raw, &mut warnings)?;
    for (setting, source, problem) in of_tls {
        // As for gunicorn, which looks at it where a certificate is named.
        if config.binds.iter().any(|bind| bind.tls) {
            return Err(source.error(setting, &problem));
        }
        warnings.push(format!("{} does nothing, since nothing speaks TLS", source.naming(setting)));
    }
    // Before what follows from --reload, which is one of them.
    if let Some(running) = running {
        keep_fixed(running, &mut config, &mut effective, &mut warnings);
    }
    if config.reload {
        develop(&mut config, &mut effective, &mut warnings);
    }
    inherited.warn(&config, &mut warnings);
    limits_within_head(&config, &mut warnings);
    ineffective(&config, &mut warnings);
    let notes = preset.into_iter().collect();
    Ok(Resolved { config, warnings, notes, effective })
}

/// Whether what is wrong with the setting matters where TLS is spoken alone.
fn matters_with_tls(setting: &Setting, source: &SettingSource) -> bool {
    *setting == settings::SSL_CONTEXT || setting.area == Area::Tls && gunicorn::is_its_way(source, setting)
}

/// What was said of a setting, or its default, and by whom; of what is said in gunicorn's ways, what that comes
/// to.
fn said(raw: &RawConfig, setting: &Setting, warnings: &mut Vec<String>) -> (Vec<String>, SettingSource) {
    let (texts, source) = match raw.said(setting) {
        Some(said) => (said.texts.clone(), said.source.clone()),
        None if setting.default.is_empty() => return (Vec::new(), SettingSource::Default),
        None => return (vec![setting.default.to_owned()], SettingSource::Default),
    };
    let texts = match texts.split_first() {
        Some((first, more)) if setting.is_positional() && !more.is_empty() => {
            let more: Vec<String> = more.iter().map(|word| format!("{:?}", conceal_assigned(word))).collect();
            let verb = if more.len() == 1 { "counts" } else { "count" };
            let more = more.join(", ");
            warnings.push(format!("{more} {verb} for nothing: one application is served, {first}"));
            vec![first.clone()]
        }
        _ => texts,
    };
    if !gunicorn::is_its_way(&source, setting) {
        return (texts, source);
    }
    let Eased { texts, warning } = gunicorn::ease(setting, texts);
    warnings.extend(warning.map(|warning| format!("{}: {warning}", source.naming(setting))));
    (texts, source)
}

/// What the worker class says of threads, also where the effective settings are shown.
fn settle_threads(
    raw: &RawConfig,
    config: &mut Config,
    effective: &mut [Effective],
    warnings: &mut Vec<String>,
) {
    let said = raw.said(&settings::THREADS).map(|said| &said.source);
    let counts = settings::settle_threads(config, said, raw.has_gunicorns_file(), warnings);
    if let Some(threads) = effective.iter_mut().find(|it| *it.setting == settings::THREADS)
        && !counts
    {
        (threads.texts, threads.source) = (vec![config.threads.to_string()], SettingSource::Default);
    }
}

/// Gives a head room for the lines that gunicorn would take, where nobody has limited it. Returns what is to be
/// told.
fn unlimited_heads(raw: &RawConfig, config: &mut Config) -> Option<String> {
    if raw.said(&settings::LIMIT_REQUEST_HEAD).is_some() {
        return None;
    }
    let lines = [
        (&settings::LIMIT_REQUEST_LINE, config.request_line_bytes_max),
        (&settings::LIMIT_REQUEST_FIELD_SIZE, config.field_bytes_max),
    ];
    let asked = lines.into_iter().filter_map(|(setting, bytes)| {
        let said = raw.said(setting)?;
        gunicorn::is_its_way(&said.source, setting).then(|| (said.source.naming(setting), bytes))
    });
    let asked: Vec<(String, usize)> = asked.collect();
    let (name, _) = asked.iter().max_by_key(|(_, bytes)| *bytes)?;
    let told = settings::settle_limits(config, asked.iter().map(|(_, bytes)| *bytes))?;
    Some(format!("{name}: {told}"))
}

/// A PasteDeploy file that has the logging's sections is `--log-config` too, unless that is said, as it is for
/// gunicorn.
fn say_paste_logging(raw: &mut RawConfig) {
    let (Some(paste), None) = (raw.last(&settings::PASTE), raw.said(&settings::LOGCONFIG)) else { return };
    let path = paste.split('#').next().unwrap_or_default().to_owned();
    let text = read_text(&Path::new(raw.last(&settings::CHDIR).unwrap_or_default()).join(&path));
    let section = text.unwrap_or_default().lines().position(|line| line.trim_end() == "[loggers]");
    if let Some(at) = section {
        let line = u32::try_from(at + 1).ok();
        let source = SettingSource::File { path: path.clone(), line, column: None };
        raw.say(&settings::LOGCONFIG, vec![path], source);
    }
}

/// How long what runs may take to end under --reload: it may be waiting at a debugger's prompt, and whoever has
/// saved a file waits for the new code.
const DEVELOPERS_PATIENCE: Duration = Duration::from_secs(2);

/// Other defaults hold under --reload, and some settings do not go with it.
fn develop(config: &mut Config, effective: &mut [Effective], warnings: &mut Vec<String>) {
    let mut defaults = |setting: &Setting, text: &str| {
        let unsaid =
            effective.iter_mut().find(|it| it.setting == setting && it.source == SettingSource::Default);
        unsaid.map(|it| it.texts = vec![text.to_owned()]).is_some()
    };
    if defaults(&settings::WORKERS, "1") {
        config.workers = Workers { min: 1, max: 1 };
        config.workers_auto = false;
    }
    if defaults(&settings::TIMEOUT, "0") {
        config.timeout = Duration::ZERO;
    }
    if defaults(&settings::GRACEFUL_TIMEOUT, "2") {
        config.graceful_timeout = DEVELOPERS_PATIENCE;
    }
    if config.preload != Preload::Off {
        config.preload = Preload::Off;
        warnings
            .push("--preload does nothing with --reload: each restart imports everything anew".to_owned());
    }
    if !config.warmups.is_empty() {
        config.warmups.clear();
        warnings.push("--warmup does nothing with --reload: a page that fails is to be seen".to_owned());
    }
}

/// A limit of one line above the limit of all lines together is not what its operator expects.
fn limits_within_head(config: &Config, warnings: &mut Vec<String>) {
    let head = config.head_bytes_max;
    for (option, bytes) in [
        ("--limit-request-line", config.request_line_bytes_max),
        ("--limit-request-field_size", config.field_bytes_max),
    ] {
        // usize::MAX was asked for as "no limit but that of the head".
        if bytes > head && bytes != usize::MAX {
            warnings.push(format!(
                "{option} is {bytes}, but --limit-request-head refuses a head above {head}; raise it too"
            ));
        }
    }
}

/// Settings that do nothing beside others are not what their operator expects.
fn ineffective(config: &Config, warnings: &mut Vec<String>) {
    if config.max_requests == 0 && config.max_requests_jitter.is_some_and(|jitter| jitter > 0) {
        warnings.push("--max-requests-jitter does nothing without --max-requests; set that too".to_owned());
    }
    let (delay, end) = (config.drain_delay, config.graceful_timeout);
    if !delay.is_zero() && delay >= end {
        warnings.push(format!(
            "--drain-delay {} s is a part of --graceful-timeout {} s and leaves nothing of it to finish \
             requests; connections are accepted for {} s only; raise --graceful-timeout",
            delay.as_secs_f64(),
            end.as_secs_f64(),
            end.as_secs_f64() / 2.0
        ));
    }
    for (option, does_nothing, needed) in [
        ("--enable-stdio-inheritance", config.system.stdio_inheritance && !config.system.daemon, "--daemon"),
        (
            "--allow-new-privileges",
            config.system.allow_new_privileges && config.system.user.is_none(),
            "--user",
        ),
        ("--initgroups", config.system.initgroups && config.system.user.is_none(), "--user"),
        ("--otlp-endpoint", config.telemetry.otlp_endpoint.is_some() && !config.telemetry.otlp, "--otlp"),
        ("--paste-global", !config.paste_global.is_empty() && config.paste.is_none(), "--paste"),
    ] {
        if does_nothing {
            warnings.push(format!("{option} does nothing without {needed}; set that too"));
        }
    }
    let of_routes = config.edge.routes.iter().filter_map(|route| route.timeout);
    let of_paths = config.path_timeouts.iter().map(|limit| limit.timeout);
    let longest = of_paths.chain(of_routes).chain([config.timeout]);
    let ends_before = |timeout: Duration| !timeout.is_zero() && timeout <= config.slow_request;
    if !config.slow_request.is_zero() && longest.into_iter().all(ends_before) {
        warnings.push(format!(
            "--slow-request {} s is never reached, since --timeout ends requests before; lower it",
            config.slow_request.as_secs_f64()
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{config, resolved};

    #[test]
    fn logging_of_a_paste_file_counts_unless_another_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.ini"), "[app:main]\n\n[loggers]\nkeys = root\n").unwrap();
        std::fs::write(folder.path().join("b.ini"), "[app:main]\n").unwrap();
        let chdir = folder.path().to_str().unwrap();
        let file = |args: &[&str]| config(&[&["--chdir", chdir], args].concat()).python_logging.file;
        assert_eq!(file(&["--paste", "a.ini"]), Some("a.ini".into()));
        assert_eq!(file(&["--paste", "a.ini#other"]), Some("a.ini".into()));
        assert_eq!(file(&["--paste", "a.ini", "--log-config", "c.ini"]), Some("c.ini".into()));
        assert_eq!(file(&["--paste", "b.ini"]), None);
    }

    #[test]
    fn words_beside_the_application_count_for_nothing_and_are_said() {
        let resolved = resolved(&[], &["--preload", "a:b", "True", "-w", "2", "SECRET=x"]);
        assert_eq!((resolved.config.app.as_deref(), resolved.config.workers.max), (Some("a:b"), 2));
        assert_eq!(
            resolved.warnings,
            ["\"True\", \"SECRET=…\" count for nothing: one application is served, a:b"]
        );
    }

    #[test]
    fn a_context_of_pythons_is_refused_where_tls_is_spoken() {
        use crate::testing::{environment, resolved};
        let said = [("PORTICO_SSL_CONTEXT", "conf.ssl_context")];
        let warnings = resolved(&said, &[]).warnings;
        assert_eq!(warnings, ["PORTICO_SSL_CONTEXT does nothing, since nothing speaks TLS"]);
        let tls = ["--certfile", "a.pem", "--keyfile", "a.key"].map(std::ffi::OsString::from);
        let ciphers = resolved(&[], &["--ciphers", "TLSv1"]).warnings;
        assert_eq!(ciphers, ["--ciphers does nothing, since nothing speaks TLS"]);
        let refused = crate::parse::parse(tls.into_iter(), &environment(&said)).unwrap_err().to_string();
        assert!(refused.starts_with("PORTICO_SSL_CONTEXT: Portico speaks TLS without Python's"), "{refused}");
    }

    #[test]
    fn what_does_nothing_is_a_warning() {
        let warnings = |args: &[&str]| resolved(&[], args).warnings;
        assert!(warnings(&["--max-requests-jitter", "5"])[0].starts_with("--max-requests-jitter"));
        assert!(warnings(&["--slow-request", "30"])[0].starts_with("--slow-request 30 s"));
        for args in [
            &["--max-requests-jitter", "0"][..],
            &["--max-requests-jitter", "5", "--max-requests", "9"],
            &["--slow-request", "29"],
            &["--slow-request", "30", "-t", "0"],
            &["--slow-request", "30", "--timeout-path", "/reports=31"],
            &["--slow-request", "30", "--timeout-path", "/reports=0"],
        ] {
            assert_eq!(warnings(args), [""; 0], "{args:?}");
        }
    }
}
