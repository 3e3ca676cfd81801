//! Encoding and decoding: little-endian integers, varints, checksums. Every read is checked.

use std::cell::RefCell;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Defect;

/// Compression level of all bodies: the fastest one. A better ratio is not worth the only core of
/// the owner.
const ZSTD_LEVEL: i32 = 1;

/// The checksum used everywhere: XXH3, 64 bits.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

thread_local! {
    // Most bodies are small, and creating a compressor takes longer than compressing a small body.
    static COMPRESSOR: RefCell<zstd::bulk::Compressor<'static>> = RefCell::new(
        zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("zstd knows its own levels"),
    );
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::new(
        zstd::bulk::Decompressor::new().expect("it has no dictionary that could be wrong"),
    );
}

/// Compresses a body.
pub(crate) fn compress(raw: &[u8]) -> Vec<u8> {
    COMPRESSOR
        .with_borrow_mut(|compressor| compressor.compress(raw))
        .expect("compressing into a buffer that zstd itself sized does not fail")
}

/// Maximum expansion of zstd, in bytes per stored byte: a block of 128 KiB takes three bytes of
/// header and at least one of content.
const EXPANSION_MAX: usize = (128 << 10) / 4;

/// Decompresses a body whose checksum was verified; `raw_len` is its length according to the
/// header.
pub(crate) fn decompress(stored: &[u8], raw_len: usize) -> Result<Bytes, Defect> {
    // `raw_len` bytes are allocated in advance: an impossible length must not end the process.
    if raw_len > stored.len().saturating_mul(EXPANSION_MAX) {
        return Err(Defect::Malformed(
            "its body is shorter than its header says",
        ));
    }
    let raw = DECOMPRESSOR
        .with_borrow_mut(|decompressor| decompressor.decompress(stored, raw_len))
        .map_err(|_| Defect::Malformed("its body does not decompress"))?;
    if raw.len() != raw_len {
        return Err(Defect::Malformed(
            "its body has another length than its header says",
        ));
    }
    Ok(Bytes::from(raw))
}

/// Appends `value` in groups of seven bits, lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends an optional number: 0 for none, else the number plus one. `u64::MAX` itself cannot be
/// written. It is not needed: it would be a time in 584 million years.
pub(crate) fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    put_varint(out, value.map_or(0, |value| value.saturating_add(1)));
}

/// Reads from the front of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Defect> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Defect::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Defect> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Defect::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Defect> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Defect> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Defect> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Defect> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Defect> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Defect::Malformed("it holds a number that is too large"))
    }

    /// Reads a length that must fit into the remaining bytes.
    pub(crate) fn length(&mut self) -> Result<usize, Defect> {
        let length = self.varint()?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.rest.len())
            .ok_or(Defect::Truncated)
    }

    pub(crate) fn option(&mut self) -> Result<Option<u64>, Defect> {
        Ok(self.varint()?.checked_sub(1))
    }

    /// Reads a varint that must fit a narrower type.
    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Defect> {
        T::try_from(self.varint()?)
            .map_err(|_| Defect::Malformed("it holds a number that is too large"))
    }

    pub(crate) fn end(&self) -> Result<(), Defect> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Defect::Malformed("it has bytes after its end"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varint_reads_back_as_written(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut source = Source::new(&out);
            prop_assert_eq!(source.varint(), Ok(value));
            prop_assert!(source.is_empty());
        }
    }

    #[test]
    fn a_body_that_claims_an_impossible_length_allocates_no_memory() {
        let raw = vec![0; 8 << 20];
        let stored = compress(&raw);
        assert_eq!(decompress(&stored, raw.len()), Ok(Bytes::from(raw)));

        // A frame of one empty block, which does not state its length.
        let empty = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x01, 0x00, 0x00];
        assert_eq!(decompress(&empty, 0), Ok(Bytes::new()));
        for raw_len in [1 << 40, usize::MAX] {
            assert_eq!(
                decompress(&empty, raw_len),
                Err(Defect::Malformed(
                    "its body is shorter than its header says"
                ))
            );
        }
    }

    #[test]
    fn a_varint_beyond_64_bits_is_refused() {
        let mut source = Source::new(&[0xff; 11]);
        assert_eq!(
            source.varint(),
            Err(Defect::Malformed("it holds a number that is too large"))
        );
    }

    #[test]
    fn a_body_that_decompresses_to_another_length_is_refused() {
        let stored = compress(b"twelve bytes");
        assert_eq!(
            decompress(&stored, 13),
            Err(Defect::Malformed(
                "its body has another length than its header says"
            ))
        );
        assert_eq!(
            decompress(&stored, 12).as_deref(),
            Ok(b"twelve bytes".as_slice())
        );
    }
}
