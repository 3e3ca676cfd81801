//! Queries and corrections by administrators.
//!
//! An answer waits until everything that it reports is durable. A correction of a state takes its
//! turn among the messages of its address. If the address or its function stands still, or no
//! message is pending, the correction takes effect at once.

use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::{JSON_TYPENAME, built_in_from_json, typed_value};

use super::Partition;
use super::notices::Notice;
use crate::address::Address;
use crate::durable::{DeadLetter, Key, OutboxEntry};
use crate::input::Administration;
use crate::message::{Correction, IdSource, Message, MessageId};
use crate::output::{AddressView, Answer, StateView};
use crate::request::RequestId;
use crate::story::Step;
use crate::tables::Activity;

impl Partition {
    pub(super) fn administered(&mut self, request: RequestId, administration: Administration) {
        let address = administration.address();
        if let Some(partition) = address.and_then(|address| self.owner_elsewhere(address)) {
            self.answer(request, Answer::Elsewhere { partition });
            return;
        }
        let Some(administration) = self.defer_administration(request, administration) else {
            return;
        };
        let answer = match administration {
            Administration::Inspect(address) => self.inspect(&address),
            Administration::ShowMailbox {
                address,
                after,
                limit,
            } => self.show_mailbox(&address, after, limit),
            Administration::ListDeadLetters {
                filter,
                after,
                limit,
            } => {
                self.list_dead_letters(request, &filter, after, limit);
                return;
            }
            Administration::RetryDeadLetter(id) => self.retry_dead_letter(id),
            Administration::DropDeadLetter(id) => self.drop_dead_letter(id),
            Administration::ChangeDeadLetters {
                change,
                filter,
                cursor,
                limit,
            } => self.change_dead_letters(change, &filter, cursor, limit),
            Administration::SetState {
                address,
                state,
                value,
            } => self.correct(&address, state, Some(value)),
            Administration::DeleteState { address, state } => self.correct(&address, state, None),
            Administration::DropState {
                bucket,
                function,
                state,
                limit,
            } => self.drop_state(bucket, function, state, limit),
            Administration::Resume(address) => self.resume_address(&address),
            Administration::Skip(address) => self.skip_message(&address),
            Administration::PauseIngress { ingress, reason } => self.pause_ingress(ingress, reason),
            Administration::ResumeIngress(ingress) => self.resume_ingress(&ingress),
            Administration::PauseFunction { function, reason } => {
                self.pause_function(function, reason)
            }
            Administration::ResumeFunction(function) => self.resume_paused_function(function),
            Administration::ListAddresses {
                bucket,
                function,
                prefix,
                after,
                limit,
            } => self.list_addresses(
                bucket,
                (function.as_deref(), &prefix),
                after.as_ref(),
                limit,
            ),
            Administration::ListTimers { function, limit } => {
                self.start_listing(request, function, limit);
                return;
            }
        };
        self.reply_when_durable(request, answer);
    }

    fn inspect(&self, address: &Address) -> Answer {
        let Some(instance) = self.tables.instance(address) else {
            return Answer::NotFound(format!(
                "{address} is unknown: it has no state and nothing pending"
            ));
        };
        let slots = self.tables.states_of(&address.function);
        let state = instance
            .states()
            .filter(|state| !state.is_expired(self.now_ms))
            .filter_map(|state| {
                let slot = &slots?.slots[usize::from(state.slot)];
                Some(StateView {
                    name: slot.name.clone(),
                    typename: slot.typename.clone(),
                    value: state.value(),
                    expires_at_ms: state.expires_at_ms(),
                })
            })
            .collect();
        let active = instance.active.as_ref();
        let failures = active.and_then(|active| active.failures.as_ref());
        let suspension = active.and_then(|active| active.suspension.as_ref());
        Answer::Address(Box::new(AddressView {
            address: address.clone(),
            state,
            backlog_messages: active.map_or(0, |active| active.mailbox.len()),
            backlog_bytes: active.map_or(0, |active| active.mailbox_bytes),
            in_flight: active
                .is_some_and(|active| matches!(active.activity, Activity::InFlight(_))),
            suspended: suspension.map(|suspension| suspension.reason.clone()),
            function_stopped: self.block_of(&address.function),
            failing: failures
                .filter(|failures| failures.attempts > 0)
                .map(|failures| (failures.attempts, failures.reason.clone())),
        }))
    }

    fn take_dead_letter(&mut self, number: u64) -> Option<(Option<Address>, DeadLetter)> {
        let taken = self.tables.take_dead_letter(number)?;
        let key = Key::DeadLetter {
            address: taken.0.clone(),
            number,
        };
        self.mark_ended(key, number);
        Some(taken)
    }

    fn retry_dead_letter(&mut self, id: MessageId) -> Answer {
        let number = self.tables.dead_letters.number_of(id);
        match number.map(|number| self.retry_numbered(number)) {
            None => Answer::NotFound(format!("there is no dead letter {id}")),
            Some(true) => Answer::Done,
            Some(false) => Answer::Refused(
                "the record could not be routed to any address, so it cannot be retried".to_owned(),
            ),
        }
    }

    /// Retries a dead letter. Returns false, and keeps it, if its record could not be routed.
    pub(super) fn retry_numbered(&mut self, number: u64) -> bool {
        let entry = self.tables.dead_letters.get(number);
        let address = entry.and_then(|entry| entry.address.clone());
        let egress = self
            .tables
            .dead_letter(number)
            .and_then(|letter| letter.egress.clone());
        if address.is_none() && egress.is_none() {
            return false;
        }
        let Some((_, letter)) = self.take_dead_letter(number) else {
            return false;
        };
        let again = MessageId::derive(IdSource::Retry { parent: letter.id }, &letter.argument);
        let trace = self.trace_through(letter.id, letter.trace);
        self.tell(again, trace, || Step::Retried { letter: letter.id });
        if let Some(egress) = egress {
            self.put_outbox(OutboxEntry {
                id: again,
                egress,
                value: letter.argument,
                key_group: letter.key_group,
                trace,
            });
        } else if let Some(address) = address {
            if let Some(caller) = &letter.caller {
                self.call_reopened(caller);
            }
            let message = Message {
                id: again,
                caller: letter.caller,
                argument: letter.argument,
                correction: None,
                trace,
                headers: None,
            };
            self.deliver(&address, message);
        }
        true
    }

    fn drop_dead_letter(&mut self, id: MessageId) -> Answer {
        let number = self.tables.dead_letters.number_of(id);
        match number.filter(|number| self.drop_numbered(*number)) {
            Some(_) => Answer::Done,
            None => Answer::NotFound(format!("there is no dead letter {id}")),
        }
    }

    /// Deletes a dead letter. Returns whether there was one.
    pub(super) fn drop_numbered(&mut self, number: u64) -> bool {
        self.take_dead_letter(number).is_some()
    }

    fn resume_address(&mut self, address: &Address) -> Answer {
        let active = self.tables.active_mut(address);
        let Some(active) = active.filter(|active| active.suspension.is_some()) else {
            return Answer::NotFound(format!("{address} is not suspended"));
        };
        active.suspension = None;
        if let Some(failures) = &mut active.failures {
            failures.attempts = 0;
        }
        self.mark_changed(Key::Suspension {
            address: address.clone(),
        });
        self.mark_changed(Key::FailureRecord {
            address: address.clone(),
        });
        self.notice(Notice::AddressResumed {
            address: address.clone(),
        });
        self.make_ready(address);
        self.tables.prune(address);
        Answer::Done
    }

    /// Gives up the message that suspended an address. The address continues behind it.
    fn skip_message(&mut self, address: &Address) -> Answer {
        let active = self.tables.active_mut(address);
        let suspension = active.and_then(|active| active.suspension.take());
        let Some(suspension) = suspension else {
            return Answer::NotFound(format!("{address} is not suspended"));
        };
        self.mark_changed(Key::Suspension {
            address: address.clone(),
        });
        self.give_up_head(address, suspension.reason);
        Answer::Done
    }

    /// Sets or deletes a state, or queues the correction behind the pending messages.
    fn correct(&mut self, address: &Address, state: Arc<str>, value: Option<TypedValue>) -> Answer {
        let states = self.tables.states_of(&address.function);
        let Some((_, slot)) = states.and_then(|states| states.find(&state)) else {
            let function = &address.function;
            return Answer::NotFound(format!("the function {function} has no state {state:?}"));
        };
        let value = match value.map(|value| as_declared(value, &slot.typename)) {
            None => None,
            Some(Ok(value)) => Some(value),
            Some(Err(why)) => return Answer::Refused(format!("the state {state:?} is {why}")),
        };
        let waits = self.tables.active(address).is_some_and(|active| {
            let stands = active.suspension.is_some() || active.activity == Activity::Blocked;
            !stands && !active.mailbox.is_empty()
        });
        if waits {
            let message = correction(state, value);
            self.enqueue(address, message);
        } else {
            // Older corrections may wait behind the message that suspended the address. They would
            // overwrite this one later.
            self.withdraw_corrections(address, &state);
            self.write_state(address, &state, value.map(|value| value.value));
            self.tables.prune(address);
        }
        Answer::Done
    }

    pub(super) fn withdraw_corrections(&mut self, address: &Address, state: &str) {
        let Some(active) = self.tables.active_mut(address) else {
            return;
        };
        for (number, message) in active.take_corrections(state) {
            self.subtract_pending(message.pending_bytes(address));
            let address = address.clone();
            self.mark_ended(Key::Message { address, number }, number);
        }
    }

    /// Applies the corrections at the head of a mailbox.
    pub(super) fn apply_corrections(&mut self, address: &Address) {
        while let Some(active) = self.tables.active_mut(address)
            && active
                .mailbox
                .front()
                .is_some_and(|(_, message)| message.correction.is_some())
        {
            let Some((number, message)) = active.pop_message() else {
                return;
            };
            self.subtract_pending(message.pending_bytes(address));
            let key = Key::Message {
                address: address.clone(),
                number,
            };
            self.mark_ended(key, number);
            if let Some(correction) = message.correction {
                let value = (!correction.delete).then_some(message.argument.value);
                self.write_state(address, &correction.state, value);
            }
        }
    }
}

/// Converts a value for a state declared as `typename`. JSON text, which operators write, is parsed
/// for a built-in type and taken as raw bytes for any other type. The error text continues a
/// sentence that begins with the name of the state.
fn as_declared(value: TypedValue, typename: &str) -> Result<TypedValue, String> {
    if value.typename == typename {
        return Ok(value);
    }
    if value.typename != JSON_TYPENAME {
        return Err(format!("a {typename}, not a {}", value.typename));
    }
    match built_in_from_json(typename, &value.value) {
        None => Ok(value),
        Some(Ok(wire)) => Ok(typed_value(typename, wire)),
        Some(Err(error)) => Err(format!("a {typename}, which the text is not: {error}")),
    }
}

fn correction(state: Arc<str>, value: Option<TypedValue>) -> Message {
    let delete = value.is_none();
    let argument = value.unwrap_or_default();
    let source = IdSource::BatchEffect {
        parents: &[],
        index: 0,
    };
    Message {
        id: MessageId::derive(source, &argument),
        caller: None,
        argument,
        correction: Some(Correction { state, delete }),
        trace: None,
        headers: None,
    }
}
