//! Reads of the images of a manifest: many segments at once, unpacked by the caller.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use crate::error::LogError;
use crate::fold::{BucketSummary, Fold};
use crate::manifest::Manifest;
use crate::reader::{Halt, PartitionReader};
use crate::segment::{BlockLocation, SegmentName, check_segment};

/// Maximum size in bytes of a segment that is always read as a whole: one request instead of
/// several.
const SMALL_SEGMENT_BYTES: u64 = 1 << 20;

/// The image of the partition-wide bucket, read before the fold was asked for others.
pub(crate) struct Prefetched {
    segment: SegmentName,
    blocks: Result<Option<Blocks>, LogError>,
}

/// The stored images of some buckets.
type Blocks = Vec<(u16, BlockLocation, Bytes)>;

impl PartitionReader {
    /// Reads the image of the partition-wide bucket, if there is one.
    pub(crate) async fn prefetch(&self, manifest: &Manifest) -> Option<Prefetched> {
        let wide = self.identity.buckets;
        let placed = manifest.buckets.get(usize::from(wide))?.image?;
        let size = manifest.segments.get(&placed.segment).copied().unwrap_or(0);
        let blocks = vec![(wide, placed.block)];
        Some(Prefetched {
            segment: placed.segment,
            blocks: self.read_blocks(&placed.segment, size, blocks).await,
        })
    }

    /// Hands all images to `fold` except those that it leaves unread, and returns the number of
    /// bytes read. `newest` is the newest known manifest, in effect or not.
    pub(crate) async fn load(
        &self,
        manifest: &Manifest,
        tail_bytes: u64,
        newest: Option<u64>,
        prefetched: Option<Prefetched>,
        fold: &mut impl Fold,
    ) -> Result<u64, Halt> {
        let mut wanted: BTreeMap<SegmentName, Vec<(u16, BlockLocation)>> = BTreeMap::new();
        let wide = self.identity.buckets;
        for (bucket, at) in (0u16..).zip(&manifest.buckets) {
            if let Some(placed) = at.image {
                let summary = BucketSummary {
                    earliest_due_ms: at.earliest_due_ms,
                    pending: at.pending,
                    raw_bytes: placed.block.raw_len,
                };
                if bucket != wide && fold.absent(bucket, summary) {
                    continue;
                }
                wanted
                    .entry(placed.segment)
                    .or_default()
                    .push((bucket, placed.block));
            }
        }
        let total: u64 = tail_bytes
            + wanted
                .values()
                .flatten()
                .map(|(_, at)| at.stored_len)
                .sum::<u64>();
        let mut prefetched = prefetched;
        let mut read = stream::iter(wanted)
            .map(|(name, blocks)| {
                let size = manifest.segments.get(&name).copied().unwrap_or(0);
                let alone = blocks.iter().all(|(bucket, _)| *bucket == wide);
                let known = prefetched.take_if(|known| alone && known.segment == name);
                async move {
                    let blocks = match known {
                        Some(known) => known.blocks,
                        None => self.read_blocks(&name, size, blocks).await,
                    };
                    (name, blocks)
                }
            })
            .buffer_unordered(self.parallel_reads);
        let mut done = 0;
        while let Some((name, blocks)) = read.next().await {
            let key = self.layout.segment(&name);
            let Some(blocks) = blocks? else {
                let reason = format!("manifest {} names it", manifest.number);
                return Err(self.missing(newest, key, &reason).await);
            };
            for (bucket, at, stored) in blocks {
                let entries = at
                    .open(&stored, bucket)
                    .map_err(|defect| LogError::damaged(&key, defect))?;
                for entry in entries.iter() {
                    fold.apply(entry);
                }
                done += at.stored_len;
                fold.progress(done, total);
            }
        }
        Ok(done)
    }

    /// Reads the stored blocks of one segment, or `None` if it does not exist. A segment that is
    /// small or mostly needed is read and checked as a whole.
    async fn read_blocks(
        &self,
        name: &SegmentName,
        size: u64,
        blocks: Vec<(u16, BlockLocation)>,
    ) -> Result<Option<Blocks>, LogError> {
        let key = self.layout.segment(name);
        let live: u64 = blocks.iter().map(|(_, at)| at.stored_len).sum();
        let whole = if size <= SMALL_SEGMENT_BYTES || live >= size / 2 {
            let Some(object) = self.io.get(&key).await? else {
                return Ok(None);
            };
            check_segment(&object, self.identity.partition, name)
                .map_err(|defect| LogError::damaged(&key, defect))?;
            Some(object)
        } else {
            None
        };
        let mut read = Blocks::with_capacity(blocks.len());
        for (bucket, at) in blocks {
            let stored = match &whole {
                Some(object) => {
                    let len = object.len() as u64;
                    let range = at.range();
                    object.slice(range.start.min(len) as usize..range.end.min(len) as usize)
                }
                None => match self.io.get_range(&key, at.range()).await? {
                    Some(stored) => stored,
                    None => return Ok(None),
                },
            };
            read.push((bucket, at, stored));
        }
        Ok(Some(read))
    }
}
