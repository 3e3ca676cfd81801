//! `log/<number>`: one commit, takeover or control record.
//!
//! Layout: frame `SLOG` version 1; kind (u8: 1 delta, 2 takeover, 3 control), flags (u8: bit 0 last
//! of a clean stop), partition (u32), epoch (u64), nonce (16 bytes), number (u64), sequence (u64),
//! committed at in ms (u64), length of the body before compression (u32), body (zstd).

use bytes::Bytes;

use crate::codec::{Source, compress, decompress};
use crate::control::Control;
use crate::entries::Entries;
use crate::error::Defect;
use crate::frame::Frame;
use crate::owner::Owner;

const FRAME: Frame = Frame {
    magic: *b"SLOG",
    version: 1,
    name: "log object",
};

/// Bytes of a header between frame and body.
const HEADER_BYTES: usize = 34 + Owner::BYTES;

/// Maximum length of a body before compression, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 30;

const CLEAN: u8 = 1;

/// Kind of a log object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A commit.
    Delta = 1,
    /// The beginning of an epoch.
    Takeover = 2,
    /// A decision about the durable form itself.
    Control = 3,
}

/// The part of a log object before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its kind.
    pub kind: Kind,
    /// True for the last commit of a clean stop.
    pub clean: bool,
    /// The partition.
    pub partition: u32,
    /// The writer.
    pub owner: Owner,
    /// Its number in the log, which is also in its key.
    pub number: u64,
    /// Number that the engine gave the delta, from 1 in each epoch; 0 if this is not a delta.
    pub sequence: u64,
    /// Partition time of the commit in milliseconds since 1970. Never less than that of the
    /// previous valid record.
    pub committed_at_ms: u64,
}

/// A log object as read: a checked header, and the body still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The header.
    pub header: Header,
    raw_len: usize,
    body: Bytes,
}

impl Record {
    /// Decodes an object found under `number` of `partition`.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong: damage, an unknown version or kind, or an object that belongs
    /// elsewhere.
    pub fn decode(object: &Bytes, partition: u32, number: u64) -> Result<Self, Defect> {
        let mut source = Source::new(FRAME.content(object)?);
        let kind = match source.u8()? {
            1 => Kind::Delta,
            2 => Kind::Takeover,
            3 => Kind::Control,
            found => return Err(Defect::Kind { found }),
        };
        let flags = source.u8()?;
        if flags & !CLEAN != 0 {
            return Err(Defect::Malformed("it has undefined flags"));
        }
        let header = Header {
            kind,
            clean: flags & CLEAN != 0,
            partition: source.u32()?,
            owner: Owner::read(&mut source)?,
            number: source.u64()?,
            sequence: source.u64()?,
            committed_at_ms: source.u64()?,
        };
        let raw_len = usize::try_from(source.u32()?).unwrap_or(usize::MAX);
        if raw_len > BODY_BYTES_MAX {
            return Err(Defect::Malformed("its body exceeds the maximum length"));
        }
        for (field, found, expected) in [
            (
                "partition",
                u64::from(header.partition),
                u64::from(partition),
            ),
            ("number", header.number, number),
        ] {
            if found != expected {
                return Err(Defect::Mismatch {
                    field,
                    found: found.to_string(),
                    expected: expected.to_string(),
                });
            }
        }
        let body = object.slice(object.len() - source.remaining() - 8..object.len() - 8);
        Ok(Self {
            header,
            raw_len,
            body,
        })
    }

    /// Returns the changes of a delta.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong with the body.
    pub fn entries(&self, bucket_max: u16) -> Result<Entries, Defect> {
        Entries::decode(self.raw()?, bucket_max)
    }

    /// Returns the decisions of a control record.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong with the body.
    pub fn control(&self) -> Result<Control, Defect> {
        Control::decode(&self.raw()?)
    }

    /// Returns the length of the body before compression, in bytes.
    pub(crate) fn raw_len(&self) -> usize {
        self.raw_len
    }

    fn raw(&self) -> Result<Bytes, Defect> {
        decompress(&self.body, self.raw_len)
    }
}

/// A record without its number. Its bytes under a given number are always the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unnumbered {
    pub(crate) kind: Kind,
    pub(crate) clean: bool,
    pub(crate) sequence: u64,
    pub(crate) committed_at_ms: u64,
    raw_len: u32,
    body: Vec<u8>,
}

impl Unnumbered {
    /// A commit. `None` if its entries are longer than [`BODY_BYTES_MAX`].
    pub(crate) fn delta(
        sequence: u64,
        committed_at_ms: u64,
        clean: bool,
        entries: &Entries,
    ) -> Option<Self> {
        let raw = entries.as_bytes();
        if raw.len() > BODY_BYTES_MAX {
            return None;
        }
        let record = Self::new(Kind::Delta, committed_at_ms, raw);
        Some(Self {
            sequence,
            clean,
            ..record
        })
    }

    /// The beginning of an epoch.
    pub(crate) fn takeover(committed_at_ms: u64) -> Self {
        Self::new(Kind::Takeover, committed_at_ms, &[])
    }

    /// A decision about the durable form.
    pub(crate) fn control(committed_at_ms: u64, control: &Control) -> Self {
        Self::new(Kind::Control, committed_at_ms, &control.encode())
    }

    fn new(kind: Kind, committed_at_ms: u64, raw: &[u8]) -> Self {
        Self {
            kind,
            clean: false,
            sequence: 0,
            committed_at_ms,
            raw_len: u32::try_from(raw.len()).expect("bodies are bounded by BODY_BYTES_MAX"),
            body: compress(raw),
        }
    }

    /// Returns the object under `number`.
    pub(crate) fn seal(&self, partition: u32, owner: &Owner, number: u64) -> Bytes {
        let mut out = FRAME.open(HEADER_BYTES + self.body.len());
        out.push(self.kind as u8);
        out.push(if self.clean { CLEAN } else { 0 });
        out.extend_from_slice(&partition.to_le_bytes());
        owner.put(&mut out);
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.committed_at_ms.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&self.body);
        FRAME.close(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;
    use crate::entries::EntriesBuilder;

    const OWNER: Owner = Owner {
        epoch: 5,
        nonce: [7; 16],
    };

    type Change = (u16, Vec<u8>, Option<Vec<u8>>);

    fn entries(changes: &[Change]) -> Entries {
        let mut builder = EntriesBuilder::new();
        for (bucket, key, value) in changes {
            builder.push(*bucket, key, value.as_deref());
        }
        builder.finish()
    }

    proptest! {
        #[test]
        fn a_delta_reads_back_as_sealed(
            changes: Vec<Change>,
            number: u64,
            sequence: u64,
            committed_at_ms: u64,
            clean: bool,
        ) {
            let entries = entries(&changes);
            let object = Unnumbered::delta(sequence, committed_at_ms, clean, &entries)
                .unwrap()
                .seal(2, &OWNER, number);
            let record = Record::decode(&object, 2, number).unwrap();
            prop_assert_eq!(record.header, Header {
                kind: Kind::Delta,
                clean,
                partition: 2,
                owner: OWNER,
                number,
                sequence,
                committed_at_ms,
            });
            prop_assert_eq!(record.entries(u16::MAX), Ok(entries));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(Record::decode(&Bytes::from(bytes), 0, 1).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_of_a_log_object_is_found() {
        let entries = entries(&[(1, b"key".to_vec(), Some(b"value".to_vec()))]);
        let object = Unnumbered::delta(1, 99, true, &entries)
            .unwrap()
            .seal(0, &OWNER, 12);
        assert_every_flipped_bit_is_found(&object, |bytes| {
            Record::decode(&Bytes::copy_from_slice(bytes), 0, 12).is_err()
        });
    }

    #[test]
    fn an_object_of_another_place_is_refused_by_name() {
        let object = Unnumbered::takeover(0).seal(0, &OWNER, 12);
        assert_eq!(
            Record::decode(&object, 0, 13).unwrap_err().to_string(),
            "its number is 12, expected 13"
        );
        assert_eq!(
            Record::decode(&object, 1, 12).unwrap_err().to_string(),
            "its partition is 0, expected 1"
        );
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut object = Unnumbered::takeover(0).seal(0, &OWNER, 12).to_vec();
        object[4] = 2;
        assert_eq!(
            Record::decode(&Bytes::from(object), 0, 12),
            Err(Defect::Version { found: 2, known: 1 })
        );
    }
}
