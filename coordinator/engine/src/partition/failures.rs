//! Handling of failed batches: a batch is retried and halved until the failing message is alone,
//! then that message is given up.
//!
//! An attempt counts against a message only while it is alone in its batch, so a message never
//! becomes a dead letter because of its neighbours. During the search for a poison message, the
//! batch holds the front part of the failed batch. Later messages stay behind, so the order is
//! kept, and each part carries the state that the part before it left.

use std::sync::Arc;

use super::Partition;
use super::notices::{Notice, shortened};
use super::schedule::Scheduled;
use super::suspension::Cause;
use crate::address::Address;
use crate::durable::{DeadLetter, Key, OutboxEntry, Suspension};
use crate::endpoint::{OnPoison, Retries};
use crate::invocation::{AttemptId, EndpointIndex, Failure, FailureKind};
use crate::message::Message;
use crate::story::Step;
use crate::tables::{Activity, Flight, Isolation, home_of_unaddressed};

impl Partition {
    pub(super) fn invocation_failed(&mut self, attempt: AttemptId, failure: &Failure) {
        if let Some(function) = self.take_probe(attempt) {
            self.probe_failed(&function, attempt, failure);
        } else if let Some((address, flight)) = self.end_flight(attempt) {
            self.batch_failed(&address, flight, failure);
        }
    }

    /// Handles the failure of a batch that is no longer in flight.
    pub(super) fn batch_failed(&mut self, address: &Address, flight: Flight, failure: &Failure) {
        self.tell_failed(address, (flight.attempt, flight.messages), failure);
        let Some(endpoint) = self.config.endpoints.serving(&address.function) else {
            self.make_ready(address);
            return;
        };
        self.trial_failed(address);
        if failure.kind.may_be_of_function() && self.function_types.is_suspended(&address.function)
        {
            // The version that failed does not fit, so its failures prove nothing.
            self.withdraw_presumed_attempt(address, flight);
            self.make_ready(address);
            return;
        }
        let retries = self.config.endpoints.get(endpoint).retries;
        match failure.kind {
            FailureKind::Throttled | FailureKind::Unavailable => {
                self.withdraw_presumed_attempt(address, flight);
                self.back_off(address, retries, 1);
            }
            FailureKind::Incompatible => {
                self.withdraw_presumed_attempt(address, flight);
                let reason = failure.message.clone();
                self.suspend_function(address, Cause::Protocol, reason);
                self.make_ready(address);
            }
            FailureKind::Terminal => self.batch_rejected(address, flight, endpoint, failure),
            _ if flight.messages > 1 => {
                self.isolate(address, flight.messages);
                self.back_off(address, retries, 1);
            }
            FailureKind::RequestTooLarge => {
                self.give_up_or_suspend(address, endpoint, failure.message.clone());
            }
            FailureKind::Function
            | FailureKind::Ambiguous
            | FailureKind::TimedOut
            | FailureKind::ConnectionLost => {
                let attempts = if flight.presumed_failed {
                    self.explain_presumed_attempt(address, failure.message.clone())
                } else {
                    self.count_attempt(address, failure.message.clone())
                };
                if attempts >= retries.attempts_max {
                    let reason = failure.message.clone();
                    if !self.await_confirmation(address, flight.attempt, &reason) {
                        self.give_up_or_suspend(address, endpoint, reason);
                    }
                } else {
                    self.back_off(address, retries, attempts);
                }
            }
        }
        if failure.kind.may_be_of_function() {
            // A new version may have caused it, whose declarations no request has shown yet.
            self.renew_declarations(address, true);
        }
    }

    /// Clears the failure record after the messages of a batch were processed.
    pub(super) fn succeeded(&mut self, address: &Address) {
        self.function_types.settle_dispute(address);
        let Some(active) = self.tables.active_mut(address) else {
            return;
        };
        let head = active.mailbox.front().map(|(number, _)| *number);
        active.isolation = active
            .isolation
            .filter(|isolation| head.is_some_and(|head| head <= isolation.through))
            .map(|isolation| Isolation {
                messages_max: isolation.messages_max.saturating_mul(2),
                ..isolation
            });
        let Some(failures) = &mut active.failures else {
            return;
        };
        if failures.crashes > 0 && head.is_some_and(|head| head <= failures.crashes_through) {
            failures.attempts = 0;
            failures.message = 0;
            failures.reason.clear();
        } else {
            active.failures = None;
        }
        self.mark_changed(Key::FailureRecord {
            address: address.clone(),
        });
    }

    /// Halves the next batch.
    pub(super) fn isolate(&mut self, address: &Address, messages: usize) {
        self.limit_batch(address, messages / 2, messages);
    }

    /// Limits the next batches to `messages_max` messages until the first `through` messages of the
    /// mailbox are processed.
    pub(super) fn limit_batch(&mut self, address: &Address, messages_max: usize, through: usize) {
        if let Some(active) = self.tables.active_mut(address) {
            let last = active
                .mailbox
                .get(through - 1)
                .map_or(0, |(number, _)| *number);
            let through = active
                .isolation
                .map_or(last, |isolation| isolation.through.max(last));
            active.isolation = Some(Isolation {
                messages_max,
                through,
            });
        }
    }

    /// Schedules the next try of an address after a delay that doubles with each attempt.
    pub(super) fn back_off(&mut self, address: &Address, retries: Retries, attempts: u32) {
        let doublings = attempts.saturating_sub(1).min(32);
        let delay_ms = retries
            .backoff_initial_ms
            .saturating_mul(1 << doublings)
            .min(retries.backoff_max_ms);
        if let Some(active) = self.tables.active_mut(address) {
            active.activity = Activity::BackingOff;
            let due_ms = self.now_ms + self.jitter(delay_ms);
            let until_ms = due_ms;
            self.tell_batch(address, 1, false, || Step::Deferred { until_ms });
            let address = address.clone();
            self.schedule.add(due_ms, Scheduled::Retry { address });
        }
    }

    /// Returns a delay between half of `delay_ms` and all of it, so that addresses that failed
    /// together are not retried together. It derives from the attempts made so far, so that a run
    /// can be replayed.
    fn jitter(&self, delay_ms: u64) -> u64 {
        let draw = (self.next_attempt ^ self.schedule.entries_made())
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 32;
        delay_ms - (delay_ms / 2).saturating_mul(draw) / (1 << 32)
    }

    /// Counts a failed attempt of the message at the head. Returns the number of its failed
    /// attempts.
    pub(super) fn count_attempt(&mut self, address: &Address, reason: String) -> u32 {
        self.note_attempt(address, reason, 1)
    }

    /// Withdraws an attempt that was counted in advance, because it did not reach the function's
    /// code.
    pub(super) fn withdraw_presumed_attempt(&mut self, address: &Address, flight: Flight) {
        if flight.presumed_failed {
            self.withdraw_counted_attempt(address);
        }
    }

    /// Withdraws the attempt that the crash guard counted in advance.
    pub(super) fn withdraw_counted_attempt(&mut self, address: &Address) {
        if let Some(failures) = self
            .tables
            .active_mut(address)
            .and_then(|active| active.failures.as_mut())
        {
            failures.attempts = failures.attempts.saturating_sub(1);
            self.mark_changed(Key::FailureRecord {
                address: address.clone(),
            });
        }
    }

    /// Sets the reason of an attempt that was counted in advance.
    fn explain_presumed_attempt(&mut self, address: &Address, reason: String) -> u32 {
        self.note_attempt(address, reason, 0)
    }

    fn note_attempt(&mut self, address: &Address, reason: String, more: u32) -> u32 {
        let Some(active) = self.tables.active_mut(address) else {
            return 0;
        };
        let Some((head, _)) = active.mailbox.front() else {
            return 0;
        };
        let failures = active.failures.get_or_insert_default();
        if failures.message != *head {
            failures.message = *head;
            failures.attempts = 0;
        }
        failures.attempts += more;
        failures.reason = reason;
        let attempts = failures.attempts;
        self.mark_changed(Key::FailureRecord {
            address: address.clone(),
        });
        attempts
    }

    /// Makes the message at the head a dead letter or suspends the address, as configured for the
    /// endpoint.
    pub(super) fn give_up_or_suspend(
        &mut self,
        address: &Address,
        endpoint: EndpointIndex,
        reason: String,
    ) {
        match self.config.endpoints.get(endpoint).on_poison {
            OnPoison::DeadLetter => self.give_up_head(address, reason),
            OnPoison::Suspend => {
                if let Some(active) = self.tables.active_mut(address) {
                    active.activity = Activity::Idle;
                    let shown = shortened(&reason);
                    active.suspension = Some(Suspension {
                        reason,
                        since_ms: self.now_ms,
                    });
                    self.mark_changed(Key::Suspension {
                        address: address.clone(),
                    });
                    let reason: Arc<str> = shown.as_str().into();
                    self.tell_batch(address, 1, false, || Step::Suspended {
                        reason: Arc::clone(&reason),
                    });
                    self.notice(Notice::AddressSuspended {
                        address: address.clone(),
                        reason: shown,
                    });
                }
            }
        }
    }

    /// Makes a dead letter of the message at the head. The address continues.
    pub(super) fn give_up_head(&mut self, address: &Address, reason: String) {
        let Some((message, attempts)) = self.take_head(address) else {
            return;
        };
        self.give_up(address, message, attempts, reason);
        self.make_ready(address);
        self.tables.prune(address);
    }

    /// Removes the message at the head, which is concluded without being processed. Returns it with
    /// the number of its failed attempts.
    pub(super) fn take_head(&mut self, address: &Address) -> Option<(Message, u32)> {
        let active = self.tables.active_mut(address)?;
        active.activity = Activity::Idle;
        let (number, message) = active.pop_message()?;
        let failures = active
            .failures
            .as_ref()
            .filter(|failures| failures.message == number);
        let attempts = failures.map_or(0, |failures| failures.attempts);
        self.subtract_pending(message.pending_bytes(address));
        let key = Key::Message {
            address: address.clone(),
            number,
        };
        self.mark_ended(key, number);
        self.succeeded(address);
        Some((message, attempts))
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
            key_group: None,
            trace: message.trace,
        };
        self.add_dead_letter(Some(address), letter);
    }

    pub(super) fn add_dead_letter(&mut self, address: Option<&Address>, letter: DeadLetter) {
        let number = self.tables.take_number();
        self.counts.dead_letters += 1;
        self.tell_fact((letter.id, letter.trace), true, || Step::DeadLetter {
            reason: shortened(&letter.reason).into(),
            attempts: letter.attempts,
        });
        self.notice(Notice::DeadLetter {
            id: letter.id,
            function: address.map(|address| address.function.clone()),
            egress: letter.egress.clone(),
            attempts: letter.attempts,
            reason: shortened(&letter.reason),
        });
        // One that belongs to no address is stored in a bucket too, where it can be evicted.
        let home = match address {
            Some(address) => address.clone(),
            None => home_of_unaddressed(letter.id, &self.tables.placement()),
        };
        match self.tables.absent_bucket_of(&home) {
            Some(bucket) => {
                self.tables
                    .put_absent_dead_letter(home.clone(), number, letter);
                // Additions to an absent bucket cannot be evicted.
                self.request_load(bucket);
            }
            None => self.tables.add_dead_letter(Some(&home), number, letter),
        }
        self.mark_changed(Key::DeadLetter {
            address: Some(home),
            number,
        });
    }

    /// Makes a dead letter of a record that an egress will never accept as it is.
    pub(super) fn egress_refused(&mut self, number: u64, reason: String) {
        if let Some(OutboxEntry {
            id,
            egress,
            value,
            key_group,
            trace,
        }) = self.take_outbox(number)
        {
            let letter = DeadLetter {
                id,
                source: format!("egress {egress}"),
                caller: None,
                argument: value,
                attempts: 1,
                reason,
                failed_at_ms: self.now_ms,
                egress: Some(egress),
                key_group,
                trace,
            };
            self.add_dead_letter(None, letter);
        }
    }
}
