//! Whom https to a collector trusts: a file that is named, or the authorities of the system.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portico_config::TraceSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// What a TLS connection to the collector begins with.
#[derive(Clone, Debug)]
pub(crate) struct CollectorTls {
    /// Versions, ciphers, and whom to trust.
    pub config: Arc<ClientConfig>,
    /// Who is asked for.
    pub name: ServerName<'static>,
}

/// Where distributions keep the certificates of authorities: Debian and Alpine, Fedora and RHEL, openSUSE, others.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The variable by which OpenSSL, and so most programs, is told of another one.
const BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";

impl CollectorTls {
    /// For the collector of these settings; `None` if it is spoken to without TLS.
    ///
    /// # Errors
    /// There is no certificate to trust, with the file's name.
    pub(crate) fn new(settings: &TraceSettings) -> io::Result<Option<Self>> {
        if !settings.collector.tls {
            return Ok(None);
        }
        let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidInput, problem);
        let bundle = bundle(settings.certificate.as_deref())?;
        let roots = roots(&bundle)?;
        let host = settings.collector.host.clone();
        let name = ServerName::try_from(host.clone())
            .map_err(|_| invalid(format!("{host:?} is no name of a server for https")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Self { config: Arc::new(config), name }))
    }
}

fn bundle(named: Option<&Path>) -> io::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let of_variable = std::env::var_os(BUNDLE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut bundles = BUNDLES.iter().map(PathBuf::from).filter(|path| path.exists());
    of_variable.or_else(|| bundles.next()).ok_or_else(|| {
        let problem = "this system has no certificates of authorities; install its package ca-certificates, \
                       or name a file with OTEL_EXPORTER_OTLP_CERTIFICATE";
        io::Error::new(io::ErrorKind::NotFound, problem)
    })
}

fn roots(bundle: &Path) -> io::Result<RootCertStore> {
    let told = |problem: &dyn std::fmt::Display| {
        let hint = "OTEL_EXPORTER_OTLP_CERTIFICATE names a file of PEM certificates to trust";
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {problem} ({hint})", bundle.display()))
    };
    let text = std::fs::read(bundle).map_err(|error| told(&error))?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    // A bundle of a system may have one that is too old to be read.
    let (count, _) = roots.add_parsable_certificates(certificates.map_err(|error| told(&error))?);
    if count == 0 { Err(told(&"there is no certificate in it")) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: io::Result<impl Sized>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_file_without_certificates_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(text(roots(&path)).contains("ca.pem: No such file"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(text(roots(&path)).contains("ca.pem: there is no certificate in it"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        assert!(text(roots(&path)).contains("ca.pem: "));
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&path, certified.cert.pem()).unwrap();
        assert_eq!(roots(&path).unwrap().len(), 1);
        assert_eq!(bundle(Some(&path)).unwrap(), path);
    }
}
