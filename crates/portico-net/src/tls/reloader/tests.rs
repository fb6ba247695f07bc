//! Files that change while they are looked after.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use portico_config::{Parsed, parse};
use rcgen::{CertificateParams, KeyPair};

use super::*;

fn write_pair(folder: &Path, name: &str) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.join("c.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("k.pem"), key.serialize_pem()).unwrap();
}

fn config(folder: &Path, more: &[&str]) -> Config {
    let path = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (path("c.pem"), path("k.pem"));
    let arguments = [&["-b", "127.0.0.1:0", "--certfile", &certificate, "--keyfile", &key], more].concat();
    match parse(arguments.iter().map(OsString::from), &|_| None) {
        Ok(Parsed::Run(resolved)) => resolved.config,
        other => panic!("{other:?}"),
    }
}

/// The names of the certificate that workers have.
fn names(shared: &SharedCertificates) -> Vec<String> {
    let (_, content) = shared.read().unwrap();
    encoding::read(&content).unwrap().1.pairs[0].facts().unwrap().names
}

#[test]
fn a_pair_that_is_replaced_is_read_once_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "first.example");
    let mut reloader = CertificateReloader::open(&config(folder.path(), &[]), &[], None).unwrap().unwrap();
    let shared = reloader.shared();
    assert_eq!((names(&shared), shared.version()), (vec!["first.example".to_owned()], 1));
    reloader.look();
    assert_eq!(shared.version(), 1, "nothing has changed");

    // A certificate without its key: the first look waits, the second one tells, and the former stays.
    let kept = fs::read(folder.path().join("k.pem")).unwrap();
    write_pair(folder.path(), "second.example");
    let key = fs::read(folder.path().join("k.pem")).unwrap();
    fs::write(folder.path().join("k.pem"), kept).unwrap();
    (0..3).for_each(|_| reloader.look());
    assert_eq!((names(&shared), shared.version()), (vec!["first.example".to_owned()], 1));
    assert!(reloader.is_stale());

    fs::write(folder.path().join("k.pem"), key).unwrap();
    (0..2).for_each(|_| reloader.look());
    assert_eq!((names(&shared), shared.version()), (vec!["second.example".to_owned()], 2));
    assert!(!reloader.is_stale());
}

#[test]
fn another_process_goes_on_with_the_keys_of_tickets_and_replaces_them_when_this_one_would() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "first.example");
    let config = config(folder.path(), &[]);
    let keys = |shared: &SharedCertificates| {
        shared.read().unwrap().1[..3 * super::super::tickets::KEY_BYTES].to_vec()
    };
    let mut old = CertificateReloader::open(&config, &[], None).unwrap().unwrap();
    old.next_keys = Instant::now() + ROTATION / 2;
    let new = CertificateReloader::open(&config, &old.ticket_keys(), None).unwrap().unwrap();
    assert_eq!(keys(&new.shared()), keys(&old.shared()));
    assert!(new.next_keys.saturating_duration_since(Instant::now()) <= ROTATION / 2);
    old.next_keys = Instant::now();
    old.look();
    let (before, after) = (keys(&new.shared()), keys(&old.shared()));
    assert_eq!(before[..96], after[48..], "the next key was handed on with the others");
    let mut far = old.ticket_keys();
    far[..8].fill(0xFF);
    let limit = Instant::now() + ROTATION + Duration::from_secs(60);
    assert!(CertificateReloader::open(&config, &far, None).unwrap().unwrap().next_keys < limit);
    for broken in [&[][..], &far[1..], &far[..20], b"nonsense"] {
        assert_ne!(keys(&CertificateReloader::open(&config, broken, None).unwrap().unwrap().shared()), after);
    }
}

#[test]
fn a_reload_reads_at_once_what_is_named_now() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_pair(first.path(), "first.example");
    write_pair(second.path(), "second.example");
    let mut reloader = CertificateReloader::open(&config(first.path(), &[]), &[], None).unwrap().unwrap();
    let shared = reloader.shared();
    reloader.follow(&config(second.path(), &[]), None);
    assert_eq!(names(&shared), ["second.example"]);
    fs::remove_file(first.path().join("c.pem")).unwrap();
    reloader.follow(&config(first.path(), &[]), None);
    assert_eq!(names(&shared), ["second.example"], "what cannot be read changes nothing");
}

#[test]
fn workers_greet_with_what_is_new_and_keep_the_former_where_it_is_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "first.example");
    let config = config(folder.path(), &[]);
    let mut reloader = CertificateReloader::open(&config, &[], None).unwrap().unwrap();
    let acceptor = super::super::Acceptor::new(reloader.shared().into(), &config);
    let first = acceptor.config().unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &acceptor.config().unwrap()));
    write_pair(folder.path(), "second.example");
    reloader.follow(&config, None);
    let second = acceptor.config().unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &second));
    reloader.shared().write(b"nonsense").unwrap();
    assert!(std::sync::Arc::ptr_eq(&second, &acceptor.config().unwrap()));
}

#[test]
fn days_are_counted_and_nobody_looks_where_nobody_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "first.example");
    let reloader = CertificateReloader::open(&config(folder.path(), &[]), &[], None).unwrap().unwrap();
    let expiries = reloader.expiries();
    assert!(expiries[0].file.ends_with("c.pem") && expiries[0].days > 365);
    let mut plain = config(folder.path(), &[]);
    plain.binds.iter_mut().for_each(|bind| bind.tls = false);
    assert!(CertificateReloader::open(&plain, &[], None).unwrap().is_none());
    let missing = config(Path::new("/nowhere"), &[]);
    assert!(
        CertificateReloader::open(&missing, &[], None)
            .unwrap_err()
            .starts_with("--certfile: /nowhere/c.pem cannot be read")
    );
    assert!(
        CertificateReloader::check(&missing, None).is_err()
            && CertificateReloader::check(&plain, None).is_ok()
    );
}
