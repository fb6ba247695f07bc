//! What a worker greets TLS clients with, made anew when the shared certificates have something new.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use portico_config::{ClientCertificate, Config, TlsSettings};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;

use super::encoding;
use super::material::Material;
use super::provider::provider;
use super::resolver::Resolver;
use super::source::CertificateSource;
use super::tickets::Ticketer;

/// The protocols within TLS (ALPN), the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The side of TLS that greets the clients of one worker, with the certificates that count at that moment.
#[derive(Debug)]
pub struct Acceptor {
    source: CertificateSource,
    settings: TlsSettings,
    /// HTTP/2 is offered.
    http2: bool,
    present: Mutex<Present>,
}

/// The configuration of TLS that handshakes begin with now, and the version of the certificates that it was made
/// of. Owned by the acceptor of one worker, and replaced when the shared version has risen; connections keep the
/// one that they began with.
#[derive(Debug, Default)]
struct Present {
    /// The version of the shared certificates that `config` was made of, or could not be.
    version: u64,
    config: Option<Arc<ServerConfig>>,
}

impl Acceptor {
    /// One that has what it needs from `source`.
    pub fn new(source: CertificateSource, config: &Config) -> Self {
        let (settings, http2) = (config.tls.clone(), config.http2.offered);
        Self { source, settings, http2, present: Mutex::default() }
    }

    /// What the next client is greeted with. `None`: with nothing, which has been told.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        let shared = self.source.shared();
        let version = shared.version();
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.version != version
            && let Some((version, content)) = shared.read()
        {
            present.version = version;
            match config(&self.settings, &content) {
                Ok(mut config) => {
                    config.alpn_protocols = self.protocols();
                    present.config = Some(Arc::new(config));
                }
                Err(error) => log::error!("new certificates cannot be used by this worker: {error}"),
            }
        }
        present.config.clone()
    }

    fn protocols(&self) -> Vec<Vec<u8>> {
        let offered = PROTOCOLS.iter().filter(|protocol| self.http2 || **protocol != b"h2");
        offered.map(|protocol| protocol.to_vec()).collect()
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.settings.client_certificate != ClientCertificate::None
    }
}

fn config(settings: &TlsSettings, content: &[u8]) -> Result<ServerConfig, String> {
    let (keys, material) = encoding::read(content)?;
    let told = |error: rustls::Error| error.to_string();
    let provider = Arc::new(provider(settings));
    let mut resolver = Resolver::default();
    for pair in &material.pairs {
        resolver.add(pair.certified(&provider).map_err(told)?, &pair.facts()?.names);
    }
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(told)?;
    let builder = match settings.client_certificate {
        ClientCertificate::None => builder.with_no_client_auth(),
        required => {
            let verifier = material.verifier(&provider)?;
            let verifier = match required {
                ClientCertificate::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    let ticketer =
        Ticketer::new(&keys, terms(settings, &material)).ok_or("the keys of tickets are broken")?;
    config.ticketer = Arc::new(ticketer);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ignore_client_order = true;
    Ok(config)
}

/// Who may be a client: a session does not go on under other terms than it was begun under.
fn terms(settings: &TlsSettings, material: &Material) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[settings.client_certificate as u8]);
    if settings.client_certificate != ClientCertificate::None {
        material.authorities.iter().for_each(|authority| context.update(authority));
        // Whoever has been revoked since is not to go on.
        material.revocations.iter().for_each(|list| context.update(list));
    }
    context.finish().as_ref().to_vec()
}
