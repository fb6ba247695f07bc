//! What is still to be written to one peer: bytes, and files that the kernel copies.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use crate::transport::{Progress, Transport};

/// Queue of bytes and files in the order in which they go out.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Bytes before the first file; `sent` of them are gone.
    bytes: Vec<u8>,
    sent: usize,
    /// Files, each with the bytes that follow it.
    files: VecDeque<FilePart>,
}

#[derive(Debug)]
struct FilePart {
    file: Arc<File>,
    offset: u64,
    left: u64,
    after: Vec<u8>,
}

/// Most that one peer is sent of a file before others get their turn.
const FILE_TURN_BYTES: u64 = 512 * 1024;

/// Capacity that an empty outbox keeps between two blocks of one answer.
const KEPT_CAPACITY: usize = 16 * 1024;

impl Outbox {
    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() && self.files.is_empty()
    }

    /// Bytes of memory that wait (files take none).
    pub fn buffered(&self) -> usize {
        let after: usize = self.files.iter().map(|part| part.after.len()).sum();
        self.bytes.len() - self.sent + after
    }

    /// The buffer to append bytes to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        match self.files.back_mut() {
            Some(part) => &mut part.after,
            None => &mut self.bytes,
        }
    }

    /// Appends `length` bytes of `file` from `offset` on.
    pub fn push_file(&mut self, file: Arc<File>, offset: u64, length: u64) {
        if length > 0 {
            let part = FilePart { file, offset, left: length, after: Vec::new() };
            self.files.push_back(part);
        }
    }

    /// Writes what the peer takes. `Bytes(n)`: n bytes went out and either all is written or a file has had its
    /// turn ([`Outbox::is_empty`] tells); `Blocked`: wait until there is room; `Closed`: give up.
    pub fn write_to(&mut self, transport: &mut Transport) -> (u64, Progress) {
        let mut written = 0u64;
        loop {
            while self.sent < self.bytes.len() {
                match transport.write(&self.bytes[self.sent..]) {
                    Progress::Bytes(count) => {
                        self.sent += count;
                        written += count as u64;
                    }
                    stopped => return (written, stopped),
                }
            }
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_CAPACITY);
            let Some(part) = self.files.front_mut() else {
                return (written, transport.settle());
            };
            match part.write_to(transport) {
                (count, Progress::Bytes(_)) => written += count,
                (count, stopped) => return (written + count, stopped),
            }
            if part.left > 0 {
                return (written, Progress::Bytes(0));
            }
            self.bytes = std::mem::take(&mut part.after);
            self.files.pop_front();
            // A file may come in many parts.
            if written >= FILE_TURN_BYTES {
                return (written, Progress::Bytes(0));
            }
        }
    }

    /// Gives the memory of an empty outbox back.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.sent = 0;
        }
    }
}

impl FilePart {
    /// Sends up to one turn of the file. `Closed` also where the file has become shorter than was announced.
    fn write_to(&mut self, transport: &mut Transport) -> (u64, Progress) {
        let mut written = 0;
        while self.left > 0 && written < FILE_TURN_BYTES {
            let count = self.left.min(FILE_TURN_BYTES) as usize;
            match transport.send_file(&self.file, self.offset, count) {
                Progress::Bytes(count) => {
                    self.offset += count as u64;
                    self.left -= count as u64;
                    written += count as u64;
                }
                stopped => return (written, stopped),
            }
        }
        (written, Progress::Bytes(0))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_and_files_go_out_in_order_through_a_pipe_that_blocks() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut transport = Transport::Unix(ours.into());
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..2_000_000u32).map(|i| i as u8).collect();
        file.write_all(&content).unwrap();

        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"head");
        let file = Arc::new(file);
        outbox.push_file(Arc::clone(&file), 1, 1_999_990);
        outbox.buffer().extend_from_slice(b"between");
        outbox.push_file(file, 0, 3);
        outbox.buffer().extend_from_slice(b"tail");
        assert_eq!(outbox.buffered(), 4 + 7 + 4);

        let (mut received, mut written, mut blocked) = (Vec::new(), 0, false);
        while !outbox.is_empty() {
            let (count, progress) = outbox.write_to(&mut transport);
            written += count;
            blocked |= progress == Progress::Blocked;
            let _ = theirs.read_to_end(&mut received);
        }
        let _ = theirs.read_to_end(&mut received);
        let expected = [b"head", &content[1..1_999_991], b"between", &content[..3], b"tail"].concat();
        assert!(blocked && received == expected);
        assert_eq!(written, expected.len() as u64);
    }

    #[test]
    fn a_file_that_shrank_ends_the_connection_and_not_the_loop() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        outbox.push_file(Arc::new(tempfile::tempfile().unwrap()), 0, 10);
        assert_eq!(outbox.write_to(&mut Transport::Unix(ours.into())).1, Progress::Closed);
    }
}
