//! One stream of a session: its bytes go through the session that another connection carries.

use std::fs::File;
use std::os::unix::fs::FileExt;

use portico_proto::{Moved, Port};

use super::Progress;

/// Most that is read of a file at once.
const FILE_PIECE_BYTES: usize = 64 * 1024;

/// `Bytes(0)` at the end of the peer's body, after which nothing more comes.
pub(super) fn read(port: &Port, buffer: &mut [u8]) -> Progress {
    match port.read(buffer) {
        Moved::Bytes(count) => Progress::Bytes(count),
        Moved::Blocked => Progress::Blocked,
        Moved::Ended => Progress::Bytes(0),
        Moved::Failed => Progress::Closed,
    }
}

pub(super) fn write(port: &Port, bytes: &[u8]) -> Progress {
    match port.write(bytes) {
        Moved::Bytes(count) => Progress::Bytes(count),
        Moved::Blocked => Progress::Blocked,
        Moved::Ended | Moved::Failed => Progress::Closed,
    }
}

/// Writes what there is room for of `count` bytes of `file` from `offset` on; `Closed` also where it is shorter.
pub(super) fn send_file(port: &Port, file: &File, offset: u64, count: usize) -> Progress {
    let room = port.room(count.min(FILE_PIECE_BYTES));
    if room == 0 {
        return if port.is_gone() { Progress::Closed } else { Progress::Blocked };
    }
    let mut piece = vec![0; room];
    match file.read_at(&mut piece, offset) {
        Ok(0) | Err(_) => Progress::Closed,
        Ok(count) => write(port, &piece[..count]),
    }
}
