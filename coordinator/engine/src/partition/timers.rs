//! Handling of due events: timers fire, values and outcomes expire, addresses try again.

use std::sync::Arc;

use super::Partition;
use super::schedule::Scheduled;
use crate::address::Address;
use crate::durable::{DeadLetter, Key, Outcome, Timer};
use crate::message::{IdSource, Message, MessageId, fingerprint};
use crate::request::Verb;
use crate::story::Step;
use crate::tables::Activity;

impl Partition {
    /// Handles everything that is due by now.
    pub(super) fn handle_due(&mut self) {
        while let Some(due) = self.schedule.pop(self.now_ms) {
            match due {
                Scheduled::Timer { owner, number } => self.fire(&owner, number),
                Scheduled::State { address, name } => self.expire_state(&address, &name),
                Scheduled::Idempotency { address, verb, key } => {
                    self.expire_outcome(&address, verb, &key);
                }
                Scheduled::Received { ingress, .. } => self.forget_ids(&ingress),
                Scheduled::Retry { address } => {
                    // The message may have been given up since, and its bucket evicted.
                    let active = self.tables.active(&address);
                    if active.is_some_and(|active| active.activity == Activity::BackingOff)
                        && let Some(active) = self.tables.active_mut(&address)
                    {
                        active.activity = Activity::Idle;
                        self.make_ready(&address);
                    }
                }
                Scheduled::Probe { function } => self.probe_due(&function),
                Scheduled::Bucket { bucket } => self.request_load(bucket),
            }
        }
    }

    pub(super) fn set_timer(&mut self, owner: &Address, timer: Timer) {
        let number = self.tables.take_number();
        self.schedule.add_timer(timer.due_ms, number, owner.clone());
        self.tables.active_or_new(owner).insert_timer(number, timer);
        self.mark_changed(Key::Timer {
            owner: owner.clone(),
            number,
        });
    }

    /// Cancels the pending timer of this owner with this token. As in StateFun, an unknown token is
    /// no error.
    pub(super) fn cancel_timer(&mut self, owner: &Address, token: &str) {
        let active = self.tables.active_mut(owner);
        let number = active.and_then(|active| active.tokens.get(token).copied());
        if let Some(number) = number
            && let Some(timer) = self.remove_timer(owner, number)
        {
            let Message { id, trace, .. } = timer.message;
            self.tell_fact((id, trace), true, || Step::Cancelled);
            self.schedule.remove_timer(timer.due_ms, number);
        }
    }

    /// Fires a timer. Its removal and the arrival of its message are in one delta.
    pub(super) fn fire(&mut self, owner: &Address, number: u64) {
        if self.tables.absent_bucket_of(owner).is_some() {
            // The timer was deferred, and its bucket was evicted in the meantime. It is scheduled
            // again when the bucket is loaded.
            return;
        }
        let timer = self
            .tables
            .active(owner)
            .and_then(|active| active.timer(number));
        if timer.is_some_and(|timer| self.awaits_pending_call(&timer.target)) {
            self.defer_timer(owner.clone(), number);
            return;
        }
        if let Some(timer) = self.remove_timer(owner, number) {
            assert!(
                timer.due_ms <= self.now_ms,
                "a timer never fires early: due {}, now {}",
                timer.due_ms,
                self.now_ms
            );
            self.counts.timers_fired += 1;
            let Message { id, trace, .. } = &timer.message;
            self.tell(*id, *trace, || Step::Fired);
            self.deliver(&timer.target, timer.message);
        }
    }

    fn remove_timer(&mut self, owner: &Address, number: u64) -> Option<Timer> {
        let timer = self.tables.active_mut(owner)?.take_timer(number)?;
        self.tables.prune(owner);
        let key = Key::Timer {
            owner: owner.clone(),
            number,
        };
        self.mark_ended(key, number);
        Some(timer)
    }

    /// Removes an expired value. A value refreshed since is scheduled again.
    fn expire_state(&mut self, address: &Address, name: &Arc<str>) {
        let states = self.tables.states_of(&address.function);
        let Some((slot, _)) = states.and_then(|states| states.find(name)) else {
            return;
        };
        let now_ms = self.now_ms;
        let instance = self.tables.instance(address);
        let Some(expiry) = instance.and_then(|instance| instance.expiry(slot)) else {
            return;
        };
        let due = Scheduled::State {
            address: address.clone(),
            name: name.clone(),
        };
        match expiry {
            Some(expires_at_ms) if expires_at_ms <= now_ms => {
                self.tables.remove_state(address, slot);
                self.counts.expired += 1;
                self.mark_changed(Key::State {
                    address: address.clone(),
                    name: name.clone(),
                });
                self.tables.prune(address);
            }
            Some(expires_at_ms) => self.schedule.add(expires_at_ms, due),
            None => {}
        }
    }

    fn expire_outcome(&mut self, address: &Address, verb: Verb, key: &Arc<str>) {
        let now_ms = self.now_ms;
        let Some(active) = self.tables.active(address) else {
            return;
        };
        let Some(record) = active.record(verb, key) else {
            return;
        };
        let kept = match &record.outcome {
            // A dead letter keeps its key, because retrying it answers the same request.
            Some(Outcome::Failed { dead_letter, .. }) => {
                self.tables.dead_letters.number_of(*dead_letter).is_some()
            }
            // The outcome of a send only says that it was accepted. Its failure shows only in the
            // dead letter.
            Some(Outcome::Accepted) => active.dead_letters().any(|(_, letter)| {
                fingerprint(&letter.argument) == record.fingerprint
                    && is_of_request(letter, address, verb, key)
            }),
            Some(Outcome::Replied(_) | Outcome::Rejected { .. }) => false,
            None => self.is_waited_for(record.call),
        };
        let expires_at_ms = if kept {
            record
                .expires_at_ms
                .map(|_| now_ms + self.config.idempotency_ttl_ms)
        } else {
            record.expires_at_ms
        };
        match expires_at_ms {
            Some(expires_at_ms) if expires_at_ms <= now_ms => {
                let call = record.call;
                if let Some(active) = self.tables.active_mut(address) {
                    active.take_record(verb, key);
                }
                self.calls.forget(call);
                self.mark_changed(Key::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                });
                self.tables.prune(address);
            }
            Some(expires_at_ms) => {
                let due = Scheduled::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                };
                self.schedule.add(expires_at_ms, due);
            }
            // Its dead letter was retried: there is no outcome at present, and the expiry counts
            // from the next one.
            None => {}
        }
    }
}

/// Maximum number of retries after which a dead letter is still recognised as that of its request.
const RETRIES_KNOWN: usize = 100;

/// Returns whether a dead letter is the message of the request with this key, or of one of its
/// retries.
fn is_of_request(letter: &DeadLetter, address: &Address, verb: Verb, key: &str) -> bool {
    let source = IdSource::Key {
        address,
        verb: verb.as_str(),
        key,
    };
    let first = MessageId::derive(source, &letter.argument);
    let again = |parent: &MessageId| {
        let source = IdSource::Retry { parent: *parent };
        Some(MessageId::derive(source, &letter.argument))
    };
    let mut ids = std::iter::successors(Some(first), again).take(RETRIES_KNOWN);
    ids.any(|id| id == letter.id)
}
