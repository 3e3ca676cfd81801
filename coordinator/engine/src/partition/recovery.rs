//! Recovery of a partition from its durable state.

use std::collections::{BTreeMap, VecDeque};

use super::answers::outbox_bytes;
use super::calls::Calls;
use super::commits::Commits;
use super::deferred::Deferred;
use super::graph::Graph;
use super::loading::Loading;
use super::notices::Notices;
use super::pauses::PausedIngresses;
use super::peers::Peers;
use super::schedule::{Schedule, Scheduled};
use super::shards::Settling;
use super::stories::Stories;
use super::suspension::FunctionTypes;
use super::{Config, Counts, Partition, Stopping};
use crate::address::Address;
use crate::durable::{BucketSummary, Change, Hold, Key};
use crate::map::Map;
use crate::tables::{BucketProblem, Staging, Tables};

/// Time after the crash of its predecessor during which an owner tries only durable messages.
const CRASH_GUARD_MS: u64 = 10_000;

/// Fold of the durable state: images of buckets and changes of deltas, in the order in which they
/// were written. A bucket whose image is not read is absent, and the partition loads it later.
pub struct Recovery {
    config: Config,
    tables: Tables,
    /// True for each bucket whose image is not read.
    absent: Vec<bool>,
    /// Entries of absent buckets that their overlays do not have yet.
    staging: Staging,
}

/// The ownership period that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Number of the period.
    pub epoch: u64,
    /// Partition time of the last durable delta, in ms since the epoch.
    pub committed_at_ms: u64,
    /// True if the last owner stopped in an orderly way, as its last delta says.
    pub clean: bool,
}

impl Recovery {
    /// Creates an empty recovery.
    pub fn new(config: Config) -> Self {
        let tables = Tables::new(config.placement);
        Self {
            absent: vec![false; usize::from(tables.buckets())],
            staging: Staging::default(),
            config,
            tables,
        }
    }

    /// Declares the image of `bucket`, which takes `raw_bytes` unpacked, as not read. Must be
    /// called before the entries of the log over it are applied.
    pub fn absent(&mut self, bucket: u16, summary: BucketSummary, raw_bytes: u64) {
        let raw_bytes = usize::try_from(raw_bytes).unwrap_or(usize::MAX);
        self.tables.set_absent(bucket, summary, raw_bytes);
        self.absent[usize::from(bucket)] = true;
    }

    fn is_absent(&self, bucket: u16) -> bool {
        let absent = self.absent.get(usize::from(bucket));
        absent.copied().unwrap_or(false)
    }

    /// Adds the next entry of an absent bucket.
    fn replay(&mut self, bucket: u16, key: &[u8], value: Option<&[u8]>) {
        self.staging.push(bucket, key, value);
        if self.staging.is_full() {
            self.fill_overlays();
        }
    }

    fn fill_overlays(&mut self) {
        let Self {
            staging, tables, ..
        } = self;
        staging.take(|bucket, entries| tables.replay(bucket, entries));
    }

    /// Applies the next change.
    pub fn apply(&mut self, change: Change) {
        let absent = change
            .key
            .address()
            .and_then(|address| self.tables.absent_bucket_of(address));
        let Some(bucket) = absent else {
            return self.tables.apply(change);
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        change.encode_key(&mut key);
        let set = change.encode_value(&mut value);
        self.replay(bucket, &key, set.then_some(&value[..]));
    }

    /// Applies the next entry of `bucket` in its durable form. Entries of an absent bucket are
    /// decoded when the bucket is loaded.
    ///
    /// # Errors
    ///
    /// Returns [`BucketProblem`] if the entry is not a fact of this bucket that this software
    /// knows.
    pub fn apply_entry(
        &mut self,
        bucket: u16,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), BucketProblem> {
        if self.is_absent(bucket) {
            self.replay(bucket, key, value);
            return Ok(());
        }
        let change = Change::decode(key, value)
            .map_err(|malformed| BucketProblem::Malformed { bucket, malformed })?;
        if change.key.bucket(&self.config.placement) != bucket {
            let fact = format!("{:?}", change.key);
            return Err(BucketProblem::Foreign { bucket, fact });
        }
        self.tables.apply(change);
        Ok(())
    }

    /// Returns the hold of a fork, finished or not ([`Hold::filling`]).
    pub fn hold(&self) -> Option<&Hold> {
        self.tables.hold.as_ref()
    }

    /// Returns the partition's own time at its last delta, which has the time `committed_at_ms`,
    /// both in ms since the epoch. Messages of other partitions may have made the time of the delta
    /// later. The clock of the next owner continues from its own time.
    pub fn own_time_ms(&self, committed_at_ms: u64) -> u64 {
        committed_at_ms.saturating_sub(self.tables.links.lead_ms)
    }

    fn start_peers(&self, ownership: &Ownership) -> Option<Box<Peers>> {
        let generation = self.config.generation.as_ref()?;
        let own = self.config.partition;
        assert!(
            generation.partitions.range_of(own).is_some(),
            "partition {own} is none of generation {}",
            generation.number
        );
        let Ownership {
            epoch,
            committed_at_ms,
            ..
        } = *ownership;
        let peers = Peers::start(generation, own, &self.tables, epoch, committed_at_ms);
        Some(Box::new(peers))
    }

    /// Starts an ownership period with the applied state.
    pub fn start(mut self, ownership: Ownership, now_ms: u64) -> Partition {
        self.fill_overlays();
        let now_ms = now_ms.max(self.own_time_ms(ownership.committed_at_ms));
        let peers = self.start_peers(&ownership);
        let mut partition = Partition {
            epoch: ownership.epoch,
            now_ms,
            delta_time_ms: ownership.committed_at_ms,
            peers,
            crash_guard_until_ms: if ownership.clean {
                0
            } else {
                now_ms.saturating_add(CRASH_GUARD_MS)
            },
            schedule: Schedule::default(),
            calls: Calls::default(),
            commits: Commits::new(self.tables.next_number),
            ready: VecDeque::new(),
            flights: Map::default(),
            next_attempt: 1,
            pending_bytes: 0,
            outbox_bytes: 0,
            ingress_paused: false,
            held_reads: Vec::new(),
            settling: Settling::default(),
            paused_ingresses: PausedIngresses::default(),
            function_types: FunctionTypes::default(),
            stopping: Stopping::No,
            outputs: VecDeque::new(),
            counts: Counts::default(),
            graph: Graph::default(),
            loading: Loading::default(),
            deferred: Deferred::default(),
            letter_lists: Vec::new(),
            state_drops: BTreeMap::new(),
            snapshot_wanted: false,
            snapshot_taken: false,
            memory_is_short: false,
            notices: Notices::default(),
            stories: self.config.stories.map(|sampling| {
                let next_number = self.tables.next_number;
                Box::new(Stories::new(sampling, ownership.epoch, next_number))
            }),
            crash_suspects_below: if ownership.clean {
                0
            } else {
                self.tables.next_number
            },
            config: self.config,
            tables: self.tables,
        };
        partition.resume();
        partition
    }
}

impl Partition {
    /// Takes over the last owner's due times, calls, pending messages and outbox.
    fn resume(&mut self) {
        self.schedule.hold_timers(self.is_held());
        self.announce_pauses();
        for bucket in 0..self.tables.buckets() {
            if self.is_absent(bucket) {
                self.register_absent_bucket(bucket);
            } else {
                self.activate(self.tables.bucket_slot(bucket).active_addresses());
            }
        }
        for (ingress, at_ms) in self.tables.received.expiries() {
            self.schedule_forgetting(ingress, at_ms);
        }
        let outbox = &self.tables.outbox;
        self.outbox_bytes = outbox.values().map(outbox_bytes).sum();
        self.pending_bytes += self.outbox_bytes + self.tables.links.out_bytes();
        let numbers: Vec<u64> = outbox.keys().copied().collect();
        for number in numbers {
            self.emit_when_durable(number);
        }
        // The last step, because it may send messages, which are pending.
        self.tell_ends();
    }

    /// Activates the active addresses of a bucket that is now in memory.
    pub(super) fn activate(&mut self, addresses: Vec<Address>) {
        for address in addresses {
            self.schedule_instance(&address);
            self.tell_recovered(&address);
            self.count_crash(&address);
            self.make_ready(&address);
        }
    }

    fn schedule_instance(&mut self, address: &Address) {
        let instance = self.tables.instance(address).expect("it was just listed");
        let slots = self.tables.states_of(&address.function);
        for state in instance.states() {
            if let (Some(expires_at_ms), Some(slots)) = (state.expires_at_ms(), slots) {
                let name = slots.slots[usize::from(state.slot)].name.clone();
                let address = address.clone();
                self.schedule
                    .add(expires_at_ms, Scheduled::State { address, name });
            }
        }
        let Some(active) = &instance.active else {
            return;
        };
        self.pending_bytes += active.pending_bytes(address);
        for (number, timer) in active.timers() {
            self.schedule
                .add_timer(timer.due_ms, number, address.clone());
        }
        for (verb, key, record) in active.records() {
            let record_key = (address.clone(), verb, key.clone());
            self.calls.restore(record.call, record_key);
            if let Some(expires_at_ms) = record.expires_at_ms {
                let due = Scheduled::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                };
                self.schedule.add(expires_at_ms, due);
            }
        }
    }

    /// Counts the crash of the last owner against the messages that were pending then: any of them
    /// may have caused it. Later messages are not suspects, even if the bucket is loaded long after
    /// the takeover.
    fn count_crash(&mut self, address: &Address) {
        let below = self.crash_suspects_below;
        let Some(active) = self.tables.active_mut(address) else {
            return;
        };
        let mut recovered = active.mailbox.iter().map(|(number, _)| *number);
        let Some(last) = recovered.rfind(|number| *number < below) else {
            return;
        };
        let failures = active.failures.get_or_insert_default();
        failures.crashes = failures.crashes.saturating_add(1);
        failures.crashes_through = last;
        // The count must be durable before the message is tried, however late the bucket was
        // loaded.
        self.crash_guard_until_ms = self.crash_guard_until_ms.max(self.now_ms + CRASH_GUARD_MS);
        self.mark_changed(Key::FailureRecord {
            address: address.clone(),
        });
    }
}
