//! Settings that say how bodies and answers pass between clients and the application.

use crate::resolved::StreamRequestBody;
use crate::setting::{Area, Platform, Setting, ValueType};
use crate::value::boolean;

pub(super) const SETTINGS: &[Setting] = &[
    REQUEST_BUFFER,
    TMP_UPLOAD_DIR,
    RESPONSE_BUFFER,
    STREAM_REQUEST_BODY,
    ALLOW_HALF_CLOSE,
    SENDFILE,
    SERVER_HEADER,
    STRICT_WSGI,
];

pub(crate) const REQUEST_BUFFER: Setting = Setting {
    name: "request_buffer",
    flags: &["request-buffer"],
    value: ValueType::Size {
        range: 0..=1 << 30,
        zero: None,
        set: |config, bytes| config.request_buffer_bytes = bytes as usize,
    },
    default: "64k",
    area: Area::Requests,
    help: "Bytes of a request body kept in memory; the rest goes to a temporary file",
    details: "The application is called once the body is complete, so a slow upload holds no thread. The \
        file has no name and is in --tmp-upload-dir, or TMPDIR.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn request_buffer() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).request_buffer_bytes, 65_536);
    assert_eq!(config(&["--request-buffer", "1m"]).request_buffer_bytes, 1 << 20);
    assert!(refusal(&["--request-buffer", "2g"]).contains("from 0 to 1g"));
}

pub(crate) const TMP_UPLOAD_DIR: Setting = Setting {
    name: "tmp_upload_dir",
    flags: &["tmp-upload-dir"],
    value: ValueType::Text {
        metavar: "PATH",
        set: |config, text| {
            config.tmp_upload_dir = (!text.is_empty()).then(|| text.into());
            Ok(())
        },
    },
    area: Area::Requests,
    help: "Folder of the temporary files for request bodies and responses",
    details: "By default TMPDIR, or /tmp. The files have no name, so none is left behind. If none can be \
        written, bodies stay in memory within --connection-memory and --client-memory; beyond that they get \
        507.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn tmp_upload_dir() {
    use crate::testing::config;
    assert_eq!(config(&[]).tmp_upload_dir, None);
    assert_eq!(config(&["--tmp-upload-dir", "/srv/up"]).tmp_upload_dir, Some("/srv/up".into()));
}

pub(crate) const RESPONSE_BUFFER: Setting = Setting {
    name: "response_buffer",
    flags: &["response-buffer"],
    value: ValueType::Size {
        range: 4096..=1 << 30,
        zero: None,
        set: |config, bytes| config.response_buffer_bytes = bytes as usize,
    },
    default: "1m",
    area: Area::Requests,
    help: "Bytes of a response kept in memory for a slow client",
    details: "A response below this size frees its thread at once, however slowly the client reads. So does \
        a response that the application returns as a whole (a list or tuple of bytes), which is kept without \
        a copy within --connection-memory. For larger ones see --response-spool.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn response_buffer() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).response_buffer_bytes, 1 << 20);
    assert_eq!(config(&["--response-buffer", "64k"]).response_buffer_bytes, 65_536);
    assert!(refusal(&["--response-buffer", "0"]).contains("from 4k to 1g"));
}

pub(crate) const STREAM_REQUEST_BODY: Setting = Setting {
    name: "stream_request_body",
    flags: &["stream-request-body"],
    value: ValueType::Choice {
        of: &[
            ("off", |config| config.stream_request_body = StreamRequestBody::Off),
            ("on", |config| config.stream_request_body = StreamRequestBody::On),
            ("always", |config| config.stream_request_body = StreamRequestBody::Always),
        ],
        alone: Some("on"),
    },
    default: "off",
    area: Area::Requests,
    help: "Call the application after the head, while the body still arrives",
    details: "For applications that act during an upload. The upload then holds a thread for as long as it \
        lasts. A body without an announced length (chunked, or HTTP/2 without Content-Length) is still \
        buffered, so that CONTENT_LENGTH is known: Django, Django REST framework and others read nothing \
        without it. `always` streams these too, for applications that read wsgi.input to its end \
        (wsgi.input_terminated).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn stream_request_body() {
    use crate::testing::{config, refusal, with_environment};
    use StreamRequestBody::{Always, Off, On};
    assert_eq!(config(&[]).stream_request_body, Off);
    assert_eq!(config(&["--stream-request-body"]).stream_request_body, On);
    assert_eq!(config(&["--stream-request-body=always"]).stream_request_body, Always);
    for (text, expected) in [("yes", On), ("true", On), ("0", Off), ("off", Off), ("always", Always)] {
        let from_environment = with_environment(&[("PORTICO_STREAM_REQUEST_BODY", text)], &[]);
        assert_eq!(from_environment.stream_request_body, expected, "{text}");
    }
    assert!(refusal(&["--stream-request-body=maybe"]).contains("off, on, always"));
}

pub(crate) const ALLOW_HALF_CLOSE: Setting = Setting {
    name: "allow_half_close",
    flags: &["allow-half-close"],
    value: ValueType::Switch { given: true, set: |config, on| config.allow_half_close = on },
    default: "false",
    area: Area::Requests,
    help: "Also run a waiting request whose client has closed its sending side",
    details: "A client that goes away and one that only half-closes look the same to a server. Browsers, \
        proxies and HTTP libraries never half-close, so a waiting request is dropped by default.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn allow_half_close() {
    use crate::testing::config;
    assert!(!config(&[]).allow_half_close);
    assert!(config(&["--allow-half-close"]).allow_half_close);
}

pub(crate) const SENDFILE: Setting = Setting {
    name: "sendfile",
    flags: &["no-sendfile"],
    // gunicorn's reading: anything but a yes is a no.
    platform: Some(Platform {
        variables: &["SENDFILE"],
        translate: |text| boolean(text).unwrap_or(false).to_string(),
    }),
    value: ValueType::Switch { given: false, set: |config, on| config.sendfile = on },
    default: "true",
    area: Area::Requests,
    help: "Do not use the kernel's sendfile(2) for files of wsgi.file_wrapper",
    details: "Use it if the files are on a network or FUSE file system on which sendfile misbehaves.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn sendfile() {
    use crate::testing::{config, with_environment};
    assert!(config(&[]).sendfile);
    assert!(!config(&["--no-sendfile"]).sendfile);
    assert!(!with_environment(&[("PORTICO_SENDFILE", "no")], &[]).sendfile);
    assert!(!with_environment(&[("SENDFILE", "never")], &[]).sendfile);
    assert!(with_environment(&[("SENDFILE", "1")], &[]).sendfile);
}

pub(crate) const SERVER_HEADER: Setting = Setting {
    name: "server_header",
    flags: &["server-header"],
    value: ValueType::Text {
        metavar: "TEXT",
        set: |config, text| {
            let text = if text.eq_ignore_ascii_case("none") { "" } else { text };
            if text.bytes().any(|byte| !matches!(byte, b' '..=b'~')) || text.trim() != text {
                return Err(format!("{text:?} is no value of a field; write visible ASCII, or none").into());
            }
            text.clone_into(&mut config.server_header);
            Ok(())
        },
    },
    default: "portico",
    area: Area::Requests,
    help: "Server header of responses, unless the application sets it; none for none",
    details: "It also applies to the server's own responses. `gunicorn.SERVER` or `gunicorn.SERVER_SOFTWARE` \
        in gunicorn.conf.py has the same effect.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn server_header() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).server_header, "portico");
    assert_eq!(config(&["--server-header", "shop 1"]).server_header, "shop 1");
    for text in ["none", "None", ""] {
        assert_eq!(config(&["--server-header", text]).server_header, "", "{text}");
    }
    for text in ["a\r\nb", "\u{e9}", " a", "a\u{7f}"] {
        assert!(refusal(&["--server-header", text]).contains("visible ASCII"), "{text}");
    }
}

pub(crate) const STRICT_WSGI: Setting = Setting {
    name: "strict_wsgi",
    flags: &["strict-wsgi"],
    value: ValueType::Switch { given: true, set: |config, on| config.strict_wsgi = on },
    default: "false",
    area: Area::Requests,
    help: "Raise on mistakes against PEP 3333 that Portico would correct",
    details: "As wsgiref.validate does: hop-by-hop headers such as Connection, a Trailer, a status without a \
        reason, headers that are not a list, a header that is not a tuple. start_response then raises, which \
        usually gives a 500. Without this option such headers are dropped and the rest is accepted, with one \
        warning for each kind in a worker.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn strict_wsgi() {
    use crate::testing::{config, with_environment};
    assert!(!config(&[]).strict_wsgi);
    assert!(config(&["--strict-wsgi"]).strict_wsgi);
    assert!(with_environment(&[("PORTICO_STRICT_WSGI", "1")], &[]).strict_wsgi);
}
