//! Where redirects lead, and the files that list them.

use std::collections::HashMap;

use portico_config::check_redirect;

use crate::path::RequestPath;

/// The redirects of a file: one on each line, `FROM TO [STATUS]`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RedirectTable {
    entries: HashMap<Vec<u8>, RedirectEntry>,
}

#[derive(Debug, PartialEq, Eq)]
struct RedirectEntry {
    to: String,
    status: u16,
    line: usize,
}

/// A site that has moved has thousands of old addresses; more than this is a table that a program should look up.
const REDIRECTS_MAX: usize = 100_000;

/// What a line means that says no status. It is temporary, because browsers keep a permanent one for ever.
const DEFAULT_STATUS: u16 = 302;

/// The statuses of redirects (RFC 9110, section 15.4).
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

impl RedirectTable {
    /// Reads the file `name`, whose content is `text`. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// One line with the file and the line: what is wrong, and what to write instead.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut entries: HashMap<Vec<u8>, RedirectEntry> = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let error = |problem: String| format!("{name}:{line_number}: {problem}");
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (from, to, status) = match words[..] {
                [from, to] => (from, to, DEFAULT_STATUS),
                [from, to, status] => {
                    let known = STATUSES.into_iter().find(|known| known.to_string() == status);
                    let wrong =
                        || format!("{status} is no status of a redirect; write 301, 302, 303, 307 or 308");
                    (from, to, known.ok_or_else(|| error(wrong()))?)
                }
                _ => return Err(error("a line is FROM TO [STATUS]; write /old /new 301".to_owned())),
            };
            let from = normal(from).map_err(error)?;
            let to = check_redirect(to).map_err(error)?;
            if to.contains(['{', '}']) {
                let problem = "a file has no captures; write a route with exact and redirect for them";
                return Err(error(problem.to_owned()));
            }
            if let Some(other) = entries.get(&from) {
                let problem = format!("{} is redirected on line {} too", shown(&from), other.line);
                return Err(error(format!("{problem}; remove one of them")));
            }
            if entries.len() == REDIRECTS_MAX {
                return Err(error(format!(
                    "a file has at most {REDIRECTS_MAX} redirects; have the rest in another"
                )));
            }
            entries.insert(from, RedirectEntry { to, status, line: line_number });
        }
        Ok(Self { entries })
    }

    /// Where requests of this normal path are sent, and with which status.
    pub fn find(&self, normal_path: &[u8]) -> Option<(&str, u16)> {
        self.entries.get(normal_path).map(|entry| (entry.to.as_str(), entry.status))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The path that a line is for. It may be written as browsers show it or percent-encoded.
fn normal(from: &str) -> Result<Vec<u8>, String> {
    if from.contains(['?', '#']) {
        return Err(format!("{from:?} has a query; only paths are redirected: remove it"));
    }
    let path = RequestPath::parse(from.as_bytes()).map_err(|problem| format!("{from:?}: {problem}"))?;
    if path.spelling().is_some() || path.is_ambiguous() {
        return Err(format!("{from:?} is another spelling of {}; write that", shown(path.normal())));
    }
    Ok(path.normal().to_vec())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The Location of a redirect to `to`, a path or URI in which all is filled in, for a request with this query. A
/// path stays on this site: what browsers read as another host, `//host` and `/\host`, becomes one slash.
pub(crate) fn location(to: &str, query: Option<&[u8]>) -> String {
    let mut location = String::with_capacity(to.len() + query.map_or(0, <[u8]>::len) + 1);
    if to.starts_with(['/', '\\']) {
        location.push('/');
        location.push_str(to.trim_start_matches(['/', '\\']));
    } else {
        location.push_str(to);
    }
    let Some(query) = query.filter(|query| !query.is_empty()) else { return location };
    let fragment = location.find('#').map(|at| location.split_off(at));
    location.push(if location.contains('?') { '&' } else { '?' });
    for &byte in query {
        match byte {
            b'!'..=b'~' if byte != b'#' => location.push(char::from(byte)),
            byte => location.push_str(&format!("%{byte:02X}")),
        }
    }
    location.push_str(&fragment.unwrap_or_default());
    location
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_has_a_redirect_on_each_line() {
        let text = "# moved\n\n/old /new\n/caf%C3%A9  https://a.example/x?y 301\n/é\t/e 308\n/dir/ /d";
        let table = RedirectTable::parse("r.txt", text).unwrap();
        assert_eq!(table.len(), 4);
        assert_eq!(table.find(b"/old"), Some(("/new", 302)));
        assert_eq!(table.find("/café".as_bytes()), Some(("https://a.example/x?y", 301)));
        assert_eq!(table.find("/é".as_bytes()), Some(("/e", 308)));
        assert_eq!(table.find(b"/dir"), None);
        assert!(RedirectTable::parse("r.txt", "").unwrap().is_empty());
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (text, expected) in [
            ("/a /b\n/c", "r.txt:2: a line is FROM TO [STATUS]"),
            ("/a /b 301 x", "r.txt:1: a line is FROM TO"),
            ("/a /b 304", "r.txt:1: 304 is no status of a redirect"),
            ("a /b", "r.txt:1: \"a\": the path does not begin with a slash"),
            ("/a?x /b", "r.txt:1: \"/a?x\" has a query"),
            ("/x/../a /b", "is another spelling of /a"),
            ("//a /b", "is another spelling of /a"),
            ("/a //evil.example", "r.txt:1: \"//evil.example\" leads nowhere"),
            ("/a /{x}", "a file has no captures"),
            ("/a /b\n# x\n/a /c", "r.txt:3: /a is redirected on line 1 too"),
        ] {
            let problem = RedirectTable::parse("r.txt", text).unwrap_err();
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
    }

    #[test]
    fn a_file_may_have_so_many_redirects_and_no_more() {
        let lines = |number: usize| (0..number).map(|n| format!("/a{n} /b\n")).collect::<String>();
        assert_eq!(RedirectTable::parse("r", &lines(REDIRECTS_MAX)).unwrap().len(), REDIRECTS_MAX);
        assert!(RedirectTable::parse("r", &lines(REDIRECTS_MAX + 1)).unwrap_err().contains("at most 100000"));
    }

    #[test]
    fn a_location_keeps_the_query_and_stays_on_the_site() {
        for (to, query, expected) in [
            ("/new", None, "/new"),
            ("/new", Some(""), "/new"),
            ("/new", Some("a=1"), "/new?a=1"),
            ("/new?b=2", Some("a=1"), "/new?b=2&a=1"),
            ("/new#top", Some("a=1"), "/new?a=1#top"),
            ("//evil.example", None, "/evil.example"),
            ("/\\evil.example", None, "/evil.example"),
            ("/\\/\\//evil", None, "/evil"),
            ("https://a.example//x", Some("q"), "https://a.example//x?q"),
            ("/new", Some("a\r\nSet-Cookie: x#"), "/new?a%0D%0ASet-Cookie:%20x%23"),
        ] {
            assert_eq!(location(to, query.map(str::as_bytes)), expected, "{to} {query:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_never_becomes_another_host(
            to in "[/\\\\]{1,4}[a-z/\\\\.@:]{0,12}",
            query in "[ -~\\r\\n]{0,12}",
        ) {
            let location = location(&to, Some(query.as_bytes()));
            prop_assert!(location.starts_with('/'));
            prop_assert!(!location.starts_with("//") && !location.starts_with("/\\"));
            prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
