//! The streams of a session that have begun and not ended, as far as the session has to know them.

use h2::Reason;

use super::stream_io::WeakStreamIo;
use crate::error::ErrorKind;

/// Open streams, in the order of their numbers.
#[derive(Default)]
pub(super) struct OpenStreams(Vec<OpenStream>);

/// A stream that has begun and not ended.
pub(super) struct OpenStream {
    number: u32,
    watch: WeakStreamIo,
    /// The peer has sent all that it is to send on it.
    request_ended: bool,
    /// What makes its request malformed, once it has been reset for that.
    fault: Option<ErrorKind>,
}

impl OpenStreams {
    /// A stream has begun; its number is higher than those before.
    pub(super) fn add(&mut self, number: u32, watch: WeakStreamIo, request_ended: bool) {
        self.0.push(OpenStream { number, watch, request_ended, fault: None });
    }

    /// The stream with this number, if it is open.
    pub(super) fn get(&mut self, number: u32) -> Option<&mut OpenStream> {
        let place = self.place(number)?;
        self.0.get_mut(place)
    }

    /// It has ended, or nobody cares for it any more.
    pub(super) fn remove(&mut self, number: u32) -> Option<OpenStream> {
        self.place(number).map(|place| self.0.remove(place))
    }

    /// The numbers of all.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|stream| stream.number)
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.0.binary_search_by_key(&number, |stream| stream.number).ok()
    }
}

impl OpenStream {
    /// More of the request has come, and its end if it `ends`. `false` where it had ended before: that resets the
    /// stream (RFC 9113, section 5.1, "half-closed (remote)").
    pub(super) fn takes_more(&mut self, ends: bool) -> bool {
        if self.request_ended {
            self.reset(Reason::STREAM_CLOSED);
            return false;
        }
        self.request_ended = ends;
        true
    }

    /// Resets it for what the peer did to it.
    pub(super) fn reset(&self, reason: Reason) {
        self.watch.reset(reason);
    }

    /// Resets it because its request is malformed.
    pub(super) fn refuse(&mut self, kind: ErrorKind) {
        self.fault = Some(kind);
        self.reset(Reason::PROTOCOL_ERROR);
    }

    /// What its request has been refused for.
    pub(super) fn fault(&self) -> Option<ErrorKind> {
        self.fault
    }

    /// Whether it has been reset, by whomever.
    pub(super) fn is_reset(&self) -> bool {
        self.watch.is_reset()
    }
}
