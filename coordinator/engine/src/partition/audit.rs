//! What is counted and listed as it goes, counted anew from what there is: a count that drifts would let memory grow without end, or keep
//! ingress paused for ever, and nobody would know why.

use super::agenda::Due;
use super::answers::outbox_bytes;
use super::{Partition, Stopping};
use crate::address::Address;
use crate::tables::{Activity, Live};

impl Partition {
    /// Compares what it counts and lists as it goes with what it holds, and says what does not agree; nothing, if all is well. It looks at
    /// everything in memory, so it is for tests and simulations.
    pub fn audit(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        self.audit_pending(&mut wrong);
        self.audit_places(&mut wrong);
        self.audit_agenda(&mut wrong);
        // Who stops forgets what he leaves to the next owner.
        if self.stopping == Stopping::No {
            self.audit_activity(&mut wrong);
            self.audit_calls(&mut wrong);
        }
        wrong
    }

    fn lives(&self) -> impl Iterator<Item = (Address, &Live)> {
        let lively = self.tables.places().flat_map(|(_, place)| place.lively());
        lively.filter_map(|address| {
            let live = self.tables.live(&address)?;
            Some((address, live))
        })
    }

    fn audit_pending(&self, wrong: &mut Vec<String>) {
        let mailboxes: usize = self.lives().map(|(_, live)| live.mailbox_bytes).sum();
        let absent = self.tables.places().filter(|(_, place)| place.is_absent());
        let absent: usize = absent.map(|(_, place)| place.message_bytes()).sum();
        let outbox: usize = self.tables.outbox.values().map(outbox_bytes).sum();
        let parked = self.parked.bytes();
        if self.pending_bytes != mailboxes + absent + outbox + parked {
            wrong.push(format!(
                "{} pending bytes are counted; there are {mailboxes} in mailboxes, {absent} for absent buckets, {outbox} in the outbox and \
                 {parked} in requests that wait",
                self.pending_bytes
            ));
        }
    }

    fn audit_places(&self, wrong: &mut Vec<String>) {
        let sealed = !self.commits.is_anything_dirty();
        for (bucket, place) in self.tables.places() {
            if !place.is_well_counted(sealed) {
                wrong.push(format!("what bucket {bucket} takes is not what is counted"));
            }
        }
        let kept = self.lives().flat_map(|(_, live)| live.letters());
        let letters = kept.count() + self.tables.stray_letters.len();
        if letters != self.tables.letters.len() {
            wrong.push(format!(
                "{} dead letters are listed, and {letters} kept",
                self.tables.letters.len()
            ));
        }
    }

    fn audit_activity(&self, wrong: &mut Vec<String>) {
        let mut flying = 0;
        for (address, live) in self.lives() {
            match &live.activity {
                Activity::InFlight(flight) => {
                    flying += 1;
                    if self.flights.get(&flight.attempt) != Some(&address) {
                        wrong.push(format!("the attempt in flight of {address} is not known"));
                    }
                }
                Activity::Ready if !self.ready.contains(&address) => {
                    wrong.push(format!("{address} is ready and never gets its turn"));
                }
                _ => {}
            }
        }
        if flying != self.flights.len() {
            wrong.push(format!(
                "{flying} batches are in flight, and {} attempts known",
                self.flights.len()
            ));
        }
    }

    fn audit_agenda(&self, wrong: &mut Vec<String>) {
        let timers = self.agenda.iter_timers();
        let known = |(due_ms, number, owner): &(u64, u64, &_)| {
            let timer = self.tables.live(owner).and_then(|live| live.timer(*number));
            timer.is_some_and(|timer| timer.due_ms == *due_ms)
        };
        let there: usize = self.lives().map(|(_, live)| live.timers().count()).sum();
        if timers.filter(known).count() != there || self.agenda.timers() != there {
            wrong.push(format!(
                "{there} timers are set, and {} on the agenda",
                self.agenda.timers()
            ));
        }
        if !self.agenda.is_well_kept() {
            wrong.push("something is twice on the agenda".to_owned());
        }
        for due in self.agenda.iter_others() {
            let has_reason = match due {
                Due::State { address, name } => {
                    let instance = self.tables.instance(address);
                    let slot = self.tables.states_of(&address.function);
                    let slot = slot.and_then(|states| Some(states.find(name)?.0));
                    // It may have been written without an expiry since, which is found when it comes up.
                    slot.is_some_and(|slot| instance.is_some_and(|it| it.expiry(slot).is_some()))
                }
                Due::Idempotency { address, verb, key } => {
                    let live = self.tables.live(address);
                    live.is_some_and(|live| live.record(*verb, key).is_some())
                }
                Due::Bucket { bucket } => self.is_absent(*bucket),
                Due::Timer { .. } | Due::Received { .. } | Due::Retry { .. } => true,
            };
            if !has_reason {
                wrong.push(format!("{due:?} is on the agenda for nothing"));
            }
        }
    }

    fn audit_calls(&self, wrong: &mut Vec<String>) {
        if !self.calls.is_well_kept() {
            wrong.push("calls and the requests that wait for them do not agree".to_owned());
        }
        for (call, (address, verb, key)) in self.calls.records() {
            let live = self.tables.live(address);
            let record = live.and_then(|live| live.record(*verb, key));
            if record.is_none_or(|record| record.call != call) {
                wrong.push(format!("a call of {address} is open whose record is gone"));
            }
        }
    }
}
