//! A portico.toml in the making, out of another server's configuration file.

use std::path::Path;

use toml::Value as Toml;

use crate::resolved::Config;
use crate::route_table;
use crate::setting::Setting;
use crate::settings;
use crate::typed::typed;

/// The portico.toml that `portico migrate` writes, while it is put together. It holds texts alone: what
/// Portico says against them is noted, and they are written all the same.
#[derive(Debug, Default)]
pub(crate) struct MigrationDraft {
    said: Vec<(&'static Setting, Vec<String>)>,
    routes: Vec<MigratedRoute>,
    /// What its operator has to see to, a line each.
    pub notes: Vec<String>,
    /// Why it is not what the other file said, or nothing that Portico would take, a line each.
    pub problems: Vec<String>,
}

/// A route that is to be written: its keys with their values, and where the other file says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct MigratedRoute {
    /// File and line.
    pub place: String,
    entries: Vec<(&'static str, Toml)>,
}

/// Keys that say where a route applies. Routes that are the same in all of them are one.
const PLACE_KEYS: [&str; 5] = ["host", "path", "exact", "methods", "if_file"];

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

    /// Adds a route, or what it says to the one of the same place. What Portico says against it is noted.
    pub(crate) fn add_route(&mut self, route: MigratedRoute) {
        let Some(other) = self.routes.iter_mut().find(|other| other.is_same_place(&route)) else {
            return self.routes.push(route);
        };
        if let Err(key) = other.absorb(&route) {
            self.problems
                .push(format!("{}: left out, {} says {key} of the same route too", route.place, other.place));
        }
    }

    /// Looks at the routes as Portico will read them. To be called when all are there.
    pub(crate) fn check_routes(&mut self) {
        for route in &self.routes {
            if let Err(problem) = route_table::read_text(&Toml::Table(route.table()).to_string()) {
                self.problems.push(format!("{}: written as a route, but {problem}", route.place));
            }
        }
    }

    /// The settings in the order of the help and the routes behind them, as TOML.
    pub(crate) fn text(&self) -> String {
        let mut page = String::new();
        for setting in settings::all() {
            let said = self.said.iter().find(|(other, _)| *other == setting);
            if let Some(value) = said.and_then(|(_, texts)| typed(setting, texts)) {
                page.push_str(&format!("{} = {value}\n", setting.name));
            }
        }
        for route in &self.routes {
            let place = route.place.rsplit('/').next().unwrap_or_default();
            page.push_str(&format!("\n[[route]]  # {place}\n"));
            for (key, value) in route.in_order() {
                page.push_str(&format!("{key} = {value}\n"));
            }
        }
        page
    }
}

impl MigratedRoute {
    pub(crate) fn at(place: &str) -> Self {
        Self { place: place.to_owned(), entries: Vec::new() }
    }

    /// Says a key, in place of what was said of it before.
    pub(crate) fn set(&mut self, key: &'static str, value: impl Into<Toml>) {
        self.entries.retain(|(other, _)| *other != key);
        self.entries.push((key, value.into()));
    }

    /// Says what becomes of a header: a text, or false to take it out.
    pub(crate) fn set_header(&mut self, name: &str, value: impl Into<Toml>) {
        let mut headers = match self.get("headers") {
            Some(Toml::Table(headers)) => headers.clone(),
            _ => toml::Table::new(),
        };
        headers.insert(name.to_owned(), value.into());
        self.set("headers", headers);
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Toml> {
        self.entries.iter().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// Whether it says more than where it applies.
    pub(crate) fn says_something(&self) -> bool {
        self.entries.iter().any(|(key, _)| !PLACE_KEYS.contains(key))
    }

    fn is_same_place(&self, other: &Self) -> bool {
        PLACE_KEYS.iter().all(|key| self.get(key) == other.get(key))
    }

    /// Takes what `other` says.
    ///
    /// # Errors
    /// The key of which both say different things.
    fn absorb(&mut self, other: &Self) -> Result<(), &'static str> {
        for (key, value) in &other.entries {
            match (self.get(key), value) {
                (None, value) => self.set(key, value.clone()),
                (Some(own), value) if own == value => {}
                (Some(Toml::Table(own)), Toml::Table(theirs))
                    if theirs.iter().all(|(name, value)| own.get(name).is_none_or(|own| own == value)) =>
                {
                    let both: toml::Table = own.clone().into_iter().chain(theirs.clone()).collect();
                    self.set(key, both);
                }
                _ => return Err(key),
            }
        }
        Ok(())
    }

    /// The keys in the order of the reference.
    fn in_order(&self) -> impl Iterator<Item = (&'static str, &Toml)> {
        let keys = route_table::KEYS.iter().map(|key| key.name);
        keys.filter_map(|key| Some((key, self.get(key)?)))
    }

    fn table(&self) -> toml::Table {
        self.entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }
}
