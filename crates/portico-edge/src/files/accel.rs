//! Files that an application has the server send: X-Accel-Redirect and X-Sendfile.

use std::path::{Component, Path, PathBuf};

use crate::path::RequestPath;

/// The path that the value of X-Accel-Redirect names, in its normal form: that of an internal route. Names may be
/// percent-encoded, as nginx wants them, or have their bytes as they are (benoitc/gunicorn#1448).
///
/// # Errors
/// It is no path on this server; one line for the log.
pub fn accel_path(value: &[u8]) -> Result<Vec<u8>, String> {
    let path = value.split(|byte| *byte == b'?').next().unwrap_or_default();
    let shown = || String::from_utf8_lossy(value).escape_debug().to_string();
    let parsed =
        RequestPath::parse(path).map_err(|problem| format!("X-Accel-Redirect {}: {problem}", shown()))?;
    if path.is_empty() || parsed.is_ambiguous() {
        return Err(format!("X-Accel-Redirect {}: this names no file of an internal route", shown()));
    }
    Ok(parsed.normal().to_vec())
}

/// Which of `folders`, those of internal routes, the file of X-Sendfile is below, and its path there: with
/// slashes, and one at its beginning.
///
/// # Errors
/// It is below none of them; one line for the log.
pub fn sendfile_below<'f>(value: &[u8], folders: &'f [PathBuf]) -> Result<(&'f Path, Vec<u8>), String> {
    use std::os::unix::ffi::OsStrExt;
    let file = Path::new(std::ffi::OsStr::from_bytes(value));
    let problem = |why: &str| format!("X-Sendfile {}: {why}", file.display().to_string().escape_debug());
    // Of `..` only the file system knows where it leads.
    let is_plain = |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
    if !file.is_absolute() || !file.components().all(is_plain) || value.contains(&0) {
        return Err(problem("this is no absolute path without .."));
    }
    let below = |folder: &'f PathBuf| Some((folder.as_path(), file.strip_prefix(folder).ok()?));
    // The longest counts: a folder may be in another.
    let found = folders.iter().filter_map(below).max_by_key(|(folder, _)| folder.as_os_str().len());
    match found {
        Some((folder, rest)) if !rest.as_os_str().is_empty() => {
            Ok((folder, [b"/", rest.as_os_str().as_bytes()].concat()))
        }
        _ => Err(problem("no internal route has it below its folder")),
    }
}

/// Whether this header of the application's response is sent with the file: those that nginx keeps, and Vary,
/// for the application has decided by it who gets the file. The others describe the content that it takes the
/// place of.
pub fn survives_redirect(name: &[u8]) -> bool {
    const KEPT: [&str; 7] = [
        "accept-ranges",
        "cache-control",
        "content-disposition",
        "content-type",
        "expires",
        "set-cookie",
        "vary",
    ];
    KEPT.iter().any(|kept| kept.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_accents_encoded_or_not() {
        for (value, expected) in [
            ("/protected/a%20b.pdf", "/protected/a b.pdf"),
            ("/protected/a b.pdf", "/protected/a b.pdf"),
            ("/protected/caf%C3%A9.pdf", "/protected/café.pdf"),
            ("/protected/café.pdf", "/protected/café.pdf"),
            ("/protected/x?token=1", "/protected/x"),
            ("/protected//x", "/protected/x"),
            ("/protected/a/../b", "/protected/b"),
        ] {
            assert_eq!(accel_path(value.as_bytes()), Ok(expected.as_bytes().to_vec()), "{value}");
        }
        for value in
            ["", "protected/x", "@named", "http://x/", "/a/../../x", "/a%00", "/a%2fb", "/50%", "/a\nb"]
        {
            assert!(accel_path(value.as_bytes()).unwrap_err().starts_with("X-Accel-Redirect"), "{value}");
        }
    }

    #[test]
    fn files_below_the_folders_of_internal_routes() {
        let folders = [PathBuf::from("/srv/media"), PathBuf::from("/srv/media/private")];
        let below = |value: &str| sendfile_below(value.as_bytes(), &folders);
        assert_eq!(below("/srv/media/a/b.pdf"), Ok((folders[0].as_path(), b"/a/b.pdf".to_vec())));
        assert_eq!(below("/srv/media/private/x"), Ok((folders[1].as_path(), b"/x".to_vec())));
        for value in ["/srv/media", "/srv/mediax/a", "/etc/passwd", "a", "/srv/media/../x", "/srv/media/a\0"]
        {
            assert!(below(value).unwrap_err().starts_with("X-Sendfile"), "{value}");
        }
    }

    #[test]
    fn headers_that_survive() {
        assert!(survives_redirect(b"Set-Cookie") && survives_redirect(b"content-disposition"));
        assert!(survives_redirect(b"Vary") && survives_redirect(b"Expires"));
        assert!(!survives_redirect(b"Content-Length") && !survives_redirect(b"X-Accel-Redirect"));
        assert!(!survives_redirect(b"ETag"));
    }
}
