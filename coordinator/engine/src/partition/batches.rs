//! Giving addresses their turn: the pending messages of one address become a batch.

use std::sync::Arc;

use super::commits::Release;
use super::{Partition, Stopping};
use crate::address::Address;
use crate::durable::Key;
use crate::endpoint::Endpoint;
use crate::invocation::{AttemptId, Batch, BatchMessage, BatchState, EndpointIndex};
use crate::message::Message;
use crate::output::Output;
use crate::tables::{Activity, Flight, FunctionStates, Instance, Live};

/// After so many deaths of the process in a row, a message that was pending at each is tried alone, its attempt durable beforehand.
const DEATHS_TOLERATED: u32 = 3;

/// What a message takes on the wire besides its own bytes.
const WIRE_OVERHEAD_BYTES: usize = 96;

impl Partition {
    /// Starts a batch for every address whose turn it is.
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
        let Some(live) = self.tables.live_mut(address) else {
            return;
        };
        let turn = match live.activity {
            Activity::Ready | Activity::Released | Activity::Admitted => live.activity.clone(),
            _ => return,
        };
        live.activity = Activity::Idle;
        if live.mailbox.is_empty() || live.suspension.is_some() {
            self.tables.tidy(address);
            return;
        }
        let Some(endpoint) = self.config.endpoints.serving(&address.function) else {
            // The module that served it is gone since the message came.
            let reason = format!("no endpoint serves the function {}", address.function);
            self.give_up_head(address, reason);
            return;
        };
        let released = turn == Activity::Released;
        if self.is_deadly(address) && !released {
            self.gate(address, endpoint);
        } else if turn == Activity::Ready && self.is_cautious() {
            self.hold(address);
        } else {
            self.invoke(address, endpoint, released);
        }
    }

    /// Whether messages must be durable before they are tried. A message that ends the process at once would otherwise come again with every
    /// new owner (read from its shard once more, or sent again) without a trace of the deaths before.
    fn is_cautious(&self) -> bool {
        self.now_ms < self.cautious_until_ms && !self.commits.is_everything_durable()
    }

    /// Gives the address its turn again when everything that it could be given now is durable.
    fn hold(&mut self, address: &Address) {
        if let Some(live) = self.tables.live_mut(address) {
            live.activity = Activity::Held;
            self.release_when_durable(Release::Begin(address.clone()));
        }
    }

    /// Whether the process died often while the message at the head was pending.
    fn is_deadly(&self, address: &Address) -> bool {
        let Some(live) = self.tables.live(address) else {
            return false;
        };
        match (&live.trouble, live.mailbox.front()) {
            (Some(trouble), Some((head, _))) => {
                trouble.deaths >= DEATHS_TOLERATED && *head <= trouble.deaths_through
            }
            _ => false,
        }
    }

    /// Counts the attempt as failed before it begins, so that it is counted even if it ends the process.
    fn gate(&mut self, address: &Address, endpoint: EndpointIndex) {
        let attempts_max = self.config.endpoints.get(endpoint).retries.attempts_max;
        let attempts =
            self.count_attempt(address, "the process ended during the attempt".to_owned());
        if attempts > attempts_max {
            self.give_up_or_suspend(
                address,
                endpoint,
                "each time that this message was tried, the process ended".to_owned(),
            );
            return;
        }
        if let Some(live) = self.tables.live_mut(address) {
            live.activity = Activity::Gated;
            self.release_when_durable(Release::Try(address.clone()));
        }
    }

    fn invoke(&mut self, address: &Address, index: EndpointIndex, alone: bool) {
        self.expire_values(address);
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
        let batch = make_batch(attempt, address, instance, states, endpoint, alone);
        if batch.bytes > endpoint.bundle_bytes_max {
            // One message with its state is too large for any request to this endpoint.
            let reason = format!(
                "the message with the state of its address takes {} bytes, the endpoint takes {}",
                batch.bytes, endpoint.bundle_bytes_max
            );
            self.give_up_or_suspend(address, index, reason);
            return;
        }
        self.next_attempt += 1;
        let (messages, states) = (batch.messages.len(), batch.state.len());
        let live = self.tables.live_mut(address).expect("it has messages");
        assert_eq!(
            live.activity,
            Activity::Idle,
            "{address}: one batch in flight"
        );
        live.activity = Activity::InFlight(Flight {
            attempt: attempt.number,
            messages,
            presumed: alone,
            states,
        });
        let known = self.flights.insert(attempt.number, address.clone());
        assert_eq!(known, None, "attempt {attempt} is known once");
        self.outputs.push_back(Output::Invoke {
            endpoint: index,
            batch: Arc::new(batch),
        });
    }

    /// Removes values that have expired, so that an expired value is never sent.
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
            self.mark(Key::State {
                address: address.clone(),
                name,
            });
        }
    }
}

fn make_batch(
    attempt: AttemptId,
    address: &Address,
    instance: &Instance,
    states: Option<&FunctionStates>,
    endpoint: &Endpoint,
    alone: bool,
) -> Batch {
    let live = instance.live.as_ref().expect("it has messages");
    let state = batch_state(instance, states);
    let mut bytes = WIRE_OVERHEAD_BYTES + state.iter().map(state_bytes).sum::<usize>();
    let mut messages = Vec::new();
    for (number, message) in live.mailbox.iter().take(batch_limit(live, endpoint, alone)) {
        let message_bytes = message.bytes() + WIRE_OVERHEAD_BYTES;
        let fits = bytes + message_bytes <= endpoint.bundle_bytes_max;
        if message.correction.is_some() || !(fits || messages.is_empty()) {
            break;
        }
        bytes += message_bytes;
        messages.push(batch_message(*number, message, live));
    }
    Batch {
        attempt,
        target: address.clone(),
        state,
        messages,
        bytes,
    }
}

fn batch_limit(live: &Live, endpoint: &Endpoint, alone: bool) -> usize {
    let isolation = live
        .isolation
        .map_or(usize::MAX, |isolation| isolation.messages_max);
    let limit = endpoint.batch_messages_max.min(isolation).max(1);
    if alone { 1 } else { limit }
}

/// Every state that the function declared, with its value if it has one.
fn batch_state(instance: &Instance, states: Option<&FunctionStates>) -> Vec<BatchState> {
    let slots = states.map_or(&[][..], |states| &states.slots);
    (0..)
        .zip(slots)
        .filter(|(_, slot)| slot.declared.is_some())
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

fn batch_message(number: u64, message: &Message, live: &Live) -> BatchMessage {
    let trouble = live
        .trouble
        .as_ref()
        .filter(|trouble| trouble.message == number);
    BatchMessage {
        caller: message.caller.clone(),
        argument: message.argument.clone(),
        id: message.id.to_string().into(),
        failed_attempts: trouble.map_or(0, |trouble| trouble.attempts),
    }
}
