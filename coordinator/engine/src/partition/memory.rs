//! State larger than memory: buckets that are not used are dropped, and loaded again when they are.
//!
//! Dropped is only what the image in effect, with what the log says over it since before this period, equals, and in which nothing goes on;
//! so loading it gives it back as it was.

use super::agenda::Due;
use super::{Partition, Stopping};
use crate::durable::Key;
use crate::output::Output;
use crate::tables::Standing;

impl Partition {
    /// Remembers that a bucket may have changed since the last seal.
    pub(super) fn note_change(&mut self, key: &Key) {
        if self.config.memory_limit_bytes.is_none() {
            return;
        }
        if let Some(address) = key.address() {
            let bucket = self.tables.bucket_of(address);
            self.tables.place_mut(bucket).marked = self.commits.sealed() + 1;
        }
    }

    /// Remembers which delta holds the last change of a bucket.
    pub(super) fn note_seal(&mut self, key: &Key, delta: u64) {
        if self.config.memory_limit_bytes.is_none() {
            return;
        }
        if let Some(address) = key.address() {
            let bucket = self.tables.bucket_of(address);
            self.tables.place_mut(bucket).changed = delta;
        }
    }

    /// The images of these buckets are what would be loaded from now on.
    pub(super) fn snapshot_taken(&mut self, images: &[(u16, u64)]) {
        self.snapshot_wanted = false;
        self.snapshot_taken = true;
        for (bucket, delta) in images {
            if *bucket >= self.tables.buckets() {
                continue;
            }
            let place = self.tables.place_mut(*bucket);
            if place.image.is_none_or(|image| image <= *delta) {
                place.image = Some(*delta);
                // The image holds what was replayed, whether it was taken before the first delta of this period or after.
                place.replayed = Default::default();
            }
        }
    }

    /// Drops buckets while too much is in memory, those that were not used for longest first. If a snapshot is what is missing, one is asked
    /// for, and nothing is read until there is room again.
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
        let dirty = self.commits.is_anything_dirty();
        let mut idle: Vec<(u64, u16)> = self
            .tables
            .places()
            .filter(|(bucket, place)| {
                let sealed = !dirty || place.marked <= self.commits.sealed();
                // Under a hold what is due stays due, and would call for its bucket again at once.
                let due_ms = place.summary.earliest_due_ms;
                let overdue = due_ms.is_some_and(|due_ms| due_ms <= self.now_ms);
                sealed && place.is_idle() && !overdue && !self.commits.is_image_wanted(*bucket)
            })
            .map(|(bucket, place)| (place.touched, bucket))
            .collect();
        idle.sort_unstable();
        for (_, bucket) in idle {
            let before = self.tables.place(bucket).bytes();
            self.drop_bucket(bucket);
            bytes -= before - self.tables.place(bucket).bytes();
            if bytes <= limit {
                return;
            }
        }
        self.ask_for_room(bytes - limit, limit);
    }

    /// Nothing more can be dropped. What changed could be once a snapshot has it, and where messages wait, once they are worked off: so long nothing
    /// is read. What must be in memory for other reasons, dead letters above all, may stay for ever, and must not keep a partition from
    /// reading.
    fn ask_for_room(&mut self, excess_bytes: usize, limit: usize) {
        let (mut working_bytes, mut changed_bytes, mut ahead_bytes) = (0, 0, 0);
        for (_, place) in self.tables.places() {
            let replayed_bytes = place.replayed.bytes();
            match place.standing() {
                Standing::Working => working_bytes += place.bytes(),
                Standing::Free if place.is_changed() => changed_bytes += place.bytes(),
                Standing::Free if !self.snapshot_taken && place.is_unknown() => {
                    ahead_bytes += place.bytes();
                }
                Standing::Free | Standing::Pending => ahead_bytes += replayed_bytes,
            }
        }
        // What gives back little and not enough is not worth waiting for, or writing.
        let worth = |given: usize| given > 0 && given >= excess_bytes.min(limit / 8);
        self.memory_is_short = worth(working_bytes + changed_bytes);
        if worth(ahead_bytes + changed_bytes) && !self.snapshot_wanted {
            self.snapshot_wanted = true;
            self.outputs.push_back(Output::SnapshotWanted);
        }
    }

    fn drop_bucket(&mut self, bucket: u16) {
        for address in self.tables.place(bucket).lively() {
            let Some(instance) = self.tables.instance(&address) else {
                continue;
            };
            let slots = self.tables.states_of(&address.function);
            for state in instance.states() {
                if let (Some(_), Some(slots)) = (state.expires_at_ms(), slots) {
                    let name = slots.slots[usize::from(state.slot)].name.clone();
                    let address = address.clone();
                    self.agenda.remove(&Due::State { address, name });
                }
            }
            let Some(live) = &instance.live else { continue };
            for (number, timer) in live.timers() {
                self.agenda.remove_timer(timer.due_ms, number);
            }
            for (verb, key, record) in live.records() {
                self.calls.forget(record.call);
                self.agenda.remove(&Due::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                });
            }
        }
        self.counts.evictions += 1;
        self.tables.drop_bucket(bucket);
        if let Some(due_ms) = self.tables.place(bucket).summary.earliest_due_ms {
            self.agenda.add(due_ms, Due::Bucket { bucket });
        }
    }
}
