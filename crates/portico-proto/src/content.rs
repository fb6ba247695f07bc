//! How much of a response's content may be sent, and has been (RFC 9110, section 6.4), in whatever protocol.
//!
//! Whatever the application says, the framing on the wire stays sound: bytes beyond the announced length are not
//! sent, and a response that ends before it does not count as complete.

use crate::message::ResponseHead;

/// The state of one response's content: how much of it may still be sent. Each protocol owns one and frames
/// nothing beyond it.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Bytes that may still be sent, where `extent` is `Known`.
    left: u64,
    extent: Extent,
    stage: ContentStage,
    /// Whether bytes beyond the announced length have been dropped.
    surplus: bool,
}

/// The length of a response's content, as its head announces it. Bytes beyond it must never be sent: the peer
/// would read them as the next response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    /// There is none, whatever the application says.
    #[default]
    None,
    Known,
    /// Its end will tell.
    Open,
}

/// The stage of a response's content: `Waiting` → `Started` → `Complete` or `Incomplete`. Each encoder owns one;
/// it never goes back, and what is incomplete never looks complete to the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ContentStage {
    #[default]
    Waiting,
    Started,
    Complete,
    /// It has ended before its announced end: the peer must see that.
    Incomplete,
}

impl Content {
    /// The response begins with `head`; `is_head`: it is one to a HEAD request (RFC 9110, section 9.3.2).
    #[inline]
    pub(crate) fn start(&mut self, head: &ResponseHead, is_head: bool) {
        self.stage = ContentStage::Started;
        self.left = 0;
        self.extent = if is_head || has_no_content(head.status) {
            Extent::None
        } else if let Some(length) = known_length(head) {
            self.left = length;
            Extent::Known
        } else {
            Extent::Open
        };
    }

    /// How many of `length` further bytes belong to it.
    #[inline]
    pub(crate) fn take(&mut self, length: u64) -> u64 {
        if self.stage != ContentStage::Started {
            return 0;
        }
        match self.extent {
            Extent::None => 0,
            Extent::Known => {
                let taken = length.min(self.left);
                self.surplus |= taken < length;
                self.left -= taken;
                taken
            }
            Extent::Open => length,
        }
    }

    /// The application has given all of it.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.stage = match self.stage {
            ContentStage::Started | ContentStage::Complete if self.left == 0 => ContentStage::Complete,
            _ => ContentStage::Incomplete,
        };
    }

    /// Whether the head has been sent.
    #[inline]
    pub(crate) fn has_started(&self) -> bool {
        self.stage != ContentStage::Waiting
    }

    /// Whether the head has been sent and the end has not come.
    #[inline]
    pub(crate) fn is_started(&self) -> bool {
        self.stage == ContentStage::Started
    }

    /// Whether it has been sent to its end.
    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        self.stage == ContentStage::Complete
    }

    /// Whether it has ended before its end.
    #[inline]
    pub(crate) fn is_incomplete(&self) -> bool {
        self.stage == ContentStage::Incomplete
    }

    /// Bytes that may still be sent, if that is known.
    #[inline]
    pub(crate) fn left(&self) -> Option<u64> {
        if self.is_open() { None } else { Some(self.left) }
    }

    /// Whether only its end will tell how long it is.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.extent == Extent::Open
    }

    /// Whether bytes have been dropped because the head announced fewer.
    #[inline]
    pub(crate) fn had_surplus(&self) -> bool {
        self.surplus
    }
}

/// The Content-Length that goes with `head`: for HEAD and 304 too, where it is what a GET would have got, but
/// never with 1xx and 204 (RFC 9110, section 8.6).
#[inline]
pub(crate) fn announced_length(head: &ResponseHead) -> Option<u64> {
    known_length(head).filter(|_| head.status == 304 || !has_no_content(head.status))
}

/// Writes Content-Length and the end of the head.
#[inline]
pub(crate) fn write_content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Whether responses with this status never have content. RFC 9110, sections 15.2, 15.3.5 and 15.4.5.
#[inline]
fn has_no_content(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// The length, if it is known. A 205 has none: RFC 9110, section 15.3.6.
#[inline]
fn known_length(head: &ResponseHead) -> Option<u64> {
    if head.status == 205 { Some(0) } else { head.length }
}
