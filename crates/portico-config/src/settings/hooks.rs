//! The hooks of gunicorn.conf.py. Which function each is only Python knows; here they have their names and places.

use crate::error::ParseError;
use crate::resolved::Config;
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "on_starting",
        help: "Hook, called in the supervisor, before anything else",
        details: "Called with (server); if it raises, the server does not start.",
        ..HOOK
    },
    Setting {
        name: "on_reload",
        help: "Hook, called in the supervisor, at SIGHUP",
        details: "Called with (server); the new configuration is already in effect.",
        ..HOOK
    },
    Setting {
        name: "when_ready",
        help: "Hook, called in the supervisor, when the sockets listen",
        details: "Called with (server); if it raises, the server does not start.",
        ..HOOK
    },
    Setting {
        name: "pre_fork",
        help: "Hook, called in the process that forks, before each worker",
        details: "Called with (server, worker); that is the supervisor, and with --preload the \
            template, which has the application.",
        ..HOOK
    },
    Setting {
        name: "post_fork",
        help: "Hook, called in each worker, before it imports the application",
        details: "Called with (server, worker); if it raises, the worker does not start.",
        ..HOOK
    },
    Setting {
        name: "post_worker_init",
        help: "Hook, called in each worker, after the import of the application",
        details: "Called with (worker); if it raises, the worker does not start.",
        ..HOOK
    },
    Setting {
        name: "worker_int",
        help: "Hook, called in a worker that is to stop at once (SIGINT, SIGQUIT)",
        details: "Called with (worker); what it raises is logged.",
        ..HOOK
    },
    Setting {
        name: "worker_abort",
        help: "Hook, called in a worker with a stuck thread, and at SIGABRT",
        details: "Called with (worker); what it raises is logged.",
        ..HOOK
    },
    Setting {
        name: "pre_exec",
        help: "Hook, called in the supervisor at SIGUSR2, before the new program is started",
        details: "Called with (server); what it raises is logged.",
        ..HOOK
    },
    Setting {
        name: "pre_request",
        help: "Hook, called in a worker's thread, before each call of the application",
        details: "Called with (worker, request); if it raises, the response is 500.",
        ..HOOK
    },
    Setting {
        name: "post_request",
        help: "Hook, called in a worker's thread, after each call of the application",
        details: "Called with (worker, request, environ, response); it may take two, three or four \
            arguments; what it raises is logged.",
        ..HOOK
    },
    Setting {
        name: "child_exit",
        help: "Hook, called in the supervisor, when a worker has ended",
        details: "Called with (server, worker); the place for \
            prometheus_client.multiprocess.mark_process_dead(worker.pid); what it raises is logged.",
        ..HOOK
    },
    Setting {
        name: "worker_exit",
        help: "Hook, called in a worker, before it ends",
        details: "Called with (server, worker); what it raises is logged.",
        ..HOOK
    },
    Setting {
        name: "nworkers_changed",
        help: "Hook, called in the supervisor, when the number of workers changes",
        details: "Called with (server, new, old); at the start old is None; what it raises is logged.",
        ..HOOK
    },
    Setting {
        name: "on_exit",
        help: "Hook, called in the supervisor, at its end",
        details: "Called with (server); what it raises is logged.",
        ..HOOK
    },
];

/// What all of them have in common.
const HOOK: Setting = Setting {
    value: ValueType::Form {
        metavar: "FUNCTION",
        form: "a function in a Python file, or `module.function`",
        set,
    },
    area: Area::Hooks,
    ..Setting::BLANK
};

fn set(_: &mut Config, text: &str) -> Result<(), ParseError> {
    let is_import = text.split_once('.').is_some_and(|(module, name)| !module.is_empty() && !name.is_empty());
    is_import
        .then_some(())
        .ok_or_else(|| format!("{text:?} is no import string; write module.function").into())
}

#[cfg(test)]
#[test]
fn hooks() {
    use crate::testing::environment;
    for setting in SETTINGS {
        let parse = |text: &str| {
            crate::parse::parse(std::iter::empty(), &environment(&[(&setting.variable(), text)]))
        };
        assert!(parse("deploy.hooks.f").is_ok(), "{}", setting.name);
        for text in ["f", ".f", "deploy."] {
            assert!(parse(text).is_err(), "{} {text}", setting.name);
        }
    }
}
