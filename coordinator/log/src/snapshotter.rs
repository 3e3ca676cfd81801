//! When to take a snapshot, of which buckets, and what belongs into its manifest; without any I/O.
//!
//! ```text
//! log outweighs ─► Want(buckets) ─► images at seals ─► segments ─► all stored, all seals durable ─► manifest ─► control record ─► in effect
//! ```
//!
//! A snapshot never stops anything: its images are taken one by one, each atomically at the seal of some delta. Buckets that did not
//! change since their image keep it; it equals every later number too.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::control::{Condemned, Control, Effect};
use crate::entries::Entries;
use crate::manifest::{BucketAt, Manifest, Placed};
use crate::owner::Owner;
use crate::segment::{Block, BucketImage, SegmentBuilder, SegmentName};
use crate::takeover::Base;

/// When snapshots are taken, and how they are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// No snapshot before the log since the last one has this many bytes.
    pub floor_bytes: u64,
    /// A snapshot begins when the log since the last one has this many percent of the bytes that it would write. Write
    /// amplification is then about 1 + 100 / this.
    pub log_percent: u64,
    /// The size at which a segment is closed, in bytes.
    pub segment_bytes: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            floor_bytes: 4 << 20,
            log_percent: 70,
            segment_bytes: 8 << 20,
        }
    }
}

/// What the snapshotter wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask the engine for images of these buckets.
    Want(Vec<u16>),
    /// Store a segment; then [`Snapshotter::segment_stored`].
    PutSegment { name: SegmentName, bytes: Bytes },
    /// List all segments in the store; then [`Snapshotter::segments_listed`].
    ListSegments,
    /// Call [`Snapshotter::publish`].
    Publish,
    /// Store a manifest; then [`Snapshotter::manifest_stored`].
    PutManifest { number: u64, bytes: Bytes },
    /// Commit these decisions; then [`Snapshotter::took_effect`].
    Commit(Control),
}

/// A snapshot that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The manifest.
    pub manifest: u64,
    /// The images that were written for it, by bucket, each with the sequence of the delta at whose seal it was taken: through that
    /// delta the bucket can be loaded again from now on. 0 stands for the bucket as this epoch found it.
    pub images: Vec<(u16, u64)>,
    /// Bytes of their segments.
    pub bytes: u64,
    /// Bytes of all images that the manifest needs.
    pub state_bytes: u64,
    /// The log number from which a reader replays.
    pub replay_from: u64,
}

/// The snapshotter of one epoch. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    partition: u32,
    owner: Owner,
    policy: SnapshotPolicy,
    table: Vec<BucketAt>,
    segments: BTreeMap<SegmentName, u64>,
    /// The last delta that changed a bucket after its image; 0 for one of an earlier epoch.
    changed: Vec<Option<u64>>,
    manifests: Vec<u64>,
    /// Segments of earlier epochs, as far as they are not condemned yet. `None` until they were looked for.
    former: Option<Vec<SegmentName>>,
    /// Durable log bytes since the last snapshot began.
    log_bytes: u64,
    durable: u64,
    /// The last durable delta of this epoch: its sequence and its number.
    last_delta: (u64, u64),
    /// How much of the log became growth of the state last time, in percent.
    growth_percent: u64,
    /// Somebody wants a snapshot, however small the log is.
    wanted: bool,
    round: Option<Round>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    /// Durable log bytes when it began.
    log_bytes: u64,
    /// Bytes of the images that it replaces.
    replaced_bytes: u64,
    waiting_for: BTreeSet<u16>,
    builder: Option<SegmentBuilder>,
    next_index: u32,
    uploading: BTreeSet<SegmentName>,
    sizes: BTreeMap<SegmentName, u64>,
    images: BTreeMap<u16, (Block, SegmentName)>,
    /// Log numbers of deltas that became durable since it began, by sequence.
    numbers: BTreeMap<u64, u64>,
    /// The last steps are taken once each.
    finishing: Finishing,
    published: Option<(Manifest, Condemned)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finishing {
    Imaging,
    Listing,
    Publishing,
}

impl Snapshotter {
    pub(crate) fn new(
        partition: u32,
        owner: Owner,
        takeover: u64,
        policy: SnapshotPolicy,
        base: &Base,
    ) -> Self {
        let (table, segments) = match &base.manifest {
            Some(manifest) => (manifest.buckets.clone(), manifest.segments.clone()),
            None => (vec![BucketAt::default(); base.dirty.len()], BTreeMap::new()),
        };
        Self {
            partition,
            owner,
            policy,
            table,
            segments,
            changed: base.dirty.iter().map(|dirty| dirty.then_some(0)).collect(),
            manifests: base.manifests.clone(),
            former: None,
            log_bytes: base.log_bytes,
            durable: takeover,
            last_delta: (0, takeover),
            growth_percent: 100,
            wanted: false,
            round: None,
            steps: Vec::new(),
        }
    }

    /// The next thing to do, if any.
    pub(crate) fn poll(&mut self) -> Option<Step> {
        if self.steps.is_empty() {
            None
        } else {
            Some(self.steps.remove(0))
        }
    }

    /// A snapshot is wanted at the next chance, whatever the size of the log: now, or when the one under way has ended.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
        if self.round.is_none() {
            self.begin_if_due();
        }
    }

    /// Where the image of a bucket lies, by the manifest in effect.
    pub(crate) fn place_of(&self, bucket: u16) -> Option<&BucketAt> {
        self.table.get(usize::from(bucket))
    }

    /// A delta was sealed.
    pub(crate) fn sealed(&mut self, sequence: u64, entries: &Entries) {
        for entry in entries.iter() {
            if let Some(changed) = self.changed.get_mut(usize::from(entry.bucket)) {
                *changed = Some(sequence);
            }
        }
    }

    /// An image was taken. One that nobody asked for is dropped.
    pub(crate) fn imaged(&mut self, image: &BucketImage) {
        let Some(round) = &mut self.round else {
            return;
        };
        if !round.waiting_for.remove(&image.bucket) {
            return;
        }
        let changed = &mut self.changed[usize::from(image.bucket)];
        *changed = changed.filter(|sequence| *sequence > image.sequence);
        let (partition, owner) = (self.partition, self.owner);
        let builder = round.builder.get_or_insert_with(|| {
            let name = SegmentName {
                snapshot: round.number,
                epoch: owner.epoch,
                index: round.next_index,
            };
            round.next_index += 1;
            SegmentBuilder::new(partition, &owner, name)
        });
        builder.push(image);
        let full = builder.len_bytes() as u64 >= self.policy.segment_bytes;
        if (full || round.waiting_for.is_empty())
            && let Some(builder) = round.builder.take()
        {
            let (name, bytes, blocks) = builder.finish();
            for block in blocks {
                round.images.insert(block.bucket, (block, name));
            }
            round.sizes.insert(name, bytes.len() as u64);
            round.uploading.insert(name);
            self.steps.push(Step::PutSegment { name, bytes });
        }
    }

    /// A log record became durable; `sequence` if it is a delta.
    pub(crate) fn durable(&mut self, sequence: Option<u64>, number: u64, stored_bytes: u64) {
        self.durable = number;
        self.log_bytes += stored_bytes;
        if let Some(sequence) = sequence {
            self.last_delta = (sequence, number);
        }
        match (&mut self.round, sequence) {
            (Some(round), Some(sequence)) => {
                round.numbers.insert(sequence, number);
                self.advance();
            }
            (Some(_), None) => {}
            (None, _) => self.begin_if_due(),
        }
    }

    /// The answer to [`Step::PutSegment`].
    pub(crate) fn segment_stored(&mut self, name: &SegmentName) {
        if let Some(round) = &mut self.round {
            round.uploading.remove(name);
        }
        self.advance();
    }

    /// The answer to [`Step::ListSegments`].
    pub(crate) fn segments_listed(&mut self, found: Vec<SegmentName>) {
        // Of this epoch there is nothing that no manifest will name; of a later one it is not ours to judge.
        let own = self.owner.epoch;
        self.former = Some(found.into_iter().filter(|name| name.epoch < own).collect());
        self.advance();
    }

    /// The answer to [`Step::PutManifest`].
    pub(crate) fn manifest_stored(&mut self, sum: u64) {
        if let Some((manifest, condemned)) = self
            .round
            .as_ref()
            .and_then(|round| round.published.as_ref())
        {
            self.steps.push(Step::Commit(Control {
                effect: Some(Effect {
                    manifest: manifest.number,
                    checksum: sum,
                }),
                condemned: vec![condemned.clone()],
            }));
        }
    }

    /// The record of [`Step::Commit`] is durable: the snapshot is the one that readers start from. Returns what it was and what
    /// may be deleted after the grace.
    pub(crate) fn took_effect(&mut self) -> Option<(Snapshot, Condemned)> {
        let round = self.round.take()?;
        let (manifest, condemned) = round.published?;
        let replay_from = manifest.replay_from();
        let written: u64 = round
            .images
            .values()
            .map(|(block, _)| block.at.stored_len)
            .sum();
        let grown = written.saturating_sub(round.replaced_bytes);
        self.growth_percent = (grown * 100 / round.log_bytes.max(1)).min(100);
        self.log_bytes = self.log_bytes.saturating_sub(round.log_bytes);
        self.table = manifest.buckets;
        self.segments = manifest.segments;
        self.manifests = vec![manifest.number];
        self.former = Some(Vec::new());
        let snapshot = Snapshot {
            manifest: manifest.number,
            images: round
                .images
                .iter()
                .map(|(bucket, (block, _))| (*bucket, block.sequence))
                .collect(),
            bytes: round.sizes.values().sum(),
            state_bytes: self.table.iter().map(stored_len).sum(),
            replay_from,
        };
        Some((snapshot, condemned))
    }

    /// Writes the manifest. It carries on the durable condemnations that were not carried out yet, because their records may be trimmed.
    pub(crate) fn publish(&mut self, carried: &[Condemned], now_ms: u64) {
        let Some(round) = &mut self.round else {
            return;
        };
        let mut buckets = self.table.clone();
        for at in &mut buckets {
            // Without a change since its image, the image equals this number too.
            at.number = round.number;
        }
        for (bucket, (block, segment)) in &round.images {
            buckets[usize::from(*bucket)] = BucketAt {
                number: round.numbers[&block.sequence],
                image: (block.at.raw_len > 0).then_some(Placed {
                    segment: *segment,
                    at: block.at,
                }),
                earliest_due_ms: block.earliest_due_ms,
                pending: block.pending,
            };
        }
        let needed: BTreeSet<SegmentName> = buckets
            .iter()
            .filter_map(|at| at.image.map(|placed| placed.segment))
            .collect();
        let known = self.segments.iter().chain(&round.sizes);
        let segments: BTreeMap<SegmentName, u64> = known
            .clone()
            .filter(|(name, _)| needed.contains(name))
            .map(|(name, size)| (*name, *size))
            .collect();
        let unneeded: BTreeSet<SegmentName> = known
            .map(|(name, _)| name)
            .chain(self.former.iter().flatten())
            .filter(|name| !needed.contains(name))
            .copied()
            .collect();
        let manifest = Manifest {
            partition: self.partition,
            number: round.number,
            writer: self.owner,
            // Every bucket was imaged, or known to be unchanged, in this epoch: the replay begins after the takeover.
            before: self.owner,
            written_at_ms: now_ms,
            segments,
            buckets,
            condemned: carried.to_vec(),
        };
        let condemned = Condemned {
            log_below: manifest.replay_from(),
            manifests: self
                .manifests
                .iter()
                .copied()
                .filter(|number| *number < manifest.number)
                .collect(),
            segments: unneeded.into_iter().collect(),
        };
        let bytes = manifest.encode();
        round.published = Some((manifest, condemned));
        self.steps.push(Step::PutManifest {
            number: round.number,
            bytes,
        });
    }

    fn begin_if_due(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        if self.log_bytes < self.policy.floor_bytes && !wanted {
            return;
        }
        let waiting_for = self.worth_writing();
        let replaced_bytes: u64 = waiting_for
            .iter()
            .map(|bucket| stored_len(&self.table[usize::from(*bucket)]))
            .sum();
        let expected = replaced_bytes + self.log_bytes / 100 * self.growth_percent;
        let enough = self.log_bytes >= expected / 100 * self.policy.log_percent;
        if waiting_for.is_empty() || !(enough || wanted) {
            return;
        }
        self.steps
            .push(Step::Want(waiting_for.iter().copied().collect()));
        self.round = Some(Round {
            number: self.durable,
            log_bytes: self.log_bytes,
            replaced_bytes,
            waiting_for,
            builder: None,
            next_index: 0,
            uploading: BTreeSet::new(),
            sizes: BTreeMap::new(),
            images: BTreeMap::new(),
            numbers: BTreeMap::from([self.last_delta]),
            finishing: Finishing::Imaging,
            published: None,
        });
    }

    /// The buckets that changed, and those that keep a segment alive of which little else is needed.
    fn worth_writing(&self) -> BTreeSet<u16> {
        let mut live: BTreeMap<SegmentName, u64> = BTreeMap::new();
        for at in &self.table {
            if let Some(placed) = at.image {
                *live.entry(placed.segment).or_default() += placed.at.stored_len;
            }
        }
        let sparse = |name: &SegmentName| {
            self.segments
                .get(name)
                .is_some_and(|size| live.get(name).copied().unwrap_or(0) < size / 4)
        };
        (0u16..)
            .zip(self.changed.iter().zip(&self.table))
            .filter(|(_, (changed, at))| {
                changed.is_some() || at.image.is_some_and(|placed| sparse(&placed.segment))
            })
            .map(|(bucket, _)| bucket)
            .collect()
    }

    fn advance(&mut self) {
        let Some(round) = &mut self.round else {
            return;
        };
        let complete = round.waiting_for.is_empty()
            && round.uploading.is_empty()
            && round
                .images
                .values()
                .all(|(block, _)| round.numbers.contains_key(&block.sequence));
        match round.finishing {
            Finishing::Imaging if complete && self.former.is_none() => {
                round.finishing = Finishing::Listing;
                self.steps.push(Step::ListSegments);
            }
            Finishing::Imaging | Finishing::Listing if complete && self.former.is_some() => {
                round.finishing = Finishing::Publishing;
                self.steps.push(Step::Publish);
            }
            Finishing::Imaging | Finishing::Listing | Finishing::Publishing => {}
        }
    }
}

fn stored_len(at: &BucketAt) -> u64 {
    at.image.map_or(0, |placed| placed.at.stored_len)
}

#[cfg(test)]
mod tests;
