//! What is asked for, and all that was said: variables of platforms, configuration file, environment,
//! `GUNICORN_CMD_ARGS`, `PORTICO_CMD_ARGS`, command line, in rising order.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cli::{self, ParsedArguments};
use crate::environment::{self, Environment, read_variable};
use crate::error::{ConfigError, ParseError};
use crate::files::{self, FileAccess};
use crate::inspection_command::{self, InspectionCommand};
use crate::migrate::migrate;
use crate::raw::{RawConfig, SettingSource};
use crate::reference::about;
use crate::resolution::Resolved;
use crate::resolve::resolve;
use crate::resolved::Config;
use crate::schema::schema;
use crate::server_command::{self, ServerCommand};
use crate::setting::Setting;
use crate::settings;
use crate::systemd::SystemdSockets;
use crate::task::{self, MaintenanceOrder, Printout, RouteQuestion, Task};
use crate::traces::{self, TraceOptions};

/// The task of a command line, with all that is needed to do it. The program has nothing to read but this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// To serve.
    Run(Box<Resolved>),
    /// To ask something of a running portico.
    Command(ServerCommand),
    /// To have the workers of a running portico find out about themselves.
    Inspect(InspectionCommand),
    /// To print this and exit with status 0.
    Help(String),
    /// To print this and exit with status 0.
    Version(String),
    /// To say whether it could be served, and exit with status 0 or 1.
    Check(Box<Resolved>),
    /// To print what was asked for, and exit with status 0.
    Print(Printout),
    /// To explain which route a request gets.
    Route(Box<Resolved>, RouteQuestion),
    /// To turn routes with `if_file` on or off, or say which are on.
    Maintenance(Box<Resolved>, MaintenanceOrder),
    /// To print a line for a file of users, with this name.
    HashPassword(Option<String>),
    /// To write a certificate for this machine into this folder.
    DevCert(PathBuf),
}

/// Options in the environment, split like a shell's words; the later ones count.
const COMMAND_ARGUMENTS: [&str; 2] = ["GUNICORN_CMD_ARGS", "PORTICO_CMD_ARGS"];

/// Reads a command line, and no configuration file. `args` come without the program's name.
///
/// # Errors
/// One line for the operator; see [`ConfigError::exit_status`].
pub fn parse(args: impl Iterator<Item = OsString>, env: Environment<'_>) -> Result<Parsed, ConfigError> {
    parse_as(std::process::id(), args, env, None, None)
}

/// Reads a command line and the configuration file that it names, or that of the current folder; `files` says
/// which may be read, and runs one that is written in Python.
///
/// # Errors
/// As [`parse`], and what `files` returns.
pub fn parse_with_files(
    args: impl Iterator<Item = OsString>,
    env: Environment<'_>,
    files: &mut dyn FileAccess,
) -> Result<Parsed, ConfigError> {
    parse_as(std::process::id(), args, env, Some(files), None)
}

/// As [`parse_with_files`], for a reload of a server that runs with `running`: what a reload cannot change
/// stays as it is there, with a warning.
///
/// # Errors
/// As [`parse_with_files`].
pub fn parse_again(
    args: impl Iterator<Item = OsString>,
    env: Environment<'_>,
    files: &mut dyn FileAccess,
    running: &Resolved,
) -> Result<Parsed, ConfigError> {
    parse_as(std::process::id(), args, env, Some(files), Some(running))
}

/// [`parse`] in the process `pid`, which is what systemd's variables are compared with; files are read where
/// there are `files`.
pub(crate) fn parse_as(
    pid: u32,
    args: impl Iterator<Item = OsString>,
    env: Environment<'_>,
    files: Option<&mut dyn FileAccess>,
    running: Option<&Resolved>,
) -> Result<Parsed, ConfigError> {
    let args: Vec<OsString> = args.collect();
    if let Some(command) = server_command::read(&args).map_err(ConfigError::usage)? {
        return Ok(Parsed::Command(command));
    }
    if let Some(command) = inspection_command::read(&args).map_err(ConfigError::usage)? {
        return Ok(Parsed::Inspect(command));
    }
    let (task, args) = task::read(args).map_err(ConfigError::usage)?;
    match task {
        None => settings_of(pid, args, env, files, running),
        Some(Task::Check) => match settings_of(pid, args, env, files, running) {
            Ok(Parsed::Run(resolved)) => Ok(Parsed::Check(resolved)),
            Err(error) => Err(ConfigError::new(error.to_string())),
            other => other,
        },
        Some(Task::Route(question)) => match settings_of(pid, args, env, files, running)? {
            Parsed::Run(resolved) => Ok(Parsed::Route(resolved, question)),
            other => Ok(other),
        },
        Some(Task::Maintenance(order)) => match settings_of(pid, args, env, files, running)? {
            Parsed::Run(resolved) => Ok(Parsed::Maintenance(resolved, order)),
            other => Ok(other),
        },
        Some(Task::HashPassword { user }) => Ok(Parsed::HashPassword(user)),
        Some(Task::Config { json }) => match settings_of(pid, args, env, files, running)? {
            Parsed::Run(resolved) => {
                let text = if json { resolved.show_json() } else { resolved.show() };
                let notes = resolved.warnings;
                Ok(Parsed::Print(Printout { text, notes, of_settings: true, ..Printout::default() }))
            }
            other => Ok(other),
        },
        Some(Task::Help { setting: None }) => settings_of(pid, vec!["--help".into()], &|_| None, None, None),
        Some(Task::Help { setting: Some(name) }) => {
            about(&name).map(Parsed::Help).map_err(ConfigError::usage)
        }
        Some(Task::Completions(shell)) => Ok(Parsed::Print(Printout::of(cli::completions(shell)))),
        Some(Task::Migrate { from, to }) => migrate(&from, to, env, files).map(Parsed::Print),
        Some(Task::DevCert { folder }) => Ok(Parsed::DevCert(folder)),
        Some(Task::Schema) => Ok(Parsed::Print(Printout::of(schema()))),
    }
}

/// What the settings among `args` and from everywhere else come to.
fn settings_of(
    pid: u32,
    args: Vec<OsString>,
    env: Environment<'_>,
    files: Option<&mut dyn FileAccess>,
    running: Option<&Resolved>,
) -> Result<Parsed, ConfigError> {
    let mut raw = RawConfig::default();
    environment::say(&mut raw, env)?;
    match say_command_arguments(&mut raw, env)? {
        ParsedArguments::Settings(_) => {}
        ParsedArguments::Help(text) => return Ok(Parsed::Help(text)),
        ParsedArguments::Version(text) => return Ok(Parsed::Version(text)),
    }
    match cli::read(args.into_iter()).map_err(ConfigError::usage)? {
        ParsedArguments::Settings(said) => {
            for (setting, texts) in said {
                raw.say(setting, texts, SettingSource::CommandLine);
            }
            let mut of_files = Vec::new();
            if let Some(files) = files {
                of_files = files::say_file(&mut raw, Path::new(""), files)?;
                of_files.extend(files::judge_worker(&mut raw, files)?);
            }
            let mut resolved = resolve(raw, &SystemdSockets::read(env, pid)?, running)?;
            settle_traces(&mut resolved, env)?;
            resolved.warnings.splice(0..0, of_files);
            Ok(Parsed::Run(Box::new(resolved)))
        }
        ParsedArguments::Help(text) => Ok(Parsed::Help(text)),
        ParsedArguments::Version(text) => Ok(Parsed::Version(text)),
    }
}

/// Resolves the keyword arguments of `portico.serve`: pairs of a setting's name and its value as text, as the
/// command line has it. A list is one pair for each of its items, or one with commas. The environment counts
/// as it does for a command line, keywords above it; but what it says of workers is for the command.
///
/// # Errors
/// A name is not a setting's, or that of one which only the command has, or a value is wrong; one line.
pub fn from_pairs(pairs: &[(String, String)], env: Environment<'_>) -> Result<Resolved, ConfigError> {
    let mut raw = RawConfig::default();
    environment::say(&mut raw, env)?;
    say_command_arguments(&mut raw, env)?;
    raw.say(&settings::WORKERS, vec!["1".to_owned()], SettingSource::Keyword);
    let mut said: Vec<(&Setting, Vec<String>)> = Vec::new();
    for (name, text) in pairs {
        let setting = settings::named(name).ok_or_else(|| unknown_keyword(name))?;
        if setting.command_only {
            return Err(ConfigError::new(format!(
                "portico.serve() serves in the process that calls it: {name} is for the command"
            )));
        }
        match said.iter_mut().find(|(other, _)| *other == setting) {
            Some((_, texts)) => texts.push(text.clone()),
            None => said.push((setting, vec![text.clone()])),
        }
    }
    for (setting, texts) in said {
        raw.say(setting, texts, SettingSource::Keyword);
    }
    let mut resolved = resolve(raw, &SystemdSockets::read(env, std::process::id())?, None)?;
    settle_traces(&mut resolved, env)?;
    Ok(resolved)
}

/// Reads OpenTelemetry's variables, where they count.
fn settle_traces(resolved: &mut Resolved, env: Environment<'_>) -> Result<(), ConfigError> {
    let Config { telemetry, system, .. } = &mut resolved.config;
    if telemetry.otlp {
        let endpoint = telemetry.otlp_endpoint.as_ref();
        let options = TraceOptions { endpoint, parents: telemetry.otlp_parents, raw_env: &system.raw_env };
        telemetry.traces = Some(Box::new(traces::settings(options, env)?));
    }
    Ok(())
}

fn say_command_arguments(raw: &mut RawConfig, env: Environment<'_>) -> Result<ParsedArguments, ConfigError> {
    for variable in COMMAND_ARGUMENTS {
        let error = |problem: ParseError| ConfigError::new(format!("{variable}: {problem}"));
        let Some(text) = read_variable(env, variable)? else { continue };
        let words = split(&text).ok_or_else(|| error("a quotation is not closed; close it".into()))?;
        match cli::read(words.into_iter().map(OsString::from)).map_err(error)? {
            ParsedArguments::Settings(said) => {
                for (setting, texts) in said {
                    raw.say(setting, texts, SettingSource::CommandArguments(variable));
                }
            }
            line => return Ok(line),
        }
    }
    Ok(ParsedArguments::Settings(Vec::new()))
}

/// The words of `text`, split as Python's `shlex.split` does it, which gunicorn splits with: a carriage return
/// is white space, and in double quotes a backslash stands for itself but before a quote and another backslash.
/// `None` where a quotation is not closed, or a backslash is last.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word): (Vec<String>, Option<String>) = (Vec::new(), None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(characters.next()?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => match characters.next()? {
                            escaped @ ('"' | '\\') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

fn unknown_keyword(name: &str) -> ConfigError {
    ConfigError::new(match settings::likely(name) {
        Some(likely) => format!("{name} is not a setting; did you mean {likely}?"),
        None => format!("{name} is not a setting; `portico --help` lists them"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::resolved::{LogLevel, LogTarget};
    use crate::testing::{config, environment, resolved};

    fn pairs(pairs: &[(&str, &str)]) -> Result<Resolved, ConfigError> {
        let pairs: Vec<_> = pairs.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        from_pairs(&pairs, &|_| None)
    }

    #[test]
    fn keywords_have_one_worker_and_nothing_of_the_commands() {
        let env = environment(&[("WEB_CONCURRENCY", "4"), ("PORTICO_WORKERS", "5")]);
        assert_eq!(from_pairs(&[], &env).unwrap().config.workers.max, 1);
        assert_eq!(pairs(&[("workers", "2")]).unwrap().config.workers.max, 2);
        for name in ["daemon", "user", "pidfile"] {
            let refused = pairs(&[(name, "1")]).unwrap_err().to_string();
            assert!(refused.ends_with(&format!("{name} is for the command")), "{refused}");
        }
    }

    #[test]
    fn a_later_source_wins() {
        let threads = |env: &[(&str, &str)], args: &[&str]| resolved(env, args).config.threads;
        assert_eq!(threads(&[], &[]), 4);
        assert_eq!(threads(&[("PORTICO_THREADS", "5")], &[]), 5);
        let both = [("PORTICO_THREADS", "5"), ("PORTICO_CMD_ARGS", "--threads 6")];
        assert_eq!(threads(&both, &[]), 6);
        assert_eq!(threads(&both, &["--threads", "7"]), 7);
        assert_eq!(threads(&[], &["--threads", "7", "--threads", "8"]), 8);
    }

    #[test]
    fn a_list_from_a_later_source_replaces_an_earlier_one() {
        let env = [("PORTICO_CMD_ARGS", "-b fd://3 -b fd://4")];
        assert_eq!(resolved(&env, &[]).config.binds.len(), 2);
        assert_eq!(resolved(&env, &["-b", "fd://5"]).config.binds, [crate::bind::BindAddress::Fd(5).into()]);
    }

    #[test]
    fn an_empty_variable_says_nothing() {
        let env = [("PORTICO_THREADS", ""), ("PORT", ""), ("PORTICO_CMD_ARGS", "")];
        assert_eq!(resolved(&env, &[]).config, config(&[]));
    }

    #[test]
    fn command_arguments_are_split_as_a_shell_does() {
        let env = [("PORTICO_CMD_ARGS", "--access-logfile 'a b.log' my:app --log-level=debug")];
        let config = resolved(&env, &[]).config;
        assert_eq!(config.access_log, Some(LogTarget::File("a b.log".into())));
        assert_eq!(config.app.as_deref(), Some("my:app"));
        assert_eq!(config.log_level, LogLevel::Debug);
    }

    #[test]
    fn words_are_split_as_python_does() {
        for (text, words) in [
            ("", &[][..]),
            (" a\tb\r\nc\r", &["a", "b", "c"]),
            ("'a b' \"c d\"e'f'", &["a b", "c def"]),
            ("'' \"\"", &["", ""]),
            (r#"a\ b \'c"#, &["a b", "'c"]),
            (r#""a\"b\\c\d\$e""#, &[r#"a"b\c\d\$e"#]),
            (r"'a\b'", &[r"a\b"]),
            ("a#b #c", &["a#b", "#c"]),
            ("a\\\nb", &["a\nb"]),
        ] {
            assert_eq!(
                split(text).as_deref(),
                Some(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>()[..]),
                "{text:?}"
            );
        }
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_error_names_its_source_and_has_its_exit_status() {
        let check = |env: &[(&str, &str)], args: &[&str], name: &str, status: u8| {
            let error = parse(args.iter().map(OsString::from), &environment(env)).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
            assert_eq!(error.exit_status(), status, "{error}");
        };
        check(&[], &["--threads", "x"], "--threads: ", 2);
        check(&[("PORTICO_THREADS", "x")], &[], "PORTICO_THREADS: ", 1);
        check(&[("WEB_CONCURRENCY", "x")], &[], "WEB_CONCURRENCY: ", 1);
        check(&[("PORT", "x")], &[], "PORT: ", 1);
        check(&[("PORTICO_CMD_ARGS", "--threads x")], &[], "--threads in PORTICO_CMD_ARGS: ", 1);
        check(&[("PORTICO_CMD_ARGS", "--thread 'x")], &[], "PORTICO_CMD_ARGS: ", 1);
        check(&[("PORTICO_CMD_ARGS", "--nonsense")], &[], "PORTICO_CMD_ARGS: ", 1);
        let error = pairs(&[("threads", "x")]).unwrap_err();
        assert!(error.to_string().starts_with("threads: "), "{error}");
        assert_eq!(error.exit_status(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf_8_is_refused_by_name() {
        use std::os::unix::ffi::OsStringExt;
        let latin_1 = || OsString::from_vec(b"caf\xe9".to_vec());
        let env = |name: &str| (name == "PORTICO_CHDIR").then(latin_1);
        assert!(parse(std::iter::empty(), &env).unwrap_err().to_string().starts_with("PORTICO_CHDIR: "));
        let args = [OsString::from("--log-file"), latin_1()];
        let error = parse(args.into_iter(), &|_| None).unwrap_err();
        assert!(error.to_string().starts_with("--error-logfile: "), "{error}");
    }

    #[test]
    fn keywords_use_the_same_table() {
        let config = pairs(&[
            ("bind", "fd://3"),
            ("bind", "fd://4,fd://5"),
            ("threads", "2"),
            ("sendfile", "False"),
            ("keep_alive", "1.5"),
        ])
        .unwrap()
        .config;
        assert_eq!(config.binds, [3, 4, 5].map(|fd| crate::bind::BindAddress::Fd(fd).into()));
        assert_eq!((config.threads, config.sendfile), (2, false));
        assert_eq!(config.keep_alive, Duration::from_millis(1500));
        assert_eq!(pairs(&[]).unwrap().config, crate::testing::config(&["-w", "1"]));
    }

    #[test]
    fn an_unknown_keyword_is_refused_with_a_hint() {
        let refusal = |name| pairs(&[(name, "1")]).unwrap_err().to_string();
        assert_eq!(refusal("keepalive"), "keepalive is not a setting; did you mean keep_alive?");
        assert_eq!(refusal("zzz"), "zzz is not a setting; `portico --help` lists them");
    }
}
