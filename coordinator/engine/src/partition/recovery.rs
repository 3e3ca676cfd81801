//! Starting from what is durable.

use std::collections::VecDeque;

use super::agenda::{Agenda, Due};
use super::answers::outbox_bytes;
use super::calls::Calls;
use super::commits::Commits;
use super::loading::Loading;
use super::parked::Parked;
use super::{Config, Counts, Partition, Stopping};
use crate::address::Address;
use crate::durable::{Change, Hold, Key};
use crate::map::Map;
use crate::output::BucketSummary;
use crate::tables::{BucketProblem, Tables};

/// For how long after the death of its predecessor an owner tries no message that is not durable yet.
const CAUTION_MS: u64 = 10_000;

/// The fold of what is durable: images of buckets and changes of deltas, in the order in which they were written. A bucket whose image is
/// not read is absent, and loaded by the partition later.
pub struct Recovery {
    config: Config,
    tables: Tables,
}

/// The ownership period that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Its number.
    pub epoch: u64,
    /// The partition time of the last durable delta, in ms since the epoch.
    pub committed_at_ms: u64,
    /// Whether the last owner stopped in an orderly way: its last delta says so.
    pub clean: bool,
}

impl Recovery {
    /// Nothing is known yet.
    pub fn new(config: Config) -> Self {
        let tables = Tables::new(config.buckets);
        Self { config, tables }
    }

    /// The image of `bucket`, which takes `raw_bytes` unpacked, is not read now; entries of the log over it still come. Must be said before
    /// them.
    pub fn absent(&mut self, bucket: u16, summary: BucketSummary, raw_bytes: u64) {
        let raw_bytes = usize::try_from(raw_bytes).unwrap_or(usize::MAX);
        self.tables.set_absent(bucket, summary, raw_bytes);
    }

    /// Takes the next change.
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
        self.tables.replay(bucket, &key, set.then_some(&value[..]));
    }

    /// Takes the next entry of `bucket` in its durable form. What is said of an absent bucket is decoded when it is loaded.
    ///
    /// # Errors
    ///
    /// [`BucketProblem`] when the entry is not a fact of this bucket that this software knows.
    pub fn apply_entry(
        &mut self,
        bucket: u16,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), BucketProblem> {
        let buckets = self.config.buckets;
        if bucket < buckets && self.tables.place(bucket).is_absent() {
            self.tables.replay(bucket, key, value);
            return Ok(());
        }
        let change = Change::decode(key, value)
            .map_err(|malformed| BucketProblem::Malformed { bucket, malformed })?;
        if change.key.bucket(buckets) != bucket {
            let fact = format!("{:?}", change.key);
            return Err(BucketProblem::Foreign { bucket, fact });
        }
        self.tables.apply(change);
        Ok(())
    }

    /// The hold under which a fork is, or as which it was not finished ([`Hold::filling`]).
    pub fn hold(&self) -> Option<&Hold> {
        self.tables.hold.as_ref()
    }

    /// Begins an ownership period with what was applied.
    pub fn start(self, ownership: Ownership, now_ms: u64) -> Partition {
        let now_ms = now_ms.max(ownership.committed_at_ms);
        let mut partition = Partition {
            epoch: ownership.epoch,
            now_ms,
            cautious_until_ms: if ownership.clean {
                0
            } else {
                now_ms.saturating_add(CAUTION_MS)
            },
            agenda: Agenda::default(),
            calls: Calls::default(),
            commits: Commits::new(self.tables.next_number),
            ready: VecDeque::new(),
            flights: Map::default(),
            next_attempt: 1,
            pending_bytes: 0,
            ingress_paused: false,
            held_reading: Vec::new(),
            stopping: Stopping::No,
            outputs: VecDeque::new(),
            counts: Counts::default(),
            loading: Loading::default(),
            parked: Parked::default(),
            snapshot_wanted: false,
            snapshot_taken: false,
            memory_is_short: false,
            deaths_below: if ownership.clean {
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
    /// Takes up what the last owner left: due times, calls, pending messages and the outbox.
    fn resume(&mut self) {
        self.agenda.hold_timers(self.is_held());
        for bucket in 0..self.tables.buckets() {
            if self.is_absent(bucket) {
                self.expect_bucket(bucket);
            } else {
                self.take_up(bucket);
            }
        }
        for (ingress, at_ms) in self.tables.received.expiries() {
            self.schedule_forgetting(ingress, at_ms);
        }
        let outbox = &self.tables.outbox;
        self.pending_bytes += outbox.values().map(outbox_bytes).sum::<usize>();
        let numbers: Vec<u64> = outbox.keys().copied().collect();
        for number in numbers {
            self.emit_when_durable(number);
        }
    }

    /// Takes up what goes on in a bucket that is in memory now.
    pub(super) fn take_up(&mut self, bucket: u16) {
        for address in self.tables.place(bucket).lively() {
            self.schedule(&address);
            self.count_death(&address);
            self.make_ready(&address);
        }
    }

    fn schedule(&mut self, address: &Address) {
        let instance = self.tables.instance(address).expect("it was just listed");
        let slots = self.tables.states_of(&address.function);
        for state in instance.states() {
            if let (Some(expires_at_ms), Some(slots)) = (state.expires_at_ms(), slots) {
                let name = slots.slots[usize::from(state.slot)].name.clone();
                let address = address.clone();
                self.agenda.add(expires_at_ms, Due::State { address, name });
            }
        }
        let Some(live) = &instance.live else { return };
        self.pending_bytes += live.mailbox_bytes;
        for (number, timer) in live.timers() {
            self.agenda.add_timer(timer.due_ms, number, address.clone());
        }
        for (verb, key, record) in live.records() {
            let record_key = (address.clone(), verb, key.clone());
            self.calls.restore(record.call, record_key);
            if let Some(expires_at_ms) = record.expires_at_ms {
                let due = Due::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                };
                self.agenda.add(expires_at_ms, due);
            }
        }
    }

    /// The process died while these messages were pending; any of them may have been the reason. Those that came since are innocent: a
    /// bucket may be loaded long after the takeover.
    fn count_death(&mut self, address: &Address) {
        let below = self.deaths_below;
        let Some(live) = self.tables.live_mut(address) else {
            return;
        };
        let mut recovered = live.mailbox.iter().map(|(number, _)| *number);
        let Some(last) = recovered.rfind(|number| *number < below) else {
            return;
        };
        let trouble = live.trouble.get_or_insert_default();
        trouble.deaths = trouble.deaths.saturating_add(1);
        trouble.deaths_through = last;
        // That it was counted must be durable before the message is tried, however late it was found.
        self.cautious_until_ms = self.cautious_until_ms.max(self.now_ms + CAUTION_MS);
        self.mark(Key::Trouble {
            address: address.clone(),
        });
    }
}
