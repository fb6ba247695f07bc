//! `portico dev-cert`: a certificate for this machine, to try TLS with. Nobody has signed it but itself.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};

use crate::output::Output;

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const CERTIFICATE: &str = "dev-cert.pem";
const KEY: &str = "dev-key.pem";

/// Browsers refuse longer ones.
const DAYS: u64 = 397;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Writes certificate and key into `folder`, and says how to use them.
pub fn make(folder: &Path) -> Output {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    for path in [&certificate, &key] {
        if path.symlink_metadata().is_ok() {
            let error =
                format!("dev-cert: {} is there already; remove it, or name another folder", path.display());
            return Output::failure(error);
        }
    }
    let (certificate_text, key_text) = match generate() {
        Ok(texts) => texts,
        Err(error) => return Output::failure(format!("dev-cert: no certificate can be made: {error}")),
    };
    for (path, text) in [(&key, key_text), (&certificate, certificate_text)] {
        if let Err(error) = write(path, &text) {
            return Output::failure(format!("dev-cert: {} cannot be written: {error}", path.display()));
        }
    }
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        shlex::try_quote(&text).map_or(text.clone(), |quoted| quoted.into_owned())
    };
    let (certificate, key) = (quoted(&certificate), quoted(&key));
    let output = format!(
        "Wrote {certificate} and {key}, for {} and {DAYS} days. Serve with them:\n\n  \
         portico --certfile {certificate} --keyfile {key} --bind 127.0.0.1:8443\n\n\
         Browsers warn of it until they are told to trust it; curl takes it with --cacert {certificate}.",
        NAMES.join(", ")
    );
    Output::of(output)
}

fn generate() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "localhost (portico dev-cert)");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Clocks differ.
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY);
    params.not_after = date_time_ymd(1970, 1, 1) + now + DAY * (DAYS as u32 - 1);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// A file that only its owner reads, and that was not there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::pem::parse_x509_pem;

    use super::*;

    #[test]
    fn a_certificate_is_made_for_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let told = make(folder.path());
        assert_eq!(told.error, None);
        let (certificate, key) = (folder.path().join(CERTIFICATE), folder.path().join(KEY));
        assert!(told.output.contains(&format!("--certfile {}", certificate.display())), "{}", told.output);
        for file in [&certificate, &key] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
        let (_, pem) = parse_x509_pem(&fs::read(&certificate).unwrap()).unwrap();
        let parsed = pem.parse_x509().unwrap();
        let days =
            (parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp()) / 86_400;
        assert_eq!(days, DAYS as i64, "browsers refuse longer ones");
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), NAMES.len());
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(KEY), "of another day").unwrap();
        let told = make(folder.path());
        assert!(told.error.unwrap().contains("is there already"));
        assert_eq!(fs::read_to_string(folder.path().join(KEY)).unwrap(), "of another day");
        assert!(!folder.path().join(CERTIFICATE).exists());
    }
}
