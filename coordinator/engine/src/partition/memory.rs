//! State larger than memory: unused buckets are evicted, and loaded again when they are used.
//!
//! Only a bucket that equals its image in effect (with the entries replayed over it from before
//! this period), and in which nothing is pending, is evicted. Loading it therefore restores it
//! exactly.

use super::schedule::Scheduled;
use super::{Partition, Stopping};
use crate::durable::Key;
use crate::output::Output;
use crate::tables::Eviction;

impl Partition {
    /// Records that a bucket may have changed since the last seal.
    pub(super) fn record_change(&mut self, key: &Key) {
        if self.config.memory_limit_bytes.is_none() {
            return;
        }
        if let Some(address) = key.address() {
            let bucket = self.tables.bucket_of(address);
            self.tables.bucket_slot_mut(bucket).marked = self.commits.sealed() + 1;
        }
    }

    /// Records which delta holds the last change of a bucket.
    pub(super) fn record_seal(&mut self, key: &Key, delta: u64) {
        if self.config.memory_limit_bytes.is_none() {
            return;
        }
        if let Some(address) = key.address() {
            let bucket = self.tables.bucket_of(address);
            self.tables.bucket_slot_mut(bucket).changed = delta;
        }
    }

    /// Records a snapshot: from now on, these images of buckets are the ones that would be loaded.
    pub(super) fn snapshot_taken(&mut self, images: &[(u16, u64)]) {
        self.snapshot_wanted = false;
        self.snapshot_taken = true;
        for (bucket, delta) in images {
            if *bucket >= self.tables.buckets() {
                continue;
            }
            let slot = self.tables.bucket_slot_mut(*bucket);
            if slot.image.is_none_or(|image| image <= *delta) {
                slot.image = Some(*delta);
                // The image includes the replayed entries, whether it was taken before or after the
                // first delta of this period.
                slot.replayed = Default::default();
            }
        }
    }

    /// Evicts the least recently used buckets while memory exceeds the limit. If only a snapshot
    /// would help, requests one, and ingress pauses until there is room.
    pub(super) fn regulate_memory(&mut self) {
        let Some(limit) = self.config.memory_limit_bytes else {
            return;
        };
        if self.stopping != Stopping::No {
            return;
        }
        self.memory_is_short = false;
        let mut bytes = self.tables.bytes();
        if bytes <= limit {
            return;
        }
        let dirty = self.commits.has_changes();
        let mut idle: Vec<(u64, u16)> = self
            .tables
            .bucket_slots()
            .filter(|(bucket, slot)| {
                let sealed = !dirty || slot.marked <= self.commits.sealed();
                // Under a hold, a due bucket stays due and would be requested again at once.
                let due_ms = slot.summary.earliest_due_ms;
                let overdue = due_ms.is_some_and(|due_ms| due_ms <= self.now_ms);
                sealed && slot.is_idle() && !overdue && !self.commits.is_image_wanted(*bucket)
            })
            .map(|(bucket, slot)| (slot.touched, bucket))
            .collect();
        idle.sort_unstable();
        for (_, bucket) in idle {
            let before = self.tables.bucket_slot(bucket).bytes();
            self.evict_bucket(bucket);
            bytes -= before - self.tables.bucket_slot(bucket).bytes();
            if bytes <= limit {
                return;
            }
        }
        self.relieve_memory(bytes - limit, limit);
    }

    /// Decides what to do when nothing more can be evicted. Changed buckets become evictable by a
    /// snapshot, and buckets with messages once these are processed: ingress pauses until then.
    /// Buckets that must be in memory for other reasons, such as a suspended address with messages,
    /// may stay forever and must not pause ingress.
    fn relieve_memory(&mut self, excess_bytes: usize, limit: usize) {
        let (mut draining_bytes, mut changed_bytes, mut replayable_bytes) = (0, 0, 0);
        for (_, slot) in self.tables.bucket_slots() {
            let replayed_bytes = slot.replayed.bytes();
            match slot.eviction() {
                Eviction::AfterDrain => draining_bytes += slot.bytes(),
                Eviction::Allowed if slot.is_changed() => changed_bytes += slot.bytes(),
                Eviction::Allowed if !self.snapshot_taken && slot.is_unknown() => {
                    replayable_bytes += slot.bytes();
                }
                Eviction::Allowed | Eviction::Blocked => replayable_bytes += replayed_bytes,
            }
        }
        // A gain that is small and insufficient justifies neither a pause nor a snapshot.
        let worth = |given: usize| given > 0 && given >= excess_bytes.min(limit / 8);
        self.memory_is_short = worth(draining_bytes + changed_bytes);
        if worth(replayable_bytes + changed_bytes) && !self.snapshot_wanted {
            self.snapshot_wanted = true;
            self.outputs.push_back(Output::SnapshotWanted);
        }
    }

    fn evict_bucket(&mut self, bucket: u16) {
        for address in self.tables.bucket_slot(bucket).active_addresses() {
            let Some(instance) = self.tables.instance(&address) else {
                continue;
            };
            let slots = self.tables.states_of(&address.function);
            for state in instance.states() {
                if let (Some(_), Some(slots)) = (state.expires_at_ms(), slots) {
                    let name = slots.slots[usize::from(state.slot)].name.clone();
                    let address = address.clone();
                    self.schedule.remove(&Scheduled::State { address, name });
                }
            }
            let Some(active) = &instance.active else {
                continue;
            };
            for (number, timer) in active.timers() {
                self.schedule.remove_timer(timer.due_ms, number);
            }
            for (verb, key, record) in active.records() {
                self.calls.forget(record.call);
                self.schedule.remove(&Scheduled::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                });
            }
        }
        self.counts.evictions += 1;
        self.tables.evict_bucket(bucket);
        if let Some(due_ms) = self.tables.bucket_slot(bucket).summary.earliest_due_ms {
            self.schedule.add(due_ms, Scheduled::Bucket { bucket });
        }
    }
}
