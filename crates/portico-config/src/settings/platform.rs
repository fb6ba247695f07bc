//! Settings of the server's processes as the system sees them: whose they are, what they are called, what they
//! find in their environment.

use std::path::PathBuf;

use super::keep;
use crate::error::ParseError;
use crate::gunicorn;
use crate::resolved::Account;
use crate::setting::{Applies, Area, Fixed, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[
    PIDFILE,
    DAEMON,
    ENABLE_STDIO_INHERITANCE,
    USER,
    GROUP,
    INITGROUPS,
    ALLOW_NEW_PRIVILEGES,
    UMASK,
    RAW_ENV,
    PROC_NAME,
];

pub(crate) const PIDFILE: Setting = Setting {
    name: "pidfile",
    command_only: true,
    flags: &["pid"],
    short: Some('p'),
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, text| {
            config.system.pidfile = (!text.is_empty()).then(|| text.into());
            Ok(())
        },
    },
    area: Area::System,
    help: "Write the process id of the supervisor to this file",
    details: "It is written once the sockets are bound. If the file names another running server, the start \
        is refused; the file of a dead one is replaced. The file is removed when the server ends. At an \
        upgrade (SIGUSR2) the new supervisor writes FILE.2, which becomes FILE when the old one has ended.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn pidfile() {
    use crate::testing::{config, with_environment};
    assert_eq!(config(&[]).system.pidfile, None);
    assert_eq!(config(&["-p", "a.pid"]).system.pidfile, Some("a.pid".into()));
    assert_eq!(config(&["--pid=/run/a.pid"]).system.pidfile, Some("/run/a.pid".into()));
    assert_eq!(with_environment(&[("PORTICO_PIDFILE", "b")], &[]).system.pidfile, Some("b".into()));
}

pub(crate) const DAEMON: Setting = Setting {
    name: "daemon",
    command_only: true,
    applies: Applies::Start(Fixed::any(|new, old| keep(&mut new.system.daemon, &old.system.daemon))),
    flags: &["daemon"],
    short: Some('D'),
    value: ValueType::Switch { given: true, set: |config, on| config.system.daemon = on },
    default: "false",
    area: Area::System,
    help: "Leave the terminal and serve in the background",
    details: "The command returns with status 0 when the first worker serves; if that fails, it prints the \
        reason and returns the status of the failure. Standard input, output and error are then /dev/null, \
        so the error log needs a file (--error-logfile). systemd, containers and supervisord need no daemon.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn daemon() {
    use crate::testing::{config, with_environment};
    assert!(!config(&[]).system.daemon);
    assert!(config(&["-D"]).system.daemon && config(&["--daemon"]).system.daemon);
    assert!(with_environment(&[("PORTICO_DAEMON", "true")], &[]).system.daemon);
}

pub(crate) const ENABLE_STDIO_INHERITANCE: Setting = Setting {
    name: "enable_stdio_inheritance",
    applies: Applies::Start(Fixed::any(|new, old| {
        keep(&mut new.system.stdio_inheritance, &old.system.stdio_inheritance)
    })),
    flags: &["enable-stdio-inheritance"],
    short: Some('R'),
    value: ValueType::Switch { given: true, set: |config, on| config.system.stdio_inheritance = on },
    default: "false",
    area: Area::System,
    help: "With --daemon: keep standard output and error, unless they are a terminal",
    details: "Set PYTHONUNBUFFERED=1 to see the application's output at once.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn enable_stdio_inheritance() {
    use crate::testing::{config, resolved};
    assert!(!config(&[]).system.stdio_inheritance);
    assert!(config(&["-D", "-R"]).system.stdio_inheritance);
    assert_eq!(resolved(&[], &["-D", "--enable-stdio-inheritance"]).warnings, [""; 0]);
    assert!(resolved(&[], &["-R"]).warnings[0].starts_with("--enable-stdio-inheritance does nothing"));
}

pub(crate) const USER: Setting = Setting {
    name: "user",
    command_only: true,
    flags: &["user"],
    short: Some('u'),
    value: ValueType::Text {
        metavar: "USER",
        set: |config, text| {
            config.system.user = account(text)?;
            Ok(())
        },
    },
    area: Area::System,
    help: "Serve as this user, by name or number; for a server that root starts",
    details: "The workers change to it before they import anything, also with --preload. The supervisor \
        stays root, for ports below 1024, reloads and logs; it runs no code of the application, and reads no \
        configuration that others than root could have written (docs/concepts/privileges.md). UNIX sockets \
        and new log files are given to the user. Without --group the workers have the user's own group; they \
        keep none of root's other groups (--initgroups gives them the user's).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn user() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).system.user, None);
    assert_eq!(config(&["-u", "www-data"]).system.user, Some(Account::Name("www-data".to_owned())));
    assert_eq!(config(&["--user=1000"]).system.user, Some(Account::Id(1000)));
    assert_eq!(with_environment(&[("PORTICO_USER", "0")], &[]).system.user, Some(Account::Id(0)));
    assert!(refusal(&["-u", "-1"]).starts_with("--user: \"-1\" is no user"));
    assert!(refusal(&["-u", "4294967295"]).contains("is no"));
}

pub(crate) const GROUP: Setting = Setting {
    name: "group",
    command_only: true,
    flags: &["group"],
    short: Some('g'),
    value: ValueType::Text {
        metavar: "GROUP",
        set: |config, text| {
            config.system.group = account(text)?;
            Ok(())
        },
    },
    area: Area::System,
    help: "Serve as this group, by name or number; for a server that root starts",
    details: "UNIX sockets and log files are given to it.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn group() {
    use crate::testing::config;
    assert_eq!(config(&[]).system.group, None);
    assert_eq!(config(&["-g", "www-data"]).system.group, Some(Account::Name("www-data".to_owned())));
    assert_eq!(config(&["--group=33"]).system.group, Some(Account::Id(33)));
}

/// A name, or a number that is one: the highest stands for none (chown(2)).
fn account(text: &str) -> Result<Option<Account>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    let odd = || format!("{text:?} is no user or group; write its name or its number");
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let plain = !text.starts_with('-') && !text.contains([':', '/', '\0', '\n']);
        return if plain { Ok(Some(Account::Name(text.to_owned()))) } else { Err(odd().into()) };
    }
    let id = text.parse().ok().filter(|id| *id != u32::MAX).ok_or_else(odd)?;
    Ok(Some(Account::Id(id)))
}

pub(crate) const INITGROUPS: Setting = Setting {
    name: "initgroups",
    command_only: true,
    flags: &["initgroups"],
    value: ValueType::Switch { given: true, set: |config, on| config.system.initgroups = on },
    default: "false",
    area: Area::System,
    help: "Give the workers all groups that --user is a member of",
    details: "The user must have a name on this machine.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn initgroups() {
    use crate::testing::{config, resolved};
    assert!(!config(&[]).system.initgroups);
    assert!(config(&["--initgroups", "-u", "daemon"]).system.initgroups);
    assert!(resolved(&[], &["--initgroups"]).warnings[0].starts_with("--initgroups does nothing"));
}

pub(crate) const ALLOW_NEW_PRIVILEGES: Setting = Setting {
    name: "allow_new_privileges",
    command_only: true,
    flags: &["allow-new-privileges"],
    value: ValueType::Switch { given: true, set: |config, on| config.system.allow_new_privileges = on },
    default: "false",
    area: Area::System,
    help: "With --user: let programs such as sudo gain privileges",
    details: "By default the kernel ignores the set-user-ID and set-group-ID bits of programs that the \
        workers start (PR_SET_NO_NEW_PRIVS, prctl(2)), so that they keep running as --user. sudo, su and the \
        sendmail command of Postfix need these bits.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn allow_new_privileges() {
    use crate::testing::{config, resolved, with_environment};
    assert!(!config(&["-u", "daemon"]).system.allow_new_privileges);
    assert!(config(&["-u", "daemon", "--allow-new-privileges"]).system.allow_new_privileges);
    let environment = [("PORTICO_ALLOW_NEW_PRIVILEGES", "true")];
    assert!(with_environment(&environment, &[]).system.allow_new_privileges);
    let warnings = resolved(&[], &["--allow-new-privileges"]).warnings;
    assert!(warnings[0].starts_with("--allow-new-privileges does nothing"), "{warnings:?}");
}

pub(crate) const UMASK: Setting = Setting {
    name: "umask",
    gunicorns: Some(gunicorn::umask),
    applies: Applies::Upgrade(Fixed::any(|new, old| keep(&mut new.system.umask, &old.system.umask))),
    flags: &["umask"],
    short: Some('m'),
    value: ValueType::Form {
        metavar: "MASK",
        form: "number, octal where it begins with 0 or 0o, hexadecimal after 0x, 0 to 0o777",
        set: |config, text| umask(text).map(|mask| config.system.umask = Some(mask)),
    },
    area: Area::System,
    help: "Permissions to remove from UNIX sockets",
    details: "022 and 0o022 are octal, 18 is decimal. The sockets then have 0777 less these; --socket-mode \
        takes precedence. The umask of the processes, which applies to the application's files, does not \
        change.",
    ..Setting::BLANK
};

/// As gunicorn reads it: C's octal, Python's octal, hexadecimal, decimal.
fn umask(text: &str) -> Result<u32, ParseError> {
    let number = match text.as_bytes() {
        [b'0', b'o' | b'O', ..] => u32::from_str_radix(&text[2..], 8),
        [b'0', b'x' | b'X', ..] => u32::from_str_radix(&text[2..], 16),
        [b'0', ..] => u32::from_str_radix(text, 8),
        _ => text.parse(),
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    number
        .ok()
        .filter(|mask| plain && *mask <= 0o777)
        .ok_or_else(|| format!("{text:?} is no mask; write one such as 022 or 0o022, at most 0o777").into())
}

#[cfg(test)]
#[test]
fn umasks() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!((config(&[]).system.umask, config(&[]).socket_mode), (None, 0o666));
    for (text, mask) in [
        ("022", 0o022),
        ("0o022", 0o022),
        ("18", 0o022),
        ("0x12", 0o022),
        ("0", 0),
        ("511", 0o777),
        ("007", 7),
    ] {
        let config = config(&["-m", text]);
        assert_eq!((config.system.umask, config.socket_mode), (Some(mask), 0o777 & !mask), "{text}");
    }
    assert_eq!(config(&["--umask=022", "--socket-mode", "660"]).socket_mode, 0o660);
    assert_eq!(with_environment(&[("PORTICO_UMASK", "077")], &[]).socket_mode, 0o700);
    for text in ["", "-1", "0o", "08", "512", "0o+7", "x"] {
        assert!(refusal(&[&format!("-m{text}")]).starts_with("--umask"), "{text}");
    }
}

pub(crate) const RAW_ENV: Setting = Setting {
    name: "raw_env",
    flags: &["env"],
    short: Some('e'),
    value: ValueType::Texts {
        metavar: "NAME=VALUE",
        set: |config, texts| {
            let said = texts.iter().filter(|text| !text.is_empty());
            config.system.raw_env = said.map(|text| variable(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    area: Area::System,
    help: "Set a variable in the application's environment; may be repeated",
    details: "It is set before anything of the application is imported.",
    ..Setting::BLANK
};

fn variable(text: &str) -> Result<(String, String), ParseError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        // It may be a secret whose name was forgotten.
        _ => Err("one of the items sets no variable; write NAME=VALUE".to_owned().into()),
    }
}

#[cfg(test)]
#[test]
fn raw_env() {
    use crate::testing::{config, refusal, with_environment};
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config(&[]).system.raw_env, []);
    let both = config(&["-e", "A=1,2", "--env=B=x=y", "-eC="]).system.raw_env;
    assert_eq!(both, [pair("A", "1,2"), pair("B", "x=y"), pair("C", "")]);
    assert_eq!(with_environment(&[("PORTICO_RAW_ENV", "A=b c")], &[]).system.raw_env, [pair("A", "b c")]);
    for text in ["A", "=1", "="] {
        assert!(refusal(&["-e", text]).ends_with("write NAME=VALUE"), "{text}");
        assert!(!refusal(&["-e", "hunter2"]).contains("hunter2"));
    }
}

pub(crate) const PROC_NAME: Setting = Setting {
    name: "proc_name",
    command_only: true,
    flags: &["name"],
    short: Some('n'),
    value: ValueType::Text {
        metavar: "NAME",
        set: |config, text| {
            config.system.proc_name = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    },
    area: Area::System,
    help: "Name of the processes in ps: portico: master [NAME]",
    details: "By default the application's name. It needs the Python package setproctitle, as gunicorn does; \
        without it ps and top show only `portico: master` and `portico: worker` as the command's name.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn proc_name() {
    use crate::testing::{config, with_environment};
    assert_eq!(config(&[]).system.proc_name, None);
    assert_eq!(config(&["-n", "shop"]).system.proc_name.as_deref(), Some("shop"));
    assert_eq!(
        with_environment(&[("PORTICO_PROC_NAME", "a b")], &[]).system.proc_name.as_deref(),
        Some("a b")
    );
}

/// Where PasteDeploy's settings stand: among those of the application.
pub(super) const PASTE_SETTINGS: &[Setting] = &[PASTE, RAW_PASTE_GLOBAL_CONF];

pub(crate) const PASTE: Setting = Setting {
    name: "paste",
    flags: &["paste", "paster"],
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, text| {
            config.paste = (!text.is_empty()).then(|| PathBuf::from(text));
            Ok(())
        },
    },
    area: Area::Application,
    help: "Serve the application of this PasteDeploy file: FILE or FILE#NAME",
    details: "It replaces APP_MODULE and needs the package PasteDeploy. NAME is `main` by default. If the \
        file has a section [loggers], it is a --log-config too.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn paste() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).paste, None);
    assert_eq!(config(&["--paste", "a.ini#admin"]).paste, Some("a.ini#admin".into()));
    assert_eq!(config(&["--paster", "a.ini"]).paste, Some("a.ini".into()));
    assert!(refusal(&["--paste", "a.ini", "a:b"]).contains("leave one of both out"));
}

pub(crate) const RAW_PASTE_GLOBAL_CONF: Setting = Setting {
    name: "raw_paste_global_conf",
    flags: &["paste-global"],
    value: ValueType::Texts {
        metavar: "NAME=VALUE",
        set: |config, texts| {
            let said = texts.iter().filter(|text| !text.is_empty());
            config.paste_global = said.map(|text| paste_variable(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    area: Area::Application,
    help: "Set a variable of the PasteDeploy file's [DEFAULT]; may be repeated",
    details: "An equals sign in the name is written \\=.",
    ..Setting::BLANK
};

fn paste_variable(text: &str) -> Result<(String, String), ParseError> {
    let equals = text.match_indices('=').map(|(index, _)| index);
    let at = equals.into_iter().find(|index| !text[..*index].ends_with('\\')).filter(|index| *index > 0);
    let at = at.ok_or("one of the items sets no variable; write NAME=VALUE")?;
    let plain = |text: &str| text.replace("\\=", "=");
    Ok((plain(&text[..at]), plain(&text[at + 1..])))
}

#[cfg(test)]
#[test]
fn paste_global() {
    use crate::testing::{config, refusal};
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config(&[]).paste_global, []);
    let said = config(&["--paste-global", "a=1,2", "--paste-global=b\\=c=d=e"]).paste_global;
    assert_eq!(said, [pair("a", "1,2"), pair("b=c", "d=e")]);
    for text in ["a", "=1", "a\\=b"] {
        assert!(refusal(&["--paste-global", text]).ends_with("write NAME=VALUE"), "{text}");
    }
}
