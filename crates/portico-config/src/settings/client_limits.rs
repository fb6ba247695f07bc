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
    details: "It counts what clients have sent and not been answered for, and what they have not yet taken of \
        their responses: heads, bodies, buffers of TLS and HTTP/2. From three quarters of it on, bodies and \
        responses go to temporary files (--spool-total). From seven eighths on, clients that have stopped reading \
        or sending are cut, those first for whom most is held, and then idle ones. When all of it is used, \
        requests are answered 503. The log says so once a minute. The memory is the container's limit, or the \
        machine's.",
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
    help: "Memory that is held for one connection, all of its HTTP/2 streams together",
    details: "From three quarters of it on, bodies and responses go to temporary files. A connection that still \
        exceeds it, by request heads, gets 503; one of HTTP/2 is closed with ENHANCE_YOUR_CALM.",
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
    details: "Beyond --response-buffer the application waits for its client while other threads are free. As \
        soon as a request waits for a thread, what the client has not taken goes to an unlinked file instead, so \
        that the application can go on and its thread is free at the end of the response. A response that exceeds \
        this holds its thread again; at most half of the threads are held so while requests wait: those that have \
        waited longest are cut.",
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
    details: "They lie in --tmp-upload-dir. A request body that does not fit is answered 507, a response that \
        does not fit makes its application wait (see --response-spool). At most a quarter of the descriptors \
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
    details: "A client is an IPv4 address or an IPv6 network of 64 bits. It does not hold for UNIX sockets and \
        for proxies that --forwarded-allow-ips trusts, whose connections are those of many. With --proxy-protocol \
        the client is who the proxy names. Many people can share an address: a company, a mobile network.",
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
