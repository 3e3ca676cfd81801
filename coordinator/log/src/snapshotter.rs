//! The rules of snapshots, without any I/O: when to take one, of which buckets, and the content of
//! its manifest.
//!
//! ```text
//! log outweighs ─► Want(buckets) ─► images at seals ─► segments ─► all stored and sealed ─┐
//!                                                                                         │
//!                           in effect ◄─ control record durable ◄─ manifest stored ◄──────┘
//! ```
//!
//! A snapshot never blocks commits: its images are taken one by one, each atomically at the seal of
//! some delta. A bucket that did not change since its image keeps that image, which equals every
//! later number too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::control::{Condemned, Control, Effect};
use crate::entries::Entries;
use crate::manifest::{ImageLocation, Manifest, ManifestBucket};
use crate::options::SnapshotPolicy;
use crate::owner::Owner;
use crate::segment::{Block, BucketImage, SegmentBuilder, SegmentName};
use crate::snapshotter::retained::{Inventory, RetainedSnapshot, RetainedSnapshots};

pub(crate) mod retained;

/// Maximum number of images that are requested at once.
const ASKED_MAX: usize = 32;

/// The state on which the next snapshot builds.
pub(crate) struct Base {
    pub(crate) manifest: Option<Manifest>,
    /// True for each bucket that the log tail changed beyond its image.
    pub(crate) dirty: Vec<bool>,
    pub(crate) log_bytes: u64,
    /// Number of objects that reading the log tail took.
    pub(crate) log_reads: u64,
    /// All manifests in the store.
    pub(crate) manifests: Vec<u64>,
    pub(crate) condemned: Vec<Condemned>,
}

/// A task for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Request images of these buckets from the engine.
    Want(Vec<u16>),
    /// Store a segment; then call [`Snapshotter::segment_stored`].
    PutSegment { name: SegmentName, bytes: Bytes },
    /// List all segments in the store, and read these manifests; then call
    /// [`Snapshotter::inventory_taken`].
    TakeInventory { manifests: Vec<u64> },
    /// Call [`Snapshotter::publish`].
    Publish,
    /// Store a manifest; then call [`Snapshotter::manifest_stored`].
    PutManifest { number: u64, bytes: Bytes },
    /// Commit these decisions; then call [`Snapshotter::took_effect`].
    Commit(Control),
}

/// A snapshot that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The manifest.
    pub manifest: u64,
    /// The images that were written for it: bucket, and sequence of the delta at whose seal the
    /// image was taken. From now on the bucket can be loaded through that delta. Sequence 0 is the
    /// bucket as this epoch found it.
    pub images: Vec<(u16, u64)>,
    /// Bytes of the segments written.
    pub bytes: u64,
    /// Bytes of all images that the manifest needs.
    pub state_bytes: u64,
    /// The log number from which a reader replays.
    pub replay_from: u64,
}

/// The snapshotter of one epoch. See the documentation of the module.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    partition: u32,
    owner: Owner,
    policy: SnapshotPolicy,
    table: Vec<ManifestBucket>,
    segments: BTreeMap<SegmentName, u64>,
    /// The last delta that changed a bucket after its image; 0 for a delta of an earlier epoch.
    changed: Vec<Option<u64>>,
    retention_ms: u64,
    /// The manifest in effect when this epoch began.
    found: Option<Manifest>,
    /// All manifests in the store when this epoch began.
    manifests: Vec<u64>,
    /// Those manifests that are already condemned.
    condemned: BTreeSet<u64>,
    /// Snapshots of former epochs and this one. `None` until the store was searched during the
    /// first snapshot of the epoch, so that a start does not wait for it.
    retained: Option<RetainedSnapshots>,
    /// Durable log bytes since the last snapshot began.
    log_bytes: u64,
    /// Number of objects in which a takeover would read them.
    log_reads: u64,
    durable: u64,
    /// Sequence and number of the last durable delta of this epoch.
    last_delta: (u64, u64),
    /// Share of the log that became growth of the state in the last snapshot, in percent.
    growth_percent: u64,
    /// A snapshot is requested, however small the log is.
    wanted: bool,
    round: Option<Round>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    /// Durable log bytes when it began, and the objects that hold them.
    log_bytes: u64,
    log_reads: u64,
    /// Bytes of the images that it replaces.
    replaced_bytes: u64,
    /// Buckets that are not yet requested.
    unasked: VecDeque<u16>,
    /// Buckets that are requested.
    waiting_for: BTreeSet<u16>,
    builder: Option<SegmentBuilder>,
    next_index: u32,
    /// A finished segment that waits until the previous one is stored.
    packed: Option<(SegmentName, Bytes)>,
    uploading: Option<SegmentName>,
    sizes: BTreeMap<SegmentName, u64>,
    images: BTreeMap<u16, (Block, SegmentName)>,
    /// Log numbers of deltas that became durable since it began, by sequence.
    numbers: BTreeMap<u64, u64>,
    /// The last steps are taken once each.
    finishing: Finishing,
    published: Option<Published>,
}

#[derive(Debug)]
struct Published {
    manifest: Manifest,
    kept: RetainedSnapshot,
    condemned: Condemned,
    /// Start of the retained moments, in milliseconds since 1970.
    since_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finishing {
    Imaging,
    TakingInventory,
    Publishing,
}

impl Snapshotter {
    pub(crate) fn new(
        partition: u32,
        owner: Owner,
        takeover: u64,
        policy: SnapshotPolicy,
        retention_ms: u64,
        base: &Base,
    ) -> Self {
        let (table, segments) = match &base.manifest {
            Some(manifest) => (manifest.buckets.clone(), manifest.segments.clone()),
            None => (
                vec![ManifestBucket::default(); base.dirty.len()],
                BTreeMap::new(),
            ),
        };
        Self {
            partition,
            owner,
            policy,
            table,
            segments,
            changed: base.dirty.iter().map(|dirty| dirty.then_some(0)).collect(),
            retention_ms,
            found: base.manifest.clone(),
            manifests: base.manifests.clone(),
            condemned: base
                .condemned
                .iter()
                .flat_map(|condemned| condemned.manifests.iter().copied())
                .collect(),
            retained: None,
            log_bytes: base.log_bytes,
            log_reads: base.log_reads,
            durable: takeover,
            last_delta: (0, takeover),
            growth_percent: 100,
            wanted: false,
            round: None,
            steps: Vec::new(),
        }
    }

    /// Returns the next task, if any.
    pub(crate) fn poll(&mut self) -> Option<Step> {
        if self.steps.is_empty() {
            None
        } else {
            Some(self.steps.remove(0))
        }
    }

    /// Requests a snapshot as soon as possible, whatever the size of the log: now, or after the
    /// snapshot in progress.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
        if self.round.is_none() {
            self.begin_if_due();
        }
    }

    /// The entry of a bucket in the manifest in effect.
    pub(crate) fn bucket(&self, bucket: u16) -> Option<&ManifestBucket> {
        self.table.get(usize::from(bucket))
    }

    /// Handles the seal of a delta.
    pub(crate) fn sealed(&mut self, sequence: u64, entries: &Entries) {
        for entry in entries.iter() {
            if let Some(changed) = self.changed.get_mut(usize::from(entry.bucket)) {
                *changed = Some(sequence);
            }
        }
    }

    /// Handles an image. An image that was not requested is dropped.
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
        self.pack();
        self.ask();
    }

    /// Finishes the current segment if it is full or the last one, and stores it once the previous
    /// one is stored.
    fn pack(&mut self) {
        let Some(round) = &mut self.round else {
            return;
        };
        let last = round.waiting_for.is_empty() && round.unasked.is_empty();
        let full = |builder: &mut SegmentBuilder| {
            last || builder.len_bytes() as u64 >= self.policy.segment_bytes
        };
        if round.packed.is_none()
            && let Some(builder) = round.builder.take_if(full)
        {
            let (name, bytes, blocks) = builder.finish();
            for block in blocks {
                round.images.insert(block.bucket, (block, name));
            }
            round.sizes.insert(name, bytes.len() as u64);
            round.packed = Some((name, bytes));
        }
        if round.uploading.is_none()
            && let Some((name, bytes)) = round.packed.take()
        {
            round.uploading = Some(name);
            self.steps.push(Step::PutSegment { name, bytes });
        }
    }

    /// Requests the next images, about one segment of them, once all requested ones came and no
    /// segment waits. This bounds the memory that a snapshot holds.
    fn ask(&mut self) {
        let Some(round) = &mut self.round else {
            return;
        };
        if !round.waiting_for.is_empty() || round.packed.is_some() {
            return;
        }
        let mut bytes = 0;
        while round.waiting_for.len() < ASKED_MAX && bytes < self.policy.segment_bytes {
            let Some(bucket) = round.unasked.pop_front() else {
                break;
            };
            let image = self.table[usize::from(bucket)].image;
            bytes += image.map_or(0, |placed| placed.block.raw_len);
            round.waiting_for.insert(bucket);
        }
        if !round.waiting_for.is_empty() {
            let asked = round.waiting_for.iter().copied().collect();
            self.steps.push(Step::Want(asked));
        }
    }

    /// Handles a durable log record; `sequence` is set if it is a delta.
    pub(crate) fn durable(&mut self, sequence: Option<u64>, number: u64, stored_bytes: u64) {
        self.durable = number;
        self.log_bytes += stored_bytes;
        self.log_reads += 1;
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

    /// Takes note that a copy of log objects is stored, which saves a takeover some reads.
    pub(crate) fn condensed(&mut self, saved_reads: u64) {
        self.log_reads = self.log_reads.saturating_sub(saved_reads);
    }

    /// Weight of the log since the last snapshot began, in bytes.
    fn log_weight(&self) -> u64 {
        let reads = self.log_reads.saturating_mul(self.policy.object_bytes);
        self.log_bytes.saturating_add(reads)
    }

    /// Handles the result of [`Step::PutSegment`].
    pub(crate) fn segment_stored(&mut self, name: &SegmentName) {
        if let Some(round) = &mut self.round {
            round.uploading.take_if(|uploading| uploading == name);
        }
        // The first call stores the waiting segment, the second packs the images gathered in the
        // meantime.
        self.pack();
        self.pack();
        self.ask();
        self.advance();
    }

    /// Handles the result of [`Step::TakeInventory`].
    pub(crate) fn inventory_taken(&mut self, inventory: Inventory) {
        let epoch = self.owner.epoch;
        let found = self.found.take();
        self.retained = Some(RetainedSnapshots::new(
            epoch,
            found.as_ref(),
            &self.manifests,
            inventory,
        ));
        self.manifests = Vec::new();
        self.advance();
    }

    /// Handles the result of [`Step::PutManifest`].
    pub(crate) fn manifest_stored(&mut self, sum: u64) {
        let round = self.round.as_ref();
        if let Some(published) = round.and_then(|round| round.published.as_ref()) {
            let condemned = Some(published.condemned.clone());
            self.steps.push(Step::Commit(Control {
                effect: Some(Effect {
                    manifest: published.manifest.number,
                    checksum: sum,
                }),
                condemned: condemned.into_iter().filter(|it| !it.is_empty()).collect(),
            }));
        }
    }

    /// Handles the durable record of [`Step::Commit`]: from now on readers start from this
    /// snapshot. Returns the snapshot and the objects that may be deleted after the grace period.
    pub(crate) fn took_effect(&mut self) -> Option<(Snapshot, Condemned)> {
        let round = self.round.take()?;
        let Published {
            manifest,
            kept,
            condemned,
            since_ms,
        } = round.published?;
        let replay_from = manifest.replay_from();
        let written: u64 = round
            .images
            .values()
            .map(|(block, _)| block.location.stored_len)
            .sum();
        let grown = written.saturating_sub(round.replaced_bytes);
        self.growth_percent = (grown * 100 / round.log_bytes.max(1)).min(100);
        self.log_bytes = self.log_bytes.saturating_sub(round.log_bytes);
        // Copies stored during the snapshot may have saved some of these reads already.
        self.log_reads = self.log_reads.saturating_sub(round.log_reads);
        self.table = manifest.buckets;
        self.segments = manifest.segments;
        self.retained
            .get_or_insert_default()
            .took_effect(kept, since_ms);
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

    /// Writes the manifest. It carries the durable condemnations that were not performed yet,
    /// because their records may be trimmed.
    ///
    /// `wall_ms` is the calendar time. `partition_ms` is the time of the last record and decides
    /// what is too old to be retained.
    pub(crate) fn publish(&mut self, carried: &[Condemned], wall_ms: u64, partition_ms: u64) {
        let Some(round) = &mut self.round else {
            return;
        };
        let mut buckets = self.table.clone();
        for at in &mut buckets {
            // A bucket that did not change since its image equals this number too.
            at.number = round.number;
        }
        for (bucket, (block, segment)) in &round.images {
            buckets[usize::from(*bucket)] = ManifestBucket {
                number: round.numbers[&block.sequence],
                image: (block.location.raw_len > 0).then_some(ImageLocation {
                    segment: *segment,
                    block: block.location,
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
        let released: Vec<SegmentName> = known
            .map(|(name, _)| *name)
            .filter(|name| !needed.contains(name))
            .collect();
        let manifest = Manifest {
            partition: self.partition,
            number: round.number,
            writer: self.owner,
            // In this epoch every bucket was imaged or known to be unchanged, so the replay begins
            // after the takeover.
            before: self.owner,
            written_at_ms: wall_ms.max(partition_ms),
            segments,
            buckets,
            condemned: carried.to_vec(),
        };
        let kept = RetainedSnapshot::new(&manifest, released);
        let since_ms =
            (self.retention_ms > 0).then(|| partition_ms.saturating_sub(self.retention_ms));
        let retained = self.retained.get_or_insert_default();
        let condemned = retained.condemned(&kept, since_ms);
        let bytes = manifest.encode();
        round.published = Some(Published {
            manifest,
            kept,
            condemned,
            since_ms,
        });
        self.steps.push(Step::PutManifest {
            number: round.number,
            bytes,
        });
    }

    fn begin_if_due(&mut self) {
        let weight = self.log_weight();
        let bound = weight >= self.policy.tail_bytes_max;
        let wanted = self.wanted || bound;
        if weight < self.policy.floor_bytes && !wanted {
            return;
        }
        let unasked = self.worth_writing();
        let replaced_bytes: u64 = unasked
            .iter()
            .map(|bucket| stored_len(&self.table[usize::from(*bucket)]))
            .sum();
        let expected = replaced_bytes + self.log_bytes / 100 * self.growth_percent;
        let enough = weight >= expected / 100 * self.policy.log_percent;
        if unasked.is_empty() || !(enough || wanted) {
            // A request made while there is nothing to write stays pending until there is.
            return;
        }
        self.wanted = false;
        self.round = Some(Round {
            number: self.durable,
            log_bytes: self.log_bytes,
            log_reads: self.log_reads,
            replaced_bytes,
            unasked: unasked.into_iter().collect(),
            waiting_for: BTreeSet::new(),
            builder: None,
            next_index: 0,
            packed: None,
            uploading: None,
            sizes: BTreeMap::new(),
            images: BTreeMap::new(),
            numbers: BTreeMap::from([self.last_delta]),
            finishing: Finishing::Imaging,
            published: None,
        });
        self.ask();
    }

    /// Returns the buckets that changed, and those that keep a mostly obsolete segment alive.
    fn worth_writing(&self) -> BTreeSet<u16> {
        let mut live: BTreeMap<SegmentName, u64> = BTreeMap::new();
        for at in &self.table {
            if let Some(placed) = at.image {
                *live.entry(placed.segment).or_default() += placed.block.stored_len;
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
            && round.unasked.is_empty()
            && round.builder.is_none()
            && round.packed.is_none()
            && round.uploading.is_none()
            && round
                .images
                .values()
                .all(|(block, _)| round.numbers.contains_key(&block.sequence));
        match round.finishing {
            Finishing::Imaging if complete && self.retained.is_none() => {
                round.finishing = Finishing::TakingInventory;
                let in_effect = self.found.as_ref().map_or(0, |found| found.number);
                // Manifests newer than the one in effect never took effect.
                let kept = |number: &u64| *number < in_effect && !self.condemned.contains(number);
                let manifests = match self.retention_ms {
                    0 => Vec::new(),
                    _ => self.manifests.iter().copied().filter(kept).collect(),
                };
                self.steps.push(Step::TakeInventory { manifests });
            }
            Finishing::Imaging | Finishing::TakingInventory
                if complete && self.retained.is_some() =>
            {
                round.finishing = Finishing::Publishing;
                self.steps.push(Step::Publish);
            }
            Finishing::Imaging | Finishing::TakingInventory | Finishing::Publishing => {}
        }
    }
}

fn stored_len(at: &ManifestBucket) -> u64 {
    at.image.map_or(0, |placed| placed.block.stored_len)
}

#[cfg(test)]
mod tests;
