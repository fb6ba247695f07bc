//! Files as responses: found off the engine, sent from memory or from the disk, or not there.

use std::fs::{create_dir, write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;

use portico_config::WireProtocol;
use portico_net::Event;

use super::super::tests::{Fixture, INPUT, ROOM, routed, seconds};
use super::*;
use crate::connection::Deadline;

/// Larger than what is kept in memory, and than a socket takes at once.
const LARGE: usize = 3_000_000;

struct Site {
    _folder: tempfile::TempDir,
    path: PathBuf,
    fixture: Fixture<UnixStream>,
}

/// A site of these further settings, whose clients speak HTTP/1.
fn site(settings: &str) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    create_dir(path.join("docs")).unwrap();
    let large: Vec<u8> = (0..LARGE).map(|n| (n / 7) as u8).collect();
    for (name, content) in
        [("a.txt", &b"0123456789"[..]), ("index.html", b"<p>index"), ("docs/x", b"x"), ("large", &large)]
    {
        write(path.join(name), content).unwrap();
    }
    let routes = format!("[{{ path = '/s', static = '{}' {settings} }}]", path.display());
    Site { _folder: folder, path, fixture: routed(WireProtocol::Http, &routes) }
}

impl Site {
    /// What the client gets for a request with these lines, whose connection is kept.
    fn ask(&mut self, lines: &str) -> (String, Vec<u8>) {
        let mut lines = lines.lines();
        let mut request = format!("{} HTTP/1.1\r\nHost: x\r\n", lines.next().unwrap());
        lines.for_each(|line| request.push_str(&format!("{line}\r\n")));
        request.push_str("\r\n");
        let mut step = self.fixture.receive(request.as_bytes());
        if step == Step::Respond {
            step = self.fixture.connection.respond_by_route(&mut self.fixture.context);
        }
        let mut received = Vec::new();
        while !self.fixture.connection.is_idle() && step != Step::Ready {
            step = match step {
                Step::Again => self.fixture.connection.proceed(&mut self.fixture.context),
                _ if self.fixture.due().is_some_and(|(deadline, _)| deadline == Deadline::Work) => {
                    self.fixture.take_result().expect("it is awaited")
                }
                _ => self.fixture.connection.handle_event(ROOM, &mut self.fixture.context),
            };
            received.extend(self.fixture.sent());
        }
        received.extend(self.fixture.sent());
        let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
        let body = received.split_off(end);
        (String::from_utf8(received).unwrap(), body)
    }

    fn status(&mut self, lines: &str) -> String {
        let (head, _) = self.ask(lines);
        head.split(' ').nth(1).unwrap_or("application").to_owned()
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (other, value) = line.split_once(": ")?;
        other.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[test]
fn small_and_large_files_are_sent_whole() {
    let mut site = site("");
    for _ in 0..2 {
        let (head, body) = site.ask("GET /s/a.txt");
        assert!(head.starts_with("HTTP/1.1 200 ") && body == b"0123456789", "{head}");
        let (head, body) = site.ask("GET /s/large");
        assert_eq!((field(&head, "content-length"), body.len()), (Some("3000000"), LARGE));
        assert!(body.iter().enumerate().all(|(n, byte)| *byte == (n / 7) as u8));
    }
    let (head, body) = site.ask("HEAD /s/large");
    assert_eq!((field(&head, "content-length"), body.len()), (Some("3000000"), 0));
    assert_eq!(site.ask("GET /s/").1, b"<p>index");
}

/// Drops the pages of a file from memory, where they are on a disk as well.
fn evict(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn a_file_whose_pages_are_not_in_memory_waits_for_them() {
    let mut site = site("");
    let path = site.path.join("large");
    assert_eq!(site.ask("HEAD /s/large").1, b"", "it has been found");
    for line in ["GET /s/large", "GET /s/large\nRange: bytes=1000000-2999999"] {
        evict(&path);
        let (head, body) = site.ask(line);
        let first = if head.contains(" 206 ") { 1_000_000 } else { 0 };
        assert_eq!(body.len(), LARGE - first);
        assert!(body.iter().enumerate().all(|(n, byte)| *byte == ((first + n) / 7) as u8), "{line}");
    }
}

#[test]
fn parts_of_small_and_large_files() {
    let mut site = site("");
    for (name, size) in [("a.txt", 10), ("large", LARGE)] {
        let (head, body) = site.ask(&format!("GET /s/{name}\nRange: bytes=2-4"));
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        assert_eq!(field(&head, "content-range"), Some(&*format!("bytes 2-4/{size}")));
        assert_eq!(body.len(), 3);
        let (head, body) = site.ask(&format!("GET /s/{name}\nRange: bytes=0-1,5-7"));
        let kind = field(&head, "content-type").unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        assert_eq!(field(&head, "content-length"), Some(&*body.len().to_string()));
        let text = String::from_utf8_lossy(&body);
        assert_eq!(text.matches(&format!("--{boundary}")).count(), 3, "{text}");
        assert_ne!(boundary, "0".repeat(32));
        let (head, _) = site.ask(&format!("GET /s/{name}\nRange: bytes={size}-"));
        assert!(head.starts_with("HTTP/1.1 416 "), "{head}");
    }
}

#[test]
fn conditions() {
    let mut site = site("");
    let (head, _) = site.ask("GET /s/a.txt");
    let (tag, modified) = (field(&head, "etag").unwrap(), field(&head, "last-modified").unwrap());
    let (unmodified, body) = site.ask(&format!("GET /s/a.txt\nIf-None-Match: {tag}"));
    assert!(unmodified.starts_with("HTTP/1.1 304 ") && body.is_empty(), "{unmodified}");
    assert_eq!(field(&unmodified, "etag"), Some(tag));
    assert_eq!(field(&unmodified, "cache-control"), field(&head, "cache-control"));
    for (condition, status) in [
        (format!("If-None-Match: \"other\", W/{tag}"), "304"),
        ("If-None-Match: \"other\"".to_owned(), "200"),
        (format!("If-None-Match: \"other\"\nIf-Modified-Since: {modified}"), "200"),
        (format!("If-Modified-Since: {modified}"), "304"),
        (format!("If-None-Match: \"other\"\nIf-None-Match: {tag}"), "304"),
        (format!("If-Match: \"other\"\nIf-Match: {tag}"), "200"),
        ("If-Match: \"other\"\nIf-Match: \"another\"".to_owned(), "412"),
        (format!("If-Unmodified-Since: {modified}"), "200"),
        ("If-Match: \"other\"".to_owned(), "412"),
        (format!("If-Match: \"other\"\nIf-None-Match: {tag}"), "412"),
        (format!("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\nIf-None-Match: {tag}"), "412"),
        (format!("If-Range: {tag}\nRange: bytes=0-0"), "206"),
        ("If-Range: \"other\"\nRange: bytes=0-0".to_owned(), "200"),
    ] {
        assert_eq!(site.status(&format!("GET /s/a.txt\n{condition}")), status, "{condition}");
    }
    write(site.path.join("a.txt.br"), "br").unwrap();
    site.fixture.wait(seconds(1));
    let (head, _) = site.ask("GET /s/a.txt\nAccept-Encoding: gzip\nAccept-Encoding: br");
    assert_eq!(field(&head, "content-encoding"), Some("br"), "{head}");
}

#[test]
fn methods_folders_and_what_is_not_there() {
    let mut site = site("");
    for (line, status) in [
        ("GET /s/none", "404"),
        ("GET /s/docs/", "404"),
        ("GET /s/.env", "404"),
        ("GET /s/a%2ftxt", "404"),
        ("GET /s/docs", "302"),
        ("GET /s", "302"),
        ("OPTIONS /s/a.txt", "204"),
        ("DELETE /s/a.txt", "405"),
        ("GET /other", "application"),
    ] {
        let (head, _) = site.ask(line);
        assert_eq!(head.split(' ').nth(1).unwrap_or("application"), status, "{line}");
        let stored = (status == "404").then_some("no-store");
        assert_eq!(field(&head, "cache-control"), stored, "{line}");
        let allowed = matches!(status, "204" | "405").then_some("GET, HEAD, OPTIONS");
        assert_eq!(field(&head, "allow"), allowed, "{line}");
        if status == "application" {
            break;
        }
    }
    let mut site = self::site("");
    assert_eq!(field(&site.ask("GET /s/docs?a=b").0, "location"), Some("./docs/?a=b"));
    assert_eq!(field(&site.ask("GET /s").0, "location"), Some("./s/"));
}

#[test]
fn the_application_has_what_is_not_there_where_it_is_the_fallback() {
    for line in ["GET /s/none", "POST /s/a.txt", "GET /s/docs/"] {
        let mut site = site(", fallback = 'app'");
        assert_eq!(site.status("GET /s/a.txt"), "200");
        assert_eq!(site.status(line), "application", "{line}");
        assert!(site.fixture.connection.is_waiting());
    }
}

#[test]
fn a_page_stands_for_pages_of_a_single_page_application() {
    let mut site = site(", fallback = '/index.html'");
    let page = "Accept: text/html";
    for (line, status) in [
        (format!("GET /s/users/17\n{page}"), "200"),
        ("GET /s/users/17\nAccept: */*".to_owned(), "404"),
        (format!("GET /s/app.js\n{page}"), "404"),
        (format!("GET /s/app%2ejs\n{page}"), "404"),
        (format!("GET /s/a%2Eb/users\n{page}"), "200"),
        (format!("POST /s/users\n{page}"), "405"),
    ] {
        assert_eq!(site.status(&line), status, "{line}");
    }
    assert_eq!(site.ask(&format!("GET /s/users/17\n{page}")).1, b"<p>index");
}

#[test]
fn what_the_server_compresses_is_not_for_proxies() {
    let mut site = site("");
    write(site.path.join("text.css"), "p { color: red }\n".repeat(200)).unwrap();
    // Until then it is not kept, and so not compressed.
    std::thread::sleep(Duration::from_millis(2100));
    let coding = |site: &mut Site, lines: &str| {
        let (head, _) = site.ask(&format!("GET /s/text.css\nAccept-Encoding: br\n{lines}"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(field(&head, "vary"), Some("Accept-Encoding"), "{head}");
        field(&head, "content-encoding").map(str::to_owned)
    };
    assert_eq!(coding(&mut site, ""), None);
    site.fixture.take_change();
    assert_eq!(coding(&mut site, "").as_deref(), Some("br"));
    // The peers of the tests are trusted.
    for lines in ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "Via: 1.1 proxy"] {
        assert_eq!(coding(&mut site, lines), None, "{lines}");
    }
    // A file that the operator has compressed is for all.
    write(site.path.join("text.css.br"), "br").unwrap();
    site.fixture.wait(seconds(1));
    assert_eq!(coding(&mut site, "Via: 1.1 proxy").as_deref(), Some("br"));
}

#[test]
fn a_request_with_a_body_is_responded_to_before_that_comes() {
    let mut site = site("");
    let step = site.fixture.receive(b"GET /s/a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(step, Step::Keep, "its file is looked for");
    site.fixture.take_result().unwrap();
    let sent = String::from_utf8(site.fixture.sent()).unwrap();
    assert!(sent.starts_with("HTTP/1.1 200 ") && sent.ends_with("0123456789"), "{sent}");
    assert!(sent.contains("Connection: close\r\n"), "{sent}");
}

#[test]
fn a_client_that_leaves_meanwhile_is_forgotten() {
    let mut site = site("");
    assert_eq!(site.fixture.receive(b"GET /s/a.txt HTTP/1.1\r\nHost: x\r\n\r\n"), Step::Respond);
    site.fixture.connection.respond_by_route(&mut site.fixture.context);
    let gone = Event { failed: true, ..INPUT };
    assert_eq!(site.fixture.connection.handle_event(gone, &mut site.fixture.context), Step::Close);
    assert!(site.fixture.take_result().is_none());
}

#[test]
fn what_is_found_is_kept_though_its_client_has_gone() {
    for (name, results) in [("a.txt", 1), ("large", 2)] {
        let mut site = site("");
        let file = File::options().write(true).open(site.path.join(name)).unwrap();
        file.set_modified(UNIX_EPOCH + seconds(1)).unwrap();
        // Until then a change could go unnoticed, and nothing is kept.
        std::thread::sleep(Duration::from_millis(2100));
        let request = format!("GET /s/{name} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(site.fixture.receive(request.as_bytes()), Step::Respond);
        site.fixture.connection.respond_by_route(&mut site.fixture.context);
        for _ in 1..results {
            assert_eq!(site.fixture.take_result(), Some(Step::Keep), "its tag is made");
            assert!(site.fixture.sent().is_empty());
        }
        site.fixture.pass(Deadline::Work);
        assert!(site.fixture.sent().starts_with(b"HTTP/1.1 503 "));
        assert_eq!(site.fixture.take_result(), None);
        let files = &mut site.fixture.context.routes.as_mut().unwrap().files;
        let kept = files.cache.find(0, format!("/{name}").as_bytes(), site.fixture.context.now);
        assert!(matches!(kept, KeptFile::Fresh(file) if !file.awaits_tags()), "{name}");
        let (head, _) = site.ask(&format!("HEAD /s/{name}"));
        assert!(field(&head, "etag").is_some() && field(&head, "last-modified").is_none(), "{head}");
    }
}

#[test]
fn a_file_that_is_exchanged_while_it_is_sent_is_sent_as_it_was() {
    let mut site = site("");
    assert_eq!(site.fixture.receive(b"GET /s/large HTTP/1.1\r\nHost: x\r\n\r\n"), Step::Respond);
    site.fixture.connection.respond_by_route(&mut site.fixture.context);
    let mut step = site.fixture.take_result().unwrap();
    let mut received = site.fixture.sent();
    assert!(!received.is_empty());
    let other = site.path.join("other");
    write(&other, vec![b'!'; LARGE]).unwrap();
    std::fs::rename(other, site.path.join("large")).unwrap();
    while !site.fixture.connection.is_idle() {
        step = match step {
            Step::Again => site.fixture.connection.proceed(&mut site.fixture.context),
            _ if site.fixture.due().is_some_and(|(deadline, _)| deadline == Deadline::Work) => {
                site.fixture.take_result().unwrap()
            }
            _ => site.fixture.connection.handle_event(ROOM, &mut site.fixture.context),
        };
        received.extend(site.fixture.sent());
    }
    assert!(received.ends_with(&[((LARGE - 1) / 7) as u8]) && received.len() > LARGE);
    site.fixture.wait(seconds(1));
    assert!(site.ask("GET /s/large").1.iter().all(|byte| *byte == b'!'), "the next request");
}
