//! What happens when a batch fails: it is tried again, halved until the message that fails is alone, and that one given up on.
//!
//! An attempt counts against a message only while it is alone in its batch, so a message never becomes a dead letter for the company it
//! kept. While a poison message is searched for, the batch holds the front part of what failed; what came later stays behind, so order
//! is kept, and each part carries the state that the part before it left.

use super::Partition;
use super::agenda::Due;
use crate::address::Address;
use crate::durable::{DeadLetter, Key, OutboxEntry, Suspension, Value};
use crate::endpoint::{OnPoison, Retries};
use crate::invocation::{AttemptId, EndpointIndex, Failure, FailureKind};
use crate::message::Message;
use crate::tables::{Activity, Flight, Isolation};

impl Partition {
    pub(super) fn invocation_failed(&mut self, attempt: AttemptId, failure: &Failure) {
        if let Some((address, flight)) = self.landed(attempt) {
            self.batch_failed(&address, flight, failure);
        }
    }

    /// A batch that is out of flight got no good answer.
    pub(super) fn batch_failed(&mut self, address: &Address, flight: Flight, failure: &Failure) {
        let Some(endpoint) = self.config.endpoints.serving(&address.function) else {
            self.make_ready(address);
            return;
        };
        let retries = self.config.endpoints.get(endpoint).retries;
        match failure.kind {
            FailureKind::Throttled | FailureKind::Unreachable => {
                self.forgive_presumed(address, flight);
                self.back_off(address, retries, 1);
            }
            FailureKind::RequestTooLarge | FailureKind::Function if flight.messages > 1 => {
                self.isolate(address, flight.messages);
                self.back_off(address, retries, 1);
            }
            FailureKind::RequestTooLarge => {
                self.give_up_or_suspend(address, endpoint, failure.message.clone());
            }
            FailureKind::Function => {
                let attempts = if flight.presumed {
                    self.explain_attempt(address, failure.message.clone())
                } else {
                    self.count_attempt(address, failure.message.clone())
                };
                if attempts >= retries.attempts_max {
                    self.give_up_or_suspend(address, endpoint, failure.message.clone());
                } else {
                    self.back_off(address, retries, attempts);
                }
            }
        }
    }

    /// The messages of a batch were processed: what was known against them is over.
    pub(super) fn succeeded(&mut self, address: &Address) {
        let Some(live) = self.tables.live_mut(address) else {
            return;
        };
        let head = live.mailbox.front().map(|(number, _)| *number);
        live.isolation = live
            .isolation
            .filter(|isolation| head.is_some_and(|head| head <= isolation.through))
            .map(|isolation| Isolation {
                messages_max: isolation.messages_max.saturating_mul(2),
                ..isolation
            });
        let Some(trouble) = &mut live.trouble else {
            return;
        };
        if trouble.deaths > 0 && head.is_some_and(|head| head <= trouble.deaths_through) {
            trouble.attempts = 0;
            trouble.message = 0;
            trouble.reason.clear();
        } else {
            live.trouble = None;
        }
        self.mark(Key::Trouble {
            address: address.clone(),
        });
    }

    /// Halves the next batch.
    fn isolate(&mut self, address: &Address, messages: usize) {
        if let Some(live) = self.tables.live_mut(address) {
            let last_of_batch = live
                .mailbox
                .get(messages - 1)
                .map_or(0, |(number, _)| *number);
            let through = live.isolation.map_or(last_of_batch, |isolation| {
                isolation.through.max(last_of_batch)
            });
            live.isolation = Some(Isolation {
                messages_max: messages / 2,
                through,
            });
        }
    }

    /// Lets the address try again after a while that doubles with each attempt.
    fn back_off(&mut self, address: &Address, retries: Retries, attempts: u32) {
        let doublings = attempts.saturating_sub(1).min(32);
        let delay_ms = retries
            .backoff_initial_ms
            .saturating_mul(1 << doublings)
            .min(retries.backoff_max_ms);
        if let Some(live) = self.tables.live_mut(address) {
            live.activity = Activity::BackingOff;
            let due_ms = self.now_ms + self.jitter(delay_ms);
            let address = address.clone();
            self.agenda.add(due_ms, Due::Retry { address });
        }
    }

    /// Between half of `delay_ms` and all of it, so that addresses that failed together do not come back together. It derives from the
    /// attempts made so far, so that a run can be replayed.
    fn jitter(&self, delay_ms: u64) -> u64 {
        let draw =
            (self.next_attempt ^ self.agenda.entries()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        delay_ms - (delay_ms / 2).saturating_mul(draw) / (1 << 32)
    }

    /// Counts a failed attempt against the message at the head; returns how many it has had.
    pub(super) fn count_attempt(&mut self, address: &Address, reason: String) -> u32 {
        self.note_attempt(address, reason, 1)
    }

    /// An attempt that was counted before it began did not reach the function's code, so it was none.
    pub(super) fn forgive_presumed(&mut self, address: &Address, flight: Flight) {
        if !flight.presumed {
            return;
        }
        if let Some(trouble) = self
            .tables
            .live_mut(address)
            .and_then(|live| live.trouble.as_mut())
        {
            trouble.attempts = trouble.attempts.saturating_sub(1);
            self.mark(Key::Trouble {
                address: address.clone(),
            });
        }
    }

    /// Gives the reason of an attempt that was counted before it began.
    fn explain_attempt(&mut self, address: &Address, reason: String) -> u32 {
        self.note_attempt(address, reason, 0)
    }

    fn note_attempt(&mut self, address: &Address, reason: String, more: u32) -> u32 {
        let Some(live) = self.tables.live_mut(address) else {
            return 0;
        };
        let Some((head, _)) = live.mailbox.front() else {
            return 0;
        };
        let trouble = live.trouble.get_or_insert_default();
        if trouble.message != *head {
            trouble.message = *head;
            trouble.attempts = 0;
        }
        trouble.attempts += more;
        trouble.reason = reason;
        let attempts = trouble.attempts;
        self.mark(Key::Trouble {
            address: address.clone(),
        });
        attempts
    }

    /// The message at the head failed for good: what happens is the endpoint's choice.
    pub(super) fn give_up_or_suspend(
        &mut self,
        address: &Address,
        endpoint: EndpointIndex,
        reason: String,
    ) {
        match self.config.endpoints.get(endpoint).on_poison {
            OnPoison::DeadLetter => self.give_up_head(address, reason),
            OnPoison::Suspend => {
                if let Some(live) = self.tables.live_mut(address) {
                    live.activity = Activity::Idle;
                    live.suspension = Some(Suspension {
                        reason,
                        since_ms: self.now_ms,
                    });
                    self.mark(Key::Suspension {
                        address: address.clone(),
                    });
                }
            }
        }
    }

    /// Makes a dead letter of the message at the head; the address goes on.
    pub(super) fn give_up_head(&mut self, address: &Address, reason: String) {
        let Some(live) = self.tables.live_mut(address) else {
            return;
        };
        live.activity = Activity::Idle;
        let Some((number, message)) = live.pop_message() else {
            return;
        };
        let trouble = live
            .trouble
            .as_ref()
            .filter(|trouble| trouble.message == number);
        let attempts = trouble.map_or(0, |trouble| trouble.attempts);
        self.no_more_pending(message.bytes());
        let key = Key::Message {
            address: address.clone(),
            number,
        };
        self.mark_end(key, number);
        self.succeeded(address);
        self.give_up(address, message, attempts, reason);
        self.make_ready(address);
        self.tables.tidy(address);
    }

    /// Makes a dead letter of a message that is in no mailbox.
    pub(super) fn give_up(
        &mut self,
        address: &Address,
        message: Message,
        attempts: u32,
        reason: String,
    ) {
        if let Some(caller) = &message.caller {
            self.call_failed(caller, message.id, &reason);
        }
        let source = match &message.caller {
            Some(caller) => caller.to_string(),
            None => "outside".to_owned(),
        };
        let letter = DeadLetter {
            id: message.id,
            source,
            caller: message.caller,
            argument: message.argument,
            attempts,
            reason,
            failed_at_ms: self.now_ms,
            egress: None,
        };
        self.keep_letter(Some(address), letter);
    }

    pub(super) fn keep_letter(&mut self, address: Option<&Address>, letter: DeadLetter) {
        let number = self.tables.take_number();
        self.counts.dead_letters += 1;
        let key = Key::DeadLetter {
            address: address.cloned(),
            number,
        };
        match address.and_then(|address| self.tables.absent_bucket_of(address)) {
            Some(bucket) => {
                self.tables
                    .put_absent(key.clone(), Value::DeadLetter(letter));
                self.want_letters(bucket);
            }
            None => self.tables.put_letter(address, number, letter),
        }
        self.mark(key);
    }

    /// An egress will never take this record as it is.
    pub(super) fn egress_refused(&mut self, number: u64, reason: String) {
        if let Some(OutboxEntry { id, egress, value }) = self.take_outbox(number) {
            let letter = DeadLetter {
                id,
                source: format!("egress {egress}"),
                caller: None,
                argument: value,
                attempts: 1,
                reason,
                failed_at_ms: self.now_ms,
                egress: Some(egress),
            };
            self.keep_letter(None, letter);
        }
    }
}
