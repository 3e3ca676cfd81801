//! `snapshots/<number>/<epoch>-<n>`: images of many buckets, with an index in the footer.
//!
//! Layout:
//! - head: `SSEG`, version 1 (u16), partition (u32), epoch (u64), nonce (16 bytes), snapshot (u64),
//!   index of the segment (u32);
//! - blocks, one behind the other: the entries of one bucket each, zstd;
//! - index: number of blocks (varint), for each: bucket (varint), sequence of the seal that it
//!   equals (varint), offset, stored length, length before compression (varints), checksum of the
//!   stored block (u64), earliest timer (optional varint), pending work (u8);
//! - tail: offset of the index (u64), checksum of head, index and this offset (u64), `GESS`.

use bytes::Bytes;

use crate::codec::{Source, checksum, compress, decompress, put_option, put_varint};
use crate::entries::Entries;
use crate::error::Defect;
use crate::owner::Owner;

const MAGIC: [u8; 4] = *b"SSEG";
const TAIL_MAGIC: [u8; 4] = *b"GESS";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 22 + Owner::BYTES;
const TAIL_BYTES: usize = 20;

/// Name of a segment. It contains the epoch, so that no two owners ever use the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// The snapshot that it was written for, which is the number of its manifest.
    pub snapshot: u64,
    /// Epoch of the writer.
    pub epoch: u64,
    /// Index among the segments of the snapshot.
    pub index: u32,
}

impl SegmentName {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.snapshot);
        put_varint(out, self.epoch);
        put_varint(out, u64::from(self.index));
    }

    pub(crate) fn read(source: &mut Source<'_>) -> Result<Self, Defect> {
        Ok(Self {
            snapshot: source.varint()?,
            epoch: source.varint()?,
            index: source.narrow()?,
        })
    }
}

/// A bucket at the seal of a delta. Its content equals the fold of everything through that delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketImage {
    /// The bucket.
    pub bucket: u16,
    /// Sequence of that delta; 0 if none was sealed in this epoch yet.
    pub sequence: u64,
    /// Time of the earliest timer in the bucket, in milliseconds since 1970.
    pub earliest_due_ms: Option<u64>,
    /// True if the bucket holds work that continues without any input (pending messages).
    pub pending: bool,
    /// Every key of the bucket with its value.
    pub entries: Entries,
}

/// Location of a block in its segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLocation {
    /// Offset of the first byte.
    pub offset: u64,
    /// Stored length in bytes.
    pub stored_len: u64,
    /// Length in bytes before compression.
    pub raw_len: u64,
    /// Checksum of the stored bytes.
    pub checksum: u64,
}

impl BlockLocation {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, self.stored_len);
        put_varint(out, self.raw_len);
        out.extend_from_slice(&self.checksum.to_le_bytes());
    }

    pub(crate) fn read(source: &mut Source<'_>) -> Result<Self, Defect> {
        Ok(Self {
            offset: source.varint()?,
            stored_len: source.varint()?,
            raw_len: source.varint()?,
            checksum: source.u64()?,
        })
    }

    /// Returns the byte range of the block in its segment.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.offset.saturating_add(self.stored_len)
    }

    /// Checks and unpacks the stored bytes of the block, which must belong to `bucket`.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong with them.
    pub fn open(&self, stored: &[u8], bucket: u16) -> Result<Entries, Defect> {
        if stored.len() as u64 != self.stored_len {
            return Err(Defect::Truncated);
        }
        if checksum(stored) != self.checksum {
            return Err(Defect::Checksum {
                part: "image of a bucket",
            });
        }
        let raw_len = usize::try_from(self.raw_len)
            .map_err(|_| Defect::Malformed("an image in it exceeds the maximum length"))?;
        let entries = Entries::decode(decompress(stored, raw_len)?, bucket)?;
        if entries.iter().any(|entry| entry.bucket != bucket) {
            return Err(Defect::Malformed(
                "an image in it holds an entry of another bucket",
            ));
        }
        Ok(entries)
    }
}

/// An entry of the index of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The bucket.
    pub bucket: u16,
    /// Sequence of the delta, in the epoch of the segment, at whose seal the image was taken.
    pub sequence: u64,
    /// Location of the block.
    pub location: BlockLocation,
    /// Time of the earliest timer in the bucket, in milliseconds since 1970.
    pub earliest_due_ms: Option<u64>,
    /// True if the bucket holds pending work.
    pub pending: bool,
}

/// Packs images into one segment.
#[derive(Debug)]
pub(crate) struct SegmentBuilder {
    name: SegmentName,
    out: Vec<u8>,
    blocks: Vec<Block>,
}

impl SegmentBuilder {
    pub(crate) fn new(partition: u32, owner: &Owner, name: SegmentName) -> Self {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&partition.to_le_bytes());
        owner.put(&mut out);
        out.extend_from_slice(&name.snapshot.to_le_bytes());
        out.extend_from_slice(&name.index.to_le_bytes());
        Self {
            name,
            out,
            blocks: Vec::new(),
        }
    }

    /// Adds an image.
    pub(crate) fn push(&mut self, image: &BucketImage) {
        let raw = image.entries.as_bytes();
        let stored = compress(raw);
        self.blocks.push(Block {
            bucket: image.bucket,
            sequence: image.sequence,
            location: BlockLocation {
                offset: self.out.len() as u64,
                stored_len: stored.len() as u64,
                raw_len: raw.len() as u64,
                checksum: checksum(&stored),
            },
            earliest_due_ms: image.earliest_due_ms,
            pending: image.pending,
        });
        self.out.extend_from_slice(&stored);
    }

    /// Stored length so far, in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.out.len()
    }

    /// Returns the name, the finished object, and the index.
    pub(crate) fn finish(self) -> (SegmentName, Bytes, Vec<Block>) {
        let Self {
            name,
            mut out,
            blocks,
        } = self;
        let index_at = out.len();
        put_varint(&mut out, blocks.len() as u64);
        for block in &blocks {
            put_varint(&mut out, u64::from(block.bucket));
            put_varint(&mut out, block.sequence);
            block.location.put(&mut out);
            put_option(&mut out, block.earliest_due_ms);
            out.push(u8::from(block.pending));
        }
        out.extend_from_slice(&(index_at as u64).to_le_bytes());
        let sum = footer_checksum(&out[..HEAD_BYTES], &out[index_at..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&TAIL_MAGIC);
        (name, Bytes::from(out), blocks)
    }
}

/// Checks every byte of a segment, and returns its index.
///
/// # Errors
/// [`Defect`] says what is wrong: damage, an unknown version, or a segment that belongs elsewhere.
pub fn check_segment(
    object: &Bytes,
    partition: u32,
    name: &SegmentName,
) -> Result<Vec<Block>, Defect> {
    check_head(object, partition, name)?;
    let tail_at = object
        .len()
        .checked_sub(TAIL_BYTES)
        .filter(|at| *at >= HEAD_BYTES)
        .ok_or(Defect::Truncated)?;
    let mut tail = Source::new(&object[tail_at..]);
    let index_at = tail.u64()?;
    let stated = tail.u64()?;
    if tail.array()? != TAIL_MAGIC {
        return Err(Defect::Truncated);
    }
    let index_at = usize::try_from(index_at)
        .ok()
        .filter(|at| (HEAD_BYTES..=tail_at).contains(at))
        .ok_or(Defect::Checksum { part: "index" })?;
    if footer_checksum(&object[..HEAD_BYTES], &object[index_at..tail_at + 8]) != stated {
        return Err(Defect::Checksum { part: "index" });
    }
    let blocks = read_index(&object[index_at..tail_at])?;
    let mut next = HEAD_BYTES as u64;
    for block in &blocks {
        let range = block.location.range();
        if range.start != next || range.end > index_at as u64 {
            return Err(Defect::Malformed("its index does not describe its blocks"));
        }
        // Both ends are within the object, hence within `usize`.
        let stored = object.slice(range.start as usize..range.end as usize);
        block.location.open(&stored, block.bucket)?;
        next = range.end;
    }
    if next != index_at as u64 {
        return Err(Defect::Malformed("its index does not describe its blocks"));
    }
    Ok(blocks)
}

fn check_head(object: &[u8], partition: u32, name: &SegmentName) -> Result<(), Defect> {
    let mut head = Source::new(object);
    if head.array()? != MAGIC {
        return Err(Defect::Magic {
            expected: "segment",
        });
    }
    let version = head.u16()?;
    if version != VERSION {
        return Err(Defect::Version {
            found: u32::from(version),
            known: u32::from(VERSION),
        });
    }
    let found_partition = head.u32()?;
    let owner = Owner::read(&mut head)?;
    let found = SegmentName {
        epoch: owner.epoch,
        snapshot: head.u64()?,
        index: head.u32()?,
    };
    for (field, found, expected) in [
        (
            "partition",
            u64::from(found_partition),
            u64::from(partition),
        ),
        ("snapshot", found.snapshot, name.snapshot),
        ("epoch", found.epoch, name.epoch),
        ("index", u64::from(found.index), u64::from(name.index)),
    ] {
        if found != expected {
            return Err(Defect::Mismatch {
                field,
                found: found.to_string(),
                expected: expected.to_string(),
            });
        }
    }
    Ok(())
}

fn read_index(bytes: &[u8]) -> Result<Vec<Block>, Defect> {
    let mut source = Source::new(bytes);
    let blocks = (0..source.length()?)
        .map(|_| {
            Ok(Block {
                bucket: source.narrow()?,
                sequence: source.varint()?,
                location: BlockLocation::read(&mut source)?,
                earliest_due_ms: source.option()?,
                pending: source.u8()? != 0,
            })
        })
        .collect::<Result<Vec<_>, Defect>>()?;
    source.end()?;
    Ok(blocks)
}

fn footer_checksum(head: &[u8], index_and_offset: &[u8]) -> u64 {
    checksum(&[head, index_and_offset].concat())
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
    const NAME: SegmentName = SegmentName {
        snapshot: 40,
        epoch: 5,
        index: 2,
    };

    fn image(bucket: u16, pairs: &[(Vec<u8>, Vec<u8>)]) -> BucketImage {
        let mut builder = EntriesBuilder::new();
        for (key, value) in pairs {
            builder.push(bucket, key, Some(value));
        }
        BucketImage {
            bucket,
            sequence: u64::from(bucket) + 8,
            earliest_due_ms: bucket.is_multiple_of(2).then_some(u64::from(bucket)),
            pending: bucket.is_multiple_of(3),
            entries: builder.finish(),
        }
    }

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    proptest! {
        #[test]
        fn a_segment_reads_back_as_packed(contents: Vec<Pairs>) {
            let images: Vec<BucketImage> = contents
                .iter()
                .enumerate()
                .map(|(bucket, pairs)| image(u16::try_from(bucket).unwrap(), pairs))
                .collect();
            let mut builder = SegmentBuilder::new(3, &OWNER, NAME);
            for image in &images {
                builder.push(image);
            }
            let (name, object, blocks) = builder.finish();
            prop_assert_eq!(name, NAME);
            prop_assert_eq!(check_segment(&object, 3, &NAME), Ok(blocks.clone()));
            for (image, block) in images.iter().zip(&blocks) {
                let range = block.location.range();
                let stored = object.slice(range.start as usize..range.end as usize);
                let entries = block.location.open(&stored, image.bucket).unwrap();
                prop_assert_eq!(&entries, &image.entries);
                prop_assert_eq!(block.earliest_due_ms, image.earliest_due_ms);
                prop_assert_eq!(block.pending, image.pending);
                prop_assert_eq!(block.sequence, image.sequence);
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(check_segment(&Bytes::from(bytes), 0, &NAME).is_err());
        }
    }

    fn small_segment() -> Bytes {
        let mut builder = SegmentBuilder::new(3, &OWNER, NAME);
        builder.push(&image(1, &[(b"a".to_vec(), b"1".to_vec())]));
        builder.push(&image(2, &[(b"b".to_vec(), b"2".to_vec())]));
        builder.finish().1
    }

    #[test]
    fn every_flipped_bit_of_a_segment_is_found() {
        assert_every_flipped_bit_is_found(&small_segment(), |bytes| {
            check_segment(&Bytes::copy_from_slice(bytes), 3, &NAME).is_err()
        });
    }

    #[test]
    fn a_segment_of_another_place_is_refused_by_name() {
        let other = SegmentName {
            snapshot: 41,
            ..NAME
        };
        assert_eq!(
            check_segment(&small_segment(), 3, &other)
                .unwrap_err()
                .to_string(),
            "its snapshot is 40, expected 41"
        );
    }
}
