//! Turns of addresses: the pending messages of one address become a batch.
//!
//! The crash guard lives here too. It keeps a message that ends the process at once from being
//! retried forever without a trace.

use std::sync::Arc;

use super::commits::Release;
use super::{Partition, Stopping};
use crate::address::Address;
use crate::durable::Key;
use crate::endpoint::Endpoint;
use crate::invocation::{
    AttemptId, BATCH_OVERHEAD_BYTES, Batch, BatchMessage, BatchState, EndpointIndex,
};
use crate::message::Message;
use crate::output::Output;
use crate::tables::{ActiveState, Activity, Flight, FunctionStates, Instance};
use crate::trace::TraceParent;

/// Number of consecutive crashes after which a message that was pending at each of them is tried
/// alone, with its attempt durable beforehand.
const CRASHES_TOLERATED: u32 = 3;

impl Partition {
    /// Starts a batch for every address that waits for its turn.
    pub(super) fn start_batches(&mut self) {
        if self.stopping != Stopping::No {
            return;
        }
        while let Some(address) = self.ready.pop_front() {
            self.start_batch(&address);
        }
    }

    fn start_batch(&mut self, address: &Address) {
        self.apply_corrections(address);
        let Some(active) = self.tables.active_mut(address) else {
            return;
        };
        let turn = match active.activity {
            Activity::Ready | Activity::AttemptDurable | Activity::MessagesDurable => {
                active.activity.clone()
            }
            _ => return,
        };
        active.activity = Activity::Idle;
        if active.mailbox.is_empty() || active.suspension.is_some() {
            self.tables.prune(address);
            return;
        }
        let Some(endpoint) = self.config.endpoints.serving(&address.function) else {
            // The module that served the function was removed after the message arrived.
            let reason = format!("no endpoint serves the function {}", address.function);
            self.give_up_head(address, reason);
            return;
        };
        if self.is_blocked(address) {
            if turn == Activity::AttemptDurable {
                self.withdraw_counted_attempt(address);
            }
            self.wait_for_function(address);
            return;
        }
        let released = turn == Activity::AttemptDurable;
        if self.is_crash_suspect(address) && !released {
            self.guard_attempt(address, endpoint);
        } else if turn == Activity::Ready && self.is_crash_guarded() {
            self.guard_messages(address);
        } else {
            self.invoke(address, endpoint, released);
        }
    }

    /// Returns whether messages must be durable before they are tried. A message that ends the
    /// process at once would otherwise return with every new owner (read again from its shard, or
    /// sent again) without a trace of the earlier crashes.
    fn is_crash_guarded(&self) -> bool {
        self.now_ms < self.crash_guard_until_ms && !self.commits.is_all_durable()
    }

    /// Queues the address again once everything pending now is durable.
    fn guard_messages(&mut self, address: &Address) {
        if let Some(active) = self.tables.active_mut(address) {
            active.activity = Activity::GuardingMessages;
            self.release_when_durable(Release::StartBatch(address.clone()));
        }
    }

    /// Returns whether the process crashed repeatedly while the message at the head was pending.
    fn is_crash_suspect(&self, address: &Address) -> bool {
        let Some(active) = self.tables.active(address) else {
            return false;
        };
        match (&active.failures, active.mailbox.front()) {
            (Some(failures), Some((head, _))) => {
                failures.crashes >= CRASHES_TOLERATED && *head <= failures.crashes_through
            }
            _ => false,
        }
    }

    /// Counts the attempt as failed before it begins, so that it is counted even if it ends the
    /// process.
    fn guard_attempt(&mut self, address: &Address, endpoint: EndpointIndex) {
        let attempts_max = self.config.endpoints.get(endpoint).retries.attempts_max;
        let attempts =
            self.count_attempt(address, "the process ended during the attempt".to_owned());
        if attempts > attempts_max {
            self.give_up_or_suspend(
                address,
                endpoint,
                "the process ended at every attempt of this message".to_owned(),
            );
            return;
        }
        if let Some(active) = self.tables.active_mut(address) {
            active.activity = Activity::GuardingAttempt;
            self.release_when_durable(Release::TryAlone(address.clone()));
        }
    }

    fn invoke(&mut self, address: &Address, index: EndpointIndex, alone: bool) {
        self.expire_values(address);
        let (declarations, generation) = self.declarations_for_request(&address.function);
        let endpoint = self.config.endpoints.get(index);
        let states = self.tables.states_of(&address.function);
        let attempt = AttemptId {
            partition: self.config.partition,
            epoch: self.epoch,
            number: self.next_attempt,
        };
        let instance = self
            .tables
            .instance(address)
            .expect("a ready address has an instance");
        let terms = BatchTerms {
            alone,
            has_spans: self.stories.is_some(),
        };
        let mut batch = make_batch(attempt, address, instance, states, endpoint, terms);
        batch.declarations = declarations;
        if batch.bytes > endpoint.bundle_bytes_max {
            // One message with its state exceeds the size of any request to this endpoint.
            let reason = format!(
                "the message and the state of its address take {} bytes, the endpoint takes {}",
                batch.bytes, endpoint.bundle_bytes_max
            );
            self.give_up_or_suspend(address, index, reason);
            return;
        }
        self.next_attempt += 1;
        let (messages, states) = (batch.messages.len(), batch.state.len());
        let active = self.tables.active_mut(address).expect("it has messages");
        assert_eq!(
            active.activity,
            Activity::Idle,
            "{address}: one batch in flight"
        );
        active.activity = Activity::InFlight(Flight {
            attempt: attempt.number,
            messages,
            presumed_failed: alone,
            states,
            generation,
            since_ms: self.now_ms,
        });
        let known = self.flights.insert(attempt.number, address.clone());
        assert_eq!(known, None, "attempt {attempt} is known once");
        self.tell_invoked(address, attempt, index, messages);
        self.outputs.push_back(Output::Invoke {
            endpoint: index,
            batch: Arc::new(batch),
        });
    }

    /// Removes expired values, so that none is ever sent.
    fn expire_values(&mut self, address: &Address) {
        let Some(states) = self.tables.states_of(&address.function) else {
            return;
        };
        let Some(instance) = self.tables.instance(address) else {
            return;
        };
        let expired: Vec<_> = instance
            .states()
            .filter(|state| state.is_expired(self.now_ms))
            .map(|state| {
                (
                    state.slot,
                    states.slots[usize::from(state.slot)].name.clone(),
                )
            })
            .collect();
        for (slot, name) in expired {
            self.tables.remove_state(address, slot);
            self.counts.expired += 1;
            self.mark_changed(Key::State {
                address: address.clone(),
                name,
            });
        }
    }
}

/// Terms of a batch.
#[derive(Clone, Copy)]
struct BatchTerms {
    /// True if it has one message.
    alone: bool,
    /// True if the messages of sampled traces are spans.
    has_spans: bool,
}

fn make_batch(
    attempt: AttemptId,
    address: &Address,
    instance: &Instance,
    states: Option<&FunctionStates>,
    endpoint: &Endpoint,
    terms: BatchTerms,
) -> Batch {
    let active = instance.active.as_ref().expect("it has messages");
    let state = batch_state(instance, states);
    let mut bytes = BATCH_OVERHEAD_BYTES + state.iter().map(state_bytes).sum::<usize>();
    let mut messages = Vec::new();
    for (number, message) in active
        .mailbox
        .iter()
        .take(batch_limit(active, endpoint, terms.alone))
    {
        let message_bytes = message.bytes() + BATCH_OVERHEAD_BYTES;
        let fits = bytes + message_bytes <= endpoint.bundle_bytes_max;
        if message.correction.is_some() || !(fits || messages.is_empty()) {
            break;
        }
        bytes += message_bytes;
        messages.push(batch_message(*number, message, active, terms.has_spans));
    }
    Batch {
        attempt,
        target: address.clone(),
        state,
        messages,
        declarations: [].into(),
        bytes,
    }
}

fn batch_limit(active: &ActiveState, endpoint: &Endpoint, alone: bool) -> usize {
    let isolation = active
        .isolation
        .map_or(usize::MAX, |isolation| isolation.messages_max);
    let limit = endpoint.batch_messages_max.min(isolation).max(1);
    if alone { 1 } else { limit }
}

/// Lists every state that the function declares, with its value if there is one.
fn batch_state(instance: &Instance, states: Option<&FunctionStates>) -> Vec<BatchState> {
    let slots = states.map_or(&[][..], |states| &states.slots);
    (0..)
        .zip(slots)
        .filter(|(_, slot)| slot.travels())
        .map(|(index, slot)| BatchState {
            name: slot.name.clone(),
            value: instance
                .state(index)
                .map(|(_, value)| (slot.typename.clone(), value)),
        })
        .collect()
}

fn state_bytes(state: &BatchState) -> usize {
    let value = state.value.as_ref();
    state.name.len() + value.map_or(0, |(typename, value)| typename.len() + value.len()) + 16
}

fn batch_message(
    number: u64,
    message: &Message,
    active: &ActiveState,
    has_spans: bool,
) -> BatchMessage {
    // What the function does is part of the message's own span.
    let own = |trace: TraceParent| match has_spans && trace.is_sampled() {
        true => trace.through(message.id.0),
        false => trace,
    };
    let failures = active
        .failures
        .as_ref()
        .filter(|failures| failures.message == number);
    BatchMessage {
        caller: message.caller.clone(),
        argument: message.argument.clone(),
        id: message.id.to_string().into(),
        failed_attempts: failures.map_or(0, |failures| failures.attempts),
        trace: message.trace.map(own),
        headers: message.headers.clone(),
    }
}
