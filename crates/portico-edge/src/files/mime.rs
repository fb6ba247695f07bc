//! Types of files by their extensions. The table is our own: that of the system differs from machine to machine
//! (evansd/whitenoise#254).

use std::borrow::Cow;

/// What a file of no known type is: bytes, which a browser saves and does not run.
const UNKNOWN: &str = "application/octet-stream";

/// Extensions in lower case, sorted.
const TYPES: [(&str, &str); 149] = [
    ("3gp", "video/3gpp"),
    ("3gpp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("ai", "application/postscript"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("asf", "video/x-ms-asf"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("azw", "application/vnd.amazon.ebook"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/x-ms-bmp"),
    ("bz2", "application/x-bzip2"),
    ("cbor", "application/cbor"),
    ("cjs", "text/javascript"),
    ("crt", "application/x-x509-ca-cert"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("cur", "image/x-icon"),
    ("deb", "application/octet-stream"),
    ("der", "application/x-x509-ca-cert"),
    ("diff", "text/x-diff"),
    ("dmg", "application/octet-stream"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("exe", "application/octet-stream"),
    ("flac", "audio/flac"),
    ("flv", "video/x-flv"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("gpx", "application/gpx+xml"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("htc", "text/x-component"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar"),
    ("img", "application/octet-stream"),
    ("iso", "application/octet-stream"),
    ("jad", "text/vnd.sun.j2me.app-descriptor"),
    ("jar", "application/java-archive"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("json5", "application/json5"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("kml", "application/vnd.google-earth.kml+xml"),
    ("kmz", "application/vnd.google-earth.kmz"),
    ("log", "text/plain"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/x-m4v"),
    ("manifest", "text/cache-manifest"),
    ("map", "application/json"),
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript"),
    ("mkv", "video/x-matroska"),
    ("mml", "text/mathml"),
    ("mng", "video/x-mng"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("msi", "application/octet-stream"),
    ("ndjson", "application/x-ndjson"),
    ("odg", "application/vnd.oasis.opendocument.graphics"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("parquet", "application/vnd.apache.parquet"),
    ("patch", "text/x-diff"),
    ("pdf", "application/pdf"),
    ("pem", "application/x-x509-ca-cert"),
    ("pkg", "application/octet-stream"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("ps", "application/postscript"),
    ("py", "text/x-python"),
    ("rar", "application/x-rar-compressed"),
    ("rdf", "application/rdf+xml"),
    ("rpm", "application/x-redhat-package-manager"),
    ("rss", "application/rss+xml"),
    ("rst", "text/x-rst"),
    ("rtf", "application/rtf"),
    ("shtml", "text/html"),
    ("sql", "application/sql"),
    ("srt", "application/x-subrip"),
    ("stl", "model/stl"),
    ("svg", "image/svg+xml"),
    ("svgz", "image/svg+xml"),
    ("swf", "application/x-shockwave-flash"),
    ("tar", "application/x-tar"),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values"),
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain"),
    ("usdz", "model/vnd.usdz+zip"),
    ("vcf", "text/vcard"),
    ("vtt", "text/vtt"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("wma", "audio/x-ms-wma"),
    ("wml", "text/vnd.wap.wml"),
    ("wmv", "video/x-ms-wmv"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "text/xml"),
    ("xsl", "text/xml"),
    ("xslt", "text/xml"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The value of Content-Type of a file of this name. `overrides` has the operator's own types by extension.
pub fn content_type<'t>(name: &[u8], overrides: &'t [(String, String)]) -> Cow<'t, str> {
    let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let extension = match last.iter().rposition(|byte| *byte == b'.') {
        // A name that begins with its only dot has none.
        Some(at) if at > 0 => last.get(at + 1..).unwrap_or_default(),
        _ => return Cow::Borrowed(UNKNOWN),
    };
    let Ok(extension) = str::from_utf8(extension) else { return Cow::Borrowed(UNKNOWN) };
    let extension = extension.to_ascii_lowercase();
    let own = overrides.iter().find(|(other, _)| *other == extension).map(|(_, kind)| kind.as_str());
    let listed = || TYPES.binary_search_by(|(other, _)| (*other).cmp(&extension)).ok().map(|at| TYPES[at].1);
    match own.or_else(listed) {
        None => Cow::Borrowed(UNKNOWN),
        Some(kind) if kind.starts_with("text/") && !kind.contains("charset") => {
            Cow::Owned(format!("{kind}; charset=utf-8"))
        }
        Some(kind) => Cow::Borrowed(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_sound() {
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (extension, kind) in TYPES {
            assert!(kind.split('/').count() == 2 && kind.is_ascii(), "{extension}");
            assert!(extension.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{extension}");
        }
    }

    #[test]
    fn types_by_name() {
        let of = |name: &str| content_type(name.as_bytes(), &[]).into_owned();
        for (name, expected) in [
            ("/a/b.html", "text/html; charset=utf-8"),
            ("/a/B.HTML", "text/html; charset=utf-8"),
            ("x.min.js", "text/javascript; charset=utf-8"),
            ("x.mjs", "text/javascript; charset=utf-8"),
            ("x.json", "application/json"),
            ("x.svg", "image/svg+xml"),
            ("x.tar.gz", "application/gzip"),
            ("x.woff2", "font/woff2"),
            ("x.wasm", "application/wasm"),
            ("x.webmanifest", "application/manifest+json"),
            ("x", "application/octet-stream"),
            ("x.", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("a.html/b", "application/octet-stream"),
            ("x.unknown", "application/octet-stream"),
        ] {
            assert_eq!(of(name), expected, "{name}");
        }
        let own =
            [("md".to_owned(), "text/x-own; charset=latin-1".to_owned()), ("q".to_owned(), "a/b".to_owned())];
        assert_eq!(content_type(b"a.MD", &own), "text/x-own; charset=latin-1");
        assert_eq!(content_type(b"a.q", &own), "a/b");
        assert_eq!(content_type(b"a.css", &own), "text/css; charset=utf-8");
    }
}
