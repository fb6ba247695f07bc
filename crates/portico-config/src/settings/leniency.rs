//! gunicorn's switches that have malformed requests taken. There is one strict parser here: what two servers in
//! a row read in two ways is how a request is smuggled past the first.

use super::compatibility::BLANK;
use crate::setting::{Setting, Takes, ValueType};

pub(super) const SETTINGS: &[Setting] =
    &[PERMIT_OBSOLETE_FOLDING, STRIP_HEADER_SPACES, PERMIT_UNCONVENTIONAL_HTTP_VERSION, CASEFOLD_HTTP_METHOD];

const FALSE: &[&str] = &["false"];

pub(crate) const PERMIT_OBSOLETE_FOLDING: Setting = Setting {
    name: "permit_obsolete_folding",
    flags: &["permit-obsolete-folding"],
    value: ValueType::Refused {
        takes: Takes::Nothing,
        harmless: FALSE,
        why: "two servers in a row may read folded headers differently, which allows request smuggling (RFC 9112, \
            section 5.2); the client or the proxy must send each header in one line",
    },
    help: "Accept headers that continue on the next line",
    details: "Such requests get 400.",
    ..BLANK
};

pub(crate) const STRIP_HEADER_SPACES: Setting = Setting {
    name: "strip_header_spaces",
    flags: &["strip-header-spaces"],
    value: ValueType::Refused {
        takes: Takes::Nothing,
        harmless: FALSE,
        why: "white space before a header's colon allows request smuggling (RFC 9112, section 5.1); the \
            client or the proxy must not send it",
    },
    help: "Accept white space between a header's name and its colon",
    details: "Such requests get 400.",
    ..BLANK
};

pub(crate) const PERMIT_UNCONVENTIONAL_HTTP_VERSION: Setting = Setting {
    name: "permit_unconventional_http_version",
    flags: &["permit-unconventional-http-version"],
    value: ValueType::Refused {
        takes: Takes::Nothing,
        harmless: FALSE,
        why: "how a body ends depends on the version, so unknown ones are refused; every HTTP/1.x is \
            served without this switch",
    },
    help: "Accept versions of HTTP that do not exist",
    details: "HTTP/1.2 to 1.9 are served as 1.1 (RFC 9110, section 2.5), others get 505.",
    ..BLANK
};

pub(crate) const CASEFOLD_HTTP_METHOD: Setting = Setting {
    name: "casefold_http_method",
    flags: &["casefold-http-method"],
    value: ValueType::Refused {
        takes: Takes::Nothing,
        harmless: FALSE,
        why: "methods are case-sensitive (RFC 9110, section 9.1), and decide whether a response has a \
            body; the client must send them in capitals",
    },
    help: "Convert methods to capitals",
    details: "A method reaches the application as it was sent.",
    ..BLANK
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{refusal, resolved};

    #[test]
    fn there_is_no_leniency() {
        for setting in SETTINGS {
            let ValueType::Refused { why, .. } = setting.value else { panic!("{}", setting.name) };
            let flag = format!("--{}", setting.flags[0]);
            assert_eq!(refusal(&[&flag]), format!("{flag}: {why}"));
            assert_eq!(resolved(&[(&setting.variable(), "False")], &[]).warnings, [""; 0]);
        }
    }
}
