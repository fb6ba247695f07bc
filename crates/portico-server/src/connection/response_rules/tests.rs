//! What becomes of heads; what becomes of contents, tests/edge/test_compress.py and test_intercept.py show.

use super::*;

fn head(status: u16, length: Option<u64>, fields: &[(&str, &str)]) -> ResponseHead {
    let mut of = Fields::new();
    fields.iter().for_each(|(name, value)| of.push(name.as_bytes(), value.as_bytes()));
    ResponseHead { status, length, fields: of, ..ResponseHead::default() }
}

fn lines(head: &ResponseHead) -> String {
    String::from_utf8_lossy(head.fields.lines()).replace("\r\n", "|")
}

#[test]
fn a_head_says_what_it_depends_on() {
    for (vary, expected) in [
        (&["Cookie"][..], "Vary: Cookie, Accept-Encoding|"),
        (&["Cookie", "Origin"], "Vary: Cookie, Accept-Encoding|Vary: Origin|"),
        (&["Cookie", "accept-encoding"], "Vary: Cookie|Vary: accept-encoding|"),
        (&["a,Accept-Encoding ,b"], "Vary: a,Accept-Encoding ,b|"),
        (&["*"], "Vary: *|"),
        (&[""], "Vary: Accept-Encoding|"),
        (&[], "Vary: Accept-Encoding|"),
    ] {
        let fields: Vec<_> = vary.iter().map(|value| ("Vary", *value)).collect();
        assert_eq!(lines(&varied(&head(200, None, &fields), Representation::Own)), expected);
    }
}

#[test]
fn another_content_has_another_head() {
    let fields = [("ETag", "\"a\""), ("Accept-Ranges", "bytes"), ("X", "y")];
    let own = varied(&head(200, Some(9), &fields), Representation::Own);
    assert_eq!(lines(&own), "ETag: \"a\"|Accept-Ranges: bytes|X: y|Vary: Accept-Encoding|");
    assert_eq!(own.length, Some(9));
    let encoded = varied(&head(200, Some(9), &fields), Representation::Encoded(ContentCoding::Zstd));
    assert_eq!(lines(&encoded), "ETag: W/\"a\"|X: y|Vary: Accept-Encoding|Content-Encoding: zstd|");
    assert_eq!(encoded.length, None);
    let absent = varied(&head(304, None, &fields), Representation::Absent);
    assert_eq!(lines(&absent), "ETag: W/\"a\"|X: y|Vary: Accept-Encoding|");
}

#[test]
fn what_describes_a_content_goes_with_it() {
    let fields = [
        ("Content-Type", "application/json"),
        ("content-encoding", "gzip"),
        ("Content-Disposition", "attachment"),
        ("Content-Security-Policy", "default-src 'self'"),
        ("ETag", "\"a\""),
        ("Last-Modified", "x"),
        ("Cache-Control", "max-age=9"),
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d"),
        ("WWW-Authenticate", "Basic"),
        ("Retry-After", "9"),
        ("Allow", "GET"),
        ("Vary", "Cookie"),
    ];
    let page = without_content(&head(503, Some(9), &fields), 77);
    assert_eq!(
        lines(&page),
        "Content-Security-Policy: default-src 'self'|Set-Cookie: a=b|Set-Cookie: c=d|WWW-Authenticate: Basic|\
         Retry-After: 9|Allow: GET|Vary: Cookie|Content-Type: text/html; charset=utf-8|Cache-Control: no-store|"
    );
    assert_eq!((page.status, page.length), (503, Some(77)));
}

#[test]
fn padding_varies_within_its_bounds() {
    let all: std::collections::HashSet<usize> = (0..2000).map(|_| padding()).collect();
    assert!(all.iter().all(|padding| *padding <= PADDING_MAX));
    assert!(all.len() > PADDING_MAX / 2, "{} lengths in 2,000", all.len());
}
