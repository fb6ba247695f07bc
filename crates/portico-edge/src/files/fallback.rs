//! What becomes of requests that are for no file: other methods, folders, and pages of single-page applications.

use portico_config::Fallback;

use crate::path::encode;

/// What a method asks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodDecision {
    /// The file; for HEAD without its content.
    Serve {
        /// Whether the content is sent.
        with_content: bool,
    },
    /// 204 with Allow: OPTIONS.
    Options,
    /// 405 with Allow.
    NotAllowed,
    /// The application, which is the fallback and may take it.
    Application,
}

/// What `method` asks of a file.
pub fn method_decision(method: &[u8], fallback: &Fallback) -> MethodDecision {
    match method {
        b"GET" => MethodDecision::Serve { with_content: true },
        b"HEAD" => MethodDecision::Serve { with_content: false },
        _ if *fallback == Fallback::Application => MethodDecision::Application,
        b"OPTIONS" => MethodDecision::Options,
        _ => MethodDecision::NotAllowed,
    }
}

/// Whether a request for a file that is not there is a browser that goes to a page of a single-page
/// application: only such a one gets the page. A script that is gone must not become one of HTML, nor a call
/// of an API.
pub fn wants_page(method: &[u8], accept: Option<&[u8]>, path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    matches!(method, b"GET" | b"HEAD") && !last.contains(&b'.') && accept.is_some_and(takes_html)
}

/// Whether Accept names `text/html`, which scripts' requests do not (theirs is `*/*`).
fn takes_html(accept: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(accept) else { return false };
    text.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = |parameter: &str| {
            let weight = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
            weight.is_some_and(|(_, weight)| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        };
        is_html && !parts.any(is_refused)
    })
}

/// Where a request for a folder without a slash at its end is sent, with status 302: relative to where it is, so
/// that no Host is needed and what a proxy has taken off is kept. `path` is the whole normal path.
pub fn directory_location(path: &[u8], query: Option<&[u8]>) -> String {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    // `./`, or a name such as `a:b` would be a scheme (RFC 3986, section 4.2).
    crate::redirect::location(&format!("./{}/", encode(last)), query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_files() {
        let of = |method: &str| method_decision(method.as_bytes(), &Fallback::NotFound);
        assert_eq!(of("GET"), MethodDecision::Serve { with_content: true });
        assert_eq!(of("HEAD"), MethodDecision::Serve { with_content: false });
        assert_eq!(of("OPTIONS"), MethodDecision::Options);
        for method in ["POST", "PUT", "DELETE", "get", "TRACE", "PROPFIND"] {
            assert_eq!(of(method), MethodDecision::NotAllowed, "{method}");
        }
        assert_eq!(method_decision(b"POST", &Fallback::Application), MethodDecision::Application);
        assert_eq!(method_decision(b"POST", &Fallback::File("/i".into())), MethodDecision::NotAllowed);
    }

    #[test]
    fn only_a_browser_that_goes_to_a_page_gets_it() {
        let browser = Some(&b"text/html,application/xhtml+xml,*/*;q=0.8"[..]);
        for (method, accept, path, expected) in [
            ("GET", browser, "/users/17", true),
            ("HEAD", browser, "/", true),
            ("GET", Some(&b"TEXT/HTML;level=1"[..]), "/a.b/c", true),
            ("GET", browser, "/assets/app.1234.js", false),
            ("GET", browser, "/favicon.ico", false),
            ("POST", browser, "/users", false),
            ("GET", Some(b"*/*"), "/api/users", false),
            ("GET", Some(b"application/json"), "/api/users", false),
            ("GET", Some(b"text/html;q=0"), "/users", false),
            ("GET", None, "/users", false),
        ] {
            assert_eq!(wants_page(method.as_bytes(), accept, path.as_bytes()), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_folder_is_sent_to_itself() {
        for (path, query, expected) in [
            ("/a/dir", None, "./dir/"),
            ("/a b", Some("x=1"), "./a%20b/?x=1"),
            ("/a:b", None, "./a:b/"),
            ("/é", None, "./%C3%A9/"),
        ] {
            assert_eq!(directory_location(path.as_bytes(), query.map(str::as_bytes)), expected);
        }
    }
}
