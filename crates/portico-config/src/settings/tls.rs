//! Settings of TLS.

use std::path::PathBuf;
use std::time::Duration;

use super::DAY;
use crate::bind::{BindAddress, WireProtocol};
use crate::ciphers::ciphers;
use crate::error::ConfigError;
use crate::raw::RawConfig;
use crate::resolved::{ClientCertificate, Config};
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] =
    &[CERTFILE, KEYFILE, OCSP_FILE, CERT_REQS, CA_CERTS, CRL_FILE, CIPHERS, HANDSHAKE_TIMEOUT];

pub(crate) const CERTFILE: Setting = Setting {
    name: "certfile",
    flags: &["certfile"],
    value: ValueType::List {
        metavar: "FILE",
        set: |config, files| {
            config.tls.certificates = files.iter().map(PathBuf::from).collect();
            Ok(())
        },
    },
    area: Area::Tls,
    help: "Certificate for TLS with its chain, in PEM; may be repeated",
    details: "Every --bind without a scheme then speaks TLS, except UNIX sockets. With several certificates \
        the client gets the one for the name that it asks for (SNI), or the first one. The file is read \
        again when it changes; if the new one is broken, the log says so and the previous certificate stays. \
        `portico dev-cert` makes one for trying things out.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn certfile() {
    use crate::testing::{config, refusal, resolved};
    assert_eq!(config(&[]).tls.certificates, [""; 0].map(PathBuf::from));
    let said = ["--certfile", "a.pem", "--certfile=b.pem", "-b", ":1", "-b", "fd://3", "-b", "http://:2"];
    let config =
        config(&[&said[..], &["-b", "unix:/a", "-b", "https://unix:/b", "-b", "redirect://:3"]].concat());
    assert_eq!(config.tls.certificates, ["a.pem", "b.pem"].map(PathBuf::from));
    let tls: Vec<bool> = config.binds.iter().map(|bind| bind.tls).collect();
    assert_eq!(tls, [true, true, false, false, true, false]);
    assert!(refusal(&["-b", "https://:1"]).starts_with("--bind: \"https\" needs a certificate"));
    assert!(
        resolved(&[], &["--certfile", "a", "-b", "http://:1"]).warnings[0].contains("no --bind speaks TLS")
    );
}

pub(crate) const KEYFILE: Setting = Setting {
    name: "keyfile",
    flags: &["keyfile"],
    value: ValueType::List {
        metavar: "FILE",
        set: |config, files| {
            config.tls.keys = files.iter().map(PathBuf::from).collect();
            Ok(())
        },
    },
    area: Area::Tls,
    help: "Private key for --certfile, in PEM; repeated as often as --certfile",
    details: "The first key belongs to the first certificate, and so on. Without this option the key is in \
        the certificate's file. PKCS#8, PKCS#1 and SEC1 are read; keys with a passphrase are not. Only the \
        process that starts the server reads it: with --user the workers need no permission to read it.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn keyfile() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&["--certfile", "a", "--keyfile", "b"]).tls.keys, [PathBuf::from("b")]);
    let refused = refusal(&["--certfile", "a", "--certfile", "b", "--keyfile", "c"]);
    assert!(refused.starts_with("--keyfile: 1 for 2 certificates"), "{refused}");
    assert!(refusal(&["--keyfile", "c"]).starts_with("--keyfile: there is no certificate"));
}

pub(crate) const OCSP_FILE: Setting = Setting {
    name: "ocsp_file",
    flags: &["ocsp-file"],
    value: ValueType::List {
        metavar: "FILE",
        set: |config, files| {
            config.tls.ocsp_responses = files.iter().map(PathBuf::from).collect();
            Ok(())
        },
    },
    area: Area::Tls,
    help: "OCSP response to staple to --certfile, in DER; repeated as often as that",
    details: "As `openssl ocsp -respout FILE` writes it. It is read again when it changes; Portico itself \
        contacts no authority.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn ocsp_file() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&["--certfile", "a", "--ocsp-file", "b"]).tls.ocsp_responses, [PathBuf::from("b")]);
    assert!(refusal(&["--ocsp-file", "b"]).starts_with("--ocsp-file: there is no certificate"));
}

pub(crate) const CERT_REQS: Setting = Setting {
    name: "cert_reqs",
    flags: &["cert-reqs"],
    value: ValueType::Choice {
        of: &[
            ("0", |config| config.tls.client_certificate = ClientCertificate::None),
            ("1", |config| config.tls.client_certificate = ClientCertificate::Optional),
            ("2", |config| config.tls.client_certificate = ClientCertificate::Required),
            ("CERT_NONE", |config| config.tls.client_certificate = ClientCertificate::None),
            ("CERT_OPTIONAL", |config| config.tls.client_certificate = ClientCertificate::Optional),
            ("CERT_REQUIRED", |config| config.tls.client_certificate = ClientCertificate::Required),
            ("VerifyMode.CERT_NONE", |config| config.tls.client_certificate = ClientCertificate::None),
            ("VerifyMode.CERT_OPTIONAL", |config| {
                config.tls.client_certificate = ClientCertificate::Optional
            }),
            ("VerifyMode.CERT_REQUIRED", |config| {
                config.tls.client_certificate = ClientCertificate::Required
            }),
        ],
        alone: None,
    },
    default: "0",
    area: Area::Tls,
    help: "Whether clients need a certificate: 0 no, 1 may have one, 2 must",
    details: "The numbers are those of Python's ssl.CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED. A \
        certificate that a client sends must come from an authority of --ca-certs, or the connection fails. \
        The application finds it in SSL_CLIENT_VERIFY, SSL_CLIENT_S_DN and the other variables of Apache's \
        mod_ssl.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn cert_reqs() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).tls.client_certificate, ClientCertificate::None);
    let said = |word| {
        config(&["--cert-reqs", word, "--ca-certs", "ca.pem", "--certfile", "a"]).tls.client_certificate
    };
    assert_eq!(said("1"), ClientCertificate::Optional);
    assert_eq!(said("VerifyMode.CERT_REQUIRED"), ClientCertificate::Required);
    assert!(
        refusal(&["--cert-reqs", "2", "--certfile", "a"]).starts_with("--cert-reqs: name the authorities")
    );
    assert!(refusal(&["--cert-reqs", "3"]).contains("write one of 0, 1, 2"));
}

pub(crate) const CA_CERTS: Setting = Setting {
    name: "ca_certs",
    flags: &["ca-certs"],
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, file| {
            config.tls.authorities = Some(file.into());
            Ok(())
        },
    },
    area: Area::Tls,
    help: "Authorities that may issue clients' certificates, in PEM",
    details: "For --cert-reqs. The file is read again when it changes.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn ca_certs() {
    use crate::testing::{config, resolved};
    let said = ["--certfile", "a", "--ca-certs", "ca.pem"];
    assert_eq!(config(&said).tls.authorities, Some("ca.pem".into()));
    assert!(resolved(&[], &said).warnings[0].starts_with("--ca-certs has no effect without --cert-reqs"));
}

pub(crate) const CRL_FILE: Setting = Setting {
    name: "crl_file",
    flags: &["crl-file"],
    value: ValueType::Text {
        metavar: "FILE",
        set: |config, file| {
            config.tls.revocations = Some(file.into());
            Ok(())
        },
    },
    area: Area::Tls,
    help: "Revocation lists for clients' certificates, in PEM",
    details: "For --cert-reqs. A client whose certificate is in a list is refused. Each authority in a \
        client's chain needs a list that has not expired; otherwise the client is refused as well. The file \
        is read again when it changes. nginx calls it ssl_crl.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn crl_file() {
    use crate::testing::{config, resolved};
    let said = ["--certfile", "a", "--crl-file", "crl.pem"];
    assert_eq!(config(&said).tls.revocations, Some("crl.pem".into()));
    assert!(resolved(&[], &said).warnings[0].starts_with("--crl-file has no effect without --cert-reqs"));
    let whole = [&said[..], &["--cert-reqs", "2", "--ca-certs", "ca.pem"]].concat();
    assert!(resolved(&[], &whole).warnings.is_empty());
}

pub(crate) const CIPHERS: Setting = Setting {
    name: "ciphers",
    flags: &["ciphers"],
    value: ValueType::Text {
        metavar: "LIST",
        set: |config, list| ciphers(list).map(|names| config.tls.ciphers = names),
    },
    area: Area::Tls,
    help: "Ciphers of TLS 1.2, as OpenSSL's lists name them",
    details: "Without it, all that Portico supports: AES-GCM and ChaCha20-Poly1305 after an elliptic-curve \
        key exchange. Of OpenSSL's syntax it understands the names, the words ALL, DEFAULT, HIGH, ECDHE, \
        ECDSA, RSA, AESGCM, AES128, AES256 and CHACHA20, words joined by +, and ! or - before any of them; \
        the order of preference stays Portico's. As with OpenSSL, the ciphers of TLS 1.3 stay, unless one is \
        named.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn ciphers_setting() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).tls.ciphers, [""; 0]);
    let names = config(&["--ciphers", "ECDHE-RSA-AES128-GCM-SHA256"]).tls.ciphers;
    assert!(names.contains(&"ECDHE-RSA-AES128-GCM-SHA256") && names.contains(&"TLS_AES_128_GCM_SHA256"));
    assert!(refusal(&["--ciphers", "RC4-SHA"]).contains("RC4-SHA"));
}

pub(crate) const HANDSHAKE_TIMEOUT: Setting = Setting {
    name: "handshake_timeout",
    flags: &["handshake-timeout"],
    value: ValueType::Time {
        range: Duration::from_secs(1)..=DAY,
        zero: None,
        set: |config, time| config.tls.handshake_timeout = time,
    },
    default: "10",
    area: Area::Tls,
    help: "Time for the TLS handshake, from the start of the connection",
    details: "The connection of a client that has not finished by then is closed. The time for the request \
        (--head-timeout) begins after the handshake.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn handshake_timeout() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).tls.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config(&["--handshake-timeout", "500s"]).tls.handshake_timeout, Duration::from_secs(500));
    assert!(refusal(&["--handshake-timeout", "0"]).starts_with("--handshake-timeout: "));
}

/// Decides which binds speak TLS, and whether what that takes is there.
///
/// # Errors
/// It is not.
pub(crate) fn settle(
    config: &mut Config,
    raw: &RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let refuse = |setting: &Setting, problem: &str| match raw.said(setting) {
        Some(said) => said.source.error(setting, problem),
        None => ConfigError::new(format!("{}: {problem}", setting.option())),
    };
    let tls = &config.tls;
    for (setting, files) in [(&KEYFILE, &tls.keys), (&OCSP_FILE, &tls.ocsp_responses)] {
        match (files.len(), tls.certificates.len()) {
            (0, _) => {}
            (_, 0) => {
                return Err(refuse(setting, "there is no certificate for it; name one with --certfile"));
            }
            (files, certificates) if files == certificates => {}
            (files, certificates) => {
                let counts =
                    format!("{files} for {certificates} certificates; name one for each, in their order");
                return Err(refuse(setting, &counts));
            }
        }
    }
    if tls.client_certificate != ClientCertificate::None && tls.authorities.is_none() {
        return Err(refuse(&CERT_REQS, "name the authorities that issue these certificates with --ca-certs"));
    }
    for (setting, file) in [(&CA_CERTS, &tls.authorities), (&CRL_FILE, &tls.revocations)] {
        if tls.client_certificate == ClientCertificate::None && file.is_some() {
            warnings.push(format!("{} has no effect without --cert-reqs 1 or 2", setting.option()));
        }
    }
    let given = !tls.certificates.is_empty();
    for bind in &mut config.binds {
        let takes_it = matches!(bind.address, BindAddress::Tcp { .. } | BindAddress::Fd(_));
        bind.tls |= given && !bind.named && takes_it && bind.protocol == WireProtocol::Http;
        if bind.tls && !given {
            let problem = "\"https\" needs a certificate: name one with --certfile; `portico dev-cert` \
                           makes one to try things with";
            return Err(refuse(&super::socket::BIND, problem));
        }
    }
    if given && !config.binds.iter().any(|bind| bind.tls) {
        warnings.push(
            "--certfile has no effect: no --bind speaks TLS; write https:// before its address".to_owned(),
        );
    }
    Ok(())
}
