//! `--behind`: what it says about other settings.

use crate::error::ConfigError;
use crate::proxies::Behind;
use crate::raw::{RawConfig, Source};
use crate::settings;

/// Says in `raw` what the word of `--behind`, if there is one, stands for, where nothing was said; one line for
/// the operator of what that is.
///
/// # Errors
/// It leaves something to be said that was not.
pub(crate) fn say(raw: &mut RawConfig) -> Result<Option<String>, ConfigError> {
    let Some(setting) = settings::named("behind") else { return Ok(None) };
    let Some(said) = raw.said(setting.name) else { return Ok(None) };
    // A word that is none is refused where it is read.
    let Some(behind) = said.texts.last().and_then(|word| Behind::named(word)) else { return Ok(None) };
    if behind == Behind::Cloudflare && raw.said("forwarded_allow_ips").is_none() {
        let problem = "Cloudflare's addresses change, and whoever reaches this server past it must not be \
            believed; name them, or your tunnel's: --forwarded-allow-ips 173.245.48.0/20,...";
        return Err(said.source.error(setting, problem));
    }
    let mut line = format!("--behind {}:", behind.word());
    for (name, text) in behind.settings() {
        let Some(setting) = settings::named(name).filter(|setting| raw.said(setting.name).is_none()) else {
            continue;
        };
        raw.say(setting, vec![(*text).to_owned()], Source::Preset(behind.word()));
        line.push_str(&format!(" {} {text}", setting.option()));
    }
    Ok(Some(line))
}
