//! One stream of a session: its bytes go through the session that another connection carries.

use std::fs::File;
use std::os::unix::fs::FileExt;

use portico_net::Progress;
use portico_proto::{IoProgress, StreamIo};

/// Most that is read of a file at once.
const FILE_PIECE_BYTES: usize = 64 * 1024;

/// `Bytes(0)` at the end of the peer's body, after which nothing more comes.
pub(super) fn read(stream: &StreamIo, buffer: &mut [u8]) -> Progress {
    match stream.read(buffer) {
        IoProgress::Bytes(count) => Progress::Bytes(count),
        IoProgress::Blocked => Progress::Blocked,
        IoProgress::Ended => Progress::Bytes(0),
        IoProgress::Failed => Progress::Closed,
    }
}

pub(super) fn write(stream: &StreamIo, bytes: &[u8]) -> Progress {
    match stream.write(bytes) {
        IoProgress::Bytes(count) => Progress::Bytes(count),
        IoProgress::Blocked => Progress::Blocked,
        IoProgress::Ended | IoProgress::Failed => Progress::Closed,
    }
}

/// Writes what there is room for of `count` bytes of `file` from `offset` on; `Closed` also where it is shorter.
pub(super) fn send_file(stream: &StreamIo, file: &File, offset: u64, count: usize) -> Progress {
    let room = stream.room(count.min(FILE_PIECE_BYTES));
    if room == 0 {
        return if stream.is_gone() { Progress::Closed } else { Progress::Blocked };
    }
    let mut piece = vec![0; room];
    match file.read_at(&mut piece, offset) {
        Ok(0) | Err(_) => Progress::Closed,
        Ok(count) => write(stream, &piece[..count]),
    }
}
