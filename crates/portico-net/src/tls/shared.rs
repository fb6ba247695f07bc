//! The memory through which one process gives all workers certificates, keys and the keys of session tickets.
//!
//! A file without a name (memfd), made before the first fork. Its first bytes are the number of the version that
//! counts; a version lies in one of two places, so that nobody reads what is being written. One that is read
//! while it is replaced all the same has a wrong digest, and is read again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use aws_lc_rs::digest;
use portico_os::sealed_memory;
use rustix::io::{pread, pwrite};

/// Memory that all processes share, in which one process publishes certificates and ticket keys for the workers.
#[derive(Clone, Debug)]
pub struct SharedCertificates(Arc<OwnedFd>);

/// Bytes that a version may have: a thousand certificates.
const VERSION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Its length and its digest stand before it.
const HEAD_BYTES: usize = 8 + digest::SHA256_OUTPUT_LEN;

/// Room for one version; there are two places.
const PLACE_BYTES: u64 = (HEAD_BYTES + VERSION_BYTES_MAX) as u64;

/// How often one is read that changes meanwhile.
const ATTEMPTS: usize = 5;

impl SharedCertificates {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(sealed_memory("portico-tls", 8 + 2 * PLACE_BYTES)?)))
    }

    /// The number of the present version; 0 while there is none.
    pub(super) fn version(&self) -> u64 {
        let mut number = [0; 8];
        match pread(&self.0, &mut number, 0) {
            Ok(8) => u64::from_ne_bytes(number),
            _ => 0,
        }
    }

    /// The present version and its number.
    pub(super) fn read(&self) -> Option<(u64, Vec<u8>)> {
        (0..ATTEMPTS).find_map(|_| {
            let number = self.version();
            let (length, expected) = self.head(number)?;
            let mut content = vec![0; length];
            self.read_exactly(&mut content, place(number) + HEAD_BYTES as u64)?;
            (digest_of(number, &content).as_ref() == expected).then_some((number, content))
        })
    }

    fn head(&self, number: u64) -> Option<(usize, [u8; digest::SHA256_OUTPUT_LEN])> {
        let mut head = [0; HEAD_BYTES];
        self.read_exactly(&mut head, place(number))?;
        let (length, expected) = head.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_ne_bytes(*length)).ok()?;
        let expected = expected.first_chunk()?;
        (length <= VERSION_BYTES_MAX).then_some((length, *expected))
    }

    fn read_exactly(&self, bytes: &mut [u8], from: u64) -> Option<()> {
        let mut done = 0;
        while done < bytes.len() {
            match pread(&self.0, &mut bytes[done..], from + done as u64) {
                Ok(0) => return None,
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// Makes `content` the present version, and the former one unreadable. To be called by one process alone.
    ///
    /// # Errors
    /// It is too large, or the system is out of memory: the former version stays.
    pub(super) fn write(&self, content: &[u8]) -> io::Result<()> {
        if content.len() > VERSION_BYTES_MAX {
            return Err(io::Error::other("the certificates are too large together"));
        }
        let number = self.version() + 1;
        let head = [&(content.len() as u64).to_ne_bytes()[..], digest_of(number, content).as_ref()].concat();
        self.write_exactly(&head, place(number))?;
        self.write_exactly(content, place(number) + HEAD_BYTES as u64)?;
        self.write_exactly(&number.to_ne_bytes(), 0)?;
        // Old keys of tickets are to be gone.
        let (former, _) = self.head(number - 1).unwrap_or_default();
        let zeros = vec![0; HEAD_BYTES + former];
        self.write_exactly(&zeros, place(number - 1))
    }

    fn write_exactly(&self, bytes: &[u8], from: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match pwrite(&self.0, &bytes[done..], from + done as u64) {
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for SharedCertificates {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where the version of this number begins.
fn place(number: u64) -> u64 {
    8 + (number % 2) * PLACE_BYTES
}

fn digest_of(number: u64, content: &[u8]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&number.to_ne_bytes());
    context.update(content);
    context.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_edition_is_read_by_whoever_shares_the_memory_and_the_former_ones_are_gone() {
        let shared = SharedCertificates::new().unwrap();
        assert_eq!((shared.version(), shared.read()), (0, None));
        let worker = shared.clone();
        for (number, content) in
            [b"first".to_vec(), b"the second".to_vec(), vec![7; 100_000], Vec::new()].into_iter().enumerate()
        {
            shared.write(&content).unwrap();
            assert_eq!(worker.read(), Some((number as u64 + 1, content)));
        }
        let mut all = vec![0; 300_000];
        let count = pread(&shared.0, &mut all, 0).unwrap();
        assert!(!all[..count].windows(5).any(|bytes| bytes == b"first" || bytes == [7; 5]));
    }

    #[test]
    fn the_largest_edition_has_room_in_both_places_and_nobody_takes_it_away() {
        let shared = SharedCertificates::new().unwrap();
        for byte in [1, 2, 3] {
            let largest = vec![byte; VERSION_BYTES_MAX];
            shared.write(&largest).unwrap();
            assert!(
                shared
                    .read()
                    .is_some_and(|(number, content)| number == u64::from(byte) && content == largest)
            );
        }
        assert_eq!(rustix::fs::ftruncate(&shared.0, 0), Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn an_edition_that_is_not_whole_is_not_read() {
        let shared = SharedCertificates::new().unwrap();
        shared.write(b"content").unwrap();
        shared.write_exactly(b"X", place(1) + HEAD_BYTES as u64).unwrap();
        assert_eq!(shared.read(), None);
        shared.write_exactly(&u64::MAX.to_ne_bytes(), place(1)).unwrap();
        assert_eq!(shared.read(), None);
        assert!(shared.write(&vec![0; VERSION_BYTES_MAX + 1]).is_err());
        assert_eq!(shared.version(), 1);
    }
}
