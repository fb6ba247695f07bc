//! A portico.toml in the making, out of another server's configuration file.

use std::path::Path;

use crate::resolved::Config;
use crate::setting::Setting;
use crate::settings;
use crate::typed::typed;

/// The portico.toml that `portico migrate` writes, while it is put together. It holds texts alone: what
/// Portico says against them is noted, and they are written all the same.
#[derive(Debug, Default)]
pub(crate) struct MigrationDraft {
    said: Vec<(&'static Setting, Vec<String>)>,
    /// What its operator has to see to, a line each.
    pub notes: Vec<String>,
    /// Why it is not what the other file said, or nothing that Portico would take, a line each.
    pub problems: Vec<String>,
}

/// Whether these are texts of a setting that names a folder which this machine does not have: it is migrated on
/// another one.
pub(crate) fn is_elsewhere(setting: &Setting, texts: &[String]) -> bool {
    *setting == settings::CHDIR && texts.last().is_some_and(|folder| !Path::new(folder).is_dir())
}

impl MigrationDraft {
    /// Adds a setting. What Portico says against it is noted; it is written all the same, to be mended.
    pub(crate) fn say(&mut self, place: &str, setting: &'static Setting, texts: Vec<String>) {
        if is_elsewhere(setting, &texts) {
            self.notes
                .push(format!("{place}: there is no such folder here, which has to be there at the start"));
        } else if let Err(problem) = setting.value.apply(&mut Config::default(), &texts) {
            self.problems.push(format!("{place}: written as {}, but {problem}", setting.name));
        }
        match self.said.iter_mut().find(|(other, _)| *other == setting) {
            Some((_, said)) if setting.repeatable() => said.extend(texts),
            Some((_, said)) => *said = texts,
            None => self.said.push((setting, texts)),
        }
    }

    /// Whether something is said of this setting.
    pub(crate) fn says(&self, setting: &Setting) -> bool {
        self.said.iter().any(|(other, _)| *other == setting)
    }

    /// The settings in the order of the help, as TOML.
    pub(crate) fn text(&self) -> String {
        let mut page = String::new();
        for setting in settings::all() {
            let said = self.said.iter().find(|(other, _)| *other == setting);
            if let Some(value) = said.and_then(|(_, texts)| typed(setting, texts)) {
                page.push_str(&format!("{} = {value}\n", setting.name));
            }
        }
        page
    }
}
