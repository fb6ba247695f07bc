//! How the variables of a gateway divide a path into SCRIPT_NAME and PATH_INFO.
//!
//! Both the routes and the environ go by it, so that a route is chosen for the path that the application gets.

use std::borrow::Cow;

use crate::message::RequestHead;
use crate::path::{path_info, percent_decode};

/// SCRIPT_NAME and PATH_INFO of a gateway's request, as CGI divides its path.
#[derive(Debug)]
pub struct ScriptPath<'a> {
    /// Where the application is mounted, decoded.
    pub script_name: Cow<'a, [u8]>,
    /// The rest, decoded.
    pub path_info: Cow<'a, [u8]>,
    /// Whether the gateway itself says SCRIPT_NAME, and nothing stands in for it.
    is_told: bool,
}

impl<'a> ScriptPath<'a> {
    /// SCRIPT_NAME and PATH_INFO of variables that gateways set in several ways:
    ///
    /// * both, one behind the other, as CGI has it: taken as they are.
    /// * PATH_INFO with the whole path, and SCRIPT_NAME with the beginning of it (nginx: `include uwsgi_params`
    ///   and a SCRIPT_NAME): the beginning is taken off, as uWSGI's `manage-script-name` does.
    /// * No PATH_INFO: it is what REQUEST_URI has below SCRIPT_NAME.
    /// * No PATH_INFO, and the whole path as SCRIPT_NAME as if it were a file (nginx: `include fastcgi_params`;
    ///   Apache's mod_proxy_fcgi): that is the path.
    /// * No SCRIPT_NAME: `root_path` stands in for it.
    pub fn of(head: &'a RequestHead, root_path: &'a [u8]) -> Self {
        let script_variable = head.variable(b"SCRIPT_NAME").unwrap_or_default();
        let script_name = without_end_slash(script_variable);
        let told = head.variable(b"PATH_INFO");
        if script_name.is_empty() {
            let path_info = match told {
                Some(path) => below(Cow::Borrowed(path), root_path),
                None => path_info(head.path(), root_path),
            };
            return Self { script_name: Cow::Borrowed(root_path), path_info, is_told: false };
        }
        let script_name = Cow::Borrowed(script_name);
        let path_info = match told {
            Some(told) if is_whole_path(told, &script_name, head) => below(Cow::Borrowed(told), &script_name),
            Some(told) if !told.is_empty() || !is_file_like(&script_name, head) => Cow::Borrowed(told),
            None if !is_file_like(&script_name, head) => path_info(head.path(), &script_name),
            _ => {
                // It is the whole path, of which the slash at the end is a part.
                let path_info = below(Cow::Borrowed(script_variable), root_path);
                return Self { script_name: Cow::Borrowed(root_path), path_info, is_told: false };
            }
        };
        Self { script_name, path_info, is_told: true }
    }

    /// The path that routes are for: what the application is called with, with the gateway's own SCRIPT_NAME
    /// before it. `root_path` is no part of it.
    pub fn whole(&self) -> Cow<'_, [u8]> {
        match self.is_told {
            true => Cow::Owned([&*self.script_name, &*self.path_info].concat()),
            false => Cow::Borrowed(&self.path_info),
        }
    }

    /// Divides the path anew, for an application that is mounted at `mount` of the whole path. One that does not
    /// lead there, because it was rewritten, stays as it is.
    pub fn mount(&mut self, mount: &[u8]) {
        let whole = self.whole().into_owned();
        let rest = whole.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
        let Some(rest) = rest else { return };
        let before = if self.is_told { &b""[..] } else { &self.script_name };
        self.script_name = Cow::Owned([before, mount].concat());
        self.path_info = Cow::Owned(rest.to_vec());
    }
}

/// A SCRIPT_NAME never ends in a slash: that is where PATH_INFO begins.
fn without_end_slash(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

/// `path`, decoded, without `script_name` where it begins with that.
fn below<'a>(path: Cow<'a, [u8]>, script_name: &[u8]) -> Cow<'a, [u8]> {
    let inside = match path.strip_prefix(script_name) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => script_name.len(),
        _ => 0,
    };
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(&path[inside..]),
        Cow::Owned(mut path) => {
            path.drain(..inside);
            Cow::Owned(path)
        }
    }
}

/// Whether SCRIPT_NAME names the whole path, as if it were a file's: nginx tells the same as DOCUMENT_URI, Apache
/// a SCRIPT_FILENAME that is none.
fn is_file_like(script_name: &[u8], head: &RequestHead) -> bool {
    head.variable(b"DOCUMENT_URI").is_some_and(|uri| without_end_slash(uri) == script_name)
        || head.variable(b"SCRIPT_FILENAME").is_some_and(|name| name.starts_with(b"proxy:"))
}

/// Whether PATH_INFO has the whole path, with SCRIPT_NAME at its beginning. Gateways clean paths before they
/// decide on them, so clean ones are compared: what was asked for may have a dot or a slash too many.
fn is_whole_path(path_info: &[u8], script_name: &[u8], head: &RequestHead) -> bool {
    if below(Cow::Borrowed(path_info), script_name).len() == path_info.len() {
        return false;
    }
    let asked = percent_decode(head.path());
    let asked = clean(&asked);
    asked != clean(&[script_name, path_info].concat()) && asked == clean(path_info)
}

/// `path` without empty segments, `.` and `..`.
fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut segments = Vec::new();
    for segment in path.split(|&byte| byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(script_name: &str, path_info: &str, is_told: bool, mount: &str) -> [String; 3] {
        let cow = |text: &str| Cow::Owned(text.as_bytes().to_vec());
        let mut path = ScriptPath { script_name: cow(script_name), path_info: cow(path_info), is_told };
        let whole = String::from_utf8(path.whole().into_owned()).unwrap();
        path.mount(mount.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        [whole, text(&path.script_name), text(&path.path_info)]
    }

    #[test]
    fn a_mount_adds_up_with_what_stands_before_it() {
        for (script_name, path_info, is_told, mount, expected) in [
            ("", "/shop/x", false, "/shop", ["/shop/x", "/shop", "/x"]),
            ("/top", "/shop", false, "/shop", ["/shop", "/top/shop", ""]),
            ("/shop", "/shop/x", false, "/shop", ["/shop/x", "/shop/shop", "/x"]),
            ("/base", "/shop/x", true, "/base/shop", ["/base/shop/x", "/base/shop", "/x"]),
            ("/shop", "/x", true, "/shop", ["/shop/x", "/shop", "/x"]),
            ("/shop/a", "/x", true, "/shop", ["/shop/a/x", "/shop", "/a/x"]),
            ("/top", "/other", false, "/shop", ["/other", "/top", "/other"]),
            ("", "/shopping", false, "/shop", ["/shopping", "", "/shopping"]),
            ("/top", "/x", false, "", ["/x", "/top", "/x"]),
        ] {
            assert_eq!(
                divided(script_name, path_info, is_told, mount),
                expected,
                "{script_name} {path_info}"
            );
        }
    }
}
