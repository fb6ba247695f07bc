//! gunicorn's settings that Portico takes without effect, or refuses by name: whoever sets one learns what to
//! do instead. What asks for nothing but what is done anyway, as its own default does, is taken in silence.

use crate::setting::{Area, Setting, Takes, ValueType};

/// What the rows below have in common.
pub(super) const BLANK: Setting = Setting {
    value: ValueType::Refused { takes: Takes::Nothing, harmless: &[], why: "" },
    area: Area::Compatibility,
    ..Setting::BLANK
};

const FALSE: &[&str] = &["false"];

const TLS: &str = "Portico speaks TLS without Python's ssl module; say what you need with certfile, \
    keyfile, ca_certs, cert_reqs and ciphers";

const ASGI: &str = "Portico serves WSGI applications; serve an ASGI application with uvicorn or hypercorn";

const DIRTY: &str = "Portico has no dirty workers; give long work to a task queue such as Celery, Dramatiq or \
    RQ";

pub(super) const SETTINGS: &[Setting] = &[
    SPEW,
    WORKER_TMP_DIR,
    DEFAULT_PROC_NAME,
    SSL_VERSION,
    SUPPRESS_RAGGED_EOFS,
    DO_HANDSHAKE_ON_CONNECT,
    HTTP_PARSER,
    CONTROL_SOCKET_DISABLE,
    CONTROL_SOCKET,
    CONTROL_SOCKET_MODE,
    SSL_CONTEXT,
    ASGI_LOOP,
    ASGI_LIFESPAN,
    ASGI_DISCONNECT_GRACE_PERIOD,
    WEBSOCKET_MAX_MESSAGE_SIZE,
    DIRTY_APPS,
    DIRTY_WORKERS,
    DIRTY_TIMEOUT,
    DIRTY_THREADS,
    DIRTY_GRACEFUL_TIMEOUT,
    ON_DIRTY_STARTING,
    DIRTY_POST_FORK,
    DIRTY_WORKER_INIT,
    DIRTY_WORKER_EXIT,
];

pub(crate) const SPEW: Setting = Setting {
    name: "spew",
    flags: &["spew"],
    value: ValueType::Ignored {
        takes: Takes::Nothing,
        harmless: FALSE,
        why: "lines are not traced; `portico stacks PID` shows what each thread is doing",
    },
    help: "Print every line of Python that runs",
    details: "gunicorn's tool for debugging. `portico stacks PID` and --slow-request show where time is spent.",
    ..BLANK
};

pub(crate) const WORKER_TMP_DIR: Setting = Setting {
    name: "worker_tmp_dir",
    flags: &["worker-tmp-dir"],
    value: ValueType::Ignored {
        takes: Takes::One("DIR"),
        harmless: &[],
        why: "workers show that they are alive in shared memory, not in a file",
    },
    help: "Folder of gunicorn's heartbeat files",
    details: "Portico has no such files.",
    ..BLANK
};

pub(crate) const DEFAULT_PROC_NAME: Setting = Setting {
    name: "default_proc_name",
    flags: &[],
    value: ValueType::Ignored {
        takes: Takes::One("NAME"),
        harmless: &["gunicorn"],
        why: "name the processes with proc_name",
    },
    help: "Name of the processes if proc_name is not set",
    details: "gunicorn sets it itself.",
    ..BLANK
};

pub(crate) const SSL_VERSION: Setting = Setting {
    name: "ssl_version",
    flags: &["ssl-version"],
    value: ValueType::Ignored {
        takes: Takes::One("VERSION"),
        harmless: &["2", "17", "_SSLMethod.PROTOCOL_TLS", "PROTOCOL_TLS"],
        why: "gunicorn ignores it too",
    },
    help: "Version of TLS",
    details: "gunicorn ignores it too.",
    ..BLANK
};

pub(crate) const SUPPRESS_RAGGED_EOFS: Setting = Setting {
    name: "suppress_ragged_eofs",
    flags: &["suppress-ragged-eofs"],
    value: ValueType::Ignored {
        takes: Takes::Nothing,
        harmless: &["true"],
        why: "it concerns Python's ssl module, which Portico does not use",
    },
    help: "Accept a TLS connection that was cut as one that has ended",
    details: "It is an option of Python's ssl module.",
    ..BLANK
};

pub(crate) const DO_HANDSHAKE_ON_CONNECT: Setting = Setting {
    name: "do_handshake_on_connect",
    flags: &["do-handshake-on-connect"],
    value: ValueType::Ignored {
        takes: Takes::Nothing,
        harmless: FALSE,
        why: "it concerns Python's ssl module, which Portico does not use",
    },
    help: "Do the TLS handshake as soon as a client connects",
    details: "It is an option of Python's ssl module.",
    ..BLANK
};

pub(crate) const HTTP_PARSER: Setting = Setting {
    name: "http_parser",
    flags: &["http-parser"],
    value: ValueType::Ignored {
        takes: Takes::One("WORD"),
        harmless: &["auto"],
        why: "Portico has one parser",
    },
    help: "gunicorn's parser: auto, fast or python",
    details: "Portico has one.",
    ..BLANK
};

pub(crate) const CONTROL_SOCKET_DISABLE: Setting = Setting {
    name: "control_socket_disable",
    flags: &["no-control-socket"],
    value: ValueType::Ignored { takes: Takes::Nothing, harmless: &["true", "false"], why: "there is none" },
    help: "Create no control socket",
    details: "Portico has none: `portico status PID` and similar commands need none.",
    ..BLANK
};

pub(crate) const CONTROL_SOCKET: Setting = Setting {
    name: "control_socket",
    flags: &["control-socket"],
    value: ValueType::Refused {
        takes: Takes::One("PATH"),
        harmless: &[],
        why: "Portico has no control socket; ask with `portico status PID` and `portico stacks PID`",
    },
    help: "Path of gunicorn's control socket",
    details: "`portico status PID` and similar commands find a running Portico by its process id.",
    ..BLANK
};

pub(crate) const CONTROL_SOCKET_MODE: Setting = Setting {
    name: "control_socket_mode",
    flags: &["control-socket-mode"],
    value: ValueType::Refused {
        takes: Takes::One("MODE"),
        harmless: &["384", "600", "0600", "0o600", "0x180"],
        why: "Portico has no control socket; ask with `portico status PID` and `portico stacks PID`",
    },
    help: "Permissions of gunicorn's control socket",
    details: "`portico status PID` and similar commands find a running Portico by its process id.",
    ..BLANK
};

pub(crate) const SSL_CONTEXT: Setting = Setting {
    name: "ssl_context",
    flags: &[],
    value: ValueType::Refused { takes: Takes::One("FUNCTION"), harmless: &[], why: TLS },
    help: "Function that makes the TLS context of a connection",
    details: "It returns an object of Python's ssl module, which Portico does not use. Without TLS it is only a \
        warning.",
    ..BLANK
};

pub(crate) const ASGI_LOOP: Setting = Setting {
    name: "asgi_loop",
    flags: &["asgi-loop"],
    value: ValueType::Refused { takes: Takes::One("WORD"), harmless: &["auto"], why: ASGI },
    help: "Event loop of ASGI applications",
    details: "Portico serves WSGI.",
    ..BLANK
};

pub(crate) const ASGI_LIFESPAN: Setting = Setting {
    name: "asgi_lifespan",
    flags: &["asgi-lifespan"],
    value: ValueType::Refused { takes: Takes::One("WORD"), harmless: &["auto"], why: ASGI },
    help: "Lifespan events of ASGI applications",
    details: "Portico serves WSGI.",
    ..BLANK
};

pub(crate) const ASGI_DISCONNECT_GRACE_PERIOD: Setting = Setting {
    name: "asgi_disconnect_grace_period",
    flags: &["asgi-disconnect-grace-period"],
    value: ValueType::Refused { takes: Takes::One("N"), harmless: &["3"], why: ASGI },
    help: "Time for ASGI applications whose client has left",
    details: "Portico serves WSGI.",
    ..BLANK
};

pub(crate) const WEBSOCKET_MAX_MESSAGE_SIZE: Setting = Setting {
    name: "websocket_max_message_size",
    flags: &["websocket-max-message-size"],
    value: ValueType::Refused { takes: Takes::One("N"), harmless: &["16777216"], why: ASGI },
    help: "Longest message of a WebSocket",
    details: "Portico serves WSGI.",
    ..BLANK
};

pub(crate) const DIRTY_APPS: Setting = Setting {
    name: "dirty_apps",
    flags: &["dirty-app"],
    value: ValueType::Refused { takes: Takes::One("APP"), harmless: &[], why: DIRTY },
    help: "Application of the dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const DIRTY_WORKERS: Setting = Setting {
    name: "dirty_workers",
    flags: &["dirty-workers"],
    value: ValueType::Refused { takes: Takes::One("N"), harmless: &["0"], why: DIRTY },
    help: "Number of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const DIRTY_TIMEOUT: Setting = Setting {
    name: "dirty_timeout",
    flags: &["dirty-timeout"],
    value: ValueType::Refused { takes: Takes::One("N"), harmless: &["300"], why: DIRTY },
    help: "Timeout of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const DIRTY_THREADS: Setting = Setting {
    name: "dirty_threads",
    flags: &["dirty-threads"],
    value: ValueType::Refused { takes: Takes::One("N"), harmless: &["1"], why: DIRTY },
    help: "Threads of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const DIRTY_GRACEFUL_TIMEOUT: Setting = Setting {
    name: "dirty_graceful_timeout",
    flags: &["dirty-graceful-timeout"],
    value: ValueType::Refused { takes: Takes::One("N"), harmless: &["30"], why: DIRTY },
    help: "Graceful timeout of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const ON_DIRTY_STARTING: Setting = Setting {
    name: "on_dirty_starting",
    flags: &[],
    value: ValueType::Refused { takes: Takes::One("FUNCTION"), harmless: &[], why: DIRTY },
    help: "Hook of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const DIRTY_POST_FORK: Setting = Setting {
    name: "dirty_post_fork",
    flags: &[],
    value: ValueType::Refused { takes: Takes::One("FUNCTION"), harmless: &[], why: DIRTY },
    help: "Hook of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const DIRTY_WORKER_INIT: Setting = Setting {
    name: "dirty_worker_init",
    flags: &[],
    value: ValueType::Refused { takes: Takes::One("FUNCTION"), harmless: &[], why: DIRTY },
    help: "Hook of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

pub(crate) const DIRTY_WORKER_EXIT: Setting = Setting {
    name: "dirty_worker_exit",
    flags: &[],
    value: ValueType::Refused { takes: Takes::One("FUNCTION"), harmless: &[], why: DIRTY },
    help: "Hook of dirty workers",
    details: "A task queue does the same.",
    ..BLANK
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{refusal, resolved};

    #[test]
    fn what_is_ignored_is_a_warning() {
        for setting in SETTINGS {
            let ValueType::Ignored { takes, harmless, why } = setting.value else { continue };
            let variable = setting.variable();
            let warnings = |text: &str| resolved(&[(&variable, text)], &[]).warnings;
            for text in harmless {
                assert_eq!(warnings(text), [""; 0], "{} {text}", setting.name);
            }
            if takes != Takes::Nothing {
                assert_eq!(warnings("/dev/shm"), [format!("{variable} has no effect: {why}")]);
            }
        }
        assert!(resolved(&[], &["--spew"]).warnings[0].starts_with("--spew has no effect: "));
        assert_eq!(resolved(&[("PORTICO_SPEW", "off")], &[]).warnings, [""; 0]);
        assert_eq!(resolved(&[], &["--no-control-socket"]).warnings, [""; 0]);
    }

    #[test]
    fn what_is_refused_is_an_error_but_for_its_own_default() {
        for setting in SETTINGS {
            let ValueType::Refused { takes, harmless, why } = setting.value else { continue };
            for text in harmless {
                assert_eq!(resolved(&[(&setting.variable(), text)], &[]).warnings, [""; 0]);
            }
            let Some(flag) = setting.flags.first() else { continue };
            let flag = format!("--{flag}");
            let line = format!("{}: {why}", setting.option());
            if takes != Takes::Nothing {
                assert_eq!(refusal(&[&flag, "x"]), line);
                for text in harmless {
                    assert_eq!(refusal(&[&flag, "x", &flag, text]), line);
                }
            }
        }
    }
}
