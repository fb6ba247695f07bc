//! Reads every file of the corpus in every way; `tests/corpus/README.md` says what is in it.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portico_proto::{Limits, Protocol, Version};
use serde::Deserialize;
use support::{NEXT, Request, Transcript, read_all_ways_as, read_as};

/// A `.toml` file of the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    why: String,
    #[serde(default)]
    unfinished: bool,
    #[serde(default)]
    limits: CaseLimits,
    #[serde(default)]
    requests: Vec<CaseRequest>,
    error: Option<CaseError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseLimits {
    request_line_bytes_max: Option<usize>,
    fields_max: Option<usize>,
    field_bytes_max: Option<usize>,
    head_bytes_max: Option<usize>,
    body_bytes_max: Option<u64>,
    chunk_line_bytes_max: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseRequest {
    method: String,
    target: String,
    path: Option<String>,
    query: Option<String>,
    authority: Option<String>,
    version: String,
    fields: Vec<(String, String)>,
    #[serde(default)]
    variables: Vec<(String, String)>,
    #[serde(default)]
    dropped: Vec<String>,
    body: Option<String>,
    body_hex: Option<String>,
    keep_alive: bool,
    #[serde(default)]
    expect_continue: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseError {
    kind: String,
    status: u16,
}

/// A protocol of which there is a corpus.
struct Corpus {
    folder: &'static str,
    protocol: fn() -> Protocol,
    /// Files that there are at least.
    valid: usize,
    invalid: usize,
    /// A request to append to others.
    next: &'static [u8],
}

const CORPORA: [Corpus; 4] = [
    Corpus { folder: "http1", protocol: Protocol::default, valid: 150, invalid: 250, next: NEXT },
    Corpus { folder: "uwsgi", protocol: Protocol::uwsgi, valid: 10, invalid: 15, next: b"" },
    Corpus { folder: "scgi", protocol: Protocol::scgi, valid: 7, invalid: 20, next: b"" },
    Corpus { folder: "fastcgi", protocol: Protocol::fastcgi, valid: 12, invalid: 15, next: FASTCGI_NEXT },
];

/// A request of FastCGI for `/next`.
const FASTCGI_NEXT: &[u8] = b"\x01\x01\0\x09\0\x08\0\0\0\x01\0\0\0\0\0\0\
    \x01\x04\0\x09\0\x25\0\0\x0e\x03REQUEST_METHODGET\x0b\x05REQUEST_URI/next\
    \x01\x04\0\x09\0\0\0\0\x01\x05\0\x09\0\0\0\0";

#[test]
fn valid() {
    for corpus in &CORPORA {
        let cases = read_cases(corpus, "valid");
        assert!(cases.len() >= corpus.valid, "{}: {} files", corpus.folder, cases.len());
        for (path, bytes, case) in &cases {
            assert!(case.error.is_none(), "{}", path.display());
            check(corpus, path, bytes, case);
        }
    }
}

#[test]
fn invalid() {
    for corpus in &CORPORA {
        let cases = read_cases(corpus, "invalid");
        assert!(cases.len() >= corpus.invalid, "{}: {} files", corpus.folder, cases.len());
        for (path, bytes, case) in &cases {
            assert!(case.error.is_some() && !case.unfinished, "{}", path.display());
            check(corpus, path, bytes, case);
        }
    }
}

/// What has arrived of bad bytes is either not bad yet, or bad in the way in which all of them are.
#[test]
fn errors_do_not_change_as_bytes_arrive() {
    for corpus in &CORPORA {
        for (path, bytes, case) in read_cases(corpus, "invalid") {
            let expected = case.error.map(|error| error.kind);
            for length in (0..bytes.len()).rev().take(100) {
                let transcript = read_as(corpus.protocol, [&bytes[..length]], &case.limits.resolve());
                let kind = transcript.error.map(|error| format!("{:?}", error.kind));
                assert!(kind.is_none() || kind == expected, "{}: {kind:?} at {length}", path.display());
            }
        }
    }
}

/// Reads `bytes` in every way, alone and with a good request behind, and compares with `case`.
fn check(corpus: &Corpus, path: &Path, bytes: &[u8], case: &Case) {
    let name = path.display();
    let limits = case.limits.resolve();
    for seed in 0..8 {
        let transcript = read_all_ways_as(corpus.protocol, bytes, &limits, seed);
        compare(&transcript, case, &name.to_string());
        assert_eq!(transcript.idle, !case.unfinished && is_open(case), "{name}: {}", case.why);
    }
    if case.unfinished {
        return;
    }
    let followed = read_all_ways_as(corpus.protocol, &[bytes, corpus.next].concat(), &limits, 9);
    if is_open(case) && limits == Limits::default() {
        let (next, requests) = followed.requests.split_last().expect("the request behind");
        assert_eq!(next.target, b"/next", "{name}: {}", case.why);
        let before = Transcript { requests: requests.to_vec(), ..followed.clone() };
        compare(&before, case, &format!("{name}, with a request behind"));
    } else if !is_open(case) {
        compare(&followed, case, &format!("{name}, with a request behind"));
    }
}

/// Whether the connection is still good after all of the case's bytes.
fn is_open(case: &Case) -> bool {
    case.error.is_none() && case.requests.last().is_none_or(|request| request.keep_alive)
}

fn compare(transcript: &Transcript, case: &Case, name: &str) {
    let why = &case.why;
    let complete: Vec<&Request> = transcript.requests.iter().filter(|request| request.complete).collect();
    assert_eq!(complete.len(), case.requests.len(), "{name}: requests; {why}");
    for (request, expected) in complete.iter().zip(&case.requests) {
        compare_request(request, expected, &format!("{name}: {why}"));
    }
    let error = transcript.error.map(|error| (format!("{:?}", error.kind), error.status));
    assert_eq!(error, case.error.as_ref().map(|error| (error.kind.clone(), error.status)), "{name}: {why}");
}

fn compare_request(request: &Request, expected: &CaseRequest, name: &str) {
    assert_eq!(request.method, bytes_of(&expected.method), "{name}");
    assert_eq!(request.target, bytes_of(&expected.target), "{name}");
    for (part, expected) in [(&request.path, &expected.path), (&request.query, &expected.query)] {
        assert!(expected.as_ref().is_none_or(|expected| *part == bytes_of(expected)), "{name}: {part:?}");
    }
    if let Some(authority) = &expected.authority {
        assert_eq!(request.authority, Some(bytes_of(authority)), "{name}");
    }
    let version = match &*expected.version {
        "1.0" => Version::Http10,
        "1.1" => Version::Http11,
        "2" => Version::Http2,
        other => panic!("{name}: version {other}"),
    };
    assert_eq!(request.version, version, "{name}");
    let fields: Vec<_> = expected.fields.iter().map(|(n, v)| (bytes_of(n), bytes_of(v))).collect();
    assert_eq!(request.fields, fields, "{name}");
    let dropped: Vec<_> = expected.dropped.iter().map(|name| bytes_of(name)).collect();
    assert_eq!(request.dropped, dropped, "{name}");
    for (variable, value) in &expected.variables {
        let told = request.variables.iter().find(|(name, _)| *name == bytes_of(variable));
        assert_eq!(told.map(|(_, value)| value), Some(&bytes_of(value)), "{name}: {variable}");
    }
    assert_eq!(request.body, expected.body(), "{name}");
    assert_eq!(request.keep_alive, expected.keep_alive, "{name}");
    assert_eq!(request.expect_continue, expected.expect_continue, "{name}");
}

impl CaseLimits {
    fn resolve(&self) -> Limits {
        let default = Limits::default();
        Limits {
            request_line_bytes_max: self.request_line_bytes_max.unwrap_or(default.request_line_bytes_max),
            fields_max: self.fields_max.unwrap_or(default.fields_max),
            field_bytes_max: self.field_bytes_max.unwrap_or(default.field_bytes_max),
            head_bytes_max: self.head_bytes_max.unwrap_or(default.head_bytes_max),
            body_bytes_max: self.body_bytes_max.unwrap_or(default.body_bytes_max),
            chunk_line_bytes_max: self.chunk_line_bytes_max.unwrap_or(default.chunk_line_bytes_max),
        }
    }
}

impl CaseRequest {
    fn body(&self) -> Vec<u8> {
        match (&self.body, &self.body_hex) {
            (Some(text), None) => bytes_of(text),
            (None, Some(hex)) => hex
                .as_bytes()
                .chunks(2)
                .map(|pair| {
                    u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal")
                })
                .collect(),
            _ => panic!("either body or body_hex: {self:?}"),
        }
    }
}

/// The bytes that the characters of `text` stand for.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("characters up to U+00FF")).collect()
}

/// The cases in `folder` of a corpus: where they are, their bytes, and what must come of them.
fn read_cases(corpus: &Corpus, folder: &str) -> Vec<(PathBuf, Vec<u8>, Case)> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(corpus.folder).join(folder);
    let entries = fs::read_dir(&folder).expect("the corpus is there");
    let files: BTreeSet<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    let (raw, described): (BTreeSet<_>, BTreeSet<_>) =
        files.into_iter().partition(|path| path.extension().is_some_and(|extension| extension == "raw"));
    let expected: BTreeSet<_> = raw.iter().map(|path| path.with_extension("toml")).collect();
    assert_eq!(described, expected, "one .toml for each .raw, and nothing else");
    raw.into_iter()
        .map(|path| {
            let bytes = fs::read(&path).expect("a readable file");
            let text = fs::read_to_string(path.with_extension("toml")).expect("a readable file");
            let case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, bytes, case)
        })
        .collect()
}
