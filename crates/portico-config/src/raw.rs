//! What was said, by whom: the texts of each setting before they are read, the last source to speak winning.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::error::ConfigError;
use crate::setting::{Platform, Setting};
use crate::settings;

/// Looks a variable of the environment up: `&|name| std::env::var_os(name)`.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What was said about the settings; silent ones are absent.
#[derive(Default)]
pub(crate) struct RawConfig {
    said: BTreeMap<&'static str, Said>,
}

/// What was said about one setting.
pub(crate) struct Said {
    /// As written, each time it was; never empty.
    pub texts: Vec<String>,
    /// Who said it.
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    CommandLine,
    /// The options in `PORTICO_CMD_ARGS`.
    CommandArguments,
    /// A variable named after its setting.
    Environment(String),
    /// A variable that the hosting platform sets.
    Platform(&'static str),
    /// An argument of `portico.serve`.
    Keyword,
}

impl RawConfig {
    /// Takes `texts` in place of what was said before; of no texts, takes no note.
    pub fn say(&mut self, setting: &Setting, texts: Vec<String>, source: Source) {
        if !texts.is_empty() {
            self.said.insert(setting.name, Said { texts, source });
        }
    }

    /// What was said about the setting of that name.
    pub fn said(&self, name: &str) -> Option<&Said> {
        self.said.get(name)
    }

    /// Takes what the environment says. A variable that is empty says nothing, as in a compose file's
    /// `PORTICO_BIND=${BIND}` with `BIND` unset.
    ///
    /// # Errors
    /// A variable is not UTF-8.
    pub fn say_environment(&mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        for setting in settings::all() {
            let variable = setting.variable();
            if let Some(text) = read_variable(env, &variable)? {
                self.say(setting, vec![text], Source::Environment(variable));
            } else if let Some(platform) = &setting.platform {
                self.say_platform(setting, platform, env)?;
            }
        }
        Ok(())
    }

    fn say_platform(
        &mut self,
        setting: &Setting,
        platform: &Platform,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<(), ConfigError> {
        for variable in platform.variables {
            if let Some(text) = read_variable(env, variable)? {
                self.say(setting, vec![(platform.translate)(&text)], Source::Platform(variable));
                break;
            }
        }
        Ok(())
    }
}

/// The value of a variable; `None` where it is unset or empty.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn read_variable(env: Environment<'_>, variable: &str) -> Result<Option<String>, ConfigError> {
    env(variable)
        .filter(|value| !value.is_empty())
        .map(|value| {
            value.into_string().map_err(|value| {
                ConfigError::environment(format!("{variable}: {value:?} is not UTF-8; write it in UTF-8"))
            })
        })
        .transpose()
}

impl Source {
    /// An error about `setting`, named as this source names it, with this source's exit status.
    pub fn error(&self, setting: &Setting, problem: &str) -> ConfigError {
        match self {
            Self::CommandLine => ConfigError::usage(format!("{}: {problem}", setting.option())),
            Self::CommandArguments => {
                ConfigError::environment(format!("{} in PORTICO_CMD_ARGS: {problem}", setting.option()))
            }
            Self::Environment(variable) => ConfigError::environment(format!("{variable}: {problem}")),
            Self::Platform(variable) => ConfigError::environment(format!("{variable}: {problem}")),
            Self::Keyword => ConfigError::environment(format!("{}: {problem}", setting.name)),
        }
    }
}
