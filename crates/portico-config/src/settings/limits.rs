//! Settings that bound what a client may send.

use crate::resolved::Config;
use crate::setting::{Area, Setting, ValueType};
use crate::value::size_text;

pub(super) const SETTINGS: &[Setting] = &[
    LIMIT_REQUEST_LINE,
    LIMIT_REQUEST_FIELDS,
    LIMIT_REQUEST_FIELD_SIZE,
    LIMIT_REQUEST_HEAD,
    LIMIT_REQUEST_BODY,
    LIMIT_CHUNK_LINE,
];

/// Largest head that can be asked for, and so what bounds the limits within it when they are off.
const HEAD_BYTES_MAX: u64 = 16 << 20;

/// gunicorn's own ceiling, which 0 stands for there as here.
const FIELDS_MAX: u64 = 32_768;

const WITHIN_HEAD: &str = "no limit but that of the head";

pub(crate) const LIMIT_REQUEST_LINE: Setting = Setting {
    name: "limit_request_line",
    flags: &["limit-request-line"],
    value: ValueType::Size {
        range: 64..=HEAD_BYTES_MAX,
        zero: Some(WITHIN_HEAD),
        set: |config, bytes| config.request_line_bytes_max = unlimited_if_zero(bytes),
    },
    default: "8190",
    area: Area::Limits,
    help: "Longest request line; a longer one gets 414",
    details: "Method, target and version without the end of the line. --limit-request-head applies too. 8190 \
        is Apache's default; gunicorn's is 4094, which long query strings exceed. If this is set in \
        gunicorn's ways and --limit-request-head is not set, the latter is raised to fit, to 16m for 0.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn limit_request_line() {
    use crate::testing::{config, refusal, resolved};
    assert_eq!(config(&[]).request_line_bytes_max, 8190);
    assert_eq!(config(&["--limit-request-line", "4094"]).request_line_bytes_max, 4094);
    assert_eq!(config(&["--limit-request-line", "0"]).request_line_bytes_max, usize::MAX);
    assert!(refusal(&["--limit-request-line", "63"]).contains("from 64 to 16m"));
    let warnings = resolved(&[("PORTICO_LIMIT_REQUEST_LINE", "100000")], &[]).warnings;
    assert!(warnings[0].contains("--limit-request-head"), "{warnings:?}");
}

pub(crate) const LIMIT_REQUEST_FIELDS: Setting = Setting {
    name: "limit_request_fields",
    flags: &["limit-request-fields"],
    value: ValueType::Count {
        range: 1..=FIELDS_MAX,
        zero: Some("32768"),
        unit: "fields",
        set: |config, n| config.fields_max = if n == 0 { FIELDS_MAX } else { n } as usize,
    },
    default: "100",
    area: Area::Limits,
    help: "Most headers of a request; more get 431",
    details: "It applies to the trailers of a chunked body as well.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn limit_request_fields() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).fields_max, 100);
    assert_eq!(config(&["--limit-request-fields", "32768"]).fields_max, 32_768);
    assert_eq!(config(&["--limit-request-fields", "0"]).fields_max, 32_768);
    assert!(refusal(&["--limit-request-fields", "32769"]).contains("from 1 to 32768"));
}

pub(crate) const LIMIT_REQUEST_FIELD_SIZE: Setting = Setting {
    name: "limit_request_field_size",
    // gunicorn's spelling with the underscore first: it is the one in people's scripts.
    flags: &["limit-request-field_size", "limit-request-field-size"],
    value: ValueType::Size {
        range: 64..=HEAD_BYTES_MAX,
        zero: Some(WITHIN_HEAD),
        set: |config, bytes| config.field_bytes_max = unlimited_if_zero(bytes),
    },
    default: "8190",
    area: Area::Limits,
    help: "Longest header; a longer one gets 431",
    details: "Name, colon and value without the end of the line. --limit-request-head applies too.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn limit_request_field_size() {
    use crate::testing::{config, resolved};
    assert_eq!(config(&[]).field_bytes_max, 8190);
    assert_eq!(config(&["--limit-request-field_size", "16k"]).field_bytes_max, 16_384);
    assert_eq!(config(&["--limit-request-field-size", "16k"]).field_bytes_max, 16_384);
    assert_eq!(config(&["--limit-request-field_size", "0"]).field_bytes_max, usize::MAX);
    assert_eq!(resolved(&[("PORTICO_LIMIT_REQUEST_FIELD_SIZE", "128k")], &[]).warnings.len(), 1);
}

pub(crate) const LIMIT_REQUEST_HEAD: Setting = Setting {
    name: "limit_request_head",
    flags: &["limit-request-head"],
    value: ValueType::Size {
        range: 1024..=HEAD_BYTES_MAX,
        zero: None,
        set: |config, bytes| config.head_bytes_max = bytes as usize,
    },
    default: "64k",
    area: Area::Limits,
    help: "Longest request head, all of its lines together; a longer one gets 431",
    details: "It limits the memory of a request before it is complete, so it cannot be turned off.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn limit_request_head() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).head_bytes_max, 65_536);
    assert_eq!(config(&["--limit-request-head", "1m"]).head_bytes_max, 1 << 20);
    assert!(refusal(&["--limit-request-head", "0"]).contains("from 1k to 16m"));
}

pub(crate) const LIMIT_REQUEST_BODY: Setting = Setting {
    name: "limit_request_body",
    flags: &["limit-request-body"],
    value: ValueType::Size {
        range: 1..=1 << 50,
        zero: Some("no limit"),
        set: |config, bytes| config.body_bytes_max = bytes,
    },
    default: "0",
    area: Area::Limits,
    help: "Longest request body; a longer one gets 413",
    details: "If Content-Length announces a longer body, the response is sent before any of it is read. \
        Above --request-buffer a body waits in a temporary file, so set a limit if disk space is scarce.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn limit_request_body() {
    use crate::testing::config;
    assert_eq!(config(&[]).body_bytes_max, 0);
    assert_eq!(config(&["--limit-request-body", "10m"]).body_bytes_max, 10 << 20);
}

pub(crate) const LIMIT_CHUNK_LINE: Setting = Setting {
    name: "limit_chunk_line",
    flags: &["limit-chunk-line"],
    value: ValueType::Size {
        range: 32..=65_536,
        zero: None,
        set: |config, bytes| config.chunk_line_bytes_max = bytes as usize,
    },
    default: "8k",
    area: Area::Limits,
    help: "Longest size line of a chunk; a longer one gets 400",
    details: "Size and extensions without the end of the line. Extensions have no meaning for an application \
        and are ignored (RFC 9112 section 7.1.1 asks for a limit). The extensions of a whole body may have \
        twice as many bytes.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn limit_chunk_line() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).chunk_line_bytes_max, 8192);
    assert_eq!(config(&["--limit-chunk-line", "1k"]).chunk_line_bytes_max, 1024);
    assert!(refusal(&["--limit-chunk-line", "0"]).contains("from 32 to 64k"));
}

/// Room in a head for what stands beside a long line.
const HEAD_BYTES_BESIDE: u64 = 64 << 10;

/// Raises the limit of the head, where nobody has said one, to what gunicorn would take: `asked` has the bytes
/// that were said in its ways for a line of it, 0 for no limit. Returns what is to be told.
pub(crate) fn settle(config: &mut Config, asked: impl Iterator<Item = usize>) -> Option<String> {
    let bytes = asked.max()?;
    let head = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(HEAD_BYTES_BESIDE).min(HEAD_BYTES_MAX);
    config.head_bytes_max = config.head_bytes_max.max(head as usize);
    (bytes == usize::MAX).then(|| {
        format!("0 is no limit; a head may have {} here (--limit-request-head)", size_text(HEAD_BYTES_MAX))
    })
}

fn unlimited_if_zero(bytes: u64) -> usize {
    if bytes == 0 { usize::MAX } else { bytes as usize }
}
