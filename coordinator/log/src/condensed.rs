//! `condensed/<…>`: a copy of consecutive small log objects in one object.
//!
//! Layout: frame `SCON` version 1; partition (u32), first number (u64), epoch of the writer (u64),
//! then varints: number of log objects, and for each its length and its bytes, unchanged.
//!
//! ```text
//!  log     1  2  3  4  5  6  7  8  9 10 11 12 13        one object a commit
//!          └──run──┘  └──run──┘  └──run──┘              small copies, soon after the commits
//!          └──────────whole run──────────┘              large copies, in place of several runs
//!  reads   ────────────── 1 ────────────── 11 12 13
//! ```
//!
//! Copies exist only so that a takeover reads few objects. The log objects remain the truth: they
//! are deleted as if there were no copies, and savepoints and reads of past moments need no others.
//! A copy holds durable records only, of one epoch, so it never tells more than the log does. It is
//! deleted with the log that it holds.

use bytes::Bytes;

use crate::codec::{Source, put_varint};
use crate::error::Defect;
use crate::frame::Frame;

const FRAME: Frame = Frame {
    magic: *b"SCON",
    version: 1,
    name: "condensed log",
};

/// Name of a condensed copy: only the owner of its epoch writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CondensedName {
    /// Number of the first log object in it.
    pub first: u64,
    /// Number of the last log object in it.
    pub last: u64,
    /// Epoch of the writer, and of all records.
    pub epoch: u64,
}

impl CondensedName {
    /// Encodes the copy of these objects, which are all of the numbers from first to last.
    pub(crate) fn encode(&self, partition: u32, objects: &[Bytes]) -> Bytes {
        let bytes: usize = objects.iter().map(Bytes::len).sum();
        let mut out = FRAME.open(32 + bytes + objects.len() * 3);
        out.extend_from_slice(&partition.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        put_varint(&mut out, objects.len() as u64);
        for object in objects {
            put_varint(&mut out, object.len() as u64);
            out.extend_from_slice(object);
        }
        FRAME.close(out)
    }

    /// Decodes a copy found under this name. Returns its log objects, from the first number on.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong: damage, an unknown version, or a copy that belongs elsewhere.
    pub(crate) fn decode(&self, object: &Bytes, partition: u32) -> Result<Vec<Bytes>, Defect> {
        let mut source = Source::new(FRAME.content(object)?);
        let (found_partition, first, epoch) = (source.u32()?, source.u64()?, source.u64()?);
        let count = source.length()?;
        for (field, found, expected) in [
            (
                "partition",
                u64::from(found_partition),
                u64::from(partition),
            ),
            ("first number", first, self.first),
            ("epoch", epoch, self.epoch),
            (
                "last number",
                first.wrapping_add(count as u64).wrapping_sub(1),
                self.last,
            ),
        ] {
            if found != expected {
                return Err(Defect::Mismatch {
                    field,
                    found: found.to_string(),
                    expected: expected.to_string(),
                });
            }
        }
        let objects = (0..count).map(|_| {
            let len = source.length()?;
            Ok(object.slice_ref(source.take(len)?))
        });
        let objects = objects.collect::<Result<_, _>>()?;
        source.end()?;
        Ok(objects)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    fn name(first: u64, objects: &[Bytes]) -> CondensedName {
        CondensedName {
            first,
            last: first + objects.len() as u64 - 1,
            epoch: 5,
        }
    }

    proptest! {
        #[test]
        fn a_copy_reads_back_as_written(
            first in 1..1_000_000_u64,
            objects in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..50),
        ) {
            let objects: Vec<Bytes> = objects.into_iter().map(Bytes::from).collect();
            let name = name(first, &objects);
            prop_assert_eq!(name.decode(&name.encode(3, &objects), 3), Ok(objects));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(name(1, &[Bytes::new()]).decode(&bytes.into(), 0).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_of_a_copy_is_found() {
        let objects = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let name = name(7, &objects);
        assert_every_flipped_bit_is_found(&name.encode(3, &objects), |bytes| {
            name.decode(&Bytes::copy_from_slice(bytes), 3).is_err()
        });
    }

    #[test]
    fn a_copy_under_another_name_is_refused() {
        let objects = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let right = name(7, &objects);
        let object = right.encode(3, &objects);
        let others = [
            CondensedName { first: 6, ..right },
            CondensedName { last: 9, ..right },
            CondensedName { epoch: 6, ..right },
        ];
        for other in others {
            assert!(other.decode(&object, 3).is_err(), "{other:?}");
        }
        assert!(right.decode(&object, 4).is_err());
    }
}
