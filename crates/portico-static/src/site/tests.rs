//! What is found in folders, how it is described, and which changes are seen.

use std::fs::{self, create_dir, create_dir_all, rename, write};
use std::os::unix::fs::symlink;

use portico_config::{Parsed, parse};
use portico_edge::EdgeRouter;

use super::*;
use crate::compression::compress;

/// The site of a route with these further settings, whose folders are `a` and `b` below `base`; a change counts as
/// seen at once.
fn site(base: &Path, settings: &str) -> FileSite {
    let routes = format!("[{{ static = ['a', 'b'], {settings} }}]");
    let variable = |name: &str| (name == "PORTICO_ROUTE").then(|| routes.clone().into());
    let Ok(Parsed::Run(resolved)) = parse(["app:app".into()].into_iter(), &variable) else {
        panic!("the routes of a test are valid: {routes}");
    };
    let mut read = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let router = EdgeRouter::build(&resolved.config.edge, true, &mut read).unwrap();
    let mut immutable = ImmutableNames::default();
    immutable.add_pattern("/lasting/**").unwrap();
    let folders = ["a".into(), "b".into()];
    let mut site = FileSite::new(Arc::clone(router.root()), &folders, base, immutable);
    site.clock = || SystemTime::now() + 2 * Duration::from_secs(2);
    site
}

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for folder in ["a/css", "a/empty", "a/lasting", "b/docs"] {
        create_dir_all(tree.path().join(folder)).unwrap();
    }
    for (name, content) in [
        ("a/both", "a"),
        ("b/both", "b"),
        ("b/second", "second"),
        ("a/css/x.css", "css"),
        ("b/docs/index.html", "<p>docs"),
        ("a/lasting/x.js", "js"),
        ("a/.env", "secret"),
    ] {
        write(tree.path().join(name), content).unwrap();
    }
    tree
}

fn file(site: &FileSite, path: &str) -> Arc<StoredFile> {
    match site.load(path.as_bytes()) {
        Found::File(file) => file,
        found => panic!("{path}: {found:?}"),
    }
}

fn text(file: &StoredFile) -> &[u8] {
    file.variants[0].bytes().unwrap()
}

fn field(file: &StoredFile, name: &str) -> Option<String> {
    let value = file.variants[0].whole.fields.get(name.as_bytes());
    value.map(|value| String::from_utf8_lossy(value).into_owned())
}

#[test]
fn the_first_folder_that_has_a_file_counts() {
    let tree = tree();
    let site = site(tree.path(), "");
    assert_eq!(text(&file(&site, "/both")), b"a");
    assert_eq!(text(&file(&site, "/second")), b"second");
    assert_eq!(text(&file(&site, "/docs/")), b"<p>docs");
    for (path, expected) in [
        ("", "Folder"),
        ("/css", "Folder"),
        ("/docs", "Folder"),
        ("/css/", "Missing"),
        ("/", "Missing"),
        ("/none", "Missing"),
        ("/.env", "Missing"),
        ("/both/", "Missing"),
    ] {
        assert_eq!(format!("{:?}", site.load(path.as_bytes())), expected, "{path:?}");
    }
}

#[test]
fn files_are_described() {
    let tree = tree();
    let site = site(tree.path(), "max_age = '2m'");
    let css = file(&site, "/css/x.css");
    assert!(css.is_lasting() && !css.is_compressible(), "it is too small");
    assert_eq!(field(&css, "content-type").as_deref(), Some("text/css; charset=utf-8"));
    assert_eq!(field(&css, "cache-control").as_deref(), Some("max-age=120, public"));
    assert_eq!(field(&css, "etag"), Some(EntityTag::of_content(b"css").to_string()));
    assert!(field(&css, "last-modified").is_some() && field(&css, "vary").is_none());
    assert_eq!(field(&file(&site, "/docs/"), "cache-control").as_deref(), Some("no-cache"));
    let lasting = field(&file(&site, "/lasting/x.js"), "cache-control").unwrap();
    assert!(lasting.ends_with("immutable"), "{lasting}");
}

#[test]
fn folders_are_listed_where_that_is_said() {
    let tree = tree();
    symlink("../css", tree.path().join("a/css/up")).unwrap();
    symlink("x.css", tree.path().join("a/css/link.css")).unwrap();
    symlink("/etc/passwd", tree.path().join("a/css/outside")).unwrap();
    let site = site(tree.path(), "listing = true");
    let Found::Listing(page) = site.load(b"/css/") else { panic!("it is listed") };
    for name in ["./x.css", "./link.css", "./up/"] {
        assert!(page.contains(&format!("href=\"{name}\"")), "{name}: {page}");
    }
    assert!(!page.contains("outside"), "it is not served: {page}");
    let Found::Listing(root) = site.load(b"/") else { panic!("it is listed") };
    assert!(root.contains("./css/") && !root.contains(".env"));
}

/// Sets the time of a file, in seconds.
fn set_time(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

#[test]
fn sidecars_are_taken_that_are_newer_and_smaller() {
    let tree = tree();
    let at = |name: &str| tree.path().join("a").join(name);
    for (name, size, seconds) in [
        ("x.txt", 1000, 100),
        ("x.txt.br", 10, 99),
        ("x.txt.gz", 10, 100),
        ("x.txt.zst", 1000, 101),
        ("old.txt", 1000, 100),
        ("old.txt.gz", 10, 99),
    ] {
        write(at(name), vec![b'x'; size]).unwrap();
        set_time(&at(name), seconds);
    }
    symlink("/etc/hostname", at("old.txt.br")).unwrap();
    let site = site(tree.path(), "");
    let codings = |file: &StoredFile| -> Vec<_> { file.variants.iter().map(|it| it.coding).collect() };
    let taken = file(&site, "/x.txt");
    assert_eq!(codings(&taken), [None, Some(ContentCoding::Gzip)]);
    assert_eq!(field(&taken, "vary").as_deref(), Some("Accept-Encoding"));
    assert!(!taken.is_compressible(), "there is one already");
    let old = file(&site, "/old.txt");
    assert_eq!(codings(&old), [None], "one is old, one is outside");
    assert_eq!(field(&old, "vary").as_deref(), Some("Accept-Encoding"), "there may be one soon");
    assert_ne!(taken.variants[0].tag, taken.variants[1].tag);
}

#[test]
fn text_is_compressed_once() {
    let tree = tree();
    let long = "body { color: red }\n".repeat(100);
    let longer = long.repeat(100);
    write(tree.path().join("a/long.css"), &long).unwrap();
    write(tree.path().join("a/longer.css"), &longer).unwrap();
    let site = site(tree.path(), "");
    for (path, content) in [("/long.css", long), ("/longer.css", longer)] {
        let plain = file(&site, path);
        assert!(plain.is_compressible() && field(&plain, "vary").is_some(), "{path}");
        let newer = site.compress(&plain).unwrap();
        assert!(!newer.is_compressible() && newer.memory_bytes() > plain.memory_bytes());
        for (variant, coding) in newer.variants[1..].iter().zip(compression::MADE) {
            assert!(variant.is_made && variant.coding == Some(coding));
            assert_eq!(variant.bytes().unwrap(), &compress(content.as_bytes(), coding).unwrap());
        }
        let mut tags: Vec<_> =
            newer.variants.iter().map(|it| it.tag.clone().map(|tag| tag.to_string())).collect();
        tags.dedup();
        assert_eq!(tags.len(), 3, "{tags:?}");
    }
}

#[test]
fn changes_are_seen() {
    let tree = tree();
    let at = |name: &str| tree.path().join("a").join(name);
    let site = site(tree.path(), "");
    // Each as far as a second has passed since the one before.
    let mut now = Instant::now();
    let mut is_seen = |path: &str, change: &dyn Fn()| {
        let before = file(&site, path);
        now += REOPENED_EVERY;
        assert!(site.is_unchanged(&before, now), "{path}");
        change();
        now += REOPENED_EVERY;
        assert!(!site.is_unchanged(&before, now), "{path}");
    };
    is_seen("/both", &|| write(at("both"), "other").unwrap());
    // The same length, and the time set back.
    is_seen("/css/x.css", &|| {
        let time = fs::metadata(at("css/x.css")).unwrap().modified().unwrap();
        write(at("css/x.css"), "CSS").unwrap();
        File::options().write(true).open(at("css/x.css")).unwrap().set_modified(time).unwrap();
    });
    is_seen("/second", &|| write(at("second"), "in the first folder").unwrap());
    is_seen("/second", &|| write(at("second.gz"), "a sidecar").unwrap());
    is_seen("/second", &|| fs::remove_file(at("second.gz")).unwrap());
    is_seen("/second", &|| fs::remove_file(at("second")).unwrap());
}

#[test]
fn a_folder_that_is_exchanged_is_seen_within_a_second() {
    let tree = tree();
    let site = site(tree.path(), "");
    let before = file(&site, "/both");
    rename(tree.path().join("a"), tree.path().join("old")).unwrap();
    create_dir(tree.path().join("a")).unwrap();
    write(tree.path().join("a/both"), "new").unwrap();
    let later = Instant::now() + REOPENED_EVERY;
    assert!(!site.is_unchanged(&before, later));
    assert_eq!(text(&file(&site, "/both")), b"new");
    fs::remove_dir_all(tree.path().join("a")).unwrap();
    assert!(!site.is_unchanged(&file(&site, "/both"), later + REOPENED_EVERY), "it is gone");
}

#[test]
fn large_files_are_opened_again_and_have_another_tag() {
    let tree = tree();
    let path = tree.path().join("a/large.bin");
    let size = MEMORY_FILE_BYTES_MAX as usize;
    write(&path, vec![1; size]).unwrap();
    let site = site(tree.path(), "");
    assert!(file(&site, "/large.bin").variants[0].bytes().is_some(), "as large as may be");
    write(&path, vec![1; size + 1]).unwrap();
    set_time(&path, 0x5f5e_1000);
    let large = file(&site, "/large.bin");
    assert!(large.variants[0].bytes().is_none());
    assert_eq!(field(&large, "etag").unwrap(), format!("\"{:x}-{:x}\"", 0x5f5e_1000 * NANOS, size + 1));
    let open = || site.open(&large, &large.variants[0], Instant::now(), Patience::Disk);
    assert!(matches!(open(), Reopened::Same(_)));
    // A time that says nothing is none, and the tag is that of the content.
    set_time(&path, 1);
    let nix = file(&site, "/large.bin");
    assert!(nix.awaits_tags() && field(&nix, "etag").is_none());
    let nix = site.hash(&nix).unwrap();
    assert!(!nix.awaits_tags());
    assert_eq!(field(&nix, "etag"), Some(EntityTag::of_content(&vec![1; size + 1]).to_string()));
    assert_eq!(field(&nix, "last-modified"), None);
    assert!(matches!(open(), Reopened::Changed));
}

#[test]
fn a_file_without_a_time_is_read_for_its_tag_up_to_a_limit() {
    let tree = tree();
    let path = tree.path().join("a/large.bin");
    let site = site(tree.path(), "");
    let sized = |size: u64| {
        File::create(&path).unwrap().set_len(size).unwrap();
        set_time(&path, 1);
        file(&site, "/large.bin")
    };
    let largest = sized(HASHED_BYTES_MAX);
    assert!(largest.awaits_tags());
    let content = vec![0; HASHED_BYTES_MAX as usize];
    let tag = EntityTag::of_content(&content).to_string();
    assert_eq!(field(&site.hash(&largest).unwrap(), "etag"), Some(tag));
    for size in [HASHED_BYTES_MAX + 1, 6 << 30] {
        let begun = Instant::now();
        let larger = sized(size);
        assert!(begun.elapsed() < Duration::from_secs(1), "it is not read");
        assert!(!larger.awaits_tags());
        assert_eq!(field(&larger, "last-modified"), None);
        let tag = field(&larger, "etag").unwrap();
        assert!(tag.ends_with(&format!("-{size:x}\"")), "{tag}");
        assert_eq!(field(&file(&site, "/large.bin"), "etag"), Some(tag.clone()), "it is the same file");
        // One with the same time and length in its place.
        let other = tree.path().join("a/other");
        File::create(&other).unwrap().set_len(size).unwrap();
        set_time(&other, 1);
        rename(&other, &path).unwrap();
        assert_ne!(field(&file(&site, "/large.bin"), "etag"), Some(tag));
    }
}

#[test]
fn what_changes_before_it_is_read_for_its_tag_gets_none() {
    let tree = tree();
    let path = tree.path().join("a/large.bin");
    write(&path, vec![1; MEMORY_FILE_BYTES_MAX as usize + 1]).unwrap();
    set_time(&path, 1);
    let site = site(tree.path(), "");
    let large = file(&site, "/large.bin");
    write(&path, vec![2; MEMORY_FILE_BYTES_MAX as usize + 2]).unwrap();
    set_time(&path, 1);
    assert!(site.hash(&large).is_none());
}

#[test]
fn what_has_just_been_written_is_not_kept() {
    let tree = tree();
    let mut site = site(tree.path(), "");
    site.clock = SystemTime::now;
    write(tree.path().join("a/both"), "new").unwrap();
    let young = file(&site, "/both");
    assert!(!young.is_lasting() && field(&young, "etag").is_some());
    write(tree.path().join("a/large"), vec![0; MEMORY_FILE_BYTES_MAX as usize + 1]).unwrap();
    let large = file(&site, "/large");
    assert!(!large.is_lasting() && field(&large, "etag").is_none());
}

#[test]
fn what_is_missing_is_known_without_a_disk() {
    let tree = tree();
    let site = site(tree.path(), "");
    assert!(matches!(site.load(b"/none"), Found::Missing), "now the kernel knows");
    let now = Instant::now();
    assert!(site.is_missing(b"/none", now));
    for path in ["/both", "/second", "/css", "/css/", "/", ""] {
        assert!(!site.is_missing(path.as_bytes(), now), "{path:?}");
    }
}
