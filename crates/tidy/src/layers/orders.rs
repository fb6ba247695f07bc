//! The orders that the rules hold: which crates may name which, and the modules of each folder from bottom to top.

/// What each crate may name of the others, and of what they alone may name. The protocols, what opens files for
/// root and what handles descriptors stand on nothing; the data plane on all; Python is the top's alone.
pub(super) const CRATES: &[(&str, &[&str])] = &[
    ("tidy", &[]),
    ("portico-proto", &[]),
    ("portico-files", &[]),
    ("portico-lending", &[]),
    ("portico-metrics", &[]),
    ("portico-config", &["portico_files"]),
    ("portico-os", &["portico_files"]),
    ("portico-log", &["portico_config", "portico_files", "portico_metrics", "portico_os", "portico_proto"]),
    ("portico-net", &["portico_config", "portico_files", "portico_os", "portico_proto"]),
    (
        "portico-server",
        &[
            "portico_config",
            "portico_edge",
            "portico_lending",
            "portico_log",
            "portico_metrics",
            "portico_net",
            "portico_os",
            "portico_proto",
            "portico_static",
        ],
    ),
    ("portico-edge", &["portico_config"]),
    ("portico-static", &["portico_config", "portico_edge", "portico_proto"]),
    ("portico-reload", &["portico_config"]),
    ("portico-supervisor", &["portico_config", "portico_files", "portico_metrics", "portico_os"]),
    ("portico-insight", &["portico_metrics", "portico_supervisor"]),
    ("portico-web", &["portico_config", "portico_insight", "portico_net", "portico_proto", "portico_server"]),
    (
        "portico-cli",
        &[
            "portico_config",
            "portico_edge",
            "portico_insight",
            "portico_metrics",
            "portico_supervisor",
            "portico_web",
        ],
    ),
    (
        "portico-worker",
        &[
            "portico_config",
            "portico_edge",
            "portico_files",
            "portico_log",
            "portico_metrics",
            "portico_net",
            "portico_os",
            "portico_proto",
            "portico_server",
            "portico_supervisor",
        ],
    ),
    (
        "portico-python",
        &[
            "portico_cli",
            "portico_config",
            "portico_files",
            "portico_log",
            "portico_metrics",
            "portico_net",
            "portico_os",
            "portico_proto",
            "portico_reload",
            "portico_server",
            "portico_supervisor",
            "portico_worker",
            PYO3,
        ],
    ),
];

/// What stands for Python.
pub(super) const PYO3: &str = "pyo3";

/// The modules of a folder from the bottom up; one may name those of the rows before its own.
pub(super) struct Order {
    /// Below `crates/`: a crate's `src`, or a folder in it.
    pub(super) folder: &'static str,
    pub(super) rows: &'static [&'static [&'static str]],
}

pub(super) const ORDERS: &[Order] = &[
    Order {
        folder: "portico-cli/src",
        rows: &[
            &["output", "pause", "table", "words"],
            &["asked_stacks"],
            &[
                "dev_cert",
                "hash_password",
                "maintenance",
                "replacement",
                "requests",
                "routes",
                "stacks",
                "status",
            ],
            &["report", "static_folders", "web"],
        ],
    },
    Order {
        folder: "portico-config/src",
        rows: &[
            &["error"],
            &[
                "access_log_format",
                "ciphers",
                "hosts",
                "path_regex",
                "proxies",
                "route",
                "server_command",
                "task",
                "telemetry",
            ],
            &["bind"],
            &["resolved"],
            &["setting"],
            &["raw", "value"],
            &["gunicorn", "route_table"],
            &["settings"],
            &[
                "abbreviation",
                "account",
                "conceal",
                "environment",
                "misspelt",
                "preset",
                "reference",
                "resolution",
                "toml_file",
                "typed",
            ],
            &["cli", "draft", "files", "reload", "schema", "show", "systemd"],
            &["nginx", "resolve", "uwsgi"],
            &["migrate"],
            &["parse"],
        ],
    },
    Order {
        folder: "portico-edge/src",
        rows: &[
            &["access", "error_pages", "headers", "host", "limit", "path"],
            &["pattern", "redirect"],
            &["files"],
            &["flat", "trie"],
            &["compression", "decision"],
            &["router"],
            &["application_files", "explain"],
            &["bypassed"],
        ],
    },
    Order {
        folder: "portico-files/src",
        rows: &[&["owner"], &["exposure"], &["folder_entry"], &["exposed", "log", "read"]],
    },
    Order {
        folder: "portico-insight/src",
        rows: &[
            &["call_id", "reading"],
            &["durations", "history", "responses"],
            &["snapshot"],
            &["rates", "stack_groups"],
            &["sentence"],
        ],
    },
    Order {
        folder: "portico-lending/src",
        rows: &[
            &["active_calls", "mailbox", "poller", "slot", "watermark"],
            &["thread_states"],
            &["exchange"],
        ],
    },
    Order {
        folder: "portico-log/src",
        rows: &[
            &["log_sink", "occurrences", "random_blocks", "statsd"],
            &["record_queue", "request_id", "syslog"],
            &["access_log", "log_output"],
        ],
    },
    Order {
        folder: "portico-metrics/src",
        rows: &[
            &["buckets", "metric", "record_ring"],
            &["ended_requests", "labels"],
            &["table"],
            &["cells", "reference"],
            &["reading"],
            &["openmetrics"],
            &["route_durations"],
        ],
    },
    Order { folder: "portico-net/src", rows: &[&["reactor", "server", "tls"], &["listener", "transport"]] },
    Order {
        folder: "portico-net/src/tls",
        rows: &[
            &["names", "resolver", "shared", "tickets"],
            &["client", "material"],
            &["encoding", "provider"],
            &["reloader"],
            &["source"],
            &["acceptor"],
        ],
    },
    Order { folder: "portico-os/src", rows: &[&["folder", "standard", "vital"], &["memory"]] },
    Order {
        folder: "portico-proto/src",
        rows: &[
            &["date", "error", "grammar", "limits", "message", "path", "peer", "proxy", "queue", "status"],
            &["added", "content", "script_path", "singletons", "streams"],
            &["event"],
            &["http1"],
            &["assemble", "gateway"],
            &["fastcgi", "http2"],
            &["protocol"],
            &["session"],
        ],
    },
    Order {
        folder: "portico-proto/src/http1",
        rows: &[&["encode", "lines", "target"], &["body", "framing"], &["head"]],
    },
    Order {
        folder: "portico-proto/src/http2",
        rows: &[
            &["fields", "pipe", "response"],
            &["hpack", "request", "stream_io"],
            &["open", "stream"],
            &["frames"],
        ],
    },
    Order {
        folder: "portico-reload/src",
        rows: &[&["bytecode", "inotify", "kind"], &["snapshot"], &["watch"]],
    },
    Order {
        folder: "portico-server/src",
        rows: &[
            &["blocking_work", "heap", "limits", "spool"],
            &["body", "forwarded"],
            &["client", "handover"],
            &["connection"],
            &["queue"],
            &["engine"],
            // With the seam to the application: it is called with a responder, which is the lending's.
            &["lending"],
        ],
    },
    Order {
        folder: "portico-static/src",
        rows: &[&["compression", "served_file"], &["folder", "stored_file"], &["cache", "site"]],
    },
    Order {
        folder: "portico-supervisor/src",
        rows: &[
            &["descriptors", "interpreter"],
            &["backlog", "control", "memory", "scoreboard", "signals", "stacks_file", "state", "upgrade"],
            &["settings_file", "stacks"],
            &["autoscale", "capacity", "fork", "notify", "pidfile", "process", "report"],
            &["host"],
            &["supervisor"],
        ],
    },
    Order {
        folder: "portico-web/src",
        rows: &[&["page", "secret", "shown_server"], &["access", "routes"], &["application"], &["serving"]],
    },
    Order {
        folder: "portico-worker/src",
        rows: &[
            &[
                "call_status",
                "ending",
                "error",
                "escalation",
                "inbox",
                "limit_memory",
                "raw",
                "recycling",
                "siblings",
            ],
            &["slot_handle"],
            &["start_pipe", "switching", "thread_numbers"],
            &["disconnects", "hub_turning", "logging", "process_watch", "setup", "sizing", "warmup"],
            &["call_watch", "crippled", "folders", "logs"],
            &["telemetry"],
        ],
    },
    Order {
        folder: "portico-python/src",
        rows: &[
            &["raw"],
            &["error"],
            &["fork", "forked_children", "import_path", "interpreter"],
            &["daemon", "hub"],
            &["conf", "thread_status"],
            &["stacks"],
            &["gateway"],
            &["worker"],
        ],
    },
    Order {
        folder: "portico-python/src/conf",
        rows: &[&["file", "observer"], &["accesses", "hooks"], &["loggers"]],
    },
    Order {
        folder: "portico-python/src/worker",
        rows: &[
            &["app", "environment", "fork_safety", "forked", "greenlets"],
            &["inspector", "monitor", "signals", "title"],
            &["disconnects", "discovery", "error_page", "paste", "start_error", "static_folders"],
            &["mounts", "switching", "threads", "turning"],
            &["context", "identity", "start", "watch"],
            &["configuration", "development", "orders"],
            &["host", "source"],
            &["check", "serving", "template"],
            &["alone", "tree"],
            &["entry"],
        ],
    },
    Order {
        folder: "tidy/src",
        rows: &[
            &["finding"],
            &["text"],
            &["source", "walk"],
            &["calls", "exports", "layers", "names", "retired", "shape"],
        ],
    },
];
