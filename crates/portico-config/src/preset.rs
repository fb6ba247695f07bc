//! `--behind`: what it says about other settings.

use crate::error::ConfigError;
use crate::proxies::Behind;
use crate::raw::{RawConfig, SettingSource};
use crate::setting::Setting;
use crate::settings;

/// Says in `raw` what the word of `--behind`, if there is one, stands for, where nothing was said; one line for
/// the operator of what that is.
///
/// # Errors
/// It leaves something to be said that was not.
pub(crate) fn say(raw: &mut RawConfig) -> Result<Option<String>, ConfigError> {
    let setting = &settings::BEHIND;
    let Some(said) = raw.said(setting) else { return Ok(None) };
    // A word that is none is refused where it is read.
    let Some(behind) = said.texts.last().and_then(|word| Behind::named(word)) else { return Ok(None) };
    if behind == Behind::Cloudflare && raw.said(&settings::FORWARDED_ALLOW_IPS).is_none() {
        let problem = "Cloudflare's addresses change, and whoever reaches this server past it must not be \
            believed; name them, or your tunnel's: --forwarded-allow-ips 173.245.48.0/20,...";
        return Err(said.source.error(setting, problem));
    }
    let mut line = format!("--behind {}:", behind.word());
    for (setting, text) in stands_for(behind) {
        if raw.said(setting).is_some() {
            continue;
        }
        raw.say(setting, vec![(*text).to_owned()], SettingSource::Preset(behind.word()));
        line.push_str(&format!(" {} {text}", setting.option()));
    }
    Ok(Some(line))
}

/// What the word stands for where nothing else is said about these settings. Idle connections are kept
/// for longer than the other side keeps them, so that no request meets one that is being closed: 60 s for
/// ALB, 600 s for Google's load balancers, 90 s for Heroku's router, 60 s for nginx' upstreams, 900 s for
/// Cloudflare.
fn stands_for(behind: Behind) -> &'static [(&'static Setting, &'static str)] {
    match behind {
        Behind::Alb => &[
            (&settings::FORWARDED_ALLOW_IPS, "private"),
            (&settings::FORWARDED_HEADERS, "for,proto,port"),
            (&settings::KEEP_ALIVE, "75"),
        ],
        // The front ends of the external ones come from these two networks.
        Behind::Gclb => &[
            (&settings::FORWARDED_ALLOW_IPS, "private,35.191.0.0/16,130.211.0.0/22"),
            (&settings::FORWARDED_HEADERS, "for,proto"),
            (&settings::KEEP_ALIVE, "620"),
        ],
        Behind::Heroku => &[
            (&settings::FORWARDED_ALLOW_IPS, "private"),
            (&settings::FORWARDED_HEADERS, "for,proto,port"),
            (&settings::KEEP_ALIVE, "95"),
        ],
        Behind::Nginx => &[
            (&settings::FORWARDED_ALLOW_IPS, "private"),
            (&settings::FORWARDED_HEADERS, "for,proto"),
            (&settings::KEEP_ALIVE, "75"),
        ],
        Behind::Cloudflare => &[(&settings::FORWARDED_HEADERS, "for,proto"), (&settings::KEEP_ALIVE, "905")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolved::Config;

    #[test]
    fn each_preset_names_settings_with_values_that_they_take() {
        for word in ["alb", "gclb", "heroku", "nginx", "cloudflare"] {
            for (setting, text) in stands_for(Behind::named(word).unwrap()) {
                let mut config = Config::default();
                assert_eq!(setting.value.apply(&mut config, &[(*text).to_owned()]), Ok(()), "{word}");
            }
        }
    }
}
