//! A reload: which settings keep the value of the running server, by what their rows say of when they apply.

use crate::resolution::{Effective, Resolved};
use crate::resolved::Config;
use crate::setting::Applies;

/// Gives `config`, which was read for a reload, the values of `running` that a reload cannot change; one warning
/// names those that were to change by an upgrade, another those that need a restart.
pub(crate) fn keep_fixed(
    running: &Resolved,
    config: &mut Config,
    effective: &mut [Effective],
    warnings: &mut Vec<String>,
) {
    let (mut of_upgrade, mut of_start) = (Vec::new(), Vec::new());
    for it in effective {
        let Some(fixed) = it.setting.applies.fixed() else { continue };
        let differs = (fixed.keep)(config, &running.config);
        // One that follows from another setting stays without being told of.
        if (differs || fixed.changes.is_empty())
            && let Some(former) = running.effective.iter().find(|former| former.setting == it.setting)
            && former.texts != it.texts
        {
            it.clone_from(former);
        }
        let name = || match fixed.changes {
            "" => it.setting.name.to_owned(),
            changes => format!("{} ({changes})", it.setting.name),
        };
        match it.setting.applies {
            Applies::Start(_) => of_start.extend(differs.then(name)),
            Applies::Upgrade(_) | Applies::Reload => of_upgrade.extend(differs.then(name)),
        }
    }
    if !of_upgrade.is_empty() {
        warnings.push(format!(
            "a reload cannot change {}: the former value stays; start the server anew, or upgrade it (SIGUSR2)",
            of_upgrade.join(", ")
        ));
    }
    if !of_start.is_empty() {
        warnings.push(format!(
            "neither a reload nor an upgrade can change {}: the former value stays; stop the server and start it \
             anew",
            of_start.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::PythonFile;
    use crate::parse::Parsed;
    use crate::parse::parse_again;
    use crate::setting::Setting;
    use crate::settings;
    use crate::testing::resolved;

    /// What a server that runs with `before` makes of a reload that finds `after`.
    fn reloaded(before: &[&str], after: &[&str]) -> Resolved {
        let running = resolved(&[], before);
        let mut no_file = |_: &PythonFile| Ok(Vec::new());
        let args = after.iter().map(std::ffi::OsString::from);
        match parse_again(args, &|_| None, &mut no_file, &running) {
            Ok(Parsed::Run(resolved)) => *resolved,
            other => panic!("{after:?} gave {other:?}"),
        }
    }

    /// Two values of each setting that a reload keeps, as options: that of the running server, and another.
    const FIXED: &[(&Setting, &[&str], &[&str])] = &[
        (&settings::BIND, &["-b", "fd://3"], &["-b", "fd://4"]),
        (&settings::BIND, &["-b", "fd://3"], &["-b", "fd://3,fd://4"]),
        (&settings::BIND, &["-b", "uwsgi://fd://3"], &["-b", "scgi://fd://3"]),
        (&settings::BACKLOG, &["--backlog", "9"], &[]),
        (&settings::REUSE_PORT, &[], &["--reuse-port"]),
        (&settings::SOCKET_MODE, &["--socket-mode", "660"], &["--socket-mode", "600"]),
        (&settings::UMASK, &["--umask", "022"], &["--umask", "077"]),
        (&settings::PROTOCOL, &[], &["--protocol", "scgi"]),
        (&settings::PRELOAD, &[], &["--preload"]),
        (&settings::PRELOAD, &["--preload=strict"], &["--preload"]),
        (&settings::THREADS, &["--threads", "2"], &["--threads", "3"]),
        (&settings::LIMIT_SLOTS, &["--limit-slots", "2048"], &[]),
        (&settings::MAX_STREAMS, &["--max-streams", "0"], &["--max-streams", "1"]),
        (&settings::RELOAD, &[], &["--reload"]),
        (&settings::RELOAD, &["--reload"], &[]),
        (&settings::DAEMON, &["--daemon"], &[]),
        (&settings::ENABLE_STDIO_INHERITANCE, &["-D"], &["-D", "-R"]),
        (&settings::CHECK_CONFIG, &[], &["--check-config"]),
        (&settings::PRINT_CONFIG, &[], &["--print-config"]),
    ];

    #[test]
    fn what_a_reload_cannot_change_stays_with_one_warning() {
        for (setting, before, after) in FIXED {
            let kept = reloaded(before, after);
            let running = resolved(&[], before);
            assert_eq!(kept.config, running.config, "{setting:?}");
            assert_eq!(kept.effective, running.effective, "{setting:?}");
            let (start, remedy) = match setting.applies {
                Applies::Start(_) => {
                    ("neither a reload nor an upgrade can change", "stop the server and start")
                }
                _ => ("a reload cannot change", "upgrade it (SIGUSR2)"),
            };
            let told: Vec<&String> = kept.warnings.iter().filter(|it| it.contains("change")).collect();
            assert_eq!(told.len(), 1, "{setting:?}: {told:?}");
            assert!(told[0].starts_with(&format!("{start} {}", setting.name)), "{}", told[0]);
            assert!(told[0].contains(remedy), "{}", told[0]);
        }
    }

    #[test]
    fn each_setting_that_a_reload_cannot_change_is_tried() {
        // A file cannot name another, and nothing else can say another name at a reload.
        let tried = |setting: &Setting| FIXED.iter().any(|(other, ..)| *other == setting);
        let fixed = settings::all().filter(|setting| setting.applies.fixed().is_some());
        for setting in fixed.filter(|setting| **setting != settings::CONFIG) {
            assert!(tried(setting), "{setting:?}");
        }
    }

    #[test]
    fn all_else_takes_effect_without_a_warning() {
        let after =
            ["--threads", "1", "--max-streams", "0", "-w", "3", "--keep-alive", "9", "--log-level", "debug"];
        let new = reloaded(&[], &after);
        assert_eq!(
            (&new.config, &new.effective),
            (&resolved(&[], &after).config, &resolved(&[], &after).effective)
        );
        assert_eq!(new.warnings, [""; 0]);
    }

    #[test]
    fn several_that_stay_are_named_in_one_line() {
        let kept = reloaded(&[], &["-b", "fd://3", "--preload", "--threads", "9", "--timeout", "7"]);
        assert_eq!(kept.config.timeout.as_secs(), 7);
        assert_eq!(
            kept.warnings,
            [
                "a reload cannot change bind, preload, threads (more of them): the former value stays; start the \
              server anew, or upgrade it (SIGUSR2)"
            ]
        );
    }

    #[test]
    fn defaults_of_development_are_those_of_the_running_server() {
        let kept = reloaded(&["-w", "2"], &["-w", "2", "--reload"]);
        assert_eq!((kept.config.timeout.as_secs(), kept.config.workers.max), (30, 2));
        let kept = reloaded(&["--reload"], &["--reload", "--preload"]);
        assert_eq!(kept.warnings.len(), 1, "{:?}", kept.warnings);
        assert!(kept.warnings[0].starts_with("--preload does nothing with --reload"));
    }
}
