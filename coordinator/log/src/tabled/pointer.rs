//! `bodies/<number>-<digest>`: a log object that is too large for an item, and the pointer to it
//! that the item holds instead.
//!
//! Layout of a pointer: frame `SPTR` version 1; length of the body (u64), digest of the body (u128,
//! XXH3). The name of the body follows from the number and the digest. A log object holds the epoch
//! and the nonce of its writer, so no two writers give different bodies the same name.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::codec::Source;
use crate::error::Defect;
use crate::frame::Frame;

const FRAME: Frame = Frame {
    magic: *b"SPTR",
    version: 1,
    name: "pointer to a log object",
};

/// A pointer to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// Length in bytes.
    pub(crate) length: u64,
    pub(crate) digest: u128,
}

impl Pointer {
    pub(crate) fn to(body: &[u8]) -> Self {
        Self {
            length: body.len() as u64,
            digest: xxh3_128(body),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = FRAME.open(24);
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        FRAME.close(out)
    }

    /// Decodes the content of an item: `None` if it is the log object itself.
    pub(crate) fn decode(content: &[u8]) -> Result<Option<Self>, Defect> {
        if !content.starts_with(&FRAME.magic) {
            return Ok(None);
        }
        let mut source = Source::new(FRAME.content(content)?);
        let pointer = Self {
            length: source.u64()?,
            digest: u128::from_le_bytes(source.array()?),
        };
        source.end()?;
        Ok(Some(pointer))
    }

    /// Returns true if this is the body that the pointer was made for.
    pub(crate) fn matches(&self, body: &[u8]) -> bool {
        *self == Self::to(body)
    }

    /// Name of the body of log object `number`, behind the prefix of all bodies.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{number:020}-{:032x}", self.digest)
    }
}

/// Returns the number in the name of a body.
pub(crate) fn number_of_body(name: &str) -> Option<u64> {
    let (number, digest) = name.split_once('-')?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let whole = number.len() == 20
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && digest.len() == 32
        && digest.bytes().all(hex);
    whole.then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    #[test]
    fn a_pointer_reads_back_and_every_flipped_bit_in_it_is_found() {
        let pointer = Pointer::to(b"a body");
        let bytes = pointer.encode();
        assert_eq!(Pointer::decode(&bytes), Ok(Some(pointer)));
        assert!(pointer.matches(b"a body") && !pointer.matches(b"a bodY"));
        assert_every_flipped_bit_is_found(&bytes, |bytes| {
            Pointer::decode(bytes) != Ok(Some(pointer))
        });
    }

    #[test]
    fn the_name_of_a_body_holds_its_number() {
        let name = Pointer::to(b"a body").name(17);
        assert_eq!(number_of_body(&name), Some(17));
        assert_eq!(number_of_body("17-00"), None);
        assert_eq!(number_of_body(&name.to_uppercase().replace('-', "+")), None);
    }

    #[test]
    fn a_log_object_is_no_pointer() {
        assert_eq!(Pointer::decode(b"SLOG..."), Ok(None));
        assert_eq!(Pointer::decode(b""), Ok(None));
    }
}
