//! When to take a snapshot, of which buckets, and what belongs into its manifest; without any I/O.
//!
//! ```text
//! log outweighs ─► Want(buckets) ─► images at seals ─► segments ─► all stored, all seals durable ─► manifest ─► control record ─► in effect
//! ```
//!
//! A snapshot never stops anything: its images are taken one by one, each atomically at the seal of some delta. Buckets that did not
//! change since their image keep it; it equals every later number too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::control::{Condemned, Control, Effect};
use crate::entries::Entries;
use crate::manifest::{BucketAt, Manifest, Placed};
use crate::owner::Owner;
use crate::segment::{Block, BucketImage, SegmentBuilder, SegmentName};
use crate::snapshotter::past::{Kept, LookedBack, Past};
use crate::takeover::Base;

pub(crate) mod past;

/// How many images are asked for at once.
const ASKED_MAX: usize = 32;

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
    /// A snapshot begins at the latest when the log since the last one has this many bytes, so that recovery does not take longer the larger the
    /// state is.
    pub tail_bytes_max: u64,
    /// What each object of the log counts besides its bytes: reading one takes a reader about as long as reading so many bytes more. Without it, many
    /// small commits would make a takeover long.
    pub object_bytes: u64,
    /// At most so many bytes of segments are stored in a second, so that commits do not feel a snapshot; `None` for no limit. Segments are stored one
    /// at a time in any case.
    pub bytes_per_second: Option<u64>,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            floor_bytes: 4 << 20,
            log_percent: 70,
            segment_bytes: 8 << 20,
            tail_bytes_max: 256 << 20,
            object_bytes: 16 << 10,
            bytes_per_second: None,
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
    /// List all segments in the store, and read these manifests; then [`Snapshotter::looked_back`].
    LookBack { manifests: Vec<u64> },
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
    retention_ms: u64,
    /// The manifest in effect when this epoch began.
    found: Option<Manifest>,
    /// All manifests that were in the store when this epoch began.
    manifests: Vec<u64>,
    /// Those of them that are condemned already.
    condemned: BTreeSet<u64>,
    /// What came before. `None` until it was looked for, which is during the first snapshot of the epoch: a start does not wait for it.
    past: Option<Past>,
    /// Durable log bytes since the last snapshot began, with what the objects count besides.
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
    /// Buckets that are not asked for yet.
    unasked: VecDeque<u16>,
    /// Buckets that are asked for.
    waiting_for: BTreeSet<u16>,
    builder: Option<SegmentBuilder>,
    next_index: u32,
    /// A finished segment that waits for the one before it to be stored.
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
    kept: Kept,
    condemned: Condemned,
    /// Moments from here on are kept, in milliseconds since 1970.
    since_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finishing {
    Imaging,
    LookingBack,
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
            None => (vec![BucketAt::default(); base.dirty.len()], BTreeMap::new()),
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
            past: None,
            log_bytes: base.log_bytes + base.log_objects * policy.object_bytes,
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
        self.pack();
        self.ask();
    }

    /// Finishes the segment under way if it is full or the last one, and stores it as soon as the one before it is.
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

    /// Asks for the next few images, about one segment of them, when all that were asked for came and no segment waits: so what a snapshot holds in memory
    /// is bounded.
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
            bytes += image.map_or(0, |placed| placed.at.raw_len);
            round.waiting_for.insert(bucket);
        }
        if !round.waiting_for.is_empty() {
            let asked = round.waiting_for.iter().copied().collect();
            self.steps.push(Step::Want(asked));
        }
    }

    /// A log record became durable; `sequence` if it is a delta.
    pub(crate) fn durable(&mut self, sequence: Option<u64>, number: u64, stored_bytes: u64) {
        self.durable = number;
        self.log_bytes += stored_bytes + self.policy.object_bytes;
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
            round.uploading.take_if(|uploading| uploading == name);
        }
        // What waits is stored, and then what was gathered meanwhile is packed.
        self.pack();
        self.pack();
        self.ask();
        self.advance();
    }

    /// The answer to [`Step::LookBack`].
    pub(crate) fn looked_back(&mut self, looked: LookedBack) {
        let epoch = self.owner.epoch;
        let found = self.found.take();
        self.past = Some(Past::new(epoch, found.as_ref(), &self.manifests, looked));
        self.manifests = Vec::new();
        self.advance();
    }

    /// The answer to [`Step::PutManifest`].
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

    /// The record of [`Step::Commit`] is durable: the snapshot is the one that readers start from. Returns what it was and what
    /// may be deleted after the grace.
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
            .map(|(block, _)| block.at.stored_len)
            .sum();
        let grown = written.saturating_sub(round.replaced_bytes);
        self.growth_percent = (grown * 100 / round.log_bytes.max(1)).min(100);
        self.log_bytes = self.log_bytes.saturating_sub(round.log_bytes);
        self.table = manifest.buckets;
        self.segments = manifest.segments;
        self.past
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

    /// Writes the manifest. It carries on the durable condemnations that were not carried out yet, because their records may be trimmed. `wall_ms` is
    /// the calendar's time, `partition_ms` that of the last record: what is too old to be kept is decided by the latter.
    pub(crate) fn publish(&mut self, carried: &[Condemned], wall_ms: u64, partition_ms: u64) {
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
        let released: Vec<SegmentName> = known
            .map(|(name, _)| *name)
            .filter(|name| !needed.contains(name))
            .collect();
        let manifest = Manifest {
            partition: self.partition,
            number: round.number,
            writer: self.owner,
            // Every bucket was imaged, or known to be unchanged, in this epoch: the replay begins after the takeover.
            before: self.owner,
            written_at_ms: wall_ms.max(partition_ms),
            segments,
            buckets,
            condemned: carried.to_vec(),
        };
        let kept = Kept::new(&manifest, released);
        let since_ms =
            (self.retention_ms > 0).then(|| partition_ms.saturating_sub(self.retention_ms));
        let past = self.past.get_or_insert_default();
        let condemned = past.condemned(&kept, since_ms);
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
        let bound = self.log_bytes >= self.policy.tail_bytes_max;
        let wanted = self.wanted || bound;
        if self.log_bytes < self.policy.floor_bytes && !wanted {
            return;
        }
        let unasked = self.worth_writing();
        let replaced_bytes: u64 = unasked
            .iter()
            .map(|bucket| stored_len(&self.table[usize::from(*bucket)]))
            .sum();
        let expected = replaced_bytes + self.log_bytes / 100 * self.growth_percent;
        let enough = self.log_bytes >= expected / 100 * self.policy.log_percent;
        if unasked.is_empty() || !(enough || wanted) {
            // Whoever wants one while there is nothing to write has it as soon as there is.
            return;
        }
        self.wanted = false;
        self.round = Some(Round {
            number: self.durable,
            log_bytes: self.log_bytes,
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
            && round.unasked.is_empty()
            && round.builder.is_none()
            && round.packed.is_none()
            && round.uploading.is_none()
            && round
                .images
                .values()
                .all(|(block, _)| round.numbers.contains_key(&block.sequence));
        match round.finishing {
            Finishing::Imaging if complete && self.past.is_none() => {
                round.finishing = Finishing::LookingBack;
                let in_effect = self.found.as_ref().map_or(0, |found| found.number);
                // Newer ones than that in effect never took effect.
                let kept = |number: &u64| *number < in_effect && !self.condemned.contains(number);
                let manifests = match self.retention_ms {
                    0 => Vec::new(),
                    _ => self.manifests.iter().copied().filter(kept).collect(),
                };
                self.steps.push(Step::LookBack { manifests });
            }
            Finishing::Imaging | Finishing::LookingBack if complete && self.past.is_some() => {
                round.finishing = Finishing::Publishing;
                self.steps.push(Step::Publish);
            }
            Finishing::Imaging | Finishing::LookingBack | Finishing::Publishing => {}
        }
    }
}

fn stored_len(at: &BucketAt) -> u64 {
    at.image.map_or(0, |placed| placed.at.stored_len)
}

#[cfg(test)]
mod tests;
