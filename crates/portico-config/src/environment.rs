//! What variables say: one for each setting, and those of hosting platforms.

use std::ffi::OsString;

use crate::error::ConfigError;
use crate::raw::{RawConfig, SettingSource};
use crate::setting::{Platform, Setting};
use crate::settings;

/// Looks a variable of the environment up: `&|name| std::env::var_os(name)`.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Has `raw` take what the environment says. A variable that is empty says nothing, as in a compose file's
/// `PORTICO_BIND=${BIND}` with `BIND` unset.
///
/// # Errors
/// A variable is not UTF-8.
pub(crate) fn say(raw: &mut RawConfig, env: Environment<'_>) -> Result<(), ConfigError> {
    for setting in settings::all() {
        let variable = setting.variable();
        if let Some(text) = read_variable(env, &variable)? {
            raw.say(setting, vec![text], SettingSource::Environment(variable));
        } else if let Some(platform) = &setting.platform {
            say_platform(raw, setting, platform, env)?;
        }
    }
    Ok(())
}

fn say_platform(
    raw: &mut RawConfig,
    setting: &Setting,
    platform: &Platform,
    env: Environment<'_>,
) -> Result<(), ConfigError> {
    for variable in platform.variables {
        if let Some(text) = read_variable(env, variable)? {
            raw.say(setting, vec![(platform.translate)(&text)], SettingSource::Platform(variable));
            break;
        }
    }
    Ok(())
}

/// The value of a variable; `None` where it is unset or empty.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn read_variable(env: Environment<'_>, variable: &str) -> Result<Option<String>, ConfigError> {
    env(variable)
        .filter(|value| !value.is_empty())
        .map(|value| {
            // The value is not told: it may be a secret.
            value.into_string().map_err(|_| {
                ConfigError::new(format!("{variable}: its value is not UTF-8; write it in UTF-8"))
            })
        })
        .transpose()
}
