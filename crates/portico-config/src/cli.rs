//! The command line: clap's parser and help, built from the table of settings.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use clap_complete::Shell;

use crate::abbreviation;
use crate::error::ParseError;
use crate::route_table::later_setting;
use crate::setting::{Setting, ValueType};
use crate::settings;

/// The outcome of reading a command line: settings, as they were said, or a page to print.
pub(crate) enum ParsedArguments {
    /// The settings that it names, with the text of each time that one was given. Of the application, which
    /// takes no more than one word, the first counts.
    Settings(Vec<(&'static Setting, Vec<String>)>),
    /// `--help`
    Help(String),
    /// `--version`
    Version(String),
}

/// Below the options in the help.
const AFTER_HELP: &str = "\
Every setting can also be given as PORTICO_<NAME> in the environment (PORTICO_MAX_QUEUE for --max-queue), \
options as one text in PORTICO_CMD_ARGS or GUNICORN_CMD_ARGS, and all of it in portico.toml, pyproject.toml or \
gunicorn.conf.py. The command line counts before PORTICO_CMD_ARGS, this before GUNICORN_CMD_ARGS, single \
variables, the file and the defaults; `portico config` shows what counts, and why, and `portico help SETTING` \
what there is to know of one. A long option may be shortened while it stays unambiguous.

Exit status: 2 for a mistake on the command line, 1 for one anywhere else.";

/// Reads `args`, which come without the program's name.
///
/// # Errors
/// One line: what is wrong and what to do.
pub(crate) fn read(args: impl Iterator<Item = OsString>) -> Result<ParsedArguments, ParseError> {
    match command(|_| true).try_get_matches_from(abbreviation::write_out(args.collect())?) {
        Ok(matches) => said(&matches).map(ParsedArguments::Settings),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp => Ok(ParsedArguments::Help(error.to_string())),
            ErrorKind::DisplayVersion => Ok(ParsedArguments::Version(error.to_string())),
            _ => Err(one_line(&error).into()),
        },
    }
}

/// The parser of the settings that are `wanted` and that the command line can say.
fn command(wanted: fn(&Setting) -> bool) -> Command {
    Command::new("portico")
        .bin_name("portico")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serves a WSGI application over HTTP")
        .after_help(format!(
            "{}\n{}{}\n{AFTER_HELP}",
            crate::task::help(),
            crate::server_command::help(),
            crate::inspection_command::help()
        ))
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .max_term_width(100)
        .args(settings::all().filter(|setting| setting.has_option() && wanted(setting)).map(argument))
        .arg(
            Arg::new("help")
                .long("help")
                .short('h')
                .action(ArgAction::Help)
                .help("Print help; -h prints it short"),
        )
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .action(ArgAction::Version)
                .help("Print the version"),
        )
}

/// A script that completes options in `shell`.
pub(crate) fn completions(shell: Shell) -> String {
    let words = crate::task::words().chain(crate::server_command::words());
    let words = words.chain(crate::inspection_command::words());
    let command = command(Setting::is_real).disable_help_subcommand(true);
    let mut command = words.fold(command, |command, (word, help)| {
        command.subcommand(Command::new(word).about(help).disable_help_flag(true))
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "portico", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Settings whose option may stand alone and takes the next word all the same, as gunicorn has it.
const TAKES_WHAT_FOLLOWS: [&Setting; 1] = [&settings::PROXY_PROTOCOL];

fn argument(setting: &'static Setting) -> Arg {
    let mut arg = Arg::new(setting.name)
        .help(short_help(setting))
        .long_help(long_help(setting))
        .help_heading(setting.area.to_string());
    if let Some((flag, others)) = setting.flags.split_first() {
        arg = arg.long(*flag).visible_aliases(others.iter().copied());
    }
    if let Some(short) = setting.short {
        arg = arg.short(short);
    }
    arg = arg.hide(!setting.is_real());
    if setting.switch().is_some() {
        return arg.action(ArgAction::SetTrue);
    }
    if let ValueType::Choice { alone: Some(word), .. } = setting.value {
        // Without the equals sign a word that follows is the application's name.
        let equals = !TAKES_WHAT_FOLLOWS.contains(&setting);
        arg = arg.num_args(0..=1).require_equals(equals).default_missing_value(word);
    }
    if setting.is_positional() {
        arg = arg.num_args(0..);
    }
    // Numbers below zero are taken as values so that the refusal is that of the setting.
    arg.action(if setting.repeatable() || setting.is_positional() {
        ArgAction::Append
    } else {
        ArgAction::Set
    })
    .value_name(setting.metavar())
    .value_parser(ValueParser::os_string())
    .allow_negative_numbers(!setting.flags.is_empty())
}

fn short_help(setting: &Setting) -> String {
    match (&setting.value, setting.default) {
        (ValueType::Switch { .. }, _) | (_, "") => setting.help.to_owned(),
        (_, default) => format!("{} [default: {default}]", setting.help),
    }
}

fn long_help(setting: &Setting) -> String {
    let mut text = format!("{}.\n\n{}", setting.help, setting.details);
    match setting.value {
        ValueType::Switch { .. } => return text,
        ValueType::Text { .. } => {}
        _ => text.push_str(&format!("\n\n[{}]", setting.value.describe())),
    }
    if !setting.default.is_empty() {
        text.push_str(&format!(" [default: {}]", setting.default));
    }
    text
}

fn said(matches: &ArgMatches) -> Result<Vec<(&'static Setting, Vec<String>)>, ParseError> {
    let mut said = Vec::new();
    for setting in settings::all().filter(|setting| setting.has_option()) {
        let texts = match setting.switch() {
            Some(given) if matches.get_flag(setting.name) => vec![given.to_string()],
            Some(_) => continue,
            None => matches
                .get_many::<OsString>(setting.name)
                .unwrap_or_default()
                .map(|value| {
                    let problem =
                        || format!("{}: its value is not UTF-8; write it in UTF-8", setting.option());
                    value.to_str().map(str::to_owned).ok_or_else(problem)
                })
                .collect::<Result<_, _>>()?,
        };
        said.push((setting, texts));
    }
    Ok(said)
}

/// Clap's own text of an error takes several lines, its usage among them.
fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let remedy = "`portico --help` lists the options";
    match error.kind() {
        // As uvicorn, Flask and many others have it.
        ErrorKind::UnknownArgument if ["--host", "--port"].contains(&argument.as_str()) => {
            format!("{argument} is not an option; write --bind HOST:PORT")
        }
        ErrorKind::UnknownArgument if later_setting(argument.trim_start_matches('-')).is_some() => {
            format!("{argument} is not in this version of Portico; remove it")
        }
        ErrorKind::UnknownArgument => match context(ContextKind::SuggestedArg) {
            Some(likely) => format!("{argument} is not an option; did you mean {likely}?"),
            None => format!("{argument} is not an option; {remedy}"),
        },
        ErrorKind::InvalidValue => format!("{argument}: a value is missing; write one after it"),
        ErrorKind::TooManyValues => format!("{argument}: it takes no value; write it alone"),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            format!("{}; {remedy}", first.trim_start_matches("error: "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Area;
    use crate::testing::{config, refusal};

    fn help(flag: &str) -> String {
        match read([OsString::from(flag)].into_iter()) {
            Ok(ParsedArguments::Help(text)) => text,
            _ => panic!("{flag} is not help"),
        }
    }

    #[test]
    fn the_table_makes_a_sound_command() {
        command(|_| true).debug_assert();
    }

    #[test]
    fn help_has_every_setting_under_its_heading() {
        for text in [help("-h"), help("--help")] {
            let mut from = 0;
            let shown = |area: &Area| !matches!(area, Area::Compatibility | Area::Hooks);
            for area in Area::ALL.into_iter().filter(shown) {
                let heading = format!("\n{area}:\n");
                from += text[from..].find(&heading).unwrap_or_else(|| panic!("{area} is missing"))
                    + heading.len();
            }
            for flag in settings::all().filter(|setting| setting.is_real()).flat_map(|setting| setting.flags)
            {
                assert!(text.contains(&format!("--{flag}")), "--{flag} is missing");
            }
        }
        assert!(help("--help").len() > help("-h").len());
    }

    #[test]
    fn help_has_every_command() {
        for text in [help("-h"), help("--help")] {
            for line in [
                "status PID ",
                "stacks PID ",
                "profile PID ",
                "reload PID ",
                "upgrade PID ",
                "check [OPTIONS] ",
            ] {
                assert!(text.contains(&format!("\n  portico {line}")), "{line} is missing");
            }
        }
    }

    #[test]
    fn completions_have_options_and_words() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            for text in ["keep-alive", "max-requests-jitter", "check", "status"] {
                assert!(script.contains(text), "{text} in {shell}");
            }
            assert!(!script.contains("dirty-workers"), "{shell}");
        }
    }

    #[test]
    fn version_is_the_packages() {
        for flag in ["-v", "--version"] {
            let Ok(ParsedArguments::Version(text)) = read([OsString::from(flag)].into_iter()) else {
                panic!("{flag} is not a version")
            };
            assert_eq!(text, format!("portico {}\n", env!("CARGO_PKG_VERSION")));
        }
    }

    #[test]
    fn a_unique_prefix_is_enough() {
        assert_eq!(config(&["--log-lev", "debug"]).log_level, crate::resolved::LogLevel::Debug);
        assert_eq!(config(&["--keep", "5"]).keep_alive.as_secs(), 5);
        assert!(config(&["--access-logfi", "-"]).access_log.is_some());
        // Both spellings of one option begin with it.
        assert_eq!(config(&["--limit-request-field_s", "9000"]).field_bytes_max, 9000);
        assert!(refusal(&["--log", "x"]).starts_with("--log is the beginning of several options: --"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (args, expected) in [
            (&["--thraeds", "4"][..], "--thraeds is not an option; did you mean --threads?"),
            (&["--thread-s", "2"], "--thread-s is not an option; did you mean --threads?"),
            (&["--zzz"], "--zzz is not an option; `portico --help` lists the options"),
            (&["--port", "80"], "--port is not an option; write --bind HOST:PORT"),
            (&["-x"], "-x is not an option; `portico --help` lists the options"),
            (&["--threads"], "--threads <N>: a value is missing; write one after it"),
            (&["--check-config=1"], "--check-config: it takes no value; write it alone"),
        ] {
            assert_eq!(refusal(args), expected);
        }
    }

    #[test]
    fn options_may_stand_on_either_side_of_the_application() {
        let expected = config(&["--threads", "2", "a:b", "--backlog", "9"]);
        assert_eq!(config(&["a:b", "--threads=2", "--backlog=9"]), expected);
        assert_eq!(config(&["--threads=2", "--backlog=9", "--", "a:b"]), expected);
    }
}
