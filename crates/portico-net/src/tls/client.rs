//! What a TLS client has shown of itself, for the application: the variables of Apache's mod_ssl.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, ProtocolVersion};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::names;
use super::resolver::ShownCertificate;

/// The client of a connection whose handshake is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TlsClient {
    /// SSL_PROTOCOL: `TLSv1.3`.
    pub protocol: &'static str,
    /// SSL_CIPHER: OpenSSL's name of the cipher.
    pub cipher: &'static str,
    /// What client and server have agreed to speak (ALPN): `h2`; nothing for HTTP/1.
    pub application_protocol: Option<&'static str>,
    /// SSL_SERVER_NAME: the name that it has asked for, if any.
    pub server_name: Option<Box<str>>,
    /// The names that the certificate is for which the client was shown; some may begin with `*.`.
    pub shown_names: Arc<[String]>,
    /// The SSL_CLIENT_* variables and their values, in UTF-8. None where no client is asked for a certificate.
    pub certificate: Vec<(String, String)>,
}

/// Characters of one line of PEM.
const PEM_LINE: usize = 64;

impl TlsClient {
    /// As the session has it. `asked`: clients are asked for certificates.
    pub(crate) fn of(session: &CommonState, shown: Option<ShownCertificate>, asked: bool) -> Self {
        let (server_name, shown_names) = match shown {
            Some(shown) => (shown.asked, shown.names),
            None => (None, Arc::default()),
        };
        Self {
            protocol: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: session.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite())),
            application_protocol: session.alpn_protocol().filter(|protocol| *protocol == b"h2").map(|_| "h2"),
            server_name,
            shown_names,
            certificate: match session.peer_certificates() {
                Some(chain) => variables(chain),
                None if asked => vec![("SSL_CLIENT_VERIFY".to_owned(), "NONE".to_owned())],
                None => Vec::new(),
            },
        }
    }
}

/// OpenSSL's name of a cipher.
pub(super) fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

/// The variables of a chain that has been verified, named as mod_ssl names them.
fn variables(chain: &[CertificateDer<'static>]) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: String| variables.push((format!("SSL_CLIENT_{name}"), value));
    set("VERIFY", "SUCCESS".to_owned());
    for (at, certificate) in chain.iter().enumerate() {
        match at {
            0 => set("CERT", pem(certificate)),
            _ => set(&format!("CERT_CHAIN_{}", at - 1), pem(certificate)),
        }
    }
    let Some(Ok((_, certificate))) = chain.first().map(|leaf| X509Certificate::from_der(leaf)) else {
        return variables;
    };
    set("M_VERSION", (certificate.version().0 + 1).to_string());
    set("M_SERIAL", serial(certificate.raw_serial()));
    for (side, name) in [("S_DN", certificate.subject()), ("I_DN", certificate.issuer())] {
        set(side, names::distinguished(name));
        let mut seen: Vec<&str> = Vec::new();
        for (short, value) in names::attributes(name) {
            let short = if short == "emailAddress" { "Email" } else { short };
            let nth = seen.iter().filter(|other| **other == short).count();
            seen.push(short);
            match nth {
                0 => set(&format!("{side}_{short}"), value),
                nth => set(&format!("{side}_{short}_{nth}"), value),
            }
        }
    }
    let validity = certificate.validity();
    set("V_START", names::moment(validity.not_before));
    set("V_END", names::moment(validity.not_after));
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        let (mut emails, mut hosts) = (0, 0);
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::RFC822Name(name) => {
                    set(&format!("SAN_Email_{emails}"), (*name).to_owned());
                    emails += 1;
                }
                GeneralName::DNSName(name) => {
                    set(&format!("SAN_DNS_{hosts}"), (*name).to_owned());
                    hosts += 1;
                }
                _ => {}
            }
        }
    }
    variables
}

/// Hexadecimal digits, without the zero byte that only says that the number is not negative.
fn serial(bytes: &[u8]) -> String {
    match bytes {
        [0, rest @ ..] if !rest.is_empty() => names::hex(rest),
        bytes => names::hex(bytes),
    }
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
