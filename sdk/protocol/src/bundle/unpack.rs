//! Decoding of a `to` or `from` within a budget of bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::zstd_contexts::decompress;
use super::{DECOMPRESSED_BYTES_MAX, Encoding, EnvelopeError};

/// Bytes that the parts of one bundle may still take when they are decompressed.
///
/// All parts of a bundle share one budget of [`DECOMPRESSED_BYTES_MAX`], because a few kilobytes
/// of zstd can hold gigabytes. A part beyond the budget fails alone and uses none of it.
#[derive(Debug)]
pub struct Budget {
    left: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: DECOMPRESSED_BYTES_MAX,
        }
    }
}

impl Budget {
    /// Decodes a part, and takes its size from the budget.
    pub(super) fn unpack(
        &mut self,
        encoding: Encoding,
        attempt: &str,
        text: &str,
    ) -> Result<Bytes, EnvelopeError> {
        let too_large = || EnvelopeError::TooLarge {
            attempt: attempt.to_owned(),
        };
        // Four characters are at most three bytes, and what is not compressed must fit as it is.
        if encoding == Encoding::Identity
            && base64::decoded_len_estimate(text.len()) > self.left + 3
        {
            return Err(too_large());
        }
        let bytes = STANDARD
            .decode(text)
            .map_err(|source| EnvelopeError::Base64 {
                attempt: attempt.to_owned(),
                source,
            })?;
        let bytes = match encoding {
            Encoding::Identity => bytes,
            Encoding::Zstd => {
                let unpacked = decompress(&bytes, self.left);
                unpacked.map_err(|source| EnvelopeError::Decompress {
                    attempt: attempt.to_owned(),
                    source,
                })?
            }
        };
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(too_large)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zstd(bytes: usize) -> String {
        STANDARD.encode(zstd::bulk::compress(&vec![0; bytes], 1).unwrap())
    }

    #[test]
    fn all_parts_of_a_bundle_share_one_budget_and_a_part_beyond_it_takes_none() {
        let mut budget = Budget::default();
        let half = DECOMPRESSED_BYTES_MAX / 2;
        let mut unpack = |text: &str| budget.unpack(Encoding::Zstd, "1-7", text);
        assert_eq!(unpack(&zstd(half)).unwrap().len(), half);
        let error = unpack(&zstd(half + 1)).unwrap_err().to_string();
        assert_eq!(
            error,
            "attempt 1-7: the parts of a bundle may have 67108864 bytes in all, decompressed, \
             and this one exceeds what is left"
        );
        assert_eq!(unpack(&zstd(half)).unwrap().len(), half);
        assert!(unpack(&zstd(1)).is_err());
        assert!(
            budget
                .unpack(Encoding::Identity, "1-7", "AAAAAAAA")
                .is_err()
        );
    }
}
