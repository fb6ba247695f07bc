//! The page, and the policy under which a browser shows it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The page: one file with its style and its script.
pub(crate) const PAGE: &str = include_str!("page.html");

/// Its Content-Security-Policy: its own style and script, told by their hashes, and requests to where it comes
/// from. Nothing else runs or is loaded, whatever the names of paths and headers hold.
pub(crate) fn policy() -> String {
    let (script, style) = (hash(inline("script")), hash(inline("style")));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// What stands between the tags of the only element of this name.
fn inline(name: &str) -> &'static str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = PAGE.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text)
}

fn hash(text: &str) -> String {
    STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a page may weigh that is fetched over a tunnel at night.
    const BYTES_MAX: usize = 60 * 1024;

    #[test]
    fn it_is_one_small_file() {
        assert!(PAGE.len() <= BYTES_MAX, "{} bytes", PAGE.len());
        for outside in ["src=\"", "@import", ": url(", "https://"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        let links = PAGE.matches("<link ").count();
        assert_eq!((links, PAGE.matches("<link rel=\"icon\" href=\"data:").count()), (1, 1));
    }

    #[test]
    fn the_policy_names_what_is_in_it() {
        for name in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{name}>")).count(), 1);
            assert!(inline(name).len() > 1_000);
        }
        // SHA-256 of nothing, by which the hash's form is known.
        assert_eq!(hash(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        let policy = policy();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"));
    }

    #[test]
    fn text_of_strangers_becomes_no_markup() {
        let sinks = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "srcdoc",
        ];
        for sink in sinks {
            assert!(!PAGE.contains(sink), "{sink}");
        }
        for attribute in [" style=\"", " onclick=\"", " onload=\""] {
            assert!(!PAGE.contains(attribute), "{attribute}: the policy forbids it");
        }
    }
}
