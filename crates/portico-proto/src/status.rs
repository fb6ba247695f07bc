//! Standard reason phrases of status codes.

use http::StatusCode;

/// The standard reason phrase of `status` (RFC 9110, section 15); empty for codes that have none.
///
/// From the http crate, except for three, which it still calls as RFC 7231 and RFC 4918 did, or spells without the
/// hyphen.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        203 => "Non-Authoritative Information",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        _ => {
            StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_those_of_the_registry() {
        for (status, phrase) in [
            (103, "Early Hints"),
            (203, "Non-Authoritative Information"),
            (301, "Moved Permanently"),
            (413, "Content Too Large"),
            (421, "Misdirected Request"),
            (422, "Unprocessable Content"),
            (431, "Request Header Fields Too Large"),
            (451, "Unavailable For Legal Reasons"),
            (507, "Insufficient Storage"),
            (511, "Network Authentication Required"),
        ] {
            assert_eq!(reason(status), phrase);
        }
        for unknown in [0, 99, 299, 599, 999, 1000, u16::MAX] {
            assert_eq!(reason(unknown), "", "{unknown}");
        }
    }
}
