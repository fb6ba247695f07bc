//! Environment variables that are probably misspelt names of settings.

use crate::setting::Setting;
use crate::settings;

const PREFIX: &str = "PORTICO_";

/// What Portico itself puts into the environment of its processes, and what is no setting.
const OTHERS: [&str; 4] = ["CMD_ARGS", "GENERATION", "UPGRADE_OF", "WORKER_SLOT"];

/// A warning for each of `names`, those of the environment's variables, that was most likely meant to be a
/// setting's. Others are let be: what is deployed may have variables of its own that begin so, and Kubernetes
/// makes some for a service of the name `portico`.
pub fn misspelt_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut warnings: Vec<String> = names
        .filter_map(|name| {
            let meant = meant(&name)?;
            Some(format!(
                "{name} is no setting's variable and counts for nothing; did you mean {}?",
                meant.variable()
            ))
        })
        .collect();
    warnings.sort();
    warnings
}

fn meant(variable: &str) -> Option<&'static Setting> {
    let name = variable.strip_prefix(PREFIX).filter(|name| !OTHERS.contains(name))?.to_ascii_lowercase();
    if settings::named(&name).is_some() {
        return None;
    }
    settings::by_another_name(&name)
        .or_else(|| settings::likely_file_name(&name).and_then(settings::called))
        .filter(|setting| setting.is_real())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(names: &[&str]) -> Vec<String> {
        misspelt_variables(names.iter().map(|name| name.to_string()))
    }

    #[test]
    fn a_near_miss_is_told() {
        for (name, meant) in [
            ("PORTICO_WROKERS", "PORTICO_WORKERS"),
            ("PORTICO_THREAD", "PORTICO_THREADS"),
            ("PORTICO_MAX_REQUEST", "PORTICO_MAX_REQUESTS"),
            ("PORTICO_KEEPALIVE", "PORTICO_KEEP_ALIVE"),
            ("PORTICO_PID", "PORTICO_PIDFILE"),
            ("PORTICO_LOG_FILE", "PORTICO_ERROR_LOGFILE"),
            ("PORTICO_WSGI_APP", "PORTICO_APP"),
        ] {
            let told =
                format!("{name} is no setting's variable and counts for nothing; did you mean {meant}?");
            assert_eq!(warnings(&[name]), [told]);
        }
        assert_eq!(warnings(&["PORTICO_TIMEUOT", "PORTICO_BINDS"]).len(), 2);
    }

    #[test]
    fn settings_and_what_is_not_ours_are_let_be() {
        let ours: Vec<String> = settings::all().map(Setting::variable).collect();
        assert_eq!(misspelt_variables(ours.into_iter()), [""; 0]);
        let others = [
            "PORTICO_CMD_ARGS",
            "PORTICO_WORKER_SLOT",
            "PORTICO_GENERATION",
            "PORTICO_UPGRADE_OF",
            "PORTICO_PORT",
            "PORTICO_PORT_80_TCP_ADDR",
            "PORTICO_SERVICE_HOST",
            "PORTICO_SERVICE_PORT_HTTP",
            "PORTICO_DATABASE_URL",
            "PORTICO_SECRET_KEY",
            "PORTICO_",
            "WROKERS",
        ];
        assert_eq!(warnings(&others), [""; 0]);
    }
}
