//! The frame that all objects but the application record and segments share: four letters and a
//! format version at the beginning, and a checksum of everything before it at the end.

use bytes::Bytes;

use crate::codec::{Source, checksum};
use crate::error::Defect;

/// The frame of one kind of object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// The first four bytes.
    pub(crate) magic: [u8; 4],
    /// The version written now. Older ones are read too.
    pub(crate) version: u16,
    /// Name of the object in errors.
    pub(crate) name: &'static str,
}

/// Bytes of magic and version.
const HEAD_BYTES: usize = 6;
/// Bytes of the checksum.
const TAIL_BYTES: usize = 8;

impl Frame {
    /// Begins an object. The caller appends the content, then calls [`Frame::close`].
    pub(crate) fn open(self, capacity: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + capacity + TAIL_BYTES);
        out.extend_from_slice(&self.magic);
        out.extend_from_slice(&self.version.to_le_bytes());
        out
    }

    /// Ends an object.
    pub(crate) fn close(self, mut out: Vec<u8>) -> Bytes {
        let sum = checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        Bytes::from(out)
    }

    /// Returns the content of an object whose frame is valid.
    pub(crate) fn content(self, object: &[u8]) -> Result<&[u8], Defect> {
        let magic = object.get(..4).ok_or(Defect::Truncated)?;
        if magic != self.magic {
            return Err(Defect::Magic {
                expected: self.name,
            });
        }
        let mut source = Source::new(&object[4..]);
        let version = source.u16()?;
        if version == 0 || version > self.version {
            return Err(Defect::Version {
                found: u32::from(version),
                known: u32::from(self.version),
            });
        }
        let end = object
            .len()
            .checked_sub(TAIL_BYTES)
            .filter(|end| *end >= HEAD_BYTES)
            .ok_or(Defect::Truncated)?;
        let stated = Source::new(&object[end..]).u64()?;
        if checksum(&object[..end]) != stated {
            return Err(Defect::Checksum { part: "content" });
        }
        Ok(&object[HEAD_BYTES..end])
    }
}
