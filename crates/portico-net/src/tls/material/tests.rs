//! Files that are as they should be, and all the ways in which they are not.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use tempfile::TempDir;

use super::*;

/// Certificate and key, in PEM, for these names.
fn made(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    (CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A folder with these files, and what comes of reading them as a certificate, a key, a response,
/// authorities, revocation lists.
fn read_of(files: &[(&str, &[u8])], named: [Option<&str>; 5]) -> (TempDir, Result<Material, String>) {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    let path = |name: &str| folder.path().join(name);
    let [certificate, key, ocsp, authorities, revocations] = named.map(|name| name.map(path));
    let tls = TlsSettings {
        certificates: certificate.into_iter().collect(),
        keys: key.into_iter().collect(),
        ocsp_responses: ocsp.into_iter().collect(),
        authorities,
        revocations,
        ..TlsSettings::default()
    };
    let read = Files::of(&tls, None).read(&default_provider());
    (folder, read)
}

#[test]
fn what_is_read_goes_to_the_workers_as_it_is() {
    let (certificate, key) = made(&["a.example", "*.b.example", "127.0.0.1"]);
    let (authority, _) = made(&["authority"]);
    let chain = format!("{certificate}{authority}");
    let files = [
        ("c", chain.as_bytes()),
        ("k", key.as_bytes()),
        ("o", b"response".as_slice()),
        ("a", authority.as_bytes()),
    ];
    let (_folder, read) = read_of(&files, [Some("c"), Some("k"), Some("o"), Some("a"), None]);
    let material = read.unwrap();
    assert_eq!((material.pairs[0].chain.len(), material.authorities.len()), (2, 1));
    assert_eq!(material.pairs[0].facts().unwrap().names, ["a.example", "*.b.example", "127.0.0.1"]);
    let mut bytes = Vec::new();
    material.write(&mut bytes);
    assert_eq!(Material::read(&bytes).as_ref(), Some(&material));
    for length in 0..bytes.len() {
        assert_ne!(Material::read(&bytes[..length]).as_ref(), Some(&material));
    }
}

#[test]
fn there_may_be_more_certificates_than_a_byte_counts() {
    let (certificate, key) = made(&["a.example"]);
    let (_folder, read) = read_of(
        &[("c", certificate.as_bytes()), ("k", key.as_bytes())],
        [Some("c"), Some("k"), None, None, None],
    );
    let mut material = read.unwrap();
    let (mut one, mut many) = (Vec::new(), Vec::new());
    material.write(&mut one);
    for _ in 1..256 {
        material.pairs.extend(Material::read(&one).unwrap().pairs);
    }
    material.write(&mut many);
    assert_eq!(Material::read(&many).unwrap().pairs.len(), 256);
}

#[test]
fn a_key_may_stand_in_the_certificates_file() {
    let (certificate, key) = made(&["a.example"]);
    let both = format!("{key}{certificate}");
    assert!(read_of(&[("c", both.as_bytes())], [Some("c"), None, None, None, None]).1.is_ok());
    let (_folder, read) = read_of(&[("c", certificate.as_bytes())], [Some("c"), None, None, None, None]);
    assert!(
        read.unwrap_err()
            .ends_with("has no private key beside the certificate; name the key's file with --keyfile")
    );
}

#[test]
fn what_is_wrong_is_named() {
    let (certificate, key) = made(&["a.example"]);
    let (_, other) = made(&["a.example"]);
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let files: [(&str, &[u8]); 8] = [
        ("c", certificate.as_bytes()),
        ("k", key.as_bytes()),
        ("other", other.as_bytes()),
        ("locked", locked.as_bytes()),
        ("old", old.as_bytes()),
        ("broken", broken.as_bytes()),
        ("der", &[0x30, 0x82, 1, 2]),
        ("empty", b""),
    ];
    for (certificate, key, ocsp, authorities, problem) in [
        ("missing", "k", None, None, "--certfile: "),
        ("missing", "k", None, None, "cannot be read: No such file"),
        ("empty", "k", None, None, "has no certificate in PEM"),
        ("der", "k", None, None, "is in DER; write it in PEM: openssl x509 -inform der"),
        ("c", "missing", None, None, "--keyfile: "),
        ("c", "empty", None, None, "has no private key in PEM"),
        ("c", "other", None, None, "does not belong to the certificate in"),
        ("c", "locked", None, None, "has a passphrase, and nobody is there to type it"),
        ("c", "old", None, None, "has a passphrase, and nobody is there to type it"),
        ("c", "broken", None, None, "cannot be used: "),
        ("c", "k", Some("missing"), None, "--ocsp-file: "),
        ("c", "k", None, Some("k"), "--ca-certs: "),
    ] {
        let (_folder, read) = read_of(&files, [Some(certificate), Some(key), ocsp, authorities, None]);
        let told = read.unwrap_err();
        assert!(told.contains(problem) && !told.contains('\n'), "{told}");
    }
}

/// An authority and an empty list of it, in PEM; a list for the year 2000.
fn authority() -> (String, String, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&key).unwrap();
    let issuer = Issuer::new(parameters, &key);
    let list = |year| {
        let parameters = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(year + 1, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        parameters.signed_by(&issuer).unwrap().pem().unwrap()
    };
    (certificate.pem(), list(2100), list(2000))
}

#[test]
fn revocation_lists_go_along_and_what_is_none_is_refused() {
    let (certificate, key) = made(&["a.example"]);
    let (authority, list, old) = authority();
    let both = format!("{list}{old}");
    let broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let read_with = |authorities, lists: &[u8]| {
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let files = [("c", certificate), ("k", key), ("a", authority.as_bytes()), ("r", lists)];
        read_of(&files, [Some("c"), Some("k"), None, authorities, Some("r")]).1
    };
    let read = |lists: &[u8]| read_with(Some("a"), lists);
    assert!(read_with(None, list.as_bytes()).is_ok(), "of no use, and that has been said");
    let material = read(both.as_bytes()).unwrap();
    let until: Vec<_> = material.revocations.iter().filter_map(list_until).collect();
    assert_eq!(until, [4_133_980_800, 978_307_200]);
    let mut bytes = Vec::new();
    material.write(&mut bytes);
    assert_eq!(Material::read(&bytes).as_ref(), Some(&material));
    for (lists, problem) in [
        (certificate.as_bytes(), "has no revocation list in PEM"),
        (broken.as_bytes(), "has a list that cannot be read"),
        (&[0x30, 0x82, 1, 2], "is in DER; write it in PEM: openssl crl -inform der"),
        (b"", "has no revocation list in PEM"),
    ] {
        let told = read(lists).unwrap_err();
        assert!(told.starts_with("--crl-file: ") && told.contains(problem), "{told}");
    }
}
