//! Reads of a partition bucket by bucket: the image of each, with the log over it.
//!
//! ```text
//!  log tail ─► bytes of each bucket ─► groups of buckets whose overlays are small enough
//!                                                    │ one group after the other
//!                                                    ▼
//!          records of the tail ─► overlays of the group ─┐
//!          image of a bucket ────────────────────────────┴─► BucketFold ─► next bucket
//! ```
//!
//! The tail stays compressed in memory, as it does during a takeover, and is unpacked once more for
//! each group.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use crate::buckets::BucketFold;
use crate::entries::{Entries, Entry};
use crate::error::LogError;
use crate::manifest::{ImageLocation, Manifest};
use crate::reader::tail::Tail;
use crate::reader::{Halt, PartitionReader};
use crate::record::Kind;

/// Maximum size of the overlays that are in memory at once, in bytes, unless one is larger.
const OVERLAYS_BYTES: usize = 64 << 20;

/// Size that an entry of an overlay counts besides its key and value, in bytes.
const ENTRY_BYTES: usize = 96;

/// Maximum size of the stored images that are read ahead, in bytes, unless one is larger.
const AHEAD_BYTES: u64 = 32 << 20;

/// Changes of the log over the image of a bucket.
type Overlay = BTreeMap<Box<[u8]>, Option<Box<[u8]>>>;

impl PartitionReader {
    /// Hands the content of a manifest with the tail over it to `fold`. `newest` is the newest
    /// known manifest, in effect or not. Returns `Break` if the fold ended the read.
    pub(crate) async fn read_buckets(
        &self,
        manifest: Option<&Manifest>,
        tail: &Tail,
        newest: Option<u64>,
        fold: &mut impl BucketFold,
    ) -> Result<ControlFlow<()>, Halt> {
        let buckets = self.identity.buckets;
        let log = Replay::new(self, manifest, tail);
        let mut sizes = vec![0; usize::from(buckets) + 1];
        log.for_each(|entry| sizes[usize::from(entry.bucket)] += size_of(entry))?;
        let mut wanted = Vec::new();
        for (bucket, size) in (0..).zip(&sizes) {
            let at = manifest.and_then(|manifest| manifest.buckets.get(usize::from(bucket)));
            let image = at.and_then(|at| at.image);
            let pending = *size > 0 || at.is_some_and(|at| at.pending);
            if (image.is_some() || *size > 0) && fold.wants(bucket, pending) {
                wanted.push((bucket, *size, image));
            }
        }
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let (group, later) = rest.split_at(group_len(rest));
            rest = later;
            let mut overlays = log.overlays(group)?;
            let number = manifest.map_or(0, |manifest| manifest.number);
            let mut images = stream::iter(group.to_vec())
                .map(|(bucket, _, at)| async move { (bucket, self.image(bucket, at).await) })
                .buffered(reads_at_once(group, self.parallel_reads));
            while let Some((bucket, image)) = images.next().await {
                let image = match image? {
                    Image::None => Entries::empty(),
                    Image::Read(entries) => entries,
                    Image::Missing(key) => {
                        let reason = format!("manifest {number} names it");
                        return Err(self.missing(newest, key, &reason).await);
                    }
                };
                let overlay = overlays.remove(&bucket).unwrap_or_default();
                hand_over(bucket, &image, overlay, fold);
                if fold.end(bucket).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn image(&self, bucket: u16, at: Option<ImageLocation>) -> Result<Image, LogError> {
        let Some(at) = at else {
            return Ok(Image::None);
        };
        let key = self.layout.segment(&at.segment);
        let stored: Option<Bytes> = self.io.get_range(&key, at.block.range()).await?;
        let Some(stored) = stored else {
            return Ok(Image::Missing(key));
        };
        let entries = at.block.open(&stored, bucket);
        let entries = entries.map_err(|defect| LogError::damaged(&key, defect))?;
        Ok(Image::Read(entries))
    }
}

/// The image of a bucket.
enum Image {
    /// The manifest has none.
    None,
    Read(Entries),
    /// The segment of this key does not exist.
    Missing(String),
}

/// The changes of a tail over the images of a manifest.
struct Replay<'a> {
    reader: &'a PartitionReader,
    tail: &'a Tail,
    /// Log number that the image of each bucket equals.
    imaged: Vec<u64>,
}

impl<'a> Replay<'a> {
    fn new(reader: &'a PartitionReader, manifest: Option<&Manifest>, tail: &'a Tail) -> Self {
        let buckets = usize::from(reader.identity.buckets) + 1;
        Self {
            reader,
            tail,
            imaged: match manifest {
                Some(manifest) => manifest.buckets.iter().map(|at| at.number).collect(),
                None => vec![0; buckets],
            },
        }
    }

    /// Calls `visit` with each change that no image contains, in the order of the log.
    fn for_each(&self, mut visit: impl FnMut(Entry<'_>)) -> Result<(), LogError> {
        for (record, _) in &self.tail.valid {
            let number = record.header.number;
            if record.header.kind != Kind::Delta {
                continue;
            }
            let entries = record.entries(self.reader.identity.buckets);
            let entries = entries
                .map_err(|defect| LogError::damaged(&self.reader.layout.log(number), defect))?;
            for entry in entries.iter() {
                if number > self.imaged[usize::from(entry.bucket)] {
                    visit(entry);
                }
            }
        }
        Ok(())
    }

    fn overlays(&self, group: &[Wanted]) -> Result<BTreeMap<u16, Overlay>, LogError> {
        let with_changes = group.iter().filter(|(_, size, _)| *size > 0);
        let mut overlays: BTreeMap<u16, Overlay> = with_changes
            .map(|(bucket, _, _)| (*bucket, Overlay::new()))
            .collect();
        if overlays.is_empty() {
            return Ok(overlays);
        }
        self.for_each(|entry| {
            if let Some(overlay) = overlays.get_mut(&entry.bucket) {
                overlay.insert(entry.key.into(), entry.value.map(Into::into));
            }
        })?;
        Ok(overlays)
    }
}

/// A bucket to read: its number, the size of its changes in the tail, and its image.
type Wanted = (u16, usize, Option<ImageLocation>);

fn size_of(entry: Entry<'_>) -> usize {
    entry.key.len() + entry.value.map_or(0, <[u8]>::len) + ENTRY_BYTES
}

/// Returns the number of buckets whose overlays are in memory together: at least one.
fn group_len(wanted: &[Wanted]) -> usize {
    let mut bytes = 0;
    let fits = wanted.iter().take_while(|(_, size, _)| {
        bytes += size;
        bytes <= OVERLAYS_BYTES
    });
    fits.count().max(1)
}

fn reads_at_once(group: &[Wanted], reads_max: usize) -> usize {
    let images = group.iter().filter_map(|(_, _, image)| *image);
    let largest = images.map(|at| at.block.stored_len).max().unwrap_or(0);
    let fitting = usize::try_from(AHEAD_BYTES / largest.max(1)).unwrap_or(usize::MAX);
    fitting.clamp(1, reads_max)
}

fn hand_over(bucket: u16, image: &Entries, mut overlay: Overlay, fold: &mut impl BucketFold) {
    for entry in image.iter() {
        match overlay.remove(entry.key) {
            None if entry.value.is_some() => fold.apply(entry),
            None | Some(None) => {}
            Some(Some(value)) => fold.apply(Entry {
                value: Some(&value),
                ..entry
            }),
        }
    }
    for (key, value) in overlay {
        if let Some(value) = value {
            fold.apply(Entry {
                bucket,
                key: &key,
                value: Some(&value),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_sizes(sizes: &[usize]) -> Vec<usize> {
        let wanted: Vec<Wanted> = (0..)
            .zip(sizes)
            .map(|(bucket, size)| (bucket, *size, None))
            .collect();
        let (mut rest, mut groups) = (&wanted[..], Vec::new());
        while !rest.is_empty() {
            let (group, later) = rest.split_at(group_len(rest));
            groups.push(group.len());
            rest = later;
        }
        groups
    }

    #[test]
    fn overlays_are_grouped_by_their_sizes_and_a_large_one_is_alone() {
        let half = OVERLAYS_BYTES / 2;
        let sizes = [0, half, half, 1, 3 * half, 0, half];
        assert_eq!(group_sizes(&sizes), [3, 1, 1, 2]);
        assert_eq!(group_sizes(&[]), [0; 0]);
    }
}
