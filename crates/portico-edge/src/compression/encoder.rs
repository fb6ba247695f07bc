//! The encoders: bytes in, compressed bytes out, whenever the caller says so.
//!
//! Pieces come one by one, and what has come so far can be had at any time ([`Flush::Sync`]). The memory of an
//! encoder is bounded by its window, whatever the length of the response. A few are kept for the next response,
//! for all threads together: making one costs more than many a response.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};
use brotli::enc::{self, StandardAlloc};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer};

use super::rules::PADDING_MAX;
use crate::files::ContentCoding;

/// What is to be had of what has been put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What is ready; more follows.
    None,
    /// Everything: the peer can decode all that has been put in.
    Sync,
    /// Everything, and the end.
    Finish,
}

/// The encoder of one response.
pub struct Encoder {
    state: Option<State>,
    /// Bytes by which the response is made longer, until they are there.
    padding: Option<u8>,
}

/// The encoder has failed: nothing that it has made can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError;

enum State {
    Gzip(Gzip),
    Zstd(ZstdEncoder<'static>),
    /// Cannot be begun anew, so none is kept.
    Brotli(Box<BrotliEncoderStateStruct<StandardAlloc>>),
}

/// Deflate, of which this makes the gzip format (RFC 1952): flate2's own writers need a `Write`.
struct Gzip {
    compress: Compress,
    checksum: Crc,
    has_begun: bool,
}

/// nginx and Caddy compress what is made on request at 1 and 5; beyond these, time grows faster than length
/// shrinks.
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: u32 = 4;

/// Of brotli and zstd; a binary logarithm. Encoders of the usual 4 and 2 MiB would weigh on a server of many
/// threads, and pages repeat themselves within less.
const WINDOW_BITS: u32 = 18;

/// Room for output that is made at a time.
const OUTPUT_STEP_BYTES: usize = 8 * 1024;

/// Encoders of each kind that are kept while no response needs them: about 1.5 MiB of zstd and a third of a
/// MiB of gzip each. More of them work at once only where more than these many cores do.
const IDLE_MAX: usize = 8;

static IDLE_GZIP: Mutex<Vec<Gzip>> = Mutex::new(Vec::new());
static IDLE_ZSTD: Mutex<Vec<ZstdEncoder<'static>>> = Mutex::new(Vec::new());

impl Encoder {
    /// An encoder for a response that is made longer by `padding` bytes, of which [`PADDING_MAX`] count.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(coding: ContentCoding, padding: usize) -> Result<Self, EncodeError> {
        let state = match coding {
            ContentCoding::Gzip => State::Gzip(taken(&IDLE_GZIP).unwrap_or_else(new_gzip)),
            ContentCoding::Zstd => State::Zstd(match taken(&IDLE_ZSTD) {
                Some(encoder) => encoder,
                None => new_zstd()?,
            }),
            ContentCoding::Brotli => State::Brotli(new_brotli()),
        };
        Ok(Self { state: Some(state), padding: Some(padding.min(PADDING_MAX) as u8) })
    }

    /// Puts `input` in, and appends to `output` what is to be had then.
    ///
    /// # Errors
    /// The encoder has failed, now or before.
    pub fn encode(&mut self, input: &[u8], flush: Flush, output: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Some(mut state) = self.state.take() else { return Err(EncodeError) };
        match &mut state {
            State::Gzip(gzip) => {
                if !std::mem::replace(&mut gzip.has_begun, true) {
                    gzip_head(self.padding.take(), output);
                }
                gzip.encode(input, flush, output)?;
            }
            State::Zstd(encoder) => {
                encode_zstd(encoder, input, flush, output).map_err(|_| EncodeError)?;
                if flush == Flush::Finish {
                    skippable_frame(self.padding.take(), output);
                }
            }
            State::Brotli(encoder) => {
                // Of one byte the encoder writes the length of none.
                if let Some(padding) = self.padding.take().filter(|padding| *padding > 1) {
                    let metadata = [PADDING; PADDING_MAX];
                    let metadata = &metadata[..usize::from(padding)];
                    let operation = BrotliEncoderOperation::BROTLI_OPERATION_EMIT_METADATA;
                    encode_brotli(encoder, metadata, operation, output)?;
                }
                encode_brotli(encoder, input, flush.into(), output)?;
            }
        }
        self.state = Some(state);
        Ok(())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        match self.state.take() {
            Some(State::Gzip(mut gzip)) => {
                gzip.compress.reset();
                gzip.checksum.reset();
                gzip.has_begun = false;
                keep(&IDLE_GZIP, gzip);
            }
            Some(State::Zstd(mut encoder)) => {
                if encoder.reinit().is_ok() {
                    keep(&IDLE_ZSTD, encoder);
                }
            }
            Some(State::Brotli(_)) | None => {}
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            Some(State::Gzip(_)) => "gzip",
            Some(State::Zstd(_)) => "zstd",
            Some(State::Brotli(_)) => "br",
            None => "a failed encoder",
        })
    }
}

/// What padding consists of: nobody reads it.
const PADDING: u8 = b'x';

fn taken<T>(idle: &Mutex<Vec<T>>) -> Option<T> {
    idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn keep<T>(idle: &Mutex<Vec<T>>, encoder: T) {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    let surplus = if idle.len() < IDLE_MAX {
        idle.push(encoder);
        None
    } else {
        Some(encoder)
    };
    drop(idle);
    drop(surplus); // Not while others wait.
}

fn new_gzip() -> Gzip {
    let compress = Compress::new(Compression::new(GZIP_LEVEL), false);
    Gzip { compress, checksum: Crc::new(), has_begun: false }
}

fn new_zstd() -> Result<ZstdEncoder<'static>, EncodeError> {
    let new = || {
        let mut encoder = ZstdEncoder::new(ZSTD_LEVEL)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_BITS))?;
        Ok(encoder)
    };
    new().map_err(|_: std::io::Error| EncodeError)
}

fn new_brotli() -> Box<BrotliEncoderStateStruct<StandardAlloc>> {
    let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
    state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, BROTLI_LEVEL);
    state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, WINDOW_BITS);
    Box::new(state)
}

/// The head of the gzip format, with a file name of `padding` bytes if that is not none: every decoder skips it.
fn gzip_head(padding: Option<u8>, output: &mut Vec<u8>) {
    const NAME: u8 = 8;
    const UNKNOWN_SYSTEM: u8 = 255;
    let padding = padding.unwrap_or(0);
    let flags = if padding > 0 { NAME } else { 0 };
    output.extend_from_slice(&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, UNKNOWN_SYSTEM]);
    if padding > 0 {
        output.resize(output.len() + usize::from(padding) - 1, PADDING);
        output.push(0);
    }
}

/// A frame that decoders skip (RFC 8878, section 3.1.2), of 8 bytes and `padding`. It comes behind the content:
/// decoders that stop after one frame have all of it then.
fn skippable_frame(padding: Option<u8>, output: &mut Vec<u8>) {
    const MAGIC: u32 = 0x184D_2A50;
    let padding = padding.unwrap_or(0);
    output.extend_from_slice(&MAGIC.to_le_bytes());
    output.extend_from_slice(&u32::from(padding).to_le_bytes());
    output.resize(output.len() + usize::from(padding), PADDING);
}

impl Gzip {
    fn encode(&mut self, mut input: &[u8], flush: Flush, output: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.checksum.update(input);
        let operation = match flush {
            Flush::None => FlushCompress::None,
            Flush::Sync => FlushCompress::Sync,
            Flush::Finish => FlushCompress::Finish,
        };
        loop {
            output.reserve(OUTPUT_STEP_BYTES);
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(input, output, operation).map_err(|_| EncodeError)?;
            input = &input[(self.compress.total_in() - before) as usize..];
            let has_room = output.len() < output.capacity();
            match status {
                Status::StreamEnd => break,
                // With room left, everything has come out that is to.
                Status::Ok | Status::BufError if input.is_empty() && has_room && flush != Flush::Finish => {
                    break;
                }
                Status::Ok => {}
                Status::BufError if !has_room => {}
                Status::BufError => return Err(EncodeError),
            }
        }
        if flush == Flush::Finish {
            output.extend_from_slice(&self.checksum.sum().to_le_bytes());
            output.extend_from_slice(&self.checksum.amount().to_le_bytes());
        }
        Ok(())
    }
}

fn encode_zstd(
    encoder: &mut ZstdEncoder<'static>,
    input: &[u8],
    flush: Flush,
    output: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut input = InBuffer::around(input);
    // Each of these takes what it can, and says how much is left to be had.
    let mut step = |run: &mut dyn FnMut(&mut OutBuffer<'_, Vec<u8>>) -> std::io::Result<bool>| loop {
        output.reserve(OUTPUT_STEP_BYTES);
        let at = output.len();
        let mut room = OutBuffer::around_pos(output, at);
        if run(&mut room)? {
            return Ok::<_, std::io::Error>(());
        }
    };
    step(&mut |room| {
        if input.pos() < input.src.len() {
            encoder.run(&mut input, room)?;
        }
        Ok(input.pos() == input.src.len())
    })?;
    match flush {
        Flush::None => Ok(()),
        Flush::Sync => step(&mut |room| Ok(encoder.flush(room)? == 0)),
        Flush::Finish => step(&mut |room| Ok(encoder.finish(room, true)? == 0)),
    }
}

impl From<Flush> for BrotliEncoderOperation {
    fn from(flush: Flush) -> Self {
        match flush {
            Flush::None => Self::BROTLI_OPERATION_PROCESS,
            Flush::Sync => Self::BROTLI_OPERATION_FLUSH,
            Flush::Finish => Self::BROTLI_OPERATION_FINISH,
        }
    }
}

fn encode_brotli(
    encoder: &mut BrotliEncoderStateStruct<StandardAlloc>,
    input: &[u8],
    operation: BrotliEncoderOperation,
    output: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let (mut left, mut taken) = (input.len(), 0);
    let mut ignore =
        |_: &mut enc::interface::PredictionModeContextMap<enc::interface::InputReferenceMut<'_>>,
         _: &mut [enc::interface::StaticCommand],
         _: enc::interface::InputPair<'_>,
         _: &mut StandardAlloc| {};
    loop {
        let at = output.len();
        output.resize(at + OUTPUT_STEP_BYTES, 0);
        let (mut room, mut made) = (OUTPUT_STEP_BYTES, 0);
        let went_on = encoder.compress_stream(
            operation,
            &mut left,
            input,
            &mut taken,
            &mut room,
            &mut output[at..],
            &mut made,
            &mut None,
            &mut ignore,
        );
        output.truncate(at + made);
        if !went_on || (made == 0 && left > 0) {
            return Err(EncodeError);
        }
        if left == 0 && !encoder.has_more_output() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
