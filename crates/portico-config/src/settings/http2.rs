//! Settings of HTTP/2.

use crate::error::ParseError;
use crate::gunicorn;
use crate::resolved::Config;
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[
    HTTP_PROTOCOLS,
    HTTP2_CLEARTEXT,
    HTTP2_MAX_CONCURRENT_STREAMS,
    HTTP2_INITIAL_WINDOW_SIZE,
    HTTP2_MAX_FRAME_SIZE,
    HTTP2_MAX_HEADER_LIST_SIZE,
];

/// What is common to them, to be completed.
const BLANK: Setting = Setting {
    value: ValueType::Count { range: 1..=1, zero: None, unit: "", set: |_, _| {} },
    area: Area::Http2,
    ..Setting::BLANK
};

pub(crate) const HTTP_PROTOCOLS: Setting = Setting {
    name: "http_protocols",
    flags: &["http-protocols"],
    value: ValueType::List { metavar: "LIST", set: set_protocols },
    default: "h2,h1",
    help: "Versions of HTTP to speak: h2,h1 or h1",
    details: "With h1 alone HTTP/2 is disabled, with TLS (ALPN) and without.",
    ..BLANK
};

fn set_protocols(config: &mut Config, words: &[&str]) -> Result<(), ParseError> {
    if let Some(word) = words.iter().find(|word| !matches!(**word, "h1" | "h2")) {
        let remedy = if *word == "h3" { "HTTP/3 ends at a proxy in front; " } else { "" };
        return Err(format!("{word:?} is not spoken here; {remedy}write h2,h1 or h1").into());
    }
    if !words.contains(&"h1") {
        return Err("HTTP/1 cannot be turned off; write h2,h1".to_owned().into());
    }
    config.http2.offered = words.contains(&"h2");
    Ok(())
}

#[cfg(test)]
#[test]
fn http_protocols() {
    use crate::testing::{config, refusal};
    assert!(config(&[]).http2.offered);
    assert!(config(&["--http-protocols", "h1, h2"]).http2.offered);
    assert!(!config(&["--http-protocols", "h1"]).http2.offered);
    assert!(refusal(&["--http-protocols", "h3,h1"]).contains("HTTP/3 ends at a proxy"));
    assert!(refusal(&["--http-protocols", "h2"]).contains("write h2,h1"));
}

pub(crate) const HTTP2_CLEARTEXT: Setting = Setting {
    name: "http2_cleartext",
    gunicorns: Some(gunicorn::http2_cleartext),
    flags: &["http2-cleartext"],
    value: ValueType::Form {
        metavar: "WORD",
        form: "one of off, prior-knowledge",
        set: |config, word| {
            config.http2.cleartext = match word {
                "off" => false,
                "prior-knowledge" => true,
                "upgrade" | "both" => {
                    return Err(
                        "HTTP/2 by Upgrade was taken out of the standard (RFC 9113) and is not spoken here; \
                        write prior-knowledge or off"
                            .to_owned()
                            .into(),
                    );
                }
                _ => {
                    return Err(
                        format!("{word:?} is neither off nor prior-knowledge; write one of them").into()
                    );
                }
            };
            Ok(())
        },
    },
    default: "prior-knowledge",
    help: "HTTP/2 without TLS: off, or prior-knowledge",
    details: "A client that begins with HTTP/2's preface gets HTTP/2, on the same port as HTTP/1. Cloud Run, \
        Envoy, HAProxy and curl can do so. gunicorn's default is off.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn http2_cleartext() {
    use crate::testing::{config, refusal};
    assert!(config(&[]).http2.cleartext);
    assert!(!config(&["--http2-cleartext", "off"]).http2.cleartext);
    assert!(refusal(&["--http2-cleartext", "upgrade"]).contains("write prior-knowledge or off"));
    assert!(refusal(&["--http2-cleartext", "x"]).contains("neither off nor"));
}

pub(crate) const HTTP2_MAX_CONCURRENT_STREAMS: Setting = Setting {
    name: "http2_max_concurrent_streams",
    flags: &["http2-max-concurrent-streams"],
    value: ValueType::Count {
        range: 1..=10_000,
        zero: None,
        unit: "streams",
        set: |config, n| config.http2.concurrent_streams_max = n as u32,
    },
    default: "100",
    help: "Requests that may be open at once on an HTTP/2 connection",
    details: "A further one is refused with REFUSED_STREAM, and clients retry it. --threads sets how many \
        run at once, --max-queue how many wait.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn http2_max_concurrent_streams() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).http2.concurrent_streams_max, 100);
    assert_eq!(config(&["--http2-max-concurrent-streams", "7"]).http2.concurrent_streams_max, 7);
    assert!(refusal(&["--http2-max-concurrent-streams", "0"]).contains("from 1 to 10000"));
}

pub(crate) const HTTP2_INITIAL_WINDOW_SIZE: Setting = Setting {
    name: "http2_initial_window_size",
    flags: &["http2-initial-window-size"],
    value: ValueType::Size {
        range: 1024..=(1 << 30),
        zero: None,
        set: |config, bytes| config.http2.window_bytes = bytes as u32,
    },
    default: "256k",
    help: "Bytes of a request body that an HTTP/2 client may send ahead",
    details: "The window grows by as many bytes as have been stored or, with --stream-request-body, read. A \
        connection has the window of 16 streams, and at least 1 MB. gunicorn's default, 65535, slows uploads \
        over connections with a long delay.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn http2_initial_window_size() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).http2.window_bytes, 256 << 10);
    assert_eq!(config(&["--http2-initial-window-size", "65535"]).http2.window_bytes, 65_535);
    assert!(refusal(&["--http2-initial-window-size", "0"]).contains("from 1k to 1g"));
}

pub(crate) const HTTP2_MAX_FRAME_SIZE: Setting = Setting {
    name: "http2_max_frame_size",
    flags: &["http2-max-frame-size"],
    value: ValueType::Size {
        range: 16_384..=((1 << 24) - 1),
        zero: None,
        set: |config, bytes| config.http2.frame_bytes_max = bytes as u32,
    },
    default: "16384",
    help: "Longest HTTP/2 frame that is accepted",
    details: "The range is the protocol's. Longer frames do not speed up uploads.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn http2_max_frame_size() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).http2.frame_bytes_max, 16_384);
    assert_eq!(config(&["--http2-max-frame-size", "16777215"]).http2.frame_bytes_max, (1 << 24) - 1);
    assert!(refusal(&["--http2-max-frame-size", "16383"]).contains("from 16k"));
}

pub(crate) const HTTP2_MAX_HEADER_LIST_SIZE: Setting = Setting {
    name: "http2_max_header_list_size",
    flags: &["http2-max-header-list-size"],
    value: ValueType::Size {
        range: 1024..=(16 << 20),
        zero: None,
        set: |config, bytes| config.http2.header_list_bytes_max = bytes as u32,
    },
    default: "65536",
    help: "Longest header list of an HTTP/2 request; a longer one gets 431",
    details: "Names and values uncompressed, and 32 bytes for each header. The limits for all versions, such \
        as --limit-request-head, apply too.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn http2_max_header_list_size() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).http2.header_list_bytes_max, 65_536);
    assert_eq!(config(&["--http2-max-header-list-size", "1k"]).http2.header_list_bytes_max, 1024);
    assert!(refusal(&["--http2-max-header-list-size", "1"]).contains("from 1k to 16m"));
}
