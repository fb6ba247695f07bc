//! The one process that reads certificates and keys: at the start, when their files change, and when told to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portico_config::{Config, TlsSettings};
use portico_files::Owner;

use super::encoding;
use super::material::{CertificateInfo, Files, Material, list_until};
use super::provider::provider;
use super::shared::SharedCertificates;
use super::tickets::{ROTATION, TicketKeys};

/// Reads certificates and keys, watches their files, and publishes them to the workers. Owned by the one process
/// that may read them.
#[derive(Debug)]
pub struct CertificateReloader {
    settings: TlsSettings,
    files: Files,
    /// Whose the workers are.
    workers: Option<Owner>,
    shared: SharedCertificates,
    keys: TicketKeys,
    material: Material,
    facts: Vec<CertificateInfo>,
    /// The files as they were when they were read last, well or not.
    read: Stamps,
    /// The files as they were at the last look.
    seen: Stamps,
    /// What the files hold now cannot be served with.
    stale: bool,
    next_look: Instant,
    next_keys: Instant,
    next_warning: Instant,
}

/// A file as stat(2) has it: device, inode, size, and the nanoseconds since 1970 when it was written last.
type Stamp = Option<(u64, u64, u64, i128)>;
type Stamps = Vec<Stamp>;

/// The time that a certificate is still valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// Its file.
    pub file: String,
    /// Whole days; negative once it has expired.
    pub days: i64,
    /// The moment itself, in seconds since 1970.
    pub until: i64,
}

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is said that a certificate expires soon.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// From so many days on that is said.
const WARNING_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 24 * 3600;

impl CertificateReloader {
    /// Reads what `config` names, and tells of it in the log; `None` where nobody speaks TLS. The keys of tickets
    /// are those of the reloader whose [`CertificateReloader::ticket_keys`] is given, if it is one's. `workers`:
    /// whose the workers are, if they are not this process' user's.
    ///
    /// # Errors
    /// One line: what is wrong with which file.
    pub fn open(config: &Config, ticket_keys: &[u8], workers: Option<Owner>) -> Result<Option<Self>, String> {
        if !config.binds.iter().any(|bind| bind.tls) {
            return Ok(None);
        }
        let settings = config.tls.clone();
        let files = Files::of(&settings, workers);
        let read = stamps(&files);
        let material = files.read(&provider(&settings))?;
        let shared = SharedCertificates::new()
            .map_err(|error| format!("memory for certificates cannot be had: {error}"))?;
        let now = Instant::now();
        let (keys, rotation) = match inherited(ticket_keys) {
            Some(inherited) => inherited,
            None => (TicketKeys::new()?, ROTATION),
        };
        let mut reloader = Self {
            facts: facts(&material)?,
            keys,
            seen: read.clone(),
            settings,
            files,
            workers,
            shared,
            material,
            read,
            next_look: now + INTERVAL,
            next_keys: now + rotation,
            stale: false,
            next_warning: now,
        };
        reloader.publish().map_err(|error| format!("memory for certificates cannot be had: {error}"))?;
        reloader.tell();
        Ok(Some(reloader))
    }

    /// Whether what `config` names could be served with.
    ///
    /// # Errors
    /// One line: what is wrong with which file.
    pub fn check(config: &Config, workers: Option<Owner>) -> Result<(), String> {
        match config.binds.iter().any(|bind| bind.tls) {
            true => Files::of(&config.tls, workers).read(&provider(&config.tls)).map(drop),
            false => Ok(()),
        }
    }

    /// What a reloader in another process needs so that sessions go on with it: the keys of tickets, and how long
    /// they still stay as they are. It is secret.
    pub fn ticket_keys(&self) -> Vec<u8> {
        let rest = self.next_keys.saturating_duration_since(Instant::now()).as_millis() as u64;
        let mut bytes = rest.to_ne_bytes().to_vec();
        bytes.extend(self.keys.bytes().flatten());
        bytes
    }

    /// What workers have of it.
    pub fn shared(&self) -> SharedCertificates {
        self.shared.clone()
    }

    /// To be called every second: reads files that have changed, makes new keys for tickets, and warns.
    pub fn look(&mut self) {
        let now = Instant::now();
        self.next_look = now + INTERVAL;
        if now >= self.next_keys {
            self.next_keys = now + ROTATION;
            let rotated = self.keys.rotate().map_err(std::io::Error::other);
            if let Err(error) = rotated.and_then(|()| self.publish()) {
                log::error!("session tickets keep their keys: {error}");
            }
        }
        let stamps = stamps(&self.files);
        // What is being written is waited for: certificate and key are two files.
        if stamps != self.read && stamps == self.seen {
            self.read_again(Files::of(&self.settings, self.workers));
        }
        self.seen = stamps;
        if now >= self.next_warning {
            self.next_warning = now + WARNING_INTERVAL;
            self.warn();
        }
    }

    /// As [`CertificateReloader::look`], if that was not done within the last second.
    pub(super) fn look_if_due(&mut self) {
        if Instant::now() >= self.next_look {
            self.look();
        }
    }

    /// Reads the files that `config` names now, whether they have changed or not. What is wrong is told, and the
    /// former certificates stay.
    pub fn follow(&mut self, config: &Config, workers: Option<Owner>) {
        self.settings = config.tls.clone();
        self.workers = workers;
        self.read_again(Files::of(&config.tls, workers));
    }

    /// How long each certificate is still valid.
    pub fn expiries(&self) -> Vec<CertificateExpiry> {
        let files = self.files.certificates().map(|path| path.display().to_string());
        let now = unix_time();
        let expiry = |(file, until): (String, i64)| {
            let days = (until - now).div_euclid(DAY_SECONDS);
            CertificateExpiry { file, days, until }
        };
        files.zip(self.facts.iter().map(|facts| facts.until)).map(expiry).collect()
    }

    /// Whether files have changed and cannot be served with, so that former certificates still are.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    fn read_again(&mut self, files: Files) {
        let stamps = stamps(&files);
        let read = files.read(&provider(&self.settings));
        let read = read.and_then(|material| Ok((facts(&material)?, material)));
        self.read = stamps;
        self.files = files;
        self.stale = read.is_err();
        match read {
            Ok((_, material)) if material == self.material => {}
            Ok((facts, material)) => {
                (self.facts, self.material) = (facts, material);
                match self.publish() {
                    Ok(()) => self.tell(),
                    Err(error) => {
                        self.stale = true;
                        log::error!("new certificates cannot be handed to the workers: {error}");
                    }
                }
            }
            Err(problem) => log::error!("{problem}; the former certificates stay"),
        }
    }

    fn publish(&self) -> std::io::Result<()> {
        self.shared.write(&encoding::write(&self.keys, &self.material))
    }

    /// What there is, for the log.
    fn tell(&mut self) {
        for (expiry, facts) in self.expiries().iter().zip(&self.facts) {
            log::info!(
                "Certificate of {}: valid until {}, {} days ({})",
                facts.names.join(", "),
                facts.until_text,
                expiry.days,
                expiry.file
            );
        }
        self.next_warning = Instant::now() + WARNING_INTERVAL;
        self.warn();
    }

    fn warn(&self) {
        for CertificateExpiry { file, days, .. } in self.expiries() {
            match days {
                ..0 => log::warn!("the certificate {file} has expired; clients refuse it"),
                0..WARNING_DAYS => log::warn!(
                    "the certificate {file} expires in {days} days; replace the file, it is read again by itself"
                ),
                _ => {}
            }
        }
        let now = unix_time();
        if self.material.revocations.iter().any(|list| list_until(list).is_some_and(|until| until < now)) {
            log::warn!(
                "a list of --crl-file has expired: certificates of its authority are refused; have the authority \
                 issue a new one and replace the file, it is read again by itself"
            );
        }
    }
}

/// What the bytes of [`CertificateReloader::ticket_keys`] say.
fn inherited(ticket_keys: &[u8]) -> Option<(TicketKeys, Duration)> {
    let (rest, keys) = ticket_keys.split_first_chunk::<8>()?;
    let rotation = Duration::from_millis(u64::from_ne_bytes(*rest)).min(ROTATION);
    Some((TicketKeys::read(keys)?, rotation))
}

fn facts(material: &Material) -> Result<Vec<CertificateInfo>, String> {
    material.pairs.iter().map(|pair| pair.facts()).collect()
}

fn unix_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn stamps(files: &Files) -> Stamps {
    files.paths().map(stamp).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    let written = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Some((metadata.dev(), metadata.ino(), metadata.size(), written))
}

#[cfg(test)]
mod tests;
