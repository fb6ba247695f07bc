//! Certificates, keys and what belongs to them: from their files, and on their way to the workers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portico_config::TlsSettings;
use portico_files::{Owner, read_for};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use super::names;

/// The files of certificates and keys that the settings name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pairs: Vec<PairFiles>,
    authorities: Option<PathBuf>,
    revocations: Option<PathBuf>,
    /// Whose the workers are, who learn what the files hold.
    workers: Option<Owner>,
}

/// The paths of one certificate with what belongs to it, as the settings name them. They are kept, so that a
/// reload reads the same files again; nothing is opened by having them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PairFiles {
    certificate: PathBuf,
    /// Where it is not in the certificate's.
    key: Option<PathBuf>,
    ocsp: Option<PathBuf>,
}

/// The content of the files: certificates, keys, authorities and revocations.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Material {
    pub pairs: Vec<CertificateAndKey>,
    /// Certificates of the authorities that clients' certificates may be from.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Their lists of certificates that are so no longer.
    pub revocations: Vec<CertificateRevocationListDer<'static>>,
}

/// A certificate with its chain, and its key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CertificateAndKey {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub ocsp: Option<Vec<u8>>,
}

/// The facts of a certificate that the server looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateInfo {
    /// The names that it is for; the subject's common name where it has no others.
    pub names: Vec<String>,
    /// Until when it is valid, in seconds since 1970.
    pub until: i64,
    /// The same as text.
    pub until_text: String,
}

impl Files {
    /// Those of `tls`, by paths that hold whatever folder the process is in.
    pub(super) fn of(tls: &TlsSettings, workers: Option<Owner>) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let pair = |(index, certificate): (usize, &PathBuf)| PairFiles {
            certificate: absolute(certificate),
            key: tls.keys.get(index).map(absolute),
            ocsp: tls.ocsp_responses.get(index).map(absolute),
        };
        Self {
            pairs: tls.certificates.iter().enumerate().map(pair).collect(),
            authorities: tls.authorities.as_ref().map(absolute),
            revocations: tls.revocations.as_ref().map(absolute),
            workers,
        }
    }

    /// All of them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.pairs.iter().flat_map(|pair| {
            [Some(&pair.certificate), pair.key.as_ref(), pair.ocsp.as_ref()].into_iter().flatten()
        });
        pairs.chain(&self.authorities).chain(&self.revocations).map(PathBuf::as_path)
    }

    /// The certificates' files, in their order.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &Path> {
        self.pairs.iter().map(|pair| pair.certificate.as_path())
    }

    /// What they hold, if it can be served with.
    ///
    /// # Errors
    /// One line that names the setting, the file and what is wrong with it.
    pub(super) fn read(&self, provider: &CryptoProvider) -> Result<Material, String> {
        let pairs =
            self.pairs.iter().map(|pair| pair.read(provider, self.workers)).collect::<Result<_, _>>()?;
        let authorities = match &self.authorities {
            Some(path) => certificates("--ca-certs", path, self.workers)?,
            None => Vec::new(),
        };
        for authority in &authorities {
            let added = RootCertStore::empty().add(authority.clone());
            added.map_err(|error| told("--ca-certs", self.authorities.as_deref(), &error))?;
        }
        let revocations = match &self.revocations {
            Some(path) => revocations("--crl-file", path, self.workers)?,
            None => Vec::new(),
        };
        let material = Material { pairs, authorities, revocations };
        if !material.authorities.is_empty() && !material.revocations.is_empty() {
            let built = material.verifier(&Arc::new(provider.clone()));
            let built = built.and_then(|verifier| verifier.build().map_err(|error| error.to_string()));
            built.map_err(|problem| {
                let problem =
                    format!("cannot be used: {problem}; its lists have to be of version 2 (RFC 5280)");
                told("--crl-file", self.revocations.as_deref(), &problem)
            })?;
        }
        Ok(material)
    }
}

impl PairFiles {
    fn read(&self, provider: &CryptoProvider, workers: Option<Owner>) -> Result<CertificateAndKey, String> {
        let chain = certificates("--certfile", &self.certificate, workers)?;
        let key = self.read_key(workers)?;
        let ocsp = match &self.ocsp {
            Some(path) => Some(read("--ocsp-file", path, workers)?),
            None => None,
        };
        let pair = CertificateAndKey { chain, key, ocsp };
        pair.facts().map_err(|problem| told("--certfile", Some(&self.certificate), &problem))?;
        match pair.certified(provider) {
            Ok(_) => Ok(pair),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(format!(
                "--keyfile: the key in {} does not belong to the certificate in {}",
                self.key_file().display(),
                self.certificate.display()
            )),
            Err(error) => Err(told("--keyfile", Some(self.key_file()), &format!("cannot be used: {error}"))),
        }
    }

    fn key_file(&self) -> &Path {
        self.key.as_ref().unwrap_or(&self.certificate)
    }

    fn read_key(&self, workers: Option<Owner>) -> Result<PrivateKeyDer<'static>, String> {
        let path = self.key_file();
        let text = read("--keyfile", path, workers)?;
        let has = |words: &str| memchr::memmem::find(&text, words.as_bytes()).is_some();
        if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
            return Err(format!(
                "--keyfile: the key in {0} has a passphrase, and nobody is there to type it; write it without \
                 one: openssl pkey -in {0} -out FILE",
                path.display()
            ));
        }
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| match &self.key {
            Some(path) => format!(
                "--keyfile: {} has no private key in PEM (-----BEGIN PRIVATE KEY-----)",
                path.display()
            ),
            None => format!(
                "--certfile: {} has no private key beside the certificate; name the key's file with --keyfile",
                path.display()
            ),
        })
    }
}

impl CertificateAndKey {
    /// As rustls takes it.
    ///
    /// # Errors
    /// The key cannot be used, or is that of another certificate.
    pub(super) fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let mut certified = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), provider)?;
        certified.ocsp.clone_from(&self.ocsp);
        Ok(certified)
    }

    /// What its certificate says of itself.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn facts(&self) -> Result<CertificateInfo, String> {
        let leaf = self.chain.first().ok_or("has no certificate")?;
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|error| format!("is no certificate: {error}"))?;
        let mut names: Vec<String> = Vec::new();
        if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
            for name in &alternatives.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        if names.is_empty() {
            names.extend(
                names::attributes(certificate.subject()).find(|(short, _)| *short == "CN").map(|it| it.1),
            );
        }
        let until = certificate.validity().not_after;
        Ok(CertificateInfo { names, until: until.timestamp(), until_text: date(until) })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

fn date(time: ASN1Time) -> String {
    names::moment(time)
}

fn told(setting: &str, path: Option<&Path>, problem: &impl std::fmt::Display) -> String {
    format!("{setting}: {} {problem}", path.unwrap_or(Path::new("")).display())
}

fn read(setting: &str, path: &Path, workers: Option<Owner>) -> Result<Vec<u8>, String> {
    read_for(path, workers).map_err(|error| told(setting, Some(path), &format!("cannot be read: {error}")))
}

fn certificates(
    setting: &str,
    path: &Path,
    workers: Option<Owner>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(setting, path, workers)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ if text.starts_with(&[0x30, 0x82]) => Err(format!(
            "{setting}: {0} is in DER; write it in PEM: openssl x509 -inform der -in {0} -out FILE",
            path.display()
        )),
        _ => Err(told(setting, Some(path), &"has no certificate in PEM (-----BEGIN CERTIFICATE-----)")),
    }
}

fn revocations(
    setting: &str,
    path: &Path,
    workers: Option<Owner>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let text = read(setting, path, workers)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() && found.iter().all(|list| list_until(list).is_some()) => Ok(found),
        Ok(found) if !found.is_empty() => Err(told(
            setting,
            Some(path),
            &"has a list that cannot be read, or that does not say when the next one comes",
        )),
        _ if text.starts_with(&[0x30, 0x82]) || text.starts_with(&[0x30, 0x81]) => Err(format!(
            "{setting}: {0} is in DER; write it in PEM: openssl crl -inform der -in {0} -out FILE",
            path.display()
        )),
        _ => Err(told(setting, Some(path), &"has no revocation list in PEM (-----BEGIN X509 CRL-----)")),
    }
}

/// Until when a revocation list counts, in seconds since 1970; `None` if it is none or does not say so.
pub(super) fn list_until(list: &CertificateRevocationListDer<'_>) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    list.next_update().map(|until| until.timestamp())
}

impl Material {
    /// Says of clients' certificates whether they are from whom this names. Where there are revocation lists,
    /// there must be one of each authority of the chain, and of those none that has expired: OpenSSL asks for as
    /// much.
    ///
    /// # Errors
    /// An authority cannot be used.
    pub(super) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ClientCertVerifierBuilder, String> {
        let mut roots = RootCertStore::empty();
        let added = self.authorities.iter().try_for_each(|der| roots.add(der.clone()));
        added.map_err(|error| error.to_string())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Ok(verifier.with_crls(self.revocations.iter().cloned()).enforce_revocation_expiration())
    }

    /// Appends bytes for [`Material::read`].
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut put = |bytes: &[u8]| {
            out.extend((bytes.len() as u32).to_ne_bytes());
            out.extend(bytes);
        };
        put(&(self.pairs.len() as u32).to_ne_bytes());
        for pair in &self.pairs {
            put(&(pair.chain.len() as u32).to_ne_bytes());
            pair.chain.iter().for_each(|certificate| put(certificate));
            let kind = match &pair.key {
                PrivateKeyDer::Pkcs1(_) => 1,
                PrivateKeyDer::Sec1(_) => 2,
                _ => 8,
            };
            put(&[kind]);
            put(pair.key.secret_der());
            put(pair.ocsp.as_deref().unwrap_or_default());
        }
        put(&(self.authorities.len() as u32).to_ne_bytes());
        self.authorities.iter().for_each(|authority| put(authority));
        self.revocations.iter().for_each(|list| put(list));
    }

    /// What `bytes` were made of; `None` if they were made otherwise.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let count = u32::from_ne_bytes(take(rest)?.try_into().ok()?);
        let pairs = (0..count).map(|_| CertificateAndKey::take(rest)).collect::<Option<_>>()?;
        let count = u32::from_ne_bytes(take(rest)?.try_into().ok()?);
        let authorities = (0..count).map(|_| Some(take(rest)?.to_vec().into())).collect::<Option<_>>()?;
        let mut revocations = Vec::new();
        while !rest.is_empty() {
            revocations.push(take(rest)?.to_vec().into());
        }
        Some(Self { pairs, authorities, revocations })
    }
}

impl CertificateAndKey {
    fn take(rest: &mut &[u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(take(rest)?.try_into().ok()?);
        let chain = (0..length).map(|_| Some(take(rest)?.to_vec().into())).collect::<Option<_>>()?;
        let kind = take(rest)?;
        let secret = take(rest)?.to_vec();
        let key = match kind {
            [1] => PrivateKeyDer::Pkcs1(secret.into()),
            [2] => PrivateKeyDer::Sec1(secret.into()),
            _ => PrivateKeyDer::Pkcs8(secret.into()),
        };
        let ocsp = Some(take(rest)?.to_vec()).filter(|ocsp| !ocsp.is_empty());
        Some(Self { chain, key, ocsp })
    }
}

fn take<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (bytes, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests;
