//! Audit of the running counters and indexes against the content. A counter that drifts would let
//! memory grow without bound, or keep ingress paused forever, without a visible cause.

use super::answers::outbox_bytes;
use super::schedule::Scheduled;
use super::{Partition, Stopping};
use crate::address::Address;
use crate::tables::{ActiveState, Activity};

impl Partition {
    /// Compares counters and indexes with the content and returns a description of each difference.
    /// An empty list means that all agree.
    ///
    /// The audit reads everything in memory, so it is meant for tests and simulations.
    pub fn audit(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        self.audit_pending(&mut wrong);
        self.audit_bucket_slots(&mut wrong);
        self.audit_schedule(&mut wrong);
        // A stopping partition clears what it leaves to the next owner.
        if self.stopping == Stopping::No {
            self.audit_activity(&mut wrong);
            self.audit_calls(&mut wrong);
        }
        wrong
    }

    fn active_states(&self) -> impl Iterator<Item = (Address, &ActiveState)> {
        let active_addresses = self
            .tables
            .bucket_slots()
            .flat_map(|(_, slot)| slot.active_addresses());
        active_addresses.filter_map(|address| {
            let active = self.tables.active(&address)?;
            Some((address, active))
        })
    }

    fn audit_pending(&self, wrong: &mut Vec<String>) {
        let mailboxes: usize = self
            .active_states()
            .map(|(address, active)| active.pending_bytes(&address))
            .sum();
        let absent = self
            .tables
            .bucket_slots()
            .filter(|(_, slot)| slot.is_absent());
        let absent: usize = absent.map(|(_, slot)| slot.message_bytes()).sum();
        let outbox: usize = self.tables.outbox.values().map(outbox_bytes).sum();
        let peers = self.tables.links.out_bytes();
        if outbox != self.outbox_bytes {
            let counted = self.outbox_bytes;
            wrong.push(format!(
                "{counted} bytes of the outbox are counted; there are {outbox}"
            ));
        }
        if !self
            .tables
            .links
            .iter()
            .all(|(_, link)| link.is_well_kept())
        {
            wrong.push("messages to other partitions are counted or numbered wrongly".to_owned());
        }
        let deferred = self.deferred.bytes();
        let paused = self.paused_ingresses.bytes();
        if self.pending_bytes != mailboxes + absent + outbox + peers + deferred + paused {
            wrong.push(format!(
                "{} pending bytes are counted; there are {mailboxes} in mailboxes, \
                 {absent} for absent buckets, {outbox} in the outbox, \
                 {peers} for other partitions, \
                 {deferred} in deferred requests and {paused} of paused ingresses",
                self.pending_bytes
            ));
        }
    }

    fn audit_bucket_slots(&self, wrong: &mut Vec<String>) {
        let sealed = !self.commits.has_changes();
        if !self.tables.is_size_right() {
            wrong.push("the size of all buckets is not that of each".to_owned());
        }
        for (bucket, slot) in self.tables.bucket_slots() {
            if !slot.is_well_counted(sealed) {
                wrong.push(format!(
                    "the counters of bucket {bucket} do not match its content"
                ));
            }
        }
        let kept = self
            .active_states()
            .flat_map(|(_, active)| active.dead_letters());
        let letters = kept.count() + self.tables.unaddressed_dead_letters.len();
        let indexed = self.tables.dead_letters.since(0);
        // Of a bucket that is not in memory, only the index is known.
        let present = indexed.filter(|(number, _)| self.absent_bucket_of_letter(*number).is_none());
        let present = present.count();
        if letters != present {
            wrong.push(format!(
                "{present} dead letters are indexed in memory, and {letters} are stored"
            ));
        }
        if !self.tables.dead_letters.is_well_counted() {
            wrong.push("the size of the dead letters does not match their index".to_owned());
        }
    }

    fn audit_activity(&self, wrong: &mut Vec<String>) {
        let mut flying = 0;
        for (address, active) in self.active_states() {
            match &active.activity {
                Activity::InFlight(flight) => {
                    flying += 1;
                    if self.flights.get(&flight.attempt) != Some(&address) {
                        wrong.push(format!("the attempt in flight of {address} is not known"));
                    }
                }
                Activity::Ready if !self.ready.contains(&address) => {
                    wrong.push(format!("{address} is ready but not queued"));
                }
                _ => {}
            }
        }
        if flying != self.flights.len() {
            wrong.push(format!(
                "{flying} batches are in flight, and {} attempts are known",
                self.flights.len()
            ));
        }
    }

    fn audit_schedule(&self, wrong: &mut Vec<String>) {
        let timers = self.schedule.iter_timers();
        let known = |(due_ms, number, owner): &(u64, u64, &_)| {
            let timer = self
                .tables
                .active(owner)
                .and_then(|active| active.timer(*number));
            timer.is_some_and(|timer| timer.due_ms == *due_ms)
        };
        let there: usize = self
            .active_states()
            .map(|(_, active)| active.timers().count())
            .sum();
        if timers.filter(known).count() != there || self.schedule.timers() != there {
            wrong.push(format!(
                "{there} timers are set, and {} are scheduled",
                self.schedule.timers()
            ));
        }
        if !self.schedule.is_well_kept() {
            wrong.push("an event is scheduled twice".to_owned());
        }
        for due in self.schedule.iter_others() {
            let has_reason = match due {
                Scheduled::State { address, name } => {
                    let instance = self.tables.instance(address);
                    let slot = self.tables.states_of(&address.function);
                    let slot = slot.and_then(|states| Some(states.find(name)?.0));
                    // The value may have been written again without an expiry. The schedule drops
                    // the entry when it becomes due.
                    slot.is_some_and(|slot| instance.is_some_and(|it| it.expiry(slot).is_some()))
                }
                Scheduled::Idempotency { address, verb, key } => {
                    let active = self.tables.active(address);
                    active.is_some_and(|active| active.record(*verb, key).is_some())
                }
                Scheduled::Bucket { bucket } => self.is_absent(*bucket),
                Scheduled::Probe { function } => self.function_types.is_suspended(function),
                Scheduled::Timer { .. } | Scheduled::Received { .. } | Scheduled::Retry { .. } => {
                    true
                }
            };
            if !has_reason {
                wrong.push(format!("{due:?} is scheduled without a reason"));
            }
        }
    }

    fn audit_calls(&self, wrong: &mut Vec<String>) {
        if !self.calls.is_well_kept() {
            wrong.push("calls and their waiting requests do not agree".to_owned());
        }
        for (call, (address, verb, key)) in self.calls.records() {
            let active = self.tables.active(address);
            let record = active.and_then(|active| active.record(*verb, key));
            if record.is_none_or(|record| record.call != call) {
                wrong.push(format!("a call of {address} is open whose record is gone"));
            }
        }
    }
}
