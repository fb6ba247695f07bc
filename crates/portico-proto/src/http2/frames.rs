//! Looks over the frames of a session as they come in (RFC 9113, section 4.1) for what the h2 crate does not
//! tell, and takes the header blocks out, which are not read by the crate.
//!
//! It tells which streams have got something, whether a frame or a header block is only half there, and how much
//! of what comes serves no request. The last is bounded: every kind of flood is made of frames that cost the
//! peer nothing. Frames of a wrong length are told by the right name here, which the crate does not have.
//!
//! One file because each kind of frame changes the same counters, and the bounds are read beside them.

use std::fmt;
use std::time::Duration;

use h2::Reason;

use super::open::OpenStreams;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A reader of a session's frames ahead of the h2 crate, which decodes header blocks and judges what the crate
/// does not. It keeps no payload but that of header blocks. Many fields, because it may stop at any byte of any
/// frame.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the client's preface that are still to come.
    preface_left: u8,
    /// SETTINGS have come.
    greeted: bool,
    /// The head of a frame as far as it is there.
    head: [u8; HEAD_BYTES],
    head_bytes: u8,
    /// Bytes of the present frame's payload that are still to come.
    payload_left: u32,
    /// The present frame is DATA, and this long.
    data_bytes: Option<u32>,
    /// Where the payload of the present frame goes.
    payload_to: To,
    /// What has come of a frame that is held back.
    held: Vec<u8>,
    /// The header block that is coming, to the end of its last frame.
    block: Option<HeaderBlock>,
    /// What has come of it, or of the one before.
    block_bytes: Vec<u8>,
    /// Where the present frame of it begins there.
    piece_start: usize,
    /// Bytes that a frame may have, and a header block.
    frame_bytes_max: u32,
    block_bytes_max: usize,
    /// What the present frame, or header block, will have done once it is whole: the crate takes it in no sooner.
    pending: Option<Touch>,
    /// The highest stream that a header block has named.
    last_stream: u32,
    /// Not every stream that there could be below that has begun.
    has_gaps: bool,
    idle: Allowance,
    resets: Allowance,
}

/// The reader of a frame's payload. It is decided once, at the frame's head, so that what h2 must not see never
/// reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// To the crate.
    Crate,
    /// To the present header block.
    HeaderBlock,
    /// To the crate once it is whole, and nothing wrong with it.
    Held,
    /// To nobody.
    Nobody,
}

/// The place of a header block among the frames of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeaderBlock {
    /// The stream that it is of.
    pub(super) stream: u32,
    /// It begins the stream. Else it is trailers.
    pub(super) begins: bool,
    /// Nothing follows it.
    pub(super) ends: bool,
    /// It makes its stream depend on itself. RFC 7540, section 5.3.1.
    pub(super) depends_on_itself: bool,
    /// Flags of its present frame.
    flags: u8,
}

/// The effect of a frame on a stream that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// More of its body, or the end of it.
    Body(u32),
    /// Nothing, if it is sound: but the crate resets a stream for such a frame that is not (CVE-2025-8671).
    Frame(u32),
    /// The peer has given it up.
    Reset(u32),
}

/// A fault of a peer that ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Violation {
    /// A header block that cannot be decompressed. RFC 9113, section 4.3.
    Compression,
    /// A frame that has not the length of its kind, or is longer than we have told. RFC 9113, section 4.2.
    FrameLength,
    /// A frame where no such may be: another one within a header block, CONTINUATION elsewhere, padding longer
    /// than the frame. RFC 9113, sections 4.3, 6.2 and 6.10.
    FrameOrder,
    /// Too many frames that serve no request: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA, CONTINUATION,
    /// unknown ones.
    IdleFrames,
    /// A header block beyond any that we take or refuse with a status.
    LongBlock,
    /// It has begun with another frame than SETTINGS. RFC 9113, section 3.4.
    NoSettings,
    /// It does not begin as HTTP/2 does, though HTTP/2 has been agreed upon. RFC 9113, section 3.4.
    Preface,
    /// What the h2 crate has refused, by the name that it was told to the peer with.
    Refused(Reason),
    /// SETTINGS with a window beyond the most that one may be. RFC 9113, section 6.5.2.
    WindowSetting,
    /// Too many of its requests are given up, by itself (CVE-2023-44487) or by us for what it does to their
    /// streams (CVE-2025-8671).
    Resets,
}

/// Something of which there is a stock that comes back with time.
#[derive(Debug)]
struct Allowance {
    left: u32,
    max: u32,
    per_second: u32,
    /// Time that has not yet brought a whole one.
    rest: Duration,
}

const HEAD_BYTES: usize = 9;

/// A stream's number without the bit before it, which means nothing.
const STREAM_MASK: u32 = u32::MAX >> 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A setting. RFC 9113, section 6.5.2.
const INITIAL_WINDOW_SIZE: &[u8] = &[0, 4];

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

/// Bytes of the priority fields in HEADERS: a dependency and a weight.
const PRIORITY_BYTES: usize = 5;

/// `:method: GET`, `:scheme: http`, `:path: /` (RFC 7541, section 6.1).
const STAND_IN: &[u8] = b"\x82\x86\x84";
/// `content-length`, whose value follows, without indexing (RFC 7541, section 6.2.2).
const CONTENT_LENGTH: [u8; 2] = [0x0f, 0x0d];
/// Digits of the greatest length.
const LENGTH_DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;

/// Capacity that is kept for frames that are held back.
const HELD_BYTES_KEPT: usize = 64;

/// Capacity that is kept for header blocks: that of a browser's request.
const BLOCK_BYTES_KEPT: usize = 1024;

/// Frames without use that may come at once, and how many more each second. A client that takes a download in
/// small steps, and one that asks every few seconds whether we are there, stay far below; nghttp2 takes as many.
const IDLE_MAX: u32 = 1000;
const IDLE_PER_SECOND: u32 = 33;
/// What a request adds, and what a DATA frame of ours does: both have the peer tell of windows.
const IDLE_PER_REQUEST: u32 = 20;
const IDLE_PER_DATA: u32 = 4;

/// Requests that may be given up at once, and how many more each second; one again for each that is not.
pub(super) const RESETS_MAX: u32 = 200;
const RESETS_PER_SECOND: u32 = 33;

impl Http2Violation {
    /// Whether it is nothing worse than too much of what is allowed.
    pub fn is_flood(self) -> bool {
        self.reason() == Reason::ENHANCE_YOUR_CALM
    }

    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Compression => Reason::COMPRESSION_ERROR,
            Self::FrameLength => Reason::FRAME_SIZE_ERROR,
            Self::FrameOrder | Self::NoSettings | Self::Preface => Reason::PROTOCOL_ERROR,
            Self::IdleFrames | Self::LongBlock | Self::Resets => Reason::ENHANCE_YOUR_CALM,
            Self::Refused(reason) => reason,
            Self::WindowSetting => Reason::FLOW_CONTROL_ERROR,
        }
    }
}

impl fmt::Display for Http2Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compression => "a header block that cannot be decompressed",
            Self::FrameLength => "a frame of a wrong length",
            Self::FrameOrder => "a frame or padding out of its place",
            Self::IdleFrames => "too many frames that serve no request",
            Self::LongBlock => "too many bytes in a header block",
            Self::NoSettings => "no SETTINGS",
            Self::Preface => "no preface, though the TLS handshake has agreed on h2",
            Self::Refused(Reason::ENHANCE_YOUR_CALM) => "too many frames or resets at once",
            Self::Refused(reason) => reason.description(),
            Self::Resets => "too many requests that it gave up, or had us give up",
            Self::WindowSetting => "SETTINGS with a window that cannot be",
        })
    }
}

impl Frames {
    /// A session of which nothing has come, its preface among it. `frame_bytes_max` and `list_bytes_max` are what
    /// we tell the peer of frames and header lists.
    pub(super) fn new(frame_bytes_max: u32, list_bytes_max: u32) -> Self {
        Self {
            preface_left: PREFACE.len() as u8,
            greeted: false,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            payload_left: 0,
            data_bytes: None,
            payload_to: To::Crate,
            held: Vec::new(),
            block: None,
            block_bytes: Vec::new(),
            piece_start: 0,
            frame_bytes_max,
            // A list that is twice too long is still told so by a status, by which the connection goes on.
            block_bytes_max: (list_bytes_max as usize).saturating_mul(2).max(frame_bytes_max as usize),
            pending: None,
            last_stream: 0,
            has_gaps: false,
            idle: Allowance::new(IDLE_MAX, IDLE_PER_SECOND),
            resets: Allowance::new(RESETS_MAX, RESETS_PER_SECOND),
        }
    }

    /// Whether nothing has come, not even a byte of the preface.
    pub(super) fn is_untouched(&self) -> bool {
        usize::from(self.preface_left) == PREFACE.len()
    }

    /// Whether something has begun to come that is not whole: the preface with the SETTINGS behind it, a frame
    /// other than DATA, a header block.
    pub(super) fn is_partial(&self) -> bool {
        let in_frame = self.payload_left > 0 && self.data_bytes.is_none();
        !self.greeted || self.head_bytes > 0 || in_frame || self.block.is_some()
    }

    /// The stream whose DATA frame is only half there, and how much of it there is: the crate tells of whole ones
    /// alone.
    pub(super) fn arriving(&self) -> Option<(u32, u32)> {
        match (self.pending, self.data_bytes) {
            (Some(Touch::Body(stream)), Some(length)) if self.payload_left > 0 => {
                Some((stream, length - self.payload_left))
            }
            _ => None,
        }
    }

    /// Time has passed.
    pub(super) fn refill(&mut self, elapsed: Duration) {
        self.idle.refill(elapsed);
        self.resets.refill(elapsed);
    }

    /// A request has been answered.
    pub(super) fn note_response(&mut self) {
        self.resets.add(1);
    }

    /// A stream has been reset for what the peer did to it.
    ///
    /// # Errors
    /// That was one too many.
    pub(super) fn note_reset(&mut self) -> Result<(), Http2Violation> {
        self.resets.take(Http2Violation::Resets)
    }

    /// A header block has come on a stream that is not open. Whether it is late, of a stream that has been: it is
    /// passed over then, as nghttp2 does (RFC 9113, section 5.1, "closed"). A stream that never was cannot begin
    /// any more (section 5.1.1), which the crate tells the peer.
    ///
    /// # Errors
    /// That was one too many.
    pub(super) fn is_late(&mut self, block: &HeaderBlock) -> Result<bool, Http2Violation> {
        let is_late = !self.has_gaps && block.stream % 2 == 1;
        if is_late {
            self.idle.take(Http2Violation::IdleFrames)?;
        }
        Ok(is_late)
    }

    /// Resets that are left.
    #[cfg(test)]
    pub(super) fn resets_left(&self) -> u32 {
        self.resets.left
    }

    /// This many DATA frames have been sent.
    pub(super) fn note_data_sent(&mut self, count: u32) {
        self.idle.add(count.saturating_mul(IDLE_PER_DATA));
    }

    /// What the last header block consists of.
    pub(super) fn block_bytes(&self) -> &[u8] {
        &self.block_bytes
    }

    /// Memory that it takes beside itself.
    pub(super) fn memory_bytes(&self) -> usize {
        self.block_bytes.capacity() + self.held.capacity()
    }

    /// The last header block has been read.
    pub(super) fn clear_block(&mut self) {
        self.block_bytes.clear();
        self.block_bytes.shrink_to(BLOCK_BYTES_KEPT);
    }

    /// Looks over `bytes`, which go on where the last ones ended, to the end of the next header block, or all of
    /// them where there is none. What they do to streams is added to `touched`, and what the crate is to get of
    /// them, all but header blocks, to `passed`.
    pub(super) fn look_over(
        &mut self,
        bytes: &mut &[u8],
        open: &mut OpenStreams,
        touched: &mut Vec<Touch>,
        passed: &mut Vec<u8>,
    ) -> Result<Option<HeaderBlock>, Http2Violation> {
        while !bytes.is_empty() {
            if self.preface_left > 0 {
                let preface = &PREFACE[PREFACE.len() - usize::from(self.preface_left)..];
                let piece = take(bytes, preface.len());
                if *piece != preface[..piece.len()] {
                    return Err(Http2Violation::Preface);
                }
                self.preface_left -= piece.len() as u8;
                passed.extend_from_slice(piece);
                continue;
            }
            if self.payload_left > 0 {
                let piece = take(bytes, self.payload_left as usize);
                self.payload_left -= piece.len() as u32;
                match self.payload_to {
                    To::Crate => passed.extend_from_slice(piece),
                    To::HeaderBlock => self.block_bytes.extend_from_slice(piece),
                    To::Held => self.held.extend_from_slice(piece),
                    To::Nobody => {}
                }
            } else {
                let have = usize::from(self.head_bytes);
                let piece = take(bytes, HEAD_BYTES - have);
                self.head[have..have + piece.len()].copy_from_slice(piece);
                self.head_bytes += piece.len() as u8;
                if usize::from(self.head_bytes) < HEAD_BYTES {
                    continue;
                }
                self.head_bytes = 0;
                self.payload_to = To::Crate;
                self.handle_frame(open)?;
                if self.payload_to == To::Crate {
                    passed.extend_from_slice(&self.head);
                }
            }
            if self.payload_left > 0 {
                continue;
            }
            if self.payload_to == To::Held {
                self.finish_held(open, passed)?;
            }
            if let Some(block) = self.finish_frame(touched)? {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// The present frame is whole; returns the header block that it completes.
    fn finish_frame(&mut self, touched: &mut Vec<Touch>) -> Result<Option<HeaderBlock>, Http2Violation> {
        let finished = match self.block {
            Some(block) => {
                self.strip_frame(block.flags)?;
                if block.flags & END_HEADERS == 0 {
                    return Ok(None);
                }
                self.block.take()
            }
            None => None,
        };
        if let Some(touch) = self.pending.take()
            && touched.last() != Some(&touch)
        {
            touched.push(touch);
        }
        Ok(finished)
    }

    /// The present frame, which has been held back, is whole: it is passed on if there is nothing wrong with it.
    fn finish_held(&mut self, open: &mut OpenStreams, passed: &mut Vec<u8>) -> Result<(), Http2Violation> {
        let mut held = std::mem::take(&mut self.held);
        let [_, _, _, kind, _, s0, s1, s2, s3] = self.head;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_MASK;
        if kind == SETTINGS && has_bad_window(&held) {
            return Err(Http2Violation::WindowSetting);
        }
        if kind == WINDOW_UPDATE && stream <= self.last_stream && is_zero_increment(&held) {
            // RFC 9113, section 6.9: that is an error of the stream, for which the crate ends the connection.
            if let Some(stream) = open.get(stream) {
                stream.reset(Reason::PROTOCOL_ERROR);
            }
        } else {
            passed.extend_from_slice(&self.head);
            passed.extend_from_slice(&held);
        }
        held.clear();
        held.shrink_to(HELD_BYTES_KEPT);
        self.held = held;
        Ok(())
    }

    /// Takes what is not of the header block out of the payload of its present frame. Of CONTINUATION that is
    /// nothing: it has neither flag.
    ///
    /// ```text
    /// [Pad Length (8)], [Exclusive (1), Stream Dependency (31), Weight (8)], Field Block Fragment, Padding
    /// ```
    fn strip_frame(&mut self, flags: u8) -> Result<(), Http2Violation> {
        let (mut start, mut end, mut padding) = (self.piece_start, self.block_bytes.len(), 0);
        if flags & PADDED != 0 {
            padding = usize::from(*self.block_bytes.get(start).ok_or(Http2Violation::FrameLength)?);
            start += 1;
        }
        if flags & WITH_PRIORITY != 0 {
            let piece = self.block_bytes.get(start..).and_then(<[u8]>::first_chunk::<PRIORITY_BYTES>);
            let [d0, d1, d2, d3, _] = *piece.ok_or(Http2Violation::FrameLength)?;
            start += PRIORITY_BYTES;
            let dependency = u32::from_be_bytes([d0, d1, d2, d3]) & STREAM_MASK;
            if let Some(block) = &mut self.block {
                block.depends_on_itself = dependency == block.stream;
            }
        }
        end = end.checked_sub(padding).filter(|end| *end >= start).ok_or(Http2Violation::FrameOrder)?;
        self.block_bytes.truncate(end);
        self.block_bytes.drain(self.piece_start..start);
        Ok(())
    }

    /// ```text
    /// Length (24), Type (8), Flags (8), Reserved (1), Stream Identifier (31)
    /// ```
    fn handle_frame(&mut self, open: &mut OpenStreams) -> Result<(), Http2Violation> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_MASK;
        self.payload_left = length;
        self.data_bytes = (kind == DATA).then_some(length);
        if !std::mem::replace(&mut self.greeted, true) && kind != SETTINGS {
            return Err(Http2Violation::NoSettings);
        }
        if length > self.frame_bytes_max || !is_length_sound(kind, flags, length) {
            return Err(Http2Violation::FrameLength);
        }
        let expected = self.block.map(|block| block.stream);
        if expected.is_some() != (kind == CONTINUATION) || expected.is_some_and(|other| other != stream) {
            return Err(Http2Violation::FrameOrder);
        }
        match kind {
            DATA => {
                self.pending = Some(Touch::Body(stream));
                if length == 0 && flags & END_STREAM == 0 {
                    self.idle.take(Http2Violation::IdleFrames)?;
                }
                // Of a stream that has been reset the crate drops it, and keeps the connection's window right.
                if let Some(stream) = open.get(stream) {
                    stream.takes_more(flags & END_STREAM != 0);
                }
            }
            HEADERS if stream == 0 => return Err(Http2Violation::FrameOrder),
            HEADERS => self.begin_block(stream, flags, length)?,
            CONTINUATION => {
                self.idle.take(Http2Violation::IdleFrames)?;
                if let Some(block) = &mut self.block {
                    block.flags = flags & END_HEADERS;
                }
                self.begin_piece(length)?;
            }
            RST_STREAM => {
                self.pending = Some(Touch::Reset(stream));
                self.note_reset()?;
            }
            WINDOW_UPDATE | PRIORITY if stream != 0 => {
                self.pending = Some(Touch::Frame(stream));
                self.idle.take(Http2Violation::IdleFrames)?;
                if kind == WINDOW_UPDATE {
                    self.payload_to = To::Held;
                } else if length != PRIORITY_BYTES as u32 {
                    self.payload_to = To::Nobody;
                    if let Some(stream) = open.get(stream) {
                        stream.reset(Reason::FRAME_SIZE_ERROR);
                    }
                }
            }
            SETTINGS => {
                self.payload_to = To::Held;
                self.idle.take(Http2Violation::IdleFrames)?;
            }
            _ => self.idle.take(Http2Violation::IdleFrames)?,
        }
        Ok(())
    }

    /// HEADERS: a header block has begun.
    fn begin_block(&mut self, stream: u32, flags: u8, length: u32) -> Result<(), Http2Violation> {
        let (begins, ends) = (stream > self.last_stream, flags & END_STREAM != 0);
        if begins {
            self.has_gaps |= stream != (self.last_stream + 1) | 1;
            self.last_stream = stream;
            self.idle.add(IDLE_PER_REQUEST);
        } else {
            self.pending = Some(Touch::Body(stream));
        }
        self.clear_block();
        self.block = Some(HeaderBlock { stream, begins, ends, depends_on_itself: false, flags });
        self.begin_piece(length)
    }

    /// A frame with the next piece of a header block has begun.
    fn begin_piece(&mut self, length: u32) -> Result<(), Http2Violation> {
        self.payload_to = To::HeaderBlock;
        self.piece_start = self.block_bytes.len();
        if self.piece_start + length as usize > self.block_bytes_max {
            return Err(Http2Violation::LongBlock);
        }
        Ok(())
    }
}

impl HeaderBlock {
    /// Appends to `out` what begins the stream for the h2 crate: a request that it finds nothing wrong with, of
    /// which it holds the body against its `length`.
    pub(super) fn write_head(&self, length: Option<u64>, out: &mut Vec<u8>) {
        let mut block = [0; STAND_IN.len() + 3 + LENGTH_DIGITS_MAX];
        let (stand_in, field) = block.split_at_mut(STAND_IN.len());
        stand_in.copy_from_slice(STAND_IN);
        let mut bytes = STAND_IN.len();
        if let Some(mut length) = length {
            let digits = length.checked_ilog10().map_or(1, |power| power as usize + 1);
            field[..3].copy_from_slice(&[CONTENT_LENGTH[0], CONTENT_LENGTH[1], digits as u8]);
            for place in field[3..3 + digits].iter_mut().rev() {
                *place = b'0' + (length % 10) as u8;
                length /= 10;
            }
            bytes += 3 + digits;
        }
        self.write(&block[..bytes], out);
    }

    /// Appends to `out` what ends the stream's body for the h2 crate.
    pub(super) fn write_trailers(&self, out: &mut Vec<u8>) {
        self.write(b"", out);
    }

    fn write(&self, block: &[u8], out: &mut Vec<u8>) {
        let flags = END_HEADERS | if self.ends { END_STREAM } else { 0 };
        out.extend_from_slice(&[0, 0, block.len() as u8, HEADERS, flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(block);
    }
}

/// Takes up to `count` bytes from the front of `bytes`.
fn take<'b>(bytes: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (piece, rest) = bytes.split_at(bytes.len().min(count));
    *bytes = rest;
    piece
}

/// Whether this payload of SETTINGS has a window that is larger than one may be.
fn has_bad_window(settings: &[u8]) -> bool {
    settings.chunks_exact(6).any(|setting| {
        let (identifier, value) = setting.split_at(2);
        identifier == INITIAL_WINDOW_SIZE && value[0] & 0x80 != 0
    })
}

/// Whether this payload of WINDOW_UPDATE adds nothing. Its first bit means nothing.
fn is_zero_increment(payload: &[u8]) -> bool {
    payload.iter().enumerate().all(|(place, byte)| if place == 0 { byte & 0x7f == 0 } else { *byte == 0 })
}

/// Whether a frame of this kind may have this length. RFC 9113, sections 6.4 to 6.9; that of PRIORITY is its
/// stream's affair.
fn is_length_sound(kind: u8, flags: u8, length: u32) -> bool {
    match kind {
        RST_STREAM | WINDOW_UPDATE => length == 4,
        SETTINGS if flags & ACK != 0 => length == 0,
        SETTINGS => length.is_multiple_of(6),
        PING => length == 8,
        _ => true,
    }
}

impl Allowance {
    fn new(max: u32, per_second: u32) -> Self {
        Self { left: max, max, per_second, rest: Duration::ZERO }
    }

    fn refill(&mut self, elapsed: Duration) {
        let time = self.rest.saturating_add(elapsed);
        let each = Duration::from_secs(1) / self.per_second;
        let count = (time.as_nanos() / each.as_nanos()).min(self.max.into()) as u32;
        self.rest = if count == self.max { Duration::ZERO } else { time.saturating_sub(each * count) };
        self.add(count);
    }

    fn add(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.max);
    }

    fn take(&mut self, violation: Http2Violation) -> Result<(), Http2Violation> {
        self.left = self.left.checked_sub(1).ok_or(violation)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
