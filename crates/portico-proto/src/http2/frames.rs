//! Looks over the frames of a session as they come in (RFC 9113, section 4.1): the heads alone, for what the h2
//! crate does not tell.
//!
//! That is which streams have got something, whether a frame or a header block is only half there, and how much
//! of what comes serves no request. The last is bounded: every kind of flood is made of frames that cost the
//! peer nothing. Frames of a wrong length are told by the right name here, which the crate does not have.

use std::fmt;
use std::time::Duration;

use h2::Reason;

/// What the frames of a session tell.
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
    /// A header block goes on in the next frame.
    in_block: bool,
    /// What the present frame, or header block, will have done once it is whole: the crate takes it in no sooner.
    pending: Option<Touch>,
    /// The highest stream that a header block has named.
    last_stream: u32,
    idle: Allowance,
    resets: Allowance,
}

/// What a frame does to a stream that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// More of its body, or the end of it.
    Body(u32),
    /// Nothing, if it is sound: but the crate resets a stream for such a frame that is not (CVE-2025-8671).
    Frame(u32),
    /// The peer has given it up.
    Reset(u32),
}

/// What a peer does that the session does not bear with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// A frame that has not the length of its kind. RFC 9113, section 4.2.
    FrameLength,
    /// Too many frames that serve no request: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA, CONTINUATION,
    /// unknown ones.
    IdleFrames,
    /// It has begun with another frame than SETTINGS. RFC 9113, section 3.4.
    NoSettings,
    /// It does not begin as HTTP/2 does, though HTTP/2 has been agreed upon. RFC 9113, section 3.4.
    Preface,
    /// What the h2 crate has refused, by the name that it was told to the peer with.
    Refused(Reason),
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

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

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

impl Offence {
    /// Whether it is nothing worse than too much of what is allowed.
    pub fn is_flood(self) -> bool {
        self.reason() == Reason::ENHANCE_YOUR_CALM
    }

    pub(super) fn reason(self) -> Reason {
        match self {
            Self::FrameLength => Reason::FRAME_SIZE_ERROR,
            Self::NoSettings | Self::Preface => Reason::PROTOCOL_ERROR,
            Self::IdleFrames | Self::Resets => Reason::ENHANCE_YOUR_CALM,
            Self::Refused(reason) => reason,
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FrameLength => "a frame of a wrong length",
            Self::IdleFrames => "too many frames that serve no request",
            Self::NoSettings => "no SETTINGS",
            Self::Preface => "no preface, though the TLS handshake has agreed on h2",
            Self::Refused(Reason::ENHANCE_YOUR_CALM) => "too many frames or resets at once",
            Self::Refused(reason) => reason.description(),
            Self::Resets => "too many requests that it gave up, or had us give up",
        })
    }
}

impl Frames {
    /// A session of which nothing has come, its preface among it.
    pub(super) fn new() -> Self {
        Self {
            preface_left: super::PREFACE.len() as u8,
            greeted: false,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            payload_left: 0,
            data_bytes: None,
            in_block: false,
            pending: None,
            last_stream: 0,
            idle: Allowance::new(IDLE_MAX, IDLE_PER_SECOND),
            resets: Allowance::new(RESETS_MAX, RESETS_PER_SECOND),
        }
    }

    /// Whether nothing has come, not even a byte of the preface.
    pub(super) fn is_untouched(&self) -> bool {
        usize::from(self.preface_left) == super::PREFACE.len()
    }

    /// Whether something has begun to come that is not whole: the preface with the SETTINGS behind it, a frame
    /// other than DATA, a header block.
    pub(super) fn is_partial(&self) -> bool {
        let in_frame = self.payload_left > 0 && self.data_bytes.is_none();
        !self.greeted || self.head_bytes > 0 || in_frame || self.in_block
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
    pub(super) fn note_answer(&mut self) {
        self.resets.add(1);
    }

    /// A stream has been reset for what the peer did to it.
    ///
    /// # Errors
    /// That was one too many.
    pub(super) fn note_reset(&mut self) -> Result<(), Offence> {
        self.resets.take(Offence::Resets)
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

    /// Looks over `bytes`, which go on where the last ones ended; what they do to streams is added to `touched`.
    pub(super) fn look_over(&mut self, mut bytes: &[u8], touched: &mut Vec<Touch>) -> Result<(), Offence> {
        while !bytes.is_empty() {
            if self.preface_left > 0 {
                let preface = &super::PREFACE[super::PREFACE.len() - usize::from(self.preface_left)..];
                let count = bytes.len().min(preface.len());
                if bytes[..count] != preface[..count] {
                    return Err(Offence::Preface);
                }
                self.preface_left -= count as u8;
                bytes = &bytes[count..];
                continue;
            }
            if self.payload_left > 0 {
                let count = bytes.len().min(self.payload_left as usize);
                self.payload_left -= count as u32;
                bytes = &bytes[count..];
                self.note_whole(touched);
                continue;
            }
            let have = self.head_bytes as usize;
            let count = bytes.len().min(HEAD_BYTES - have);
            self.head[have..have + count].copy_from_slice(&bytes[..count]);
            self.head_bytes += count as u8;
            bytes = &bytes[count..];
            if self.head_bytes as usize == HEAD_BYTES {
                self.head_bytes = 0;
                self.handle_frame()?;
                self.note_whole(touched);
            }
        }
        Ok(())
    }

    fn note_whole(&mut self, touched: &mut Vec<Touch>) {
        if self.payload_left == 0
            && !self.in_block
            && let Some(touch) = self.pending.take()
            && touched.last() != Some(&touch)
        {
            touched.push(touch);
        }
    }

    /// ```text
    /// Length (24), Type (8), Flags (8), Reserved (1), Stream Identifier (31)
    /// ```
    fn handle_frame(&mut self) -> Result<(), Offence> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
        self.payload_left = length;
        self.data_bytes = (kind == DATA).then_some(length);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_block = flags & END_HEADERS == 0;
        }
        if !std::mem::replace(&mut self.greeted, true) && kind != SETTINGS {
            return Err(Offence::NoSettings);
        }
        if !is_length_sound(kind, flags, length) {
            return Err(Offence::FrameLength);
        }
        match kind {
            DATA => {
                self.pending = Some(Touch::Body(stream));
                if length == 0 && flags & END_STREAM == 0 {
                    self.idle.take(Offence::IdleFrames)?;
                }
            }
            HEADERS if stream > self.last_stream => {
                self.last_stream = stream;
                self.idle.add(IDLE_PER_REQUEST);
            }
            // Trailers, and the end with them.
            HEADERS => self.pending = Some(Touch::Body(stream)),
            RST_STREAM => {
                self.pending = Some(Touch::Reset(stream));
                self.note_reset()?;
            }
            WINDOW_UPDATE | PRIORITY if stream != 0 => {
                self.pending = Some(Touch::Frame(stream));
                self.idle.take(Offence::IdleFrames)?;
            }
            _ => self.idle.take(Offence::IdleFrames)?,
        }
        Ok(())
    }
}

/// Whether a frame of this kind may have this length. RFC 9113, sections 6.3 to 6.9.
fn is_length_sound(kind: u8, flags: u8, length: u32) -> bool {
    match kind {
        PRIORITY => length == 5,
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

    fn take(&mut self, offence: Offence) -> Result<(), Offence> {
        self.left = self.left.checked_sub(1).ok_or(offence)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn after_preface() -> Frames {
        let mut frames = Frames::new();
        assert_eq!(frames.look_over(super::super::PREFACE, &mut Vec::new()), Ok(()));
        assert_eq!(frames.look_over(&frame(SETTINGS, 0, 0, b""), &mut Vec::new()), Ok(()));
        frames.idle.left = IDLE_MAX;
        assert!(!frames.is_partial());
        frames
    }

    #[test]
    fn what_comes_is_seen_alike_however_it_is_cut() {
        let bytes = [
            super::super::PREFACE,
            &frame(4, 0, 0, &[0; 12])[..],
            &frame(HEADERS, END_HEADERS, 1, b"block"),
            &frame(DATA, 0, 1, b"body"),
            &frame(DATA, END_STREAM, 1, b""),
            &frame(HEADERS, 0, 3, b"bl"),
            &frame(CONTINUATION, END_HEADERS, 3, b"ock"),
            &frame(HEADERS, END_HEADERS | END_STREAM, 3, b"trailers"),
            &frame(RST_STREAM, 0, 0x8000_0001, &[0; 4]),
        ]
        .concat();
        let expected = [Touch::Body(1), Touch::Body(3), Touch::Reset(1)];
        for step in [1, 2, 7, bytes.len()] {
            let (mut frames, mut touched) = (Frames::new(), Vec::new());
            for piece in bytes.chunks(step) {
                frames.look_over(piece, &mut touched).unwrap();
            }
            assert_eq!(touched, expected, "{step}");
            assert!(!frames.is_partial());
        }
    }

    #[test]
    fn a_body_is_touched_when_its_frame_is_whole() {
        let mut frames = after_preface();
        let data = frame(DATA, END_STREAM, 1, b"12345");
        for cut in 9..data.len() {
            let mut touched = Vec::new();
            frames.look_over(&data[..cut], &mut touched).unwrap();
            assert_eq!(touched, []);
            frames.look_over(&data[cut..], &mut touched).unwrap();
            assert_eq!(touched, [Touch::Body(1)], "{cut}");
        }
    }

    #[test]
    fn of_half_a_data_frame_is_told_how_much_there_is_and_of_no_other() {
        let mut frames = after_preface();
        for (bytes, expected) in [
            (frame(DATA, END_STREAM, 1, b"12345"), Some(1)),
            (frame(HEADERS, END_HEADERS, 3, b"block"), None),
            (frame(HEADERS, END_HEADERS, 3, b"trail"), None),
            (frame(RST_STREAM, 0, 5, &[0; 4]), None),
        ] {
            for at in 0..bytes.len() {
                let expected =
                    expected.filter(|_| at >= HEAD_BYTES).map(|stream| (stream, (at - HEAD_BYTES) as u32));
                assert_eq!(frames.arriving(), expected, "{bytes:?} {at}");
                frames.look_over(&bytes[at..=at], &mut Vec::new()).unwrap();
            }
            assert_eq!(frames.arriving(), None);
        }
    }

    #[test]
    fn half_a_preface_a_frame_or_a_header_block_is_partial_and_half_a_body_is_not() {
        let mut frames = Frames::new();
        assert!(frames.is_partial());
        frames = after_preface();
        let ping = frame(6, 0, 0, &[0; 8]);
        for cut in 1..ping.len() {
            frames.look_over(&ping[..cut], &mut Vec::new()).unwrap();
            assert!(frames.is_partial());
            frames.look_over(&ping[cut..], &mut Vec::new()).unwrap();
            assert!(!frames.is_partial());
        }
        frames.look_over(&frame(HEADERS, 0, 1, b"x"), &mut Vec::new()).unwrap();
        assert!(frames.is_partial());
        frames.look_over(&frame(CONTINUATION, END_HEADERS, 1, b""), &mut Vec::new()).unwrap();
        assert!(!frames.is_partial());
        frames.look_over(&frame(DATA, 0, 1, b"12345")[..12], &mut Vec::new()).unwrap();
        assert!(!frames.is_partial());
    }

    #[test]
    fn each_kind_of_frame_without_use_runs_out_and_comes_back() {
        for (kind, stream, payload) in [
            (6, 0, &[0; 8][..]),
            (4, 0, &[]),
            (8, 0, &[0, 0, 0, 1]),
            (2, 1, &[0; 5]),
            (0, 1, &[]),
            (9, 1, &[]),
            (99, 0, &[]),
        ] {
            let mut frames = after_preface();
            let bytes = frame(kind, 0, stream, payload);
            let mut sent = 0;
            while frames.look_over(&bytes, &mut Vec::new()).is_ok() {
                sent += 1;
                assert!(sent <= IDLE_MAX, "{kind}");
            }
            assert_eq!(sent, IDLE_MAX);
            frames = after_preface();
            frames.idle.left = 0;
            frames.refill(Duration::from_secs(1));
            for _ in 0..IDLE_PER_SECOND {
                frames.look_over(&bytes, &mut Vec::new()).unwrap();
            }
            assert_eq!(frames.look_over(&bytes, &mut Vec::new()), Err(Offence::IdleFrames));
        }
    }

    #[test]
    fn lengths_and_the_first_frame_are_called_by_their_names() {
        for (kind, flags, lengths) in [
            (PRIORITY, 0, [4, 6]),
            (RST_STREAM, 0, [3, 5]),
            (SETTINGS, 0, [5, 7]),
            (SETTINGS, ACK, [1, 6]),
            (PING, 0, [7, 9]),
            (WINDOW_UPDATE, 0, [3, 5]),
        ] {
            for length in lengths {
                let bytes = frame(kind, flags, 0, &vec![0; length]);
                let looked = after_preface().look_over(&bytes, &mut Vec::new());
                assert_eq!(looked, Err(Offence::FrameLength), "{kind} {length}");
            }
        }
        let mut frames = Frames::new();
        let bytes = [super::super::PREFACE, &frame(PING, 0, 0, &[0; 8])].concat();
        assert_eq!(frames.look_over(&bytes, &mut Vec::new()), Err(Offence::NoSettings));
    }

    #[test]
    fn resets_run_out_and_answers_bring_them_back() {
        let mut frames = after_preface();
        let bytes = frame(RST_STREAM, 0, 1, &[0; 4]);
        for _ in 0..RESETS_MAX {
            frames.look_over(&bytes, &mut Vec::new()).unwrap();
        }
        assert_eq!(frames.look_over(&bytes, &mut Vec::new()), Err(Offence::Resets));
        frames = after_preface();
        frames.resets.left = 0;
        frames.note_answer();
        frames.look_over(&bytes, &mut Vec::new()).unwrap();
        for _ in 0..90 {
            frames.refill(Duration::from_millis(11)); // 30 of them are worth ten.
        }
        for _ in 0..29 {
            frames.look_over(&bytes, &mut Vec::new()).unwrap();
        }
    }
}
