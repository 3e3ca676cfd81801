//! Starting from what is durable.

use std::collections::VecDeque;

use super::agenda::{Agenda, Due};
use super::answers::outbox_bytes;
use super::calls::Calls;
use super::commits::Commits;
use super::{Config, Counts, Partition, Stopping};
use crate::address::Address;
use crate::durable::{Change, Hold, Key};
use crate::tables::{Map, Tables};

/// For how long after the death of its predecessor an owner tries no message that is not durable yet.
const CAUTION_MS: u64 = 10_000;

/// The fold of what is durable: images of buckets and changes of deltas, in the order in which they were written.
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

    /// Takes the next change.
    pub fn apply(&mut self, change: Change) {
        self.tables.apply(change);
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
            config: self.config,
            tables: self.tables,
        };
        partition.resume(ownership.clean);
        partition
    }
}

impl Partition {
    /// Takes up what the last owner left: due times, calls, pending messages and the outbox.
    fn resume(&mut self, clean: bool) {
        self.agenda.hold_timers(self.is_held());
        let addresses: Vec<Address> = self
            .tables
            .instances()
            .filter(|(_, instance)| instance.live.is_some() || instance.earliest_due_ms().is_some())
            .map(|(address, _)| address.clone())
            .collect();
        for address in &addresses {
            self.schedule(address);
            if !clean {
                self.count_death(address);
            }
            self.make_ready(address);
        }
        let outbox = &self.tables.outbox;
        self.pending_bytes += outbox.values().map(outbox_bytes).sum::<usize>();
        let numbers: Vec<u64> = outbox.keys().copied().collect();
        for number in numbers {
            self.emit_when_durable(number);
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
        for (number, timer) in &live.timers {
            self.agenda
                .add_timer(timer.due_ms, *number, address.clone());
        }
        for ((verb, key), record) in &live.idempotency {
            let record_key = (address.clone(), *verb, key.clone());
            self.calls.restore(record.call, record_key);
            if let Some(expires_at_ms) = record.expires_at_ms {
                let due = Due::Idempotency {
                    address: address.clone(),
                    verb: *verb,
                    key: key.clone(),
                };
                self.agenda.add(expires_at_ms, due);
            }
        }
    }

    /// The process died while these messages were pending; any of them may have been the reason.
    fn count_death(&mut self, address: &Address) {
        let Some(live) = self.tables.live_mut(address) else {
            return;
        };
        let Some((last, _)) = live.mailbox.back() else {
            return;
        };
        let trouble = live.trouble.get_or_insert_default();
        trouble.deaths = trouble.deaths.saturating_add(1);
        trouble.deaths_through = *last;
        self.mark(Key::Trouble {
            address: address.clone(),
        });
    }
}
