//! What has been read and not used, what is to be written and has not been, and how ready the other side is.

use super::outbox::Outbox;

/// The state of reading and writing, whatever carries the bytes.
#[derive(Debug, Default)]
pub(super) struct IoState {
    /// Bytes read that the protocol has not used: part of a head, or a pipelined request.
    pub(super) inbox: Vec<u8>,
    pub(super) outbox: Outbox,
    /// An edge has told of bytes, and no read has found the socket empty since.
    pub(super) readable: bool,
    /// The peer has sent FIN.
    pub(super) peer_closed: bool,
    write_side: WriteSide,
}

/// What is known of writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WriteSide {
    /// It may succeed.
    #[default]
    Open,
    /// The last write found no room.
    Blocked,
    /// Nothing can be written any more.
    Failed,
}

impl IoState {
    /// Whether the last write found no room.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.write_side == WriteSide::Blocked
    }

    /// Notes whether the last write found no room; after a failure it makes no difference.
    #[inline]
    pub(super) fn set_blocked(&mut self, is_blocked: bool) {
        if self.write_side != WriteSide::Failed {
            self.write_side = if is_blocked { WriteSide::Blocked } else { WriteSide::Open };
        }
    }

    /// Whether nothing can be written any more.
    #[inline]
    pub(super) fn is_failed(&self) -> bool {
        self.write_side == WriteSide::Failed
    }

    /// Nothing can be written any more.
    pub(super) fn set_failed(&mut self) {
        self.write_side = WriteSide::Failed;
    }
}
