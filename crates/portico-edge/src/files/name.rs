//! Names that are never served, whatever is in the folder.

/// The only name with a dot before it that is served: RFC 8615 has it for what clients look for.
const WELL_KNOWN: &[u8] = b".well-known";

/// Whether a path below a folder, decoded and in its normal form, may be looked for. Names that begin with a
/// dot are `.git` and `.env`; a backslash is a separator elsewhere.
pub fn is_served(path: &[u8]) -> bool {
    let is_hidden = |name: &[u8]| name.first() == Some(&b'.') && name != WELL_KNOWN;
    !path.split(|byte| *byte == b'/').any(is_hidden) && !path.iter().any(|byte| matches!(byte, 0 | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_names_are_not_served() {
        for path in
            ["/a/b.c", "/", "", "/a.b/c", "/.well-known/security.txt", "/a/...b".trim_end_matches("...b")]
        {
            assert!(is_served(path.as_bytes()), "{path}");
        }
        for path in ["/.git/config", "/a/.env", "/.", "/a\\b", "/a\0b", "/.well-known.txt", "/a/..b"] {
            assert!(!is_served(path.as_bytes()), "{path}");
        }
    }
}
