//! What a setting is: its names, its type with limits, its default and its words. The settings are in
//! `settings/`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::ParseError;
use crate::resolved::Config;

/// One setting. Everything that is said about it anywhere comes from here.
pub(crate) struct Setting {
    /// Keyword of `portico.serve`, and in capitals after `PORTICO_` the environment variable.
    pub name: &'static str,
    /// Its name in gunicorn.conf.py where that is another one.
    pub gunicorn: Option<&'static str>,
    /// How gunicorn reads its value, where that is not how it reads all others of this type.
    pub gunicorns: Option<GunicornReading>,
    /// What an empty list says of it, where that is not the same as nothing said: `[]` in a file trusts nobody.
    pub empty_list: Option<&'static str>,
    /// Whether it is the command line's argument that has no option: the application.
    pub positional: bool,
    /// Whether it concerns processes of the server's own, so that `portico.serve` does not have it.
    pub command_only: bool,
    /// Whether Python's loggers are made by it.
    pub makes_loggers: bool,
    /// When a change of it takes effect in a server that runs.
    pub applies: Applies,
    /// The first version that has it.
    pub since: &'static str,
    /// Long options without their dashes, the documented one first; empty for the positional argument and for
    /// what only files and the environment can say.
    pub flags: &'static [&'static str],
    /// One-letter option.
    pub short: Option<char>,
    /// A variable that platforms set and that counts where nothing else was said.
    pub platform: Option<Platform>,
    /// Type, limits, and the field of [`Config`] that it sets.
    pub value: ValueType,
    /// As an operator would write it; empty where there is none.
    pub default: &'static str,
    /// Heading that it stands under.
    pub area: Area,
    /// One line, without a full stop.
    pub help: &'static str,
    /// What an operator who wants to change it needs to know; paragraphs apart by `\n\n`.
    pub details: &'static str,
}

/// Environment variables of hosting platforms (Heroku's `PORT`) that stand in for a setting.
pub(crate) struct Platform {
    /// Names of the variables; the first that is set counts.
    pub variables: &'static [&'static str],
    /// The setting's value that the variable's value asks for.
    pub translate: fn(&str) -> String,
}

/// The moment at which a change of a setting takes effect in a server that runs. A reload, the reference and
/// `portico config` go by it.
#[derive(Clone, Copy)]
pub(crate) enum Applies {
    /// At a reload (SIGHUP).
    Reload,
    /// When another program takes over (SIGUSR2), or the server is started again.
    Upgrade(Fixed),
    /// When the server is stopped and started again.
    Start(Fixed),
}

/// The part of the configuration that a reload leaves as it is.
#[derive(Clone, Copy)]
pub(crate) struct Fixed {
    /// Which changes those are, such as `more of them`; empty for all.
    pub changes: &'static str,
    /// Gives the configuration that a reload has read the value of the running server, the second one, where the
    /// reload cannot change it. Returns whether the values differ.
    pub keep: fn(&mut Config, &Config) -> bool,
}

impl Fixed {
    /// Any change.
    pub(crate) const fn any(keep: fn(&mut Config, &Config) -> bool) -> Self {
        Self { changes: "", keep }
    }
}

impl Applies {
    /// The word for it in the JSON of `portico config`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Upgrade(_) => "upgrade",
            Self::Start(_) => "start",
        }
    }

    /// For the reference: `with an upgrade (SIGUSR2) or a restart`.
    pub(crate) fn describe(self) -> String {
        let partly = |changes: &str, at: &str| match changes {
            "" => at.to_owned(),
            changes => format!("with a reload (SIGHUP); {changes} {at}"),
        };
        match self {
            Self::Reload => "with a reload (SIGHUP)".to_owned(),
            Self::Upgrade(fixed) => partly(fixed.changes, "with an upgrade (SIGUSR2) or a restart"),
            Self::Start(fixed) => partly(fixed.changes, "with a restart"),
        }
    }

    /// For `portico config`, behind who has set it; `None` where a reload changes it.
    pub(crate) fn note(self) -> Option<String> {
        let fixed = self.fixed()?;
        let changes = if fixed.changes.is_empty() { "changes" } else { fixed.changes };
        let needed = if matches!(self, Self::Start(_)) { "a restart" } else { "an upgrade" };
        Some(format!("{changes} need {needed}"))
    }

    /// What a reload leaves as it is.
    pub(crate) fn fixed(self) -> Option<Fixed> {
        match self {
            Self::Reload => None,
            Self::Upgrade(fixed) | Self::Start(fixed) => Some(fixed),
        }
    }
}

/// A reading of a text as gunicorn reads it: the text that the table takes for it, and what the operator should
/// know.
pub(crate) type GunicornReading = fn(&str) -> (String, Option<String>);

/// Type of a setting and what takes its value.
pub(crate) enum ValueType {
    /// Present or absent; the option gives it the value `given`.
    Switch { given: bool, set: fn(&mut Config, bool) },
    /// A whole number of `unit` within limits. `zero` says what 0 means where it is not just a number.
    Count {
        range: RangeInclusive<u64>,
        zero: Option<&'static str>,
        unit: &'static str,
        set: fn(&mut Config, u64),
    },
    /// A number of bytes within limits, `k`, `m` and `g` for powers of 1024.
    Size { range: RangeInclusive<u64>, zero: Option<&'static str>, set: fn(&mut Config, u64) },
    /// A length of time within limits; a bare number is seconds.
    Time { range: RangeInclusive<Duration>, zero: Option<&'static str>, set: fn(&mut Config, Duration) },
    /// Permissions of a file, in octal.
    Mode { set: fn(&mut Config, u32) },
    /// One of a few words. Where `alone` is one of them, the option without a value means it, a value follows
    /// an equals sign, and a boolean is read as `alone` or the word `off`.
    Choice { of: &'static [ChoiceWord], alone: Option<&'static str> },
    /// Any text that `set` takes.
    Text { metavar: &'static str, set: fn(&mut Config, &str) -> Result<(), ParseError> },
    /// Text of a form of its own, which `form` describes.
    Form { metavar: &'static str, form: &'static str, set: fn(&mut Config, &str) -> Result<(), ParseError> },
    /// One or more texts: the option repeated, or one value with commas.
    List { metavar: &'static str, set: fn(&mut Config, &[&str]) -> Result<(), ParseError> },
    /// One or more texts that may have commas: the option repeated.
    Texts { metavar: &'static str, set: fn(&mut Config, &[&str]) -> Result<(), ParseError> },
    /// One or more tables of TOML, each as a text; only files and the environment can say them.
    Tables { set: fn(&mut Config, &[&str]) -> Result<(), ParseError> },
    /// Accepted for gunicorn's sake, without effect: a warning says `why`, but for a `harmless` value, which
    /// asks for what is done anyway.
    Ignored { takes: Takes, harmless: &'static [&'static str], why: &'static str },
    /// Not to be had: an error says `why` and what to do instead, but for a `harmless` value, which asks for
    /// nothing.
    Refused { takes: Takes, harmless: &'static [&'static str], why: &'static str },
}

/// The argument that an option takes which is ignored or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing: the option alone says `true`.
    Nothing,
    /// A value, by this name.
    One(&'static str),
}

/// One of the words of a [`ValueType::Choice`] and what it sets.
pub(crate) type ChoiceWord = (&'static str, fn(&mut Config));

/// A heading of the help and of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    Application,
    Socket,
    Tls,
    Processes,
    Threads,
    Timeouts,
    Limits,
    Requests,
    Routes,
    Http2,
    Proxies,
    Logging,
    Development,
    System,
    Hooks,
    Compatibility,
}

impl Area {
    /// In the order of the help.
    pub(crate) const ALL: [Self; 16] = [
        Self::Application,
        Self::Socket,
        Self::Tls,
        Self::Processes,
        Self::Threads,
        Self::Timeouts,
        Self::Limits,
        Self::Requests,
        Self::Routes,
        Self::Http2,
        Self::Proxies,
        Self::Logging,
        Self::Development,
        Self::System,
        Self::Hooks,
        Self::Compatibility,
    ];
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "Application",
            Self::Socket => "Server socket",
            Self::Tls => "TLS",
            Self::Processes => "Worker processes",
            Self::Threads => "Threads and queue",
            Self::Timeouts => "Timeouts",
            Self::Limits => "Limits",
            Self::Requests => "Requests and responses",
            Self::Routes => "Routes",
            Self::Http2 => "HTTP/2",
            Self::Proxies => "Proxies in front",
            Self::Logging => "Logging",
            Self::Development => "Development",
            Self::System => "System",
            Self::Hooks => "Server hooks",
            Self::Compatibility => "For gunicorn's sake",
        })
    }
}

impl Setting {
    /// What tables of settings that have much in common begin with.
    pub(crate) const BLANK: Self = Self {
        name: "",
        gunicorn: None,
        gunicorns: None,
        empty_list: None,
        positional: false,
        command_only: false,
        makes_loggers: false,
        applies: Applies::Reload,
        since: "0.1",
        flags: &[],
        short: None,
        platform: None,
        value: ValueType::Switch { given: true, set: |_, _| {} },
        default: "",
        area: Area::Application,
        help: "",
        details: "",
    };

    /// The environment variable, such as `PORTICO_MAX_QUEUE`.
    pub(crate) fn variable(&self) -> String {
        format!("PORTICO_{}", self.name.to_ascii_uppercase())
    }

    /// Whether it is the command line's argument that has no option: the application.
    pub(crate) fn is_positional(&self) -> bool {
        self.positional
    }

    /// Whether the command line can say it.
    pub(crate) fn has_option(&self) -> bool {
        self.is_positional() || !self.flags.is_empty()
    }

    /// As errors and the reference name it: `--max-queue`, `APP_MODULE`, or its name where it has no option.
    pub(crate) fn option(&self) -> String {
        match self.flags.first() {
            Some(flag) => format!("--{flag}"),
            None if self.is_positional() => self.metavar().to_owned(),
            None => self.name.to_owned(),
        }
    }

    /// Whether `name` is its name, Portico's or gunicorn's.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.gunicorn == Some(name)
    }

    /// What stands for its value in usage lines; empty for a switch.
    pub(crate) fn metavar(&self) -> &'static str {
        match self.value {
            ValueType::Switch { .. } => "",
            ValueType::Tables { .. } => "TABLE",
            ValueType::Count { .. } => "N",
            ValueType::Size { .. } => "SIZE",
            ValueType::Time { .. } => "TIME",
            ValueType::Mode { .. } => "MODE",
            ValueType::Choice { .. } => "WORD",
            ValueType::Ignored { takes, .. } | ValueType::Refused { takes, .. } => takes.metavar(),
            ValueType::Text { metavar, .. }
            | ValueType::Form { metavar, .. }
            | ValueType::List { metavar, .. }
            | ValueType::Texts { metavar, .. } => metavar,
        }
    }

    /// Whether giving the option again adds to it; the last one counts otherwise.
    pub(crate) fn repeatable(&self) -> bool {
        matches!(
            self.value,
            ValueType::List { .. }
                | ValueType::Texts { .. }
                | ValueType::Tables { .. }
                | ValueType::Ignored { .. }
                | ValueType::Refused { .. }
        )
    }

    /// Whether commas separate the items of its texts.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, ValueType::List { .. })
    }

    /// What its option says where that takes no value.
    pub(crate) fn switch(&self) -> Option<bool> {
        match self.value {
            ValueType::Switch { given, .. } => Some(given),
            ValueType::Ignored { takes: Takes::Nothing, .. }
            | ValueType::Refused { takes: Takes::Nothing, .. } => Some(true),
            _ => None,
        }
    }

    /// Whether it does something: it is neither ignored nor refused.
    pub(crate) fn is_real(&self) -> bool {
        !matches!(self.value, ValueType::Ignored { .. } | ValueType::Refused { .. })
    }
}

/// A setting is known by its name, which the table has once.
impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Setting {}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Takes {
    fn metavar(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::One(metavar) => metavar,
        }
    }
}
