//! Compressing a file once, for all who ask for it: well and slowly, off the engine.

use std::io::Write;

use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use portico_edge::compression::is_compressible_type;
use portico_edge::files::ContentCoding;

/// Smaller ones gain nothing: with its headers a response fits a packet anyway.
const COMPRESSED_BYTES_MIN: u64 = 512;

/// Larger ones take longer than one asks for: brotli compresses some 20 MB a second. A build compresses them once,
/// into a file beside them.
const COMPRESSED_BYTES_MAX: u64 = 1024 * 1024;

/// Nine tenths of what brotli can do at all, at a thirtieth of the time.
const BROTLI_QUALITY: i32 = 9;

/// zlib's own.
const GZIP_LEVEL: u32 = 6;

/// What brotli works with at once, and how far it looks back (RFC 7932, section 9.1): a file is no longer.
const BROTLI_BUFFER_BYTES: usize = 32 * 1024;
const BROTLI_WINDOW: i32 = 20;

/// The codings that are made of files.
pub(crate) const MADE: [ContentCoding; 2] = [ContentCoding::Brotli, ContentCoding::Gzip];

/// Whether a file of this type and size is worth compressing.
pub(crate) fn is_worth(content_type: &str, size: u64) -> bool {
    (COMPRESSED_BYTES_MIN..=COMPRESSED_BYTES_MAX).contains(&size)
        && is_compressible_type(content_type.as_bytes())
}

/// `content` in `coding`; `None` if that is not smaller.
pub(crate) fn compress(content: &[u8], coding: ContentCoding) -> Option<Vec<u8>> {
    let mut made = Vec::with_capacity(content.len() / 2);
    match coding {
        ContentCoding::Brotli => {
            let parameters = BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW,
                size_hint: content.len(),
                ..BrotliEncoderParams::default()
            };
            let mut writer =
                brotli::CompressorWriter::with_params(&mut made, BROTLI_BUFFER_BYTES, &parameters);
            writer.write_all(content).ok()?;
            writer.flush().ok()?;
            drop(writer); // Writes the end.
        }
        ContentCoding::Gzip => {
            let mut encoder = GzEncoder::new(&mut made, Compression::new(GZIP_LEVEL));
            encoder.write_all(content).ok()?;
            encoder.finish().ok()?;
        }
        ContentCoding::Zstd => return None,
    }
    (made.len() < content.len()).then_some(made)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(made: &[u8], coding: ContentCoding) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            ContentCoding::Brotli => {
                brotli::Decompressor::new(made, 4096).read_to_end(&mut plain).unwrap();
            }
            _ => {
                flate2::read::GzDecoder::new(made).read_to_end(&mut plain).unwrap();
            }
        }
        plain
    }

    #[test]
    fn what_is_made_is_smaller_and_the_same() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|n| format!("line {}\n", n % 777).into_bytes()).collect();
        for coding in MADE {
            let made = compress(&text, coding).unwrap();
            assert!(made.len() < text.len() / 10, "{coding:?}: {}", made.len());
            assert_eq!(decoded(&made, coding), text);
        }
        // What cannot be compressed is left as it is.
        let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let once = compress(&noise, ContentCoding::Gzip).unwrap_or_else(|| noise.clone());
        assert_eq!(compress(&once, ContentCoding::Gzip), None);
    }

    #[test]
    fn text_is_worth_it_and_what_is_compressed_already_is_not() {
        for kind in ["text/css; charset=utf-8", "image/svg+xml", "application/json", "application/wasm"] {
            assert!(is_worth(kind, COMPRESSED_BYTES_MIN) && is_worth(kind, COMPRESSED_BYTES_MAX), "{kind}");
            assert!(!is_worth(kind, COMPRESSED_BYTES_MIN - 1) && !is_worth(kind, COMPRESSED_BYTES_MAX + 1));
        }
        for kind in ["image/png", "font/woff2", "application/zip", "video/mp4", "application/octet-stream"] {
            assert!(!is_worth(kind, 10_000), "{kind}");
        }
    }
}
