//! What was said, by whom: the texts of each setting before they are read, the last source to speak winning.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::ConfigError;
use crate::setting::Setting;

/// The words of every source about the settings, before they are read; silent ones are absent. Each source adds to
/// it, and [`crate::resolve`] makes the configuration of it.
#[derive(Default)]
pub(crate) struct RawConfig {
    said: BTreeMap<&'static str, Said>,
    gunicorns_file: bool,
    route_lines: Vec<u32>,
}

/// The words of one source about one setting, before they are read.
pub(crate) struct Said {
    /// As written, each time it was; never empty.
    pub texts: Vec<String>,
    /// Who said it.
    pub source: SettingSource,
}

/// The source of a value. In the order in which they count, the last most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// Nobody said anything.
    Default,
    /// A variable that the hosting platform sets.
    Platform(&'static str),
    /// What `--behind` with this word stands for.
    Preset(&'static str),
    /// The configuration file.
    File {
        /// As it was named.
        path: String,
        /// Where that is known, from 1.
        line: Option<u32>,
        /// Where that is known, from 1.
        column: Option<u32>,
    },
    /// A variable named after its setting.
    Environment(String),
    /// The options in this variable: `GUNICORN_CMD_ARGS`, or above it `PORTICO_CMD_ARGS`.
    CommandArguments(&'static str),
    /// An argument of `portico.serve`.
    Keyword,
    /// The command line.
    CommandLine,
}

impl Said {
    /// What was said last.
    pub(crate) fn last(&self) -> &str {
        self.texts.last().map_or("", String::as_str)
    }
}

impl RawConfig {
    /// Takes `texts` in place of what was said before by a source that counts no more than `source`; of no
    /// texts, takes no note.
    pub(crate) fn say(&mut self, setting: &Setting, texts: Vec<String>, source: SettingSource) {
        let outranked = self.said(setting).is_some_and(|said| said.source.rank() > source.rank());
        if !texts.is_empty() && !outranked {
            self.said.insert(setting.name, Said { texts, source });
        }
    }

    /// What was said about this setting.
    pub(crate) fn said(&self, setting: &Setting) -> Option<&Said> {
        self.said.get(setting.name)
    }

    /// What was said last about this setting, which is what counts unless it is a list.
    pub(crate) fn last(&self, setting: &Setting) -> Option<&str> {
        self.said(setting).map(Said::last)
    }

    /// Takes note of the lines on which the file has its routes, in their order.
    pub(crate) fn note_route_lines(&mut self, lines: Vec<u32>) {
        self.route_lines = lines;
    }

    /// Those lines.
    pub(crate) fn route_lines(&self) -> &[u32] {
        &self.route_lines
    }

    /// Takes note that a configuration file for gunicorn was read, whatever it says.
    pub(crate) fn note_gunicorns_file(&mut self) {
        self.gunicorns_file = true;
    }

    /// Whether one was.
    pub(crate) fn has_gunicorns_file(&self) -> bool {
        self.gunicorns_file
    }
}

impl SettingSource {
    /// Of two sources the one with the higher rank counts, of two with the same the later one.
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Platform(_) | Self::Preset(_) => 1,
            Self::File { .. } => 2,
            Self::Environment(_) => 3,
            Self::CommandArguments(_) => 4,
            Self::Keyword => 5,
            Self::CommandLine => 6,
        }
    }

    /// An error about `setting`, named as this source names it, with this source's exit status.
    pub(crate) fn error(&self, setting: &Setting, problem: impl fmt::Display) -> ConfigError {
        let message = format!("{}: {problem}", self.naming(setting));
        match self {
            Self::CommandLine => ConfigError::usage(message),
            _ => ConfigError::new(message),
        }
    }

    /// `setting` as this source names it.
    pub(crate) fn naming(&self, setting: &Setting) -> String {
        match self {
            Self::Default | Self::CommandLine => setting.option(),
            Self::CommandArguments(variable) => format!("{} in {variable}", setting.option()),
            Self::Environment(variable) => variable.clone(),
            Self::Platform(variable) => (*variable).to_owned(),
            Self::File { column: Some(column), .. } => format!("{self}:{column}: {}", setting.name),
            Self::File { column: None, .. } => {
                format!("{self}: {}", setting.gunicorn.unwrap_or(setting.name))
            }
            Self::Preset(_) => format!("{} of {self}", setting.option()),
            Self::Keyword => setting.name.to_owned(),
        }
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Platform(variable) | Self::CommandArguments(variable) => f.write_str(variable),
            Self::Preset(word) => write!(f, "--behind {word}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File { path, line: Some(line), .. } => write!(f, "{path}:{line}"),
            Self::File { path, line: None, .. } => f.write_str(path),
            Self::Keyword => f.write_str("keyword argument"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}
