//! Regular expressions of other servers' configurations, as far as they stand for paths that a route can say.
//!
//! `^/old/(.*)$` is `/old/{rest…}`, `^/(a|b)/` is two prefixes, `\.(css|js)$` is a list of extensions. Everything
//! else is refused: an expression that is only nearly the same would send some requests elsewhere, unnoticed.

/// Paths that an expression matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathRegex {
    pub place: RegexPlace,
    /// What `$1`, `$2` and so on stand for in a redirect.
    pub captures: Vec<String>,
    /// In which way the route takes other paths than the expression.
    pub remarks: Vec<&'static str>,
}

/// Which paths, in the terms of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RegexPlace {
    /// All.
    Any,
    /// `path`
    Prefix(String),
    /// `exact`
    Exact(String),
    /// Paths that end in one of these, which no route can say.
    Extensions(Vec<String>),
    /// Paths with a segment that begins with a dot, which are never served.
    DotFiles,
}

/// Alternatives within one expression become routes of their own.
const ALTERNATIVES_MAX: usize = 32;

/// A part of an expression.
#[derive(Clone, Debug)]
enum RegexPiece {
    Text(String),
    /// One of these, and whether `$1` names it.
    OneOf(Vec<String>, bool),
    /// A part of a segment, whether `$1` names it, and whether it takes every text.
    Segment(bool, bool),
    /// The rest of the path, and whether `$1` names it.
    Rest(bool),
}

/// The route has more paths than the expression. With the other remarks it has fewer.
pub(crate) const ONE_SEGMENT: &str =
    "the expression takes certain characters only, the route any text without a slash";
const ANY_CHARACTER: &str = "a dot is any character in the expression, and a dot in the route";
const LONGER_NAMES: &str =
    "the expression takes longer names too, as /shopping for /shop; the route does not";
const BOTH_CASES: &str = "the expression takes capitals and small letters alike; the route does not";

/// What `regex` matches; `None` if no route can say it.
pub(crate) fn read(regex: &str) -> Option<Vec<PathRegex>> {
    let mut remarks = Vec::new();
    let regex = match regex.strip_prefix("(?i)") {
        Some(rest) => {
            remarks.push(BOTH_CASES);
            rest
        }
        None => regex,
    };
    if matches!(regex, "" | ".*" | "^" | "^.*" | "^/" | "/" | "^/.*" | "/.*" | "/*" | "^.*$" | "^/.*$") {
        return Some(vec![PathRegex { place: RegexPlace::Any, captures: Vec::new(), remarks }]);
    }
    if let Some(place) = ending(regex) {
        return Some(vec![PathRegex { place, captures: Vec::new(), remarks }]);
    }
    let (pieces, end) = pieces(regex.strip_prefix('^')?, &mut remarks)?;
    let mut found = vec![Vec::new()];
    for piece in &pieces {
        let choices: Vec<RegexChoice> = match piece {
            RegexPiece::OneOf(texts, named) => {
                texts.iter().map(|text| RegexChoice::Text(text, *named)).collect()
            }
            RegexPiece::Text(text) => vec![RegexChoice::Text(text, false)],
            RegexPiece::Segment(named, _) => vec![RegexChoice::Segment(*named)],
            RegexPiece::Rest(named) => vec![RegexChoice::Rest(*named)],
        };
        found = found
            .into_iter()
            .flat_map(|before| choices.iter().map(move |choice| [&before[..], &[*choice]].concat()))
            .collect();
        if found.len() > ALTERNATIVES_MAX {
            return None;
        }
    }
    found.iter().map(|choices| place(choices, end, remarks.clone())).collect()
}

/// The text with `$1`, `${1}` and so on put in; `None` where nothing is known of one.
pub(crate) fn fill(text: &str, captures: &[String]) -> Option<String> {
    let (mut rest, mut whole) = (text, String::new());
    while let Some((before, after)) = rest.split_once('$') {
        whole.push_str(before);
        let after = after.strip_prefix('{').map_or(after, |after| after);
        let number = after.chars().next()?.to_digit(10)?;
        whole.push_str(captures.get((number as usize).checked_sub(1)?)?);
        rest = after[1..].strip_prefix('}').unwrap_or(&after[1..]);
    }
    Some(whole + rest)
}

/// How an expression ends, behind its pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RegexEnd {
    /// `$`
    Whole,
    /// `(/|$)`
    Boundary,
    /// Nothing.
    Open,
}

#[derive(Clone, Copy)]
enum RegexChoice<'p> {
    Text(&'p str, bool),
    Segment(bool),
    Rest(bool),
}

/// The paths of one choice of alternatives.
fn place(choices: &[RegexChoice<'_>], end: RegexEnd, mut remarks: Vec<&'static str>) -> Option<PathRegex> {
    let (mut path, mut captures, mut is_plain, mut rest) = (String::new(), Vec::new(), true, false);
    for choice in choices {
        if rest {
            return None; // What follows the rest of a path is not told apart.
        }
        match choice {
            RegexChoice::Text(text, named) => {
                path.push_str(text);
                captures.extend(named.then(|| text.to_string()));
            }
            RegexChoice::Segment(named) => {
                let segment = path.rsplit('/').next().unwrap_or_default();
                if segment.contains('{') {
                    return None; // One capture is taken in each segment.
                }
                let name = format!("{{part{}}}", path.matches('{').count() + 1);
                path.push_str(&name);
                captures.extend(named.then_some(name));
                is_plain = false;
            }
            RegexChoice::Rest(named) => {
                if !path.ends_with('/') {
                    return None;
                }
                path.push_str("{rest…}");
                captures.extend(named.then(|| "{rest}".to_owned()));
                (rest, is_plain) = (true, false);
            }
        }
    }
    if !path.starts_with('/') {
        return None;
    }
    let place = match end {
        RegexEnd::Whole => RegexPlace::Exact(path),
        _ if rest => RegexPlace::Exact(path),
        _ if !is_plain => return None,
        RegexEnd::Boundary => RegexPlace::Prefix(path),
        RegexEnd::Open => {
            if !path.ends_with('/') {
                remarks.push(LONGER_NAMES);
            }
            RegexPlace::Prefix(path.trim_end_matches('/').to_owned())
        }
    };
    Some(PathRegex { place, captures, remarks })
}

/// `\.(css|js)$`, and the usual expressions for files that begin with a dot.
fn ending(regex: &str) -> Option<RegexPlace> {
    if matches!(regex, r"/\." | r"/\.(?!well-known)" | r"/\.(?!well-known).*" | r"/\.(?!well-known\/).*")
        || matches!(regex, r"/\.ht" | r"^/\." | r"/\.git" | r"/\.(?!well-known/)" | r"(^|/)\." | r"/\.env")
    {
        return Some(RegexPlace::DotFiles);
    }
    let regex = regex.strip_prefix("^").unwrap_or(regex);
    let regex =
        [".+", "^.+", ".*", "/.*"].iter().find_map(|start| regex.strip_prefix(start)).unwrap_or(regex);
    let list = regex.strip_prefix(r"\.")?.strip_suffix('$')?;
    let list = list
        .strip_prefix("(?:")
        .or_else(|| list.strip_prefix('('))
        .map_or(Some(list), |list| list.strip_suffix(')'))?;
    let is_name = |text: &&str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let names: Vec<String> = list
        .split('|')
        // `jpe?g` is two.
        .flat_map(|name| match name.split_once('?') {
            Some((before, after)) => {
                let without = before.get(..before.len().saturating_sub(1)).unwrap_or_default();
                vec![format!("{without}{after}"), format!("{before}{after}")]
            }
            None => vec![name.to_owned()],
        })
        .collect();
    names.iter().all(|name| is_name(&name.as_str())).then_some(RegexPlace::Extensions(names))
}

/// The pieces of what follows `^`, and how it ends.
fn pieces(regex: &str, remarks: &mut Vec<&'static str>) -> Option<(Vec<RegexPiece>, RegexEnd)> {
    let (mut found, mut text, mut rest) = (Vec::new(), String::new(), regex);
    loop {
        if let Some((end, last)) = end_of(rest) {
            push_text(&mut text, &mut found);
            found.extend(last);
            return Some((found, end));
        }
        let letter = rest.chars().next()?;
        if letter == '(' {
            push_text(&mut text, &mut found);
            let (group, after) = group(rest)?;
            found.push(piece_of(group)?);
            rest = after;
        } else if let Some((takes_all, after)) = bare_segment(rest) {
            push_text(&mut text, &mut found);
            found.push(RegexPiece::Segment(false, takes_all));
            rest = after;
        } else if letter == '\\' {
            let escaped = rest[1..].chars().next()?;
            if escaped.is_ascii_alphanumeric() || !escaped.is_ascii() {
                return None; // A class such as \d.
            }
            text.push(escaped);
            rest = &rest[2..];
        } else {
            rest = &rest[letter.len_utf8()..];
            if "[]{}^$|*+?".contains(letter) || rest.starts_with(['*', '+', '?', '{']) {
                return None;
            }
            if letter == '.' && !remarks.contains(&ANY_CHARACTER) {
                remarks.push(ANY_CHARACTER);
            }
            text.push(letter);
        }
        if let Some(RegexPiece::Segment(_, false)) = found.last()
            && text.is_empty()
        {
            remarks.push(ONE_SEGMENT);
        }
    }
}

/// How an expression ends of which this is the rest, and what of it is a piece.
fn end_of(rest: &str) -> Option<(RegexEnd, Option<RegexPiece>)> {
    Some(match rest {
        "" => (RegexEnd::Open, None),
        "$" | "/?$" => (RegexEnd::Whole, None),
        // What is captured there cannot be named, and so no text asks for it.
        "(/|$)" | "(?:/|$)" | "(/.*)?$" | "(?:/.*)?$" | "(/.*)?" => (RegexEnd::Boundary, None),
        ".*" | ".+" | ".*$" | ".+$" => (RegexEnd::Whole, Some(RegexPiece::Rest(false))),
        _ => return None,
    })
}

fn push_text(text: &mut String, found: &mut Vec<RegexPiece>) {
    if !text.is_empty() {
        found.push(RegexPiece::Text(std::mem::take(text)));
    }
}

/// Whether a part of a segment without parentheses, with which `text` begins, takes every text, and what follows.
fn bare_segment(text: &str) -> Option<(bool, &str)> {
    if let Some(after) = ["[^/]+", "[^/]*"].iter().find_map(|start| text.strip_prefix(start)) {
        return Some((true, after));
    }
    let after = [r"\d+", r"\w+"].iter().find_map(|start| text.strip_prefix(start)).or_else(|| {
        let (class, after) = text.strip_prefix('[')?.split_once("]+")?;
        is_plain_class(class).then_some(after)
    })?;
    Some((false, after))
}

/// Letters, digits and a few signs that stand in no slash's place.
fn is_plain_class(class: &str) -> bool {
    class.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.\\".contains(&byte))
}

/// The group with which `text` begins, in its parentheses, and what follows it.
fn group(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut escaped, mut in_class) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'(' if !in_class => depth += 1,
            b')' if !in_class => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let (group, after) = text.split_at(at + 1);
            let is_repeated = after.starts_with(['*', '+', '?', '{']);
            return (!is_repeated).then_some((group, after));
        }
    }
    None
}

/// What a group is.
fn piece_of(group: &str) -> Option<RegexPiece> {
    let inner = group.strip_prefix('(')?.strip_suffix(')')?;
    let (inner, named) = match inner.strip_prefix("?:") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    match inner {
        ".*" | ".+" | ".*?" | ".+?" => return Some(RegexPiece::Rest(named)),
        "[^/]+" | "[^/]*" | "[^/]+?" => return Some(RegexPiece::Segment(named, true)),
        r"\d+" | r"\w+" | r"\d*" | r"\w*" => return Some(RegexPiece::Segment(named, false)),
        _ => {}
    }
    if let Some(class) = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix("]+")) {
        return is_plain_class(class).then_some(RegexPiece::Segment(named, false));
    }
    let texts: Option<Vec<String>> = inner.split('|').map(plain).collect();
    texts
        .filter(|texts| texts.iter().all(|text| !text.is_empty()))
        .map(|texts| RegexPiece::OneOf(texts, named))
}

/// A text without operators.
fn plain(text: &str) -> Option<String> {
    let (mut whole, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => whole.push(letters.next().filter(char::is_ascii_punctuation)?),
            _ if "()[]{}^$|*+?.".contains(letter) => return None,
            _ => whole.push(letter),
        }
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(regex: &str) -> String {
        let Some(found) = read(regex) else { return "-".to_owned() };
        let one = |it: &PathRegex| {
            let place = match &it.place {
                RegexPlace::Any => "any".to_owned(),
                RegexPlace::Prefix(path) => format!("{path}/**"),
                RegexPlace::Exact(path) => path.clone(),
                RegexPlace::Extensions(names) => format!("*.{}", names.join(",")),
                RegexPlace::DotFiles => "dots".to_owned(),
            };
            let captures = if it.captures.is_empty() { String::new() } else { format!(" {:?}", it.captures) };
            format!("{place}{captures}{}", "!".repeat(it.remarks.len()))
        };
        found.iter().map(one).collect::<Vec<_>>().join(" ; ")
    }

    #[test]
    fn what_a_route_can_say_is_read() {
        for (regex, expected) in [
            ("^/old/(.*)$", "/old/{rest…} [\"{rest}\"]"),
            ("^/old/(.*)", "/old/{rest…} [\"{rest}\"]"),
            (r"^/old\.html$", "/old.html"),
            ("^/old.html$", "/old.html!"),
            ("^/old/?$", "/old"),
            ("^/shop/", "/shop/**"),
            ("^/shop", "/shop/**!"),
            ("^/shop(/|$)", "/shop/**"),
            ("^/(?:a|b)/", "/a/** ; /b/**"),
            ("^/(a|b)/(.*)$", "/a/{rest…} [\"a\", \"{rest}\"] ; /b/{rest…} [\"b\", \"{rest}\"]"),
            (r"^/blog/(\d+)/([a-z0-9-]+)\.html$", "/blog/{part1}/{part2}.html [\"{part1}\", \"{part2}\"]!!"),
            (r"^/a/[^/]+/\d+/[a-z]+\.html$", "/a/{part1}/{part2}/{part3}.html!!"),
            ("^/user/([^/]+)$", "/user/{part1} [\"{part1}\"]"),
            (r"\.(css|js|jpe?g)$", "*.css,js,jpg,jpeg"),
            (r"^.+\.(?:ico|css)$", "*.ico,css"),
            (r"\.php$", "*.php"),
            (r"/\.(?!well-known).*", "dots"),
            (".*", "any"),
            ("(?i)^/x$", "/x!"),
        ] {
            assert_eq!(shown(regex), expected, "{regex}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for regex in [
            "old",
            "/old/(.*)$",
            "^/a{2}$",
            "^/a+$",
            "^/a/(.*)/b$",
            "^/a(.*)$",
            "^/(a(b)c)$",
            "^/(.+)-(.+)$",
            r"^/\d$",
            "^/[ab]$",
            "^/(a|b)?/c$",
            "^/(a.b|c)$",
            "^a$",
            "^/(x",
            r"\.(css|js)",
            r"\.(c.s)$",
            "^/x|/y$",
            "^/([^/]+)/",
            "^/[^/]+[0-9]+$",
            "^/[^a]+$",
            "\\",
            "^/\\",
            "^/(?=x)",
        ] {
            assert_eq!(shown(regex), "-", "{regex}");
        }
        let many = format!("^/{}$", "(a|b|c)/".repeat(5));
        assert_eq!(shown(&many), "-", "{ALTERNATIVES_MAX} alternatives at most");
    }

    #[test]
    fn captures_are_put_in() {
        let captures = ["{a}".to_owned(), "b".to_owned()];
        assert_eq!(fill("/x/$1/${2}/y", &captures).as_deref(), Some("/x/{a}/b/y"));
        assert_eq!(fill("/x", &captures).as_deref(), Some("/x"));
        for text in ["/$3", "/$0", "/$name", "/$", "/${"] {
            assert_eq!(fill(text, &captures), None, "{text}");
        }
    }
}
