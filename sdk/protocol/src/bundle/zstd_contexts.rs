//! Compression of the parts of a bundle, with contexts that each thread keeps.
//!
//! Making a context costs several times what compressing a part of a few hundred bytes costs.

use std::cell::RefCell;
use std::io::{self, Read as _};

use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;
use zstd::zstd_safe::{DCtx, DParameter};

use super::DECOMPRESSED_BYTES_MAX;

/// Compression level: parts are small, and time counts more than bytes.
const LEVEL: i32 = 1;

/// Binary logarithm of the maximum zstd window: a larger one would only take memory, because no
/// content may exceed [`DECOMPRESSED_BYTES_MAX`].
const WINDOW_LOG_MAX: u32 = DECOMPRESSED_BYTES_MAX.ilog2();

/// Maximum size of a context that a thread keeps, in bytes. A frame decides how large a window its
/// reader needs, so one frame may not hold memory for good.
const KEPT_BYTES_MAX: usize = 4 << 20;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// Compresses `bytes` to one frame.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let mut compressor = kept
            .take()
            .unwrap_or_else(|| Compressor::new(LEVEL).expect("the level exists"));
        let frame = compressor.compress(bytes);
        if compressor.context_mut().sizeof() <= KEPT_BYTES_MAX {
            *kept = Some(compressor);
        }
        frame.expect("compressing to memory cannot fail")
    })
}

/// Decompresses at most one byte more than `bytes_max`, without trusting the size that the frame
/// states.
pub(super) fn decompress(bytes: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let mut context = match kept.take() {
            Some(context) => context,
            None => new_context()?,
        };
        let mut out = Vec::new();
        let decoder = Decoder::with_context(bytes, &mut context);
        let read = decoder.take(bytes_max as u64 + 1).read_to_end(&mut out);
        if read.is_ok() && context.sizeof() <= KEPT_BYTES_MAX {
            *kept = Some(context);
        }
        read.map(|_| out)
    })
}

fn new_context() -> io::Result<DCtx<'static>> {
    let mut context = DCtx::create();
    context
        .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
        .map_err(|code| io::Error::other(zstd::zstd_safe::get_error_name(code)))?;
    Ok(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_context_starts_every_part_anew() {
        let part = |number: u8| vec![number; 300];
        let frames: Vec<_> = (0..100).map(|number| compress(&part(number))).collect();
        for (number, frame) in (0..).zip(&frames) {
            assert_eq!(decompress(frame, 300).unwrap(), part(number));
            // The decoder stops in the middle of a frame that is too large, or that is cut.
            assert_eq!(decompress(frame, 10).unwrap(), part(number)[..11]);
            assert_eq!(decompress(frame, 300).unwrap(), part(number));
            assert!(decompress(&frame[..frame.len() - 2], 300).is_err());
            assert!(decompress(b"not zstd", 300).is_err());
        }
    }

    #[test]
    fn a_context_that_grew_is_not_kept() {
        let large = compress(&vec![7; 2 * KEPT_BYTES_MAX]);
        let small = compress(b"small");
        let out = decompress(&large, 2 * KEPT_BYTES_MAX).unwrap();
        assert_eq!(out.len(), 2 * KEPT_BYTES_MAX);
        let kept = DECOMPRESSOR.with_borrow(|kept| kept.as_ref().map_or(0, DCtx::sizeof));
        assert!(kept <= KEPT_BYTES_MAX, "{kept}");
        assert_eq!(decompress(&small, 5).unwrap(), b"small");
    }

    #[test]
    fn a_frame_with_a_window_larger_than_any_content_is_rejected() {
        // A frame header without content size, and a window of 2 GiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
        let error = decompress(&frame, 1000).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}
