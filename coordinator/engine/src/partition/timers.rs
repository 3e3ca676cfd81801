//! What becomes due: timers fire, values and outcomes expire, addresses try again.

use std::sync::Arc;

use super::Partition;
use super::agenda::Due;
use crate::address::Address;
use crate::durable::{DeadLetter, Key, Outcome, Timer};
use crate::input::Verb;
use crate::message::{IdSource, MessageId, fingerprint};
use crate::tables::Activity;

impl Partition {
    /// Does everything that is due by now.
    pub(super) fn handle_due(&mut self) {
        while let Some(due) = self.agenda.pop(self.now_ms) {
            match due {
                Due::Timer { owner, number } => self.fire(&owner, number),
                Due::State { address, name } => self.expire_state(&address, &name),
                Due::Idempotency { address, verb, key } => {
                    self.expire_outcome(&address, verb, &key);
                }
                Due::Received { ingress, .. } => self.forget_ids(&ingress),
                Due::Retry { address } => {
                    // It may have been given up on since, and its bucket dropped.
                    let live = self.tables.live(&address);
                    if live.is_some_and(|live| live.activity == Activity::BackingOff)
                        && let Some(live) = self.tables.live_mut(&address)
                    {
                        live.activity = Activity::Idle;
                        self.make_ready(&address);
                    }
                }
                Due::Bucket { bucket } => self.want_load(bucket),
            }
        }
    }

    pub(super) fn set_timer(&mut self, owner: &Address, timer: Timer) {
        let number = self.tables.take_number();
        self.agenda.add_timer(timer.due_ms, number, owner.clone());
        self.tables.live_or_new(owner).insert_timer(number, timer);
        self.mark(Key::Timer {
            owner: owner.clone(),
            number,
        });
    }

    /// Cancels the pending timer with this token of this owner; an unknown token is no error, as in StateFun.
    pub(super) fn cancel_timer(&mut self, owner: &Address, token: &str) {
        let live = self.tables.live_mut(owner);
        let number = live.and_then(|live| live.tokens.get(token).copied());
        if let Some(number) = number
            && let Some(timer) = self.remove_timer(owner, number)
        {
            self.agenda.remove_timer(timer.due_ms, number);
        }
    }

    /// The removal of the timer and the arrival of its message are in one delta.
    pub(super) fn fire(&mut self, owner: &Address, number: u64) {
        if self.tables.absent_bucket_of(owner).is_some() {
            // It waited for something else, and its bucket was dropped meanwhile: it comes up again when that is loaded.
            return;
        }
        let timer = self.tables.live(owner).and_then(|live| live.timer(number));
        if timer.is_some_and(|timer| self.awaits_pending_call(&timer.target)) {
            self.park_timer(owner.clone(), number);
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
            self.deliver(&timer.target, timer.message);
        }
    }

    fn remove_timer(&mut self, owner: &Address, number: u64) -> Option<Timer> {
        let timer = self.tables.live_mut(owner)?.take_timer(number)?;
        self.tables.tidy(owner);
        let key = Key::Timer {
            owner: owner.clone(),
            number,
        };
        self.mark_end(key, number);
        Some(timer)
    }

    /// Removes a value that has expired; one that was refreshed since is looked at again later.
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
        let due = Due::State {
            address: address.clone(),
            name: name.clone(),
        };
        match expiry {
            Some(expires_at_ms) if expires_at_ms <= now_ms => {
                self.tables.remove_state(address, slot);
                self.counts.expired += 1;
                self.mark(Key::State {
                    address: address.clone(),
                    name: name.clone(),
                });
                self.tables.tidy(address);
            }
            Some(expires_at_ms) => self.agenda.add(expires_at_ms, due),
            None => {}
        }
    }

    fn expire_outcome(&mut self, address: &Address, verb: Verb, key: &Arc<str>) {
        let now_ms = self.now_ms;
        let Some(live) = self.tables.live(address) else {
            return;
        };
        let Some(record) = live.record(verb, key) else {
            return;
        };
        let kept = match &record.outcome {
            // A dead letter keeps its key, because retrying it answers the same request.
            Some(Outcome::Failed { dead_letter, .. }) => {
                self.tables.letters.number_of(*dead_letter).is_some()
            }
            // The outcome of a send is that it was taken: what became of it is seen by the letter alone.
            Some(Outcome::Accepted) => live.letters().any(|(_, letter)| {
                fingerprint(&letter.argument) == record.fingerprint
                    && is_of_request(letter, address, verb, key)
            }),
            Some(Outcome::Replied(_)) => false,
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
                if let Some(live) = self.tables.live_mut(address) {
                    live.take_record(verb, key);
                }
                self.calls.forget(call);
                self.mark(Key::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                });
                self.tables.tidy(address);
            }
            Some(expires_at_ms) => {
                let due = Due::Idempotency {
                    address: address.clone(),
                    verb,
                    key: key.clone(),
                };
                self.agenda.add(expires_at_ms, due);
            }
            // Its dead letter was retried: there is no outcome at present, and expiry counts from the next one.
            None => {}
        }
    }
}

/// How often the dead letter of a request may have been tried again and still be known as that request's.
const RETRIES_KNOWN: usize = 100;

/// Whether a dead letter is the message of the request with this key, or of one of its retries.
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
