//! Settings that bound what is held for clients: memory, temporary files, connections.

use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] =
    &[CLIENT_MEMORY, CONNECTION_MEMORY, RESPONSE_SPOOL, SPOOL_TOTAL, CONNECTIONS_PER_CLIENT];

/// What is common to them, to be completed.
const BLANK: Setting = Setting { area: Area::Limits, ..Setting::BLANK };

pub(crate) const CLIENT_MEMORY: Setting = Setting {
    name: "client_memory",
    flags: &["client-memory"],
    value: ValueType::Size {
        range: 8 << 20..=1 << 40,
        zero: Some("an eighth of the memory, shared by the workers, from 16 MiB to 1 GiB each"),
        set: |config, bytes| config.client_limits.memory_bytes = bytes,
    },
    default: "0",
    help: "Memory that one worker holds for all of its clients",
    details: "It counts data that clients have sent and that still waits for its response, and data of \
        responses that clients have not read: heads, bodies, buffers of TLS and HTTP/2. Above three quarters \
        of it, bodies and responses go to temporary files (--spool-total). Above seven eighths, clients that \
        have stopped reading or sending are cut, first those that hold most, then idle ones. When all of it \
        is used, requests get 503. The log reports this once a minute. The memory is the container's limit, \
        or the machine's.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn client_memory() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).client_limits.memory_bytes, 0);
    assert_eq!(config(&["--client-memory", "64m"]).client_limits.memory_bytes, 64 << 20);
    assert!(refusal(&["--client-memory", "1m"]).contains("from 8m"));
}

pub(crate) const CONNECTION_MEMORY: Setting = Setting {
    name: "connection_memory",
    flags: &["connection-memory"],
    value: ValueType::Size {
        range: 256 << 10..=1 << 30,
        zero: None,
        set: |config, bytes| config.client_limits.connection_bytes = bytes as usize,
    },
    default: "8m",
    help: "Memory for one connection, together with all of its HTTP/2 streams",
    details: "Above three quarters of it, bodies and responses go to temporary files. A connection that \
        still exceeds it with request heads gets 503; an HTTP/2 connection is closed with ENHANCE_YOUR_CALM.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn connection_memory() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).client_limits.connection_bytes, 8 << 20);
    assert_eq!(config(&["--connection-memory", "1m"]).client_limits.connection_bytes, 1 << 20);
    assert!(refusal(&["--connection-memory", "0"]).contains("from 256k to 1g"));
}

pub(crate) const RESPONSE_SPOOL: Setting = Setting {
    name: "response_spool",
    flags: &["response-spool"],
    value: ValueType::Size {
        range: 1 << 20..=1 << 50,
        zero: Some("that responses are not written to files"),
        set: |config, bytes| config.client_limits.response_spool_bytes = bytes,
    },
    default: "1g",
    help: "Bytes of a response that wait for a slow client in a temporary file",
    details: "Above --response-buffer the application waits for its client until its thread is needed: when \
        a request waits for a thread, or when all threads are in calls and half of them wait for clients. \
        Then the data that the client has not read goes to an unlinked file instead, so that the application \
        can continue and its thread is free at the end of the response. A response that exceeds this limit \
        holds its thread again. While requests wait, at most half of the threads may be held this way; the \
        responses that have waited longest are cut.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn response_spool() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).client_limits.response_spool_bytes, 1 << 30);
    assert_eq!(config(&["--response-spool", "0"]).client_limits.response_spool_bytes, 0);
    assert!(refusal(&["--response-spool", "1k"]).contains("from 1m"));
}

pub(crate) const SPOOL_TOTAL: Setting = Setting {
    name: "spool_total",
    flags: &["spool-total"],
    value: ValueType::Size {
        range: 1 << 20..=1 << 50,
        zero: Some("half of what is free at the start, shared by the workers"),
        set: |config, bytes| config.client_limits.spool_bytes = bytes,
    },
    default: "0",
    help: "Bytes in all temporary files of one worker: request bodies and responses",
    details: "The files are in --tmp-upload-dir. A request body that does not fit gets 507; the application \
        of a response that does not fit waits (see --response-spool). At most a quarter of the descriptors \
        are used for such files, so that connections can still be accepted.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn spool_total() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).client_limits.spool_bytes, 0);
    assert_eq!(config(&["--spool-total", "4g"]).client_limits.spool_bytes, 4 << 30);
    assert!(refusal(&["--spool-total", "1k"]).contains("from 1m"));
}

pub(crate) const CONNECTIONS_PER_CLIENT: Setting = Setting {
    name: "connections_per_client",
    flags: &["connections-per-client"],
    value: ValueType::Count {
        range: 1..=1_000_000,
        zero: Some("no limit"),
        unit: "connections",
        set: |config, n| config.client_limits.connections_per_client = n as u32,
    },
    default: "0",
    help: "Connections that one worker keeps open with one client; more are closed at once",
    details: "A client is an IPv4 address or an IPv6 network of 64 bits. The limit does not apply to UNIX \
        sockets or to proxies that --forwarded-allow-ips trusts, because their connections belong to many \
        clients. With --proxy-protocol the client is the one that the proxy names. Many people can share an \
        address: a company, a mobile network.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn connections_per_client() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).client_limits.connections_per_client, 0);
    assert_eq!(config(&["--connections-per-client", "50"]).client_limits.connections_per_client, 50);
    assert!(refusal(&["--connections-per-client", "-1"]).contains("from 1 to 1000000"));
}
