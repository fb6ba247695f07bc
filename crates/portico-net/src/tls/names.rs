//! Distinguished names and moments as OpenSSL writes them, which applications have from Apache's mod_ssl.

use portico_proto::HttpDate;
use x509_parser::prelude::{ASN1Time, AttributeTypeAndValue, X509Name};

/// The short names of RFC 4514, section 3, and those that OpenSSL has beside them.
const SHORT: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A name as text by RFC 2253 (as `openssl x509 -nameopt RFC2253` without `esc_msb`): the last part first.
pub(super) fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for relative in name.iter() {
        let attributes: Vec<String> = relative.iter().map(attribute).collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

/// Short name and value of each attribute that has a short name, in the name's order.
pub(super) fn attributes<'n>(name: &'n X509Name<'_>) -> impl Iterator<Item = (&'static str, String)> + 'n {
    name.iter_attributes().filter_map(|attribute| {
        let short = short(attribute)?;
        Some((short, text(attribute)?))
    })
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    match (short(attribute), text(attribute)) {
        (Some(short), Some(text)) => format!("{short}={}", escape(&text)),
        (Some(short), None) => format!("{short}=#{}", hex(attribute.attr_value().data)),
        (None, Some(text)) => format!("{}={}", attribute.attr_type(), escape(&text)),
        (None, None) => format!("{}=#{}", attribute.attr_type(), hex(attribute.attr_value().data)),
    }
}

fn short(attribute: &AttributeTypeAndValue<'_>) -> Option<&'static str> {
    let identifier = attribute.attr_type().to_id_string();
    SHORT.iter().find(|(known, _)| *known == identifier).map(|(_, short)| *short)
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    attribute.as_str().ok().map(str::to_owned)
}

/// RFC 2253, section 2.4.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => escaped.extend(['\\', character]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            control if control.is_ascii_control() => escaped.push_str(&format!("\\{:02X}", control as u32)),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Upper-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `Nov  6 08:49:37 1994 GMT`
pub(super) fn moment(time: ASN1Time) -> String {
    let date = HttpDate::from_unix(u64::try_from(time.timestamp()).unwrap_or(0));
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let text = String::from_utf8_lossy(date.as_bytes()).into_owned();
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        [_, day, month, year, clock, zone] => {
            format!("{month} {:>2} {clock} {year} {zone}", day.trim_start_matches('0'))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_read_otherwise_is_escaped() {
        for (text, escaped) in [
            ("Acme, Inc.", "Acme\\, Inc."),
            ("#1", "\\#1"),
            ("a#1", "a#1"),
            (" a b ", "\\ a b\\ "),
            ("a+b;\"c\"<d>\\", "a\\+b\\;\\\"c\\\"\\<d\\>\\\\"),
            ("Müller\n", "Müller\\0A"),
            ("", ""),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }

    #[test]
    fn moments_are_openssls() {
        let time = |seconds| ASN1Time::from_timestamp(seconds).unwrap();
        assert_eq!(moment(time(784_111_777)), "Nov  6 08:49:37 1994 GMT");
        assert_eq!(moment(time(1_795_219_200)), "Nov 21 00:00:00 2026 GMT");
    }
}
