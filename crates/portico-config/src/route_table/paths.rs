//! Paths and templates as routes write them: decoded, with `{name}` where something is captured.

use crate::error::ParseError;

/// The path of `path`: a prefix at a boundary of segments. `/` is empty here.
///
/// # Errors
/// What is wrong with it.
pub(super) fn prefix(text: &str) -> Result<String, ParseError> {
    let path = plain(text)?;
    if path.contains(['{', '}']) {
        return Err("captures such as {name} go with exact alone; write exact = ... or leave them out".into());
    }
    Ok(path.strip_suffix('/').unwrap_or(path).to_owned())
}

/// The path of `exact`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn exact(text: &str) -> Result<String, ParseError> {
    // Three points are what a keyboard has.
    let text = &text.replace("...}", "…}");
    let path = plain(text)?;
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut names: Vec<&str> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let Some((before, name, after)) = capture(segment)? else { continue };
        let (rest, name) = match name.strip_suffix('…') {
            Some(name) => (true, name),
            None => (false, name),
        };
        if rest && (index + 1 != segments.len() || !before.is_empty() || !after.is_empty()) {
            return Err(format!("{{{name}…}} takes the rest of the path; have it be the last segment").into());
        }
        if name == "path" {
            return Err("{path} is the whole path in a redirect; give the capture another name".into());
        }
        if names.contains(&name) {
            return Err(format!("{{{name}}} is captured twice; give one of them another name").into());
        }
        names.push(name);
    }
    Ok(path.to_owned())
}

/// Where a redirect leads: a path, or a URI with `http` or `https`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn target(text: &str) -> Result<String, ParseError> {
    let text = &text.replace("...}", "…}").replace('…', "");
    check_captures(text)?;
    if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(format!("{text:?} has characters that no URI may have; write them as %XX").into());
    }
    if let Some(after) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        let end = after.find(['/', '?', '#', '{']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        if authority.is_empty() || authority.contains(['@', '\\']) {
            return Err(format!("{text:?} names no host after its scheme; write https://example.com/").into());
        }
        // A capture would become a part of the host's name: https://example.com{x} with `.evil.example`.
        if rest.starts_with('{') && !rest.starts_with("{path}") {
            return Err("a capture must not follow the host; write a / between them".into());
        }
        return Ok(text.clone());
    }
    if !text.starts_with('/') || text.starts_with("//") || text.starts_with("/\\") {
        return Err(
            format!("{text:?} leads nowhere; write a path such as /new, or https://example.com/").into()
        );
    }
    Ok(text.clone())
}

/// The path of `rewrite`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn rewrite(text: &str) -> Result<String, ParseError> {
    let text = text.replace("...}", "…}").replace('…', "");
    check_captures(&text)?;
    Ok(plain(&text)?.to_owned())
}

/// The path of a file below a folder that is served.
///
/// # Errors
/// What is wrong with it.
pub(super) fn file(text: &str) -> Result<String, ParseError> {
    let path = plain(text)?;
    if path.ends_with('/') {
        return Err(format!("{text:?} is a folder; write a file such as /index.html").into());
    }
    Ok(path.to_owned())
}

/// The names that are captured or filled in, in their order.
pub(super) fn captures_of(text: &str) -> Vec<String> {
    let pieces = text.split('{').skip(1);
    pieces.filter_map(|piece| Some(piece.split_once('}')?.0.trim_end_matches('…').to_owned())).collect()
}

/// A decoded path in its normal form: that is what requests' paths are compared with.
fn plain(text: &str) -> Result<&str, ParseError> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with a slash; write /{text}").into());
    }
    let escape = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    };
    if text.match_indices('%').any(|(at, _)| escape(at)) {
        return Err(format!("{text:?} is percent-encoded; write the path decoded").into());
    }
    if text.contains(['?', '#', '\\']) || text.chars().any(char::is_control) {
        return Err(format!("{text:?} has characters that no path of a route may have").into());
    }
    let mut segments = text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment == "." || segment == ".." || (segment.is_empty() && segments.peek().is_some()) {
            return Err(
                format!("{text:?} has an empty segment or dots; write the path that they lead to").into()
            );
        }
    }
    Ok(text)
}

fn check_captures(text: &str) -> Result<(), ParseError> {
    text.split('/').try_for_each(|segment| {
        let mut rest = segment;
        while let Some((_, _, after)) = first_capture(rest)? {
            rest = after;
        }
        Ok(())
    })
}

/// What stands before the only capture of a segment, its name, and what stands after it.
fn capture(segment: &str) -> Result<Option<(&str, &str, &str)>, ParseError> {
    let Some((before, name, after)) = first_capture(segment)? else { return Ok(None) };
    if after.contains(['{', '}']) {
        return Err(format!("{segment:?} captures twice in one segment; one is taken in each").into());
    }
    Ok(Some((before, name, after)))
}

fn first_capture(text: &str) -> Result<Option<(&str, &str, &str)>, ParseError> {
    let wrong = || ParseError::from(format!("{text:?} has a brace that captures nothing; write {{name}}"));
    let Some((before, rest)) = text.split_once('{') else {
        return if text.contains('}') { Err(wrong()) } else { Ok(None) };
    };
    let (name, after) = rest.split_once('}').ok_or_else(wrong)?;
    let plain = name.trim_end_matches('…');
    let is_name = plain.starts_with(|first: char| first.is_ascii_alphabetic())
        && plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name || before.contains('}') {
        return Err(wrong());
    }
    Ok(Some((before, name, after)))
}
