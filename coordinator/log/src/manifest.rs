//! `manifests/<number>`: the location of each bucket, and the log number from which it must be
//! replayed.
//!
//! Layout: frame `SMAN` version 1; partition (u32), number (u64), writer (epoch u64, nonce), owner
//! in force before the replay begins (epoch u64, nonce), time of writing in ms (u64), then varints:
//! number of segments, for each its name (3) and size; number of buckets, the partition-wide one
//! included, for each: log number that its image equals, flags (1 has an image, 2 pending work),
//! earliest timer (optional), and with an image: index in the list of segments, offset, stored
//! length, length before compression, checksum (u64); number of condemnations, for each as in a
//! control record.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::{Source, put_option, put_varint};
use crate::control::Condemned;
use crate::error::Defect;
use crate::frame::Frame;
use crate::owner::Owner;
use crate::segment::{BlockLocation, SegmentName};

const FRAME: Frame = Frame {
    magic: *b"SMAN",
    version: 1,
    name: "manifest",
};

const HAS_IMAGE: u8 = 1;
const PENDING: u8 = 2;

/// The entry of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ManifestBucket {
    /// Log number that the image equals. The log is replayed over it from the next number on.
    pub number: u64,
    /// Location of the image; `None` for a bucket without content.
    pub image: Option<ImageLocation>,
    /// Time of the earliest timer in the image, in milliseconds since 1970.
    pub earliest_due_ms: Option<u64>,
    /// True if the image holds pending work.
    pub pending: bool,
}

/// Location of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLocation {
    /// The segment.
    pub segment: SegmentName,
    /// The block in it.
    pub block: BlockLocation,
}

/// A snapshot: an image of every bucket, each at a log number of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The partition.
    pub partition: u32,
    /// Its number: the highest durable log number when its snapshot began. It grows from manifest
    /// to manifest.
    pub number: u64,
    /// The owner that wrote it.
    pub writer: Owner,
    /// The owner in force just before [`Manifest::replay_from`]. Without it, the first void record
    /// after a trimmed takeover would pass for valid.
    pub before: Owner,
    /// Time of writing, in milliseconds since 1970.
    pub written_at_ms: u64,
    /// All segments that it needs, with their sizes in bytes.
    pub segments: BTreeMap<SegmentName, u64>,
    /// All buckets in order; the last is the partition-wide one.
    pub buckets: Vec<ManifestBucket>,
    /// Durable condemnations that may not have been performed yet.
    pub condemned: Vec<Condemned>,
}

impl Manifest {
    /// The log number from which a reader must replay.
    #[must_use]
    pub fn replay_from(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.number)
            .min()
            .unwrap_or(0)
            .saturating_add(1)
    }

    /// The highest log number that an image equals. All records up to it were durable when the
    /// manifest was written.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.number)
            .max()
            .unwrap_or(0)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = FRAME.open(128 + self.buckets.len() * 48);
        out.extend_from_slice(&self.partition.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        self.writer.put(&mut out);
        self.before.put(&mut out);
        out.extend_from_slice(&self.written_at_ms.to_le_bytes());
        put_varint(&mut out, self.segments.len() as u64);
        let mut indexes = BTreeMap::new();
        for (index, (name, size)) in (0u64..).zip(&self.segments) {
            indexes.insert(*name, index);
            name.put(&mut out);
            put_varint(&mut out, *size);
        }
        put_varint(&mut out, self.buckets.len() as u64);
        for bucket in &self.buckets {
            put_varint(&mut out, bucket.number);
            let image = if bucket.image.is_some() { HAS_IMAGE } else { 0 };
            out.push(image | if bucket.pending { PENDING } else { 0 });
            put_option(&mut out, bucket.earliest_due_ms);
            if let Some(placed) = &bucket.image {
                put_varint(&mut out, indexes[&placed.segment]);
                placed.block.put(&mut out);
            }
        }
        put_varint(&mut out, self.condemned.len() as u64);
        for condemned in &self.condemned {
            condemned.put(&mut out);
        }
        FRAME.close(out)
    }

    /// Decodes the manifest `number` of `partition`, which has `buckets` buckets besides the
    /// partition-wide one.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong: damage, an unknown version, or a manifest that belongs
    /// elsewhere.
    pub fn decode(
        object: &[u8],
        partition: u32,
        number: u64,
        buckets: u16,
    ) -> Result<Self, Defect> {
        let mut source = Source::new(FRAME.content(object)?);
        let found_partition = source.u32()?;
        let found_number = source.u64()?;
        let writer = Owner::read(&mut source)?;
        let before = Owner::read(&mut source)?;
        let written_at_ms = source.u64()?;
        let mut segments = Vec::new();
        for _ in 0..source.length()? {
            segments.push((SegmentName::read(&mut source)?, source.varint()?));
        }
        let count = source.length()?;
        for (field, found, expected) in [
            (
                "partition",
                u64::from(found_partition),
                u64::from(partition),
            ),
            ("number", found_number, number),
            (
                "number of buckets",
                count as u64,
                u64::from(buckets).saturating_add(1),
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
        let buckets = (0..count)
            .map(|_| read_bucket(&mut source, &segments))
            .collect::<Result<_, _>>()?;
        let condemned = (0..source.length()?)
            .map(|_| Condemned::read(&mut source))
            .collect::<Result<_, _>>()?;
        source.end()?;
        Ok(Self {
            partition,
            number,
            writer,
            before,
            written_at_ms,
            segments: segments.into_iter().collect(),
            buckets,
            condemned,
        })
    }
}

fn read_bucket(
    source: &mut Source<'_>,
    segments: &[(SegmentName, u64)],
) -> Result<ManifestBucket, Defect> {
    let number = source.varint()?;
    let flags = source.u8()?;
    if flags & !(HAS_IMAGE | PENDING) != 0 {
        return Err(Defect::Malformed("it has undefined flags"));
    }
    let earliest_due_ms = source.option()?;
    let image = if flags & HAS_IMAGE == 0 {
        None
    } else {
        let index: usize = source.narrow()?;
        let (segment, size) = segments.get(index).ok_or(Defect::Malformed(
            "a bucket lies in a segment that it does not list",
        ))?;
        let block = BlockLocation::read(source)?;
        if block.range().end > *size {
            return Err(Defect::Malformed("a bucket lies beyond its segment's end"));
        }
        Some(ImageLocation {
            segment: *segment,
            block,
        })
    };
    Ok(ManifestBucket {
        number,
        image,
        earliest_due_ms,
        pending: flags & PENDING != 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    fn manifest(numbers: &[u64]) -> Manifest {
        let segment = SegmentName {
            snapshot: 40,
            epoch: 5,
            index: 0,
        };
        let buckets = numbers
            .iter()
            .enumerate()
            .map(|(bucket, number)| ManifestBucket {
                number: *number,
                image: bucket.is_multiple_of(2).then_some(ImageLocation {
                    segment,
                    block: BlockLocation {
                        offset: bucket as u64,
                        stored_len: 7,
                        raw_len: 9,
                        checksum: *number,
                    },
                }),
                earliest_due_ms: bucket.is_multiple_of(3).then_some(*number),
                pending: bucket.is_multiple_of(4),
            })
            .collect();
        Manifest {
            partition: 3,
            number: 40,
            writer: Owner {
                epoch: 5,
                nonce: [7; 16],
            },
            before: Owner {
                epoch: 4,
                nonce: [6; 16],
            },
            written_at_ms: 1_700_000_000_000,
            segments: BTreeMap::from([(segment, 1 << 20)]),
            buckets,
            condemned: vec![Condemned {
                log_below: 9,
                manifests: vec![2],
                segments: vec![segment],
            }],
        }
    }

    proptest! {
        #[test]
        fn a_manifest_reads_back_as_written(numbers in prop::collection::vec(0..u64::MAX, 2..300)) {
            let manifest = manifest(&numbers);
            let buckets = u16::try_from(numbers.len() - 1).unwrap();
            let decoded = Manifest::decode(&manifest.encode(), 3, 40, buckets);
            prop_assert_eq!(decoded, Ok(manifest.clone()));
            prop_assert_eq!(manifest.replay_from(), numbers.iter().min().unwrap() + 1);
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(Manifest::decode(&bytes, 0, 1, 256).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_of_a_manifest_is_found() {
        let object = manifest(&[41, 42, 43]).encode();
        assert_every_flipped_bit_is_found(&object, |bytes| {
            Manifest::decode(bytes, 3, 40, 2).is_err()
        });
    }

    #[test]
    fn a_manifest_with_another_number_of_buckets_is_refused_by_name() {
        assert_eq!(
            Manifest::decode(&manifest(&[1, 2]).encode(), 3, 40, 256)
                .unwrap_err()
                .to_string(),
            "its number of buckets is 2, expected 257"
        );
    }
}
