//! The whole response for a file but for its bytes: status, headers, and which bytes.

use std::time::SystemTime;

use httpdate::fmt_http_date;

use super::conditional::{Precondition, Preconditions, Validators};
use super::encoding::ContentCoding;
use super::range::{RangeSelection, select_ranges};
use super::tag::EntityTag;

/// What is known of the file that is sent: of the sidecar, where that is.
#[derive(Clone, Debug)]
pub struct FileFacts<'f> {
    /// Its bytes.
    pub size: u64,
    /// Its time in whole seconds; `None` where that says nothing, as in reproducible images.
    pub modified: Option<SystemTime>,
    /// Its tag, in its coding.
    pub tag: Option<EntityTag>,
    /// Its type.
    pub content_type: &'f str,
    /// Its coding.
    pub coding: Option<ContentCoding>,
    /// Whether there is a sidecar, so that other clients get other bytes.
    pub varies: bool,
    /// The value of Cache-Control.
    pub cache_control: &'f str,
}

/// What of a request counts for a file that is there.
#[derive(Clone, Copy, Debug)]
pub struct FileQuery<'q> {
    /// Whether it is GET, and not HEAD.
    pub with_content: bool,
    /// The conditions.
    pub conditions: Preconditions<'q>,
    /// The value of Range.
    pub range: Option<&'q [u8]>,
    /// The time.
    pub now: SystemTime,
    /// Random, for the boundary of several ranges: one that can be guessed could be in a file.
    pub boundary: u128,
}

/// A response for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileResponse {
    /// 200, 206, 304, 412 or 416.
    pub status: u16,
    /// Its headers, without Content-Length.
    pub fields: Vec<(&'static str, String)>,
    /// The value of Content-Length; `None` where it has none.
    pub length: Option<u64>,
    /// What of the file is sent.
    pub body: FileBody,
}

/// The bytes of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileBody {
    /// None, also for HEAD.
    Empty,
    /// From the first of these to the last: offsets in the file.
    Range(u64, u64),
    /// Several parts, then the end.
    Multipart {
        /// In their order.
        parts: Vec<MultipartPart>,
        /// What follows the last one.
        end: String,
    },
}

/// One part of `multipart/byteranges` (RFC 9110, section 14.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartPart {
    /// Boundary and headers before its bytes.
    pub head: String,
    /// First and last byte of the file.
    pub range: (u64, u64),
}

/// The response for a file that is there.
pub fn respond(file: &FileFacts<'_>, query: &FileQuery<'_>) -> FileResponse {
    let own = Validators { tag: file.tag.clone(), modified: file.modified };
    match query.conditions.evaluate(&own) {
        Precondition::Failed => {
            return FileResponse { status: 412, fields: Vec::new(), length: Some(0), body: FileBody::Empty };
        }
        Precondition::NotModified => {
            // Section 15.4.5: what a 200 would have had of these.
            return FileResponse { status: 304, fields: shared(file), length: None, body: FileBody::Empty };
        }
        Precondition::Proceed => {}
    }
    // Section 14.2: Range is for GET alone.
    let range = query.range.filter(|_| query.with_content && query.conditions.range_applies(&own, query.now));
    match range.map_or(RangeSelection::Whole, |value| select_ranges(value, file.size)) {
        RangeSelection::Whole => {
            let mut fields = described(file);
            fields.push(("Accept-Ranges", "bytes".to_owned()));
            let body = match file.size {
                0 => FileBody::Empty,
                size if query.with_content => FileBody::Range(0, size - 1),
                _ => FileBody::Empty,
            };
            FileResponse { status: 200, fields, length: Some(file.size), body }
        }
        RangeSelection::Unsatisfiable => {
            let mut fields = shared(file);
            // Section 15.5.17: so that the client learns the length.
            fields.push(("Content-Range", format!("bytes */{}", file.size)));
            fields.push(("X-Content-Type-Options", "nosniff".to_owned()));
            FileResponse { status: 416, fields, length: Some(0), body: FileBody::Empty }
        }
        RangeSelection::Parts(parts) => match parts[..] {
            [(first, last)] => {
                let mut fields = described(file);
                fields.push(("Content-Range", content_range(first, last, file.size)));
                let body = FileBody::Range(first, last);
                FileResponse { status: 206, fields, length: Some(last - first + 1), body }
            }
            _ => multipart(file, &parts, query.boundary),
        },
    }
}

fn content_range(first: u64, last: u64, size: u64) -> String {
    format!("bytes {first}-{last}/{size}")
}

/// Several ranges in one response.
fn multipart(file: &FileFacts<'_>, ranges: &[(u64, u64)], boundary: u128) -> FileResponse {
    let boundary = format!("{boundary:032x}");
    let part = |range: &(u64, u64)| {
        let place = content_range(range.0, range.1, file.size);
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {}\r\nContent-Range: {place}\r\n\r\n",
            file.content_type
        );
        MultipartPart { head, range: *range }
    };
    let parts: Vec<MultipartPart> = ranges.iter().map(part).collect();
    let end = format!("\r\n--{boundary}--\r\n");
    let bytes = parts.iter().map(|part| part.head.len() as u64 + (part.range.1 - part.range.0) + 1);
    let length = bytes.sum::<u64>() + end.len() as u64;
    let mut fields = described(file);
    for (name, value) in &mut fields {
        if *name == "Content-Type" {
            *value = format!("multipart/byteranges; boundary={boundary}");
        }
    }
    FileResponse { status: 206, fields, length: Some(length), body: FileBody::Multipart { parts, end } }
}

/// What all responses for a file have that is there.
fn shared(file: &FileFacts<'_>) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Cache-Control", file.cache_control.to_owned())];
    fields.extend(file.tag.as_ref().map(|tag| ("ETag", tag.to_string())));
    fields.extend(file.modified.map(|time| ("Last-Modified", fmt_http_date(time))));
    if file.varies {
        fields.push(("Vary", "Accept-Encoding".to_owned()));
    }
    fields
}

/// What those have that bring content.
fn described(file: &FileFacts<'_>) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Content-Type", file.content_type.to_owned()),
        // Or a browser would guess another type than this one.
        ("X-Content-Type-Options", "nosniff".to_owned()),
    ];
    fields.extend(file.coding.map(|coding| ("Content-Encoding", coding.name().to_owned())));
    fields.extend(shared(file));
    fields
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn facts(size: u64) -> FileFacts<'static> {
        FileFacts {
            size,
            modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
            tag: EntityTag::parse("\"t\""),
            content_type: "text/css; charset=utf-8",
            coding: None,
            varies: true,
            cache_control: "max-age=60, public",
        }
    }

    fn query(range: Option<&'static str>) -> FileQuery<'static> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let range = range.map(str::as_bytes);
        FileQuery { with_content: true, conditions: Preconditions::default(), range, now, boundary: 0xab }
    }

    fn field<'r>(response: &'r FileResponse, name: &str) -> Option<&'r str> {
        response.fields.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_whole_file() {
        let whole = respond(&facts(10), &query(None));
        assert_eq!((whole.status, whole.length, &whole.body), (200, Some(10), &FileBody::Range(0, 9)));
        for (name, value) in [
            ("Content-Type", "text/css; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("ETag", "\"t\""),
            ("Last-Modified", "Thu, 01 Jan 1970 00:00:01 GMT"),
            ("Cache-Control", "max-age=60, public"),
            ("Vary", "Accept-Encoding"),
            ("Accept-Ranges", "bytes"),
        ] {
            assert_eq!(field(&whole, name), Some(value));
        }
        assert_eq!(field(&whole, "Content-Encoding"), None);
        let head = respond(&facts(10), &FileQuery { with_content: false, ..query(Some("bytes=0-1")) });
        assert_eq!((head.status, head.length, &head.body), (200, Some(10), &FileBody::Empty));
        assert_eq!(head.fields, whole.fields);
        assert_eq!(respond(&facts(0), &query(None)).body, FileBody::Empty);
        let coded = FileFacts { coding: Some(ContentCoding::Zstd), ..facts(10) };
        assert_eq!(field(&respond(&coded, &query(None)), "Content-Encoding"), Some("zstd"));
    }

    /// RFC 9110, sections 15.4.5 and 15.5.13.
    #[test]
    fn a_304_has_what_caches_update_and_no_content() {
        let conditions = Preconditions { if_none_match: Some(b"\"t\""), ..Preconditions::default() };
        let same = respond(&facts(10), &FileQuery { conditions, ..query(Some("bytes=0-1")) });
        assert_eq!((same.status, same.length, &same.body), (304, None, &FileBody::Empty));
        let names: Vec<&str> = same.fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["Cache-Control", "ETag", "Last-Modified", "Vary"]);
        let conditions = Preconditions { if_match: Some(b"\"other\""), ..Preconditions::default() };
        assert_eq!(respond(&facts(10), &FileQuery { conditions, ..query(None) }).status, 412);
    }

    /// RFC 9110, sections 14.4, 15.3.7 and 15.5.17.
    #[test]
    fn ranges() {
        let one = respond(&facts(10), &query(Some("bytes=2-4")));
        assert_eq!((one.status, one.length, &one.body), (206, Some(3), &FileBody::Range(2, 4)));
        assert_eq!(field(&one, "Content-Range"), Some("bytes 2-4/10"));
        let none = respond(&facts(10), &query(Some("bytes=10-")));
        assert_eq!((none.status, field(&none, "Content-Range")), (416, Some("bytes */10")));
        assert_eq!(field(&none, "X-Content-Type-Options"), Some("nosniff"));
        let conditions = Preconditions { if_range: Some(b"\"other\""), ..Preconditions::default() };
        let changed = respond(&facts(10), &FileQuery { conditions, ..query(Some("bytes=2-4")) });
        assert_eq!((changed.status, changed.length), (200, Some(10)));
    }

    /// RFC 9110, section 14.6.
    #[test]
    fn several_ranges_are_parts_whose_length_is_known() {
        let several = respond(&facts(100), &query(Some("bytes=0-1,50-52")));
        assert_eq!(several.status, 206);
        let boundary = format!("{:032x}", 0xab);
        let kind = format!("multipart/byteranges; boundary={boundary}");
        assert_eq!(field(&several, "Content-Type"), Some(&*kind));
        assert_eq!(field(&several, "Content-Range"), None, "it is in the parts");
        let FileBody::Multipart { parts, end } = &several.body else { panic!("{several:?}") };
        let written: String = parts
            .iter()
            .map(|part| part.head.clone() + &"x".repeat((part.range.1 - part.range.0 + 1) as usize))
            .collect::<String>()
            + end;
        assert_eq!(several.length, Some(written.len() as u64));
        assert_eq!(
            parts[1].head,
            format!(
                "\r\n--{boundary}\r\nContent-Type: text/css; charset=utf-8\r\n\
                 Content-Range: bytes 50-52/100\r\n\r\n"
            )
        );
        assert!(written.ends_with(&format!("--{boundary}--\r\n")));
    }
}
