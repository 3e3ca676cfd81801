//! Loading of absent buckets: requests for them, their order, and their installation.
//!
//! ```text
//!                   ┌─ urgent: something waits for it ─┐
//!  absent buckets ──┼─ pending: must be in memory ─────┼─► LoadBucket … BucketLoaded ─► installed
//!                   └─ rest: while memory has room ────┘
//! ```
//!
//! Nothing else in the partition waits for a bucket. Messages are added to an absent bucket at
//! once, in the delta of their cause.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::schedule::Scheduled;
use super::{Partition, Stopping};
use crate::output::Output;
use crate::tables::LoadedBucket;

/// Buckets to load, and loads in flight.
#[derive(Default)]
pub(super) struct Loading {
    /// Unanswered loads, by bucket.
    in_flight: BTreeMap<u16, u64>,
    last_load: u64,
    /// Buckets that some work waits for, in order of request.
    urgent: VecDeque<u16>,
    /// Absent buckets with facts that must be in memory.
    pending: BTreeSet<u16>,
    /// Other buckets that were absent at the start. Buckets evicted since are not among them.
    rest: BTreeSet<u16>,
    absent_at_start: usize,
}

impl Loading {
    /// Number of buckets still to be loaded because they were absent at the start.
    pub(super) fn awaited(&self) -> usize {
        self.pending.len() + self.rest.len()
    }

    pub(super) fn absent_at_start(&self) -> usize {
        self.absent_at_start
    }

    /// Returns whether a bucket is absent with facts that must be in memory.
    pub(super) fn has_pending_buckets(&self) -> bool {
        !self.pending.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.urgent.is_empty() && self.awaited() == 0
    }

    /// Returns the next bucket to load, most urgent first. `fits` decides whether memory has room
    /// for a bucket that nothing waits for.
    fn next(&mut self, fits: impl FnOnce(&Self, u16) -> bool) -> Option<u16> {
        let idle = |bucket: &&u16| !self.in_flight.contains_key(*bucket);
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
        // Buckets without room now are loaded when something needs them.
        self.rest
            .retain(|bucket| self.in_flight.contains_key(bucket));
        None
    }

    /// Completes a load. Returns whether it was in flight.
    fn complete(&mut self, bucket: u16, load: u64) -> bool {
        if self.in_flight.get(&bucket) != Some(&load) {
            return false;
        }
        self.in_flight.remove(&bucket);
        self.pending.remove(&bucket);
        self.rest.remove(&bucket);
        true
    }
}

impl Partition {
    pub(super) fn is_absent(&self, bucket: u16) -> bool {
        bucket < self.tables.buckets() && self.tables.bucket_slot(bucket).is_absent()
    }

    pub(super) fn absent_buckets(&self) -> usize {
        let absent = self
            .tables
            .bucket_slots()
            .filter(|(_, slot)| slot.is_absent());
        absent.count()
    }

    /// Registers a bucket whose image was not read at the takeover.
    pub(super) fn register_absent_bucket(&mut self, bucket: u16) {
        let slot = self.tables.bucket_slot(bucket);
        let replayed = &slot.replayed;
        self.pending_bytes += replayed.message_bytes();
        let pending = slot.summary.pending || replayed.is_pending();
        let due = [slot.summary.earliest_due_ms, replayed.earliest_timer_ms()];
        if let Some(due_ms) = due.into_iter().flatten().min() {
            self.schedule.add(due_ms, Scheduled::Bucket { bucket });
        }
        self.loading.absent_at_start += 1;
        if pending {
            self.loading.pending.insert(bucket);
        } else {
            self.loading.rest.insert(bucket);
        }
    }

    /// Requests an absent bucket that some work waits for.
    pub(super) fn request_load(&mut self, bucket: u16) {
        let loading = &mut self.loading;
        let known = loading.in_flight.contains_key(&bucket) || loading.urgent.contains(&bucket);
        if !known && self.is_absent(bucket) {
            self.loading.urgent.push_back(bucket);
        }
    }

    /// Emits load requests, up to the limit of concurrent loads.
    pub(super) fn start_loads(&mut self) {
        if !matches!(self.stopping, Stopping::No | Stopping::Draining) {
            return;
        }
        if self.loading.is_idle() {
            return;
        }
        let limit = self.config.memory_limit_bytes.unwrap_or(usize::MAX);
        let bytes = self.tables.bytes();
        // A needed bucket is loaded even above the limit, but slowly, so that evictions can keep
        // up.
        let at_once = if bytes > limit {
            1
        } else {
            let chosen = self.config.loads_at_once;
            // The more buckets there are, the smaller each is.
            chosen.unwrap_or_else(|| usize::from(self.tables.buckets() / 32).max(8))
        };
        while self.loading.in_flight.len() < at_once {
            let tables = &self.tables;
            // A tenth stays free for buckets that are needed later.
            let fits = |loading: &Loading, bucket| {
                let coming = loading.in_flight.keys().chain([&bucket]);
                let coming = coming.map(|bucket| tables.bucket_slot(*bucket).expected_bytes);
                limit == usize::MAX || bytes + coming.sum::<usize>() <= limit / 10 * 9
            };
            let Some(bucket) = self.loading.next(fits) else {
                return;
            };
            self.loading.last_load += 1;
            let load = self.loading.last_load;
            self.loading.in_flight.insert(bucket, load);
            self.outputs.push_back(Output::LoadBucket {
                bucket,
                load,
                replayed: self.tables.bucket_slot(bucket).replayed.clone(),
            });
        }
    }

    /// Installs a bucket and activates its content. A load that is not in flight is dropped: its
    /// image may be old.
    pub(super) fn bucket_loaded(&mut self, bucket: u16, load: u64, content: LoadedBucket) {
        let needed = self.is_needed(bucket);
        if !self.loading.complete(bucket, load) {
            self.counts.stale_loads += 1;
            return;
        }
        self.counts.loads += 1;
        let known_bytes = self.tables.bucket_slot(bucket).message_bytes();
        let turn = self.tables.turn;
        let active = self.tables.install(bucket, content);
        let keeps = self.config.memory_limit_bytes.is_some();
        let slot = self.tables.bucket_slot_mut(bucket);
        // A bucket that nothing waited for is the first candidate for eviction.
        slot.touched = if needed { turn } else { 0 };
        if !keeps {
            slot.replayed = Default::default();
        }
        self.schedule.remove(&Scheduled::Bucket { bucket });
        self.commits.image_loaded(bucket);
        self.activate(active);
        // Activation counted every message of the bucket. Those known before were already counted.
        self.subtract_pending(known_bytes);
        self.list_bucket_timers(bucket);
        self.advance_letter_lists();
        self.run_deferred(bucket);
        if self.stopping == Stopping::No {
            self.handle_due();
        }
    }

    fn is_needed(&self, bucket: u16) -> bool {
        self.has_deferred(bucket) || self.tables.bucket_slot(bucket).has_additions()
    }
}
