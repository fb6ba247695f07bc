//! Responses to which a route does something: compressed, or replaced by a page. What it does, [`ResponseRules`]
//! say; here is how the content gets there, on the thread of the application.
//!
//! Every block that the application hands over leaves at once, as without compression: it ends with a flush,
//! unless the rest of the content is known to be there. The memory of a response is bounded by its encoder, a
//! piece and what that is encoded to.

use std::fs::File;
use std::os::unix::fs::FileExt;

use portico_edge::compression::{Encoder, Flush};
use portico_log::{Occurrences, Reason};
use portico_proto::ResponseHead;

use super::responder::{Gone, PIECE_BYTES_MAX, Responder, ResponderState};
use crate::connection::{Block, FilteredStart, ResponsePart, ResponseRules};

/// What stands between the application and the engine where a route compresses a response or replaces it. The
/// responder owns it; it never holds back a block that the application has handed over.
#[derive(Debug)]
pub(super) enum OutputFilter {
    /// Its head decides.
    Pending(Box<ResponseRules>),
    /// It is compressed.
    Encoded(Encoding),
    /// It has been sent, and what the application makes goes nowhere.
    Replaced,
    /// The content has ended before its end.
    Broken,
}

/// A content that is being compressed.
#[derive(Debug)]
pub(super) struct Encoding {
    encoder: Box<Encoder>,
    /// Of the piece that is in work.
    output: Vec<u8>,
    /// Bytes that have been put in since the last flush.
    unflushed: usize,
}

/// From so many bytes on the interpreter is let go of while they are compressed, which takes a tenth of a
/// millisecond then. For less, another thread would run a whole call before this one got it back.
const DETACHED_BYTES_MIN: usize = 8 * 1024;

/// Memory for the output that is kept from block to block.
const OUTPUT_BYTES_KEPT: usize = 64 * 1024;

static FAILED: Occurrences = Occurrences::new();

impl Encoding {
    fn new(encoder: Box<Encoder>) -> Self {
        Self { encoder, output: Vec::new(), unflushed: 0 }
    }
}

impl Responder {
    /// As [`Responder::start`], where the route has something to say.
    #[cold]
    pub(super) fn start_filtered(&mut self, head: &ResponseHead, block: Block<'_>) -> Result<(), Gone> {
        let Some(rules) = self.take_rules() else { return Ok(()) };
        match rules.start(head) {
            FilteredStart::Plain(head) => self.start_with(&head, block),
            FilteredStart::Replaced(head, body) => {
                self.state = ResponderState::Finished;
                self.filter = Some(Box::new(OutputFilter::Replaced));
                let head = std::borrow::Cow::Owned(*head);
                self.hand(ResponsePart::Whole { head, body })
            }
            FilteredStart::Encoded(head, _) if rules.is_head() => {
                self.start_with(&head, Block::Borrowed(b""))
            }
            FilteredStart::Encoded(new_head, encoder) => {
                self.announced = head.length;
                self.filter = Some(Box::new(OutputFilter::Encoded(Encoding::new(encoder))));
                self.encode_block(Some(&new_head), &block)
            }
        }
    }

    /// As [`Responder::send`], likewise.
    #[cold]
    pub(super) fn send_filtered(&mut self, block: &[u8]) -> Result<(), Gone> {
        match self.filter.as_deref() {
            Some(OutputFilter::Replaced) => Ok(()),
            _ if self.is_gone() => Err(Gone),
            _ if block.is_empty() => Ok(()),
            _ => self.encode_block(None, block),
        }
    }

    /// As [`Responder::respond`], likewise.
    #[cold]
    pub(super) fn respond_filtered(mut self, head: &ResponseHead, body: Block<'_>) {
        let Some(rules) = self.take_rules() else { return };
        let (new_head, mut encoder) = match rules.start(head) {
            FilteredStart::Plain(head) => return self.respond_with(&head, body),
            FilteredStart::Replaced(head, page) => return self.respond_with(&head, page),
            FilteredStart::Encoded(head, _) if rules.is_head() => {
                return self.respond_with(&head, Block::Borrowed(b""));
            }
            FilteredStart::Encoded(head, encoder) => (head, encoder),
        };
        if body.len() > PIECE_BYTES_MAX {
            (self.is_whole, self.announced) = (true, Some(body.len() as u64));
            self.filter = Some(Box::new(OutputFilter::Encoded(Encoding::new(encoder))));
            if self.encode_block(Some(&new_head), &body).is_ok() {
                self.finish();
            }
            return;
        }
        let (mut output, mut encoded) = (Vec::new(), Ok(()));
        let mut encode = || encoded = encoder.encode(&body, Flush::Finish, &mut output);
        match body.len() {
            ..DETACHED_BYTES_MIN => encode(),
            _ => self.lending.blocking(&mut encode),
        }
        drop(encoder); // For the next response, before this one is on its way.
        match encoded {
            Ok(()) => self.respond_with(&new_head, Block::Borrowed(&output)),
            // 500: nothing has been sent.
            Err(_) => tell_failure(),
        }
    }

    /// As [`Responder::send_file`], likewise: the file passes through memory, in pieces. nginx does the same; the
    /// exports for which sendfile was made are what becomes smallest.
    #[cold]
    pub(super) fn send_file_filtered(
        &mut self,
        file: &File,
        mut offset: u64,
        mut left: u64,
    ) -> Result<(), Gone> {
        if !matches!(self.filter.as_deref(), Some(OutputFilter::Encoded(_))) {
            return Ok(());
        }
        let mut piece = vec![0; left.min(PIECE_BYTES_MAX as u64) as usize];
        while left > 0 {
            let wanted = left.min(PIECE_BYTES_MAX as u64) as usize;
            let mut read = Ok(0);
            self.lending.blocking(&mut || read = file.read_at(&mut piece[..wanted], offset));
            match read {
                Ok(count) if count > 0 => {
                    self.encode_piece(None, &piece[..count], Flush::None)?;
                    (offset, left) = (offset + count as u64, left - count as u64);
                }
                // It is shorter than it was: no client must take it for the whole.
                _ => {
                    self.filter = Some(Box::new(OutputFilter::Broken));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Completes the content; `false` if the response is not to be finished any more.
    #[cold]
    pub(super) fn end_filtered(&mut self) -> bool {
        match self.filter.as_deref() {
            Some(OutputFilter::Replaced) => false,
            Some(OutputFilter::Broken) => {
                let _ = self.break_off();
                false
            }
            // The client may have left: then there is nothing to finish, which the engine knows.
            Some(OutputFilter::Encoded(_)) => {
                let _ = self.encode_piece(None, b"", Flush::Finish);
                self.state != ResponderState::Finished
            }
            Some(OutputFilter::Pending(_)) | None => true,
        }
    }

    fn take_rules(&mut self) -> Option<Box<ResponseRules>> {
        match self.filter.take().map(|filter| *filter) {
            Some(OutputFilter::Pending(rules)) => Some(rules),
            _ => None,
        }
    }

    /// Compresses a block of the application's and sends it, behind the head if that has not gone out.
    fn encode_block(&mut self, mut head: Option<&ResponseHead>, block: &[u8]) -> Result<(), Gone> {
        let (pieces, last) =
            block.split_at(block.len().saturating_sub(1) / PIECE_BYTES_MAX * PIECE_BYTES_MAX);
        for piece in pieces.chunks(PIECE_BYTES_MAX) {
            self.encode_piece(head.take(), piece, Flush::None)?;
        }
        // More follows without the application computing it: what is joined becomes smaller.
        let flush = if self.is_whole || last.is_empty() { Flush::None } else { Flush::Sync };
        self.encode_piece(head, last, flush)
    }

    fn encode_piece(&mut self, head: Option<&ResponseHead>, piece: &[u8], flush: Flush) -> Result<(), Gone> {
        let Some(mut filter) = self.filter.take() else { return Ok(()) };
        let OutputFilter::Encoded(encoding) = &mut *filter else { return Ok(()) };
        let Encoding { encoder, output, unflushed } = encoding;
        *unflushed += piece.len();
        let (work_bytes, mut encoded) = (*unflushed, Ok(()));
        if flush != Flush::None {
            *unflushed = 0;
        }
        // A head with nothing behind it needs no encoder yet.
        if !piece.is_empty() || flush != Flush::None {
            let mut encode = || encoded = encoder.encode(piece, flush, output);
            match work_bytes {
                ..DETACHED_BYTES_MIN => encode(),
                _ => self.lending.blocking(&mut encode),
            }
        }
        if encoded.is_err() {
            tell_failure();
            return if head.is_some() { Err(Gone) } else { self.break_off() };
        }
        let sent = match head {
            Some(head) => self.start_with(head, Block::Borrowed(output)),
            None => self.send_plain(output),
        };
        output.clear();
        output.shrink_to(OUTPUT_BYTES_KEPT);
        self.filter = Some(filter);
        sent
    }

    /// Has the client see that the response has no end.
    fn break_off(&mut self) -> Result<(), Gone> {
        self.state = ResponderState::Finished;
        let _ = self.hand(ResponsePart::Abort(Reason::Aborted));
        Err(Gone)
    }
}

fn tell_failure() {
    if let Some(times) = FAILED.note() {
        log::error!("a response could not be compressed, for want of memory{times}; it was ended");
    }
}
