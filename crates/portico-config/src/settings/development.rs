//! Settings for development: restarting when the application's files change.

use std::path::PathBuf;

use super::keep;
use crate::resolved::ReloadEngine;
use crate::setting::{Applies, Area, Fixed, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[RELOAD, RELOAD_ENGINE, RELOAD_EXTRA_FILES];

pub(crate) const RELOAD: Setting = Setting {
    name: "reload",
    // The supervisor treats workers otherwise, and other settings have other defaults.
    applies: Applies::Upgrade(Fixed::any(|new, old| keep(&mut new.reload, &old.reload))),
    flags: &["reload"],
    value: ValueType::Switch { given: true, set: |config, on| config.reload = on },
    default: "false",
    area: Area::Development,
    help: "Restart the workers when the application's files change",
    details: "For development. Portico watches the Python files that the application has imported, except \
        installed packages, its templates, and --reload-extra-file. The listener stays open: a request that \
        arrives while the new code is imported waits for it. If the code cannot be imported, requests get a \
        page that shows the error, until it is fixed.\n\n\
        With this option there is one worker unless --workers is set, --timeout is off unless it is set (so \
        that a debugger can wait), --graceful-timeout is 2 s, SIGINT ends the server at once, and --preload \
        and --warmup are ignored.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn reload() {
    use std::time::Duration;

    use crate::resolved::{Preload, Workers};
    use crate::testing::{config, resolved, with_environment};
    assert!(!config(&[]).reload);
    assert!(with_environment(&[("PORTICO_RELOAD", "true")], &[]).reload);
    let reload = config(&["--reload"]);
    assert!(reload.reload);
    assert_eq!((reload.workers, reload.timeout), (Workers { min: 1, max: 1 }, Duration::ZERO));
    assert_eq!(reload.graceful_timeout, Duration::from_secs(2));
    let asked = config(&["--reload", "-w", "3", "-t", "7", "--graceful-timeout", "9"]);
    assert_eq!(asked.graceful_timeout, Duration::from_secs(9));
    assert_eq!((asked.workers, asked.timeout), (Workers { min: 3, max: 3 }, Duration::from_secs(7)));
    assert_eq!(with_environment(&[("WEB_CONCURRENCY", "2")], &["--reload"]).workers.max, 2);
    let both = resolved(&[], &["--reload", "--preload", "--warmup", "/"]);
    assert_eq!((both.config.preload, both.config.warmups.len()), (Preload::Off, 0));
    assert!(both.warnings[0].starts_with("--preload does nothing with --reload"), "{:?}", both.warnings);
    assert!(both.warnings[1].starts_with("--warmup does nothing with --reload"), "{:?}", both.warnings);
}

pub(crate) const RELOAD_ENGINE: Setting = Setting {
    name: "reload_engine",
    flags: &["reload-engine"],
    value: ValueType::Choice {
        of: &[
            ("auto", |config| config.reload_watch.engine = ReloadEngine::Auto),
            ("poll", |config| config.reload_watch.engine = ReloadEngine::Poll),
            ("inotify", |config| config.reload_watch.engine = ReloadEngine::Inotify),
        ],
        alone: None,
    },
    default: "auto",
    area: Area::Development,
    help: "How --reload notices that a file has changed",
    details: "With `inotify` the kernel reports changes. `poll` checks the files several times a second: for \
        folders whose changes the kernel does not report, such as those that a virtual machine or a \
        container shares with its host, or NFS. `auto` is inotify, or poll if the system has no watches \
        left.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn reload_engine() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).reload_watch.engine, ReloadEngine::Auto);
    assert_eq!(config(&["--reload-engine", "poll"]).reload_watch.engine, ReloadEngine::Poll);
    assert_eq!(config(&["--reload-engine", "inotify"]).reload_watch.engine, ReloadEngine::Inotify);
    assert!(refusal(&["--reload-engine", "kqueue"]).contains("auto, poll, inotify"));
}

pub(crate) const RELOAD_EXTRA_FILES: Setting = Setting {
    name: "reload_extra_files",
    flags: &["reload-extra-file"],
    value: ValueType::List {
        metavar: "GLOB",
        set: |config, texts| {
            let said = texts.iter().filter(|text| !text.is_empty());
            config.reload_watch.extra_files = said.map(PathBuf::from).collect();
            Ok(())
        },
    },
    area: Area::Development,
    help: "A further file, folder or glob that restarts on change; may be repeated",
    details: "All files in a folder and in the folders below it count. `*` and `?` match characters of a \
        name, `**` any number of folders: `config/**/*.yaml`. It is relative to the server's working folder. \
        Quote it, or the shell expands it.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn reload_extra_files() {
    use crate::testing::config;
    assert_eq!(config(&[]).reload_watch.extra_files, [""; 0].map(PathBuf::from));
    let args = ["--reload-extra-file", "a/*.yaml", "--reload-extra-file", "b.toml,.env"];
    assert_eq!(config(&args).reload_watch.extra_files, ["a/*.yaml", "b.toml", ".env"].map(PathBuf::from));
}
