//! Buckets that are not in memory: who asks for them, in which order, and what happens when they come.
//!
//! ```text
//!                    ┌─ urgent: something waits for it ──┐
//!  absent buckets ───┼─ pending: must be in memory ──────┼─► LoadBucket … BucketLoaded ─► in its place, under what came meanwhile
//!                    └─ rest: as long as there is room ──┘
//! ```
//!
//! Nothing else of the partition waits for a bucket: messages are added to what is known of it at once, in the delta of their cause.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::agenda::Due;
use super::{Partition, Stopping};
use crate::output::Output;
use crate::tables::LoadedBucket;

/// What is to be loaded, and what is on its way.
#[derive(Default)]
pub(super) struct Loading {
    /// The loads that are not answered, by bucket.
    under_way: BTreeMap<u16, u64>,
    last_load: u64,
    /// Buckets for which something waits, in the order in which it came.
    urgent: VecDeque<u16>,
    /// Absent buckets of which something must be in memory.
    pending: BTreeSet<u16>,
    /// Absent buckets that nobody waits for; those that were dropped since are not among them.
    rest: BTreeSet<u16>,
    absent_at_start: usize,
}

impl Loading {
    /// How many buckets are still to be loaded because they were absent at the start.
    pub(super) fn awaited(&self) -> usize {
        self.pending.len() + self.rest.len()
    }

    pub(super) fn absent_at_start(&self) -> usize {
        self.absent_at_start
    }

    /// Whether a bucket is absent of which something must be in memory.
    pub(super) fn is_something_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn is_nothing_wanted(&self) -> bool {
        self.urgent.is_empty() && self.awaited() == 0
    }

    /// The next bucket to load, most urgent first; `fits` says whether one that nobody waits for has room.
    fn next(&mut self, fits: impl FnOnce(&Self, u16) -> bool) -> Option<u16> {
        let idle = |bucket: &&u16| !self.under_way.contains_key(*bucket);
        if let Some(bucket) = self.urgent.pop_front() {
            return Some(bucket);
        }
        if let Some(bucket) = self.pending.iter().find(idle) {
            return Some(*bucket);
        }
        let next = self.rest.iter().find(idle).copied()?;
        if fits(self, next) {
            return Some(next);
        }
        // What does not fit now is loaded when something needs it.
        self.rest
            .retain(|bucket| self.under_way.contains_key(bucket));
        None
    }

    /// Takes the answer to a load; says whether it was asked for, and whether something waits for the bucket.
    fn answered(&mut self, bucket: u16, load: u64) -> bool {
        if self.under_way.get(&bucket) != Some(&load) {
            return false;
        }
        self.under_way.remove(&bucket);
        self.pending.remove(&bucket);
        self.rest.remove(&bucket);
        true
    }
}

impl Partition {
    pub(super) fn is_absent(&self, bucket: u16) -> bool {
        bucket < self.tables.buckets() && self.tables.place(bucket).is_absent()
    }

    pub(super) fn absent_buckets(&self) -> usize {
        let absent = self.tables.places().filter(|(_, place)| place.is_absent());
        absent.count()
    }

    /// Takes up what must be known of a bucket whose image was not read at the takeover.
    pub(super) fn expect_bucket(&mut self, bucket: u16) {
        let place = self.tables.place(bucket);
        let replayed = &place.replayed;
        self.pending_bytes += replayed.message_bytes();
        let pending = place.summary.pending || replayed.is_pending();
        let due = [place.summary.earliest_due_ms, replayed.earliest_timer_ms()];
        if let Some(due_ms) = due.into_iter().flatten().min() {
            self.agenda.add(due_ms, Due::Bucket { bucket });
        }
        self.loading.absent_at_start += 1;
        if pending {
            self.loading.pending.insert(bucket);
        } else {
            self.loading.rest.insert(bucket);
        }
    }

    /// Something waits for a bucket.
    pub(super) fn want_load(&mut self, bucket: u16) {
        let loading = &mut self.loading;
        let known = loading.under_way.contains_key(&bucket) || loading.urgent.contains(&bucket);
        if !known && self.is_absent(bucket) {
            self.loading.urgent.push_back(bucket);
        }
    }

    /// A dead letter came for a bucket that is not in memory: the list of all dead letters needs it.
    pub(super) fn want_letters(&mut self, bucket: u16) {
        self.loading.pending.insert(bucket);
        self.want_load(bucket);
    }

    /// Asks for buckets, a bounded number at a time.
    pub(super) fn ask_for_loads(&mut self) {
        if !matches!(self.stopping, Stopping::No | Stopping::Draining) {
            return;
        }
        if self.loading.is_nothing_wanted() {
            return;
        }
        let limit = self.config.memory_limit_bytes.unwrap_or(usize::MAX);
        let bytes = self.tables.bytes();
        // What waits for a bucket gets it even over the limit, but then slowly, so that dropping others can keep up.
        let at_once = if bytes > limit {
            1
        } else {
            self.config.loads_at_once.max(1)
        };
        while self.loading.under_way.len() < at_once {
            let tables = &self.tables;
            // A tenth stays free for what is needed.
            let fits = |loading: &Loading, bucket| {
                let coming = loading.under_way.keys().chain([&bucket]);
                let coming = coming.map(|bucket| tables.place(*bucket).expected_bytes);
                limit == usize::MAX || bytes + coming.sum::<usize>() <= limit / 10 * 9
            };
            let Some(bucket) = self.loading.next(fits) else {
                return;
            };
            self.loading.last_load += 1;
            let load = self.loading.last_load;
            self.loading.under_way.insert(bucket, load);
            self.outputs.push_back(Output::LoadBucket {
                bucket,
                load,
                replayed: self.tables.place(bucket).replayed.clone(),
            });
        }
    }

    /// Puts a bucket in its place and takes up what goes on in it. A load that was not asked for is dropped: it may be of an old image.
    pub(super) fn bucket_loaded(&mut self, bucket: u16, load: u64, content: LoadedBucket) {
        let waited_for = self.is_needed(bucket);
        if !self.loading.answered(bucket, load) {
            self.counts.stale_loads += 1;
            return;
        }
        self.counts.loads += 1;
        let known_bytes = self.tables.place(bucket).message_bytes();
        let turn = self.tables.turn;
        self.tables.install(bucket, content);
        let keeps = self.config.memory_limit_bytes.is_some();
        let place = self.tables.place_mut(bucket);
        // What nobody waits for is the first to be dropped again.
        place.touched = if waited_for { turn } else { 0 };
        if !keeps {
            place.replayed = Default::default();
        }
        self.agenda.remove(&Due::Bucket { bucket });
        self.commits.image_loaded(bucket);
        self.take_up(bucket);
        // Taking up counted every message that is there; those that were known before are counted already.
        self.no_more_pending(known_bytes);
        self.list_bucket(bucket);
        self.unpark(bucket);
        if self.stopping == Stopping::No {
            self.handle_due();
        }
    }

    fn is_needed(&self, bucket: u16) -> bool {
        self.is_anything_parked(bucket) || self.tables.place(bucket).has_news()
    }
}
