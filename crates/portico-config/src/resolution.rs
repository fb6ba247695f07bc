//! What resolving comes to: a configuration, what counts of each setting and by whom it was said, and what its
//! operator should know.

use crate::raw::SettingSource;
use crate::resolved::Config;
use crate::setting::{Area, Setting};

/// A configuration that can be used, with what its operator should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Every setting, resolved.
    pub config: Config,
    /// One line each, for the log at warning level.
    pub warnings: Vec<String>,
    /// What counts for each setting, in the order of the help.
    pub effective: Vec<Effective>,
    /// One line each, for the log at info level.
    pub notes: Vec<String>,
}

impl Resolved {
    /// The settings that Python's loggers are made by, of which something is said, each as whoever has said it
    /// names it, with its place: `gunicorn.conf.py:3: logger_class`.
    pub fn logging_settings(&self) -> Vec<String> {
        let said = self
            .effective
            .iter()
            .filter(|it| it.setting.makes_loggers && it.source != SettingSource::Default);
        said.map(|it| it.source.naming(it.setting)).collect()
    }

    /// Whether one of gunicorn's hooks is said.
    pub fn has_hook(&self) -> bool {
        self.effective.iter().any(|it| it.setting.area == Area::Hooks && it.source != SettingSource::Default)
    }
}

/// The value of a setting that counts, and who said it: a row of `portico config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The setting.
    pub(crate) setting: &'static Setting,
    /// As it was written: one text, one for each item of a list, or none where there is no default.
    pub texts: Vec<String>,
    /// Who said it.
    pub source: SettingSource,
}

impl Effective {
    /// The setting as a configuration file in Python calls it.
    pub fn file_name(&self) -> &'static str {
        self.setting.gunicorn.unwrap_or(self.setting.name)
    }
}
