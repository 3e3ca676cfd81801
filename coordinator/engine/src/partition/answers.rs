//! Applying the answer of a function as one transaction: all of its effects, or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::effects::EFFECTS_MAX;
use satchel_protocol::reqreply::from_function::{
    DelayedInvocation, InvocationResponse, PersistedValueMutation, Response,
    persisted_value_mutation::MutationType,
};
use satchel_protocol::reqreply::{self, FromFunction, TypedValue};

use super::Partition;
use super::calls::is_caller;
use super::declarations::{Declaration, Refusal};
use super::effects::{Effects, Parent};
use super::notices::{Notice, shortened};
use super::rejections::{Defect, NOT_ACCEPTED};
use super::schedule::Scheduled;
use super::suspension::Cause;
use crate::address::{Address, FunctionType, ID_BYTES_MAX};
use crate::durable::{Expiration, Key, OutboxEntry, Timer};
use crate::input::EgressMark;
use crate::invocation::AttemptId;
use crate::message::Message;
use crate::story::{AttemptOutcome, Step};
use crate::tables::{Activity, Flight};

impl Partition {
    pub(super) fn invocation_completed(&mut self, attempt: AttemptId, answer: FromFunction) {
        if let Some(function) = self.take_probe(attempt) {
            self.probe_answered(&function, attempt, answer);
            return;
        }
        if self.is_in_flight(attempt) && self.awaits_pending(&answer) {
            self.defer_answer(attempt, answer);
            return;
        }
        let Some((address, flight)) = self.end_flight(attempt) else {
            return;
        };
        let failure = match answer.response {
            None => {
                self.apply(&address, flight, InvocationResponse::default());
                None
            }
            Some(Response::InvocationResult(response)) => {
                self.declaration_seen(&address.function, response.declaration);
                if let Some(reason) = self.mistyped(&address, &response)
                    && !self.is_own_mistake(&address, flight.attempt)
                {
                    self.function_misfits(&address, flight, reason);
                    return;
                }
                match self.check(&address, &response) {
                    Ok(()) => {
                        self.apply(&address, flight, response);
                        None
                    }
                    Err(defect) => Some(defect.into_failure()),
                }
            }
            Some(Response::IncompleteInvocationContext(missing)) => {
                let declared = Declaration::read(&missing, flight.states == 0)
                    .map_err(Refusal::Invalid)
                    .and_then(|declared| self.declare(&address.function, declared, Some(flight)));
                match declared {
                    Ok(()) => {
                        let batch = (flight.attempt, flight.messages);
                        self.tell_answered(&address, batch, &AttemptOutcome::Declared);
                        // The same messages are sent again, with every declared state. They were
                        // not tried yet.
                        self.withdraw_presumed_attempt(&address, flight);
                        self.make_ready(&address);
                        None
                    }
                    Err(Refusal::Misfit(reason)) => {
                        self.function_misfits(&address, flight, reason);
                        return;
                    }
                    Err(Refusal::Invalid(problem)) => Some(Defect::Unsound(problem).into_failure()),
                }
            }
        };
        if let Some(failure) = failure {
            self.notice(Notice::AnswerRejected {
                function: address.function.clone(),
                reason: shortened(failure.message.trim_start_matches(NOT_ACCEPTED)),
            });
            self.batch_failed(&address, flight, &failure);
        }
    }

    /// Suspends the function of an address whose answer does not fit the declared states. The
    /// attempt does not count, and nothing of the answer is applied.
    fn function_misfits(&mut self, address: &Address, flight: Flight, reason: String) {
        self.withdraw_presumed_attempt(address, flight);
        self.suspend_function(address, Cause::Declaration, reason);
        self.make_ready(address);
    }

    /// Describes the first mutation in an answer whose value has another type than the declared
    /// state.
    fn mistyped(&self, address: &Address, response: &InvocationResponse) -> Option<String> {
        let states = self.tables.states_of(&address.function)?;
        response.state_mutations.iter().find_map(|mutation| {
            let (_, slot) = states.find(&mutation.state_name)?;
            let value = mutation.state_value.as_ref()?;
            let modifies = mutation.mutation_type == i32::from(MutationType::Modify);
            let differs = slot.declared.is_some() && value.typename != *slot.typename;
            (modifies && differs).then(|| {
                format!(
                    "the state {:?} is a {}, its new value is a {}",
                    slot.name, slot.typename, value.typename
                )
            })
        })
    }

    fn is_in_flight(&self, attempt: AttemptId) -> bool {
        let ours = attempt.epoch == self.epoch && attempt.partition == self.config.partition;
        ours && self.flights.contains_key(&attempt.number)
    }

    /// Ends the flight of an attempt and returns its address. An attempt that is not in flight is
    /// dropped and counted.
    pub(super) fn end_flight(&mut self, attempt: AttemptId) -> Option<(Address, Flight)> {
        let ours = attempt.epoch == self.epoch && attempt.partition == self.config.partition;
        let address = ours.then(|| self.flights.remove(&attempt.number)).flatten();
        let Some(address) = address else {
            self.counts.stale_answers += 1;
            return None;
        };
        let active = self
            .tables
            .active_mut(&address)
            .expect("its messages are in its mailbox");
        let Activity::InFlight(flight) = active.activity else {
            unreachable!(
                "{address} has a batch in flight, and is {:?}",
                active.activity
            );
        };
        assert_eq!(flight.attempt, attempt.number, "one batch in flight");
        active.activity = Activity::Idle;
        Some((address, flight))
    }

    /// Checks the whole answer before any of it is applied.
    fn check(&self, address: &Address, response: &InvocationResponse) -> Result<(), Defect> {
        let effects = response.outgoing_messages.len()
            + response.delayed_invocations.len()
            + response.outgoing_egresses.len()
            + response.state_mutations.len();
        if effects > EFFECTS_MAX {
            let text = format!("it has {effects} effects; at most {EFFECTS_MAX} are allowed");
            return Err(Defect::mistake(0, text));
        }
        for message in &response.outgoing_messages {
            check_message(
                "a message",
                message.target.as_ref(),
                message.argument.as_ref(),
            )?;
        }
        self.check_delayed(address, &response.delayed_invocations)?;
        for egress in &response.outgoing_egresses {
            let id = format!("{}/{}", egress.egress_namespace, egress.egress_type);
            if !self.config.egresses.contains(id.as_str()) {
                return Err(Defect::mistake(
                    egress.cause,
                    format!("no egress is named {id}"),
                ));
            }
            if egress.argument.is_none() {
                let text = format!("a record for the egress {id} has no argument");
                return Err(Defect::Unsound(text));
            }
        }
        let mutations = &response.state_mutations;
        mutations
            .iter()
            .try_for_each(|mutation| self.check_mutation(address, mutation))
    }

    /// Checks delayed messages and cancellations. As in StateFun, a cancellation frees its token
    /// for the messages after it, and a token that is pending may not be reused.
    fn check_delayed(
        &self,
        address: &Address,
        delayed: &[DelayedInvocation],
    ) -> Result<(), Defect> {
        let tokens = self.tables.active(address).map(|active| &active.tokens);
        let mut freed = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for invocation in delayed {
            let token = invocation.cancellation_token.as_str();
            if invocation.is_cancellation_request {
                if token.is_empty() {
                    return Err(Defect::Unsound("a cancellation has no token".to_owned()));
                }
                taken.remove(token);
                freed.insert(token);
                continue;
            }
            let argument = invocation.argument.as_ref();
            check_message("a delayed message", invocation.target.as_ref(), argument)?;
            if token.is_empty() {
                continue;
            }
            let pending = tokens.is_some_and(|tokens| tokens.contains_key(token));
            if taken.contains(token) || (pending && !freed.contains(token)) {
                let text = format!("the cancellation token {token:?} is still pending");
                return Err(Defect::mistake(invocation.cause, text));
            }
            taken.insert(token);
        }
        Ok(())
    }

    fn check_mutation(
        &self,
        address: &Address,
        mutation: &PersistedValueMutation,
    ) -> Result<(), Defect> {
        let name = &mutation.state_name;
        let Ok(kind) = MutationType::try_from(mutation.mutation_type) else {
            let kind = mutation.mutation_type;
            return Err(Defect::Unsound(format!(
                "the mutation of the state {name:?} has the unknown type {kind}"
            )));
        };
        let states = self.tables.states_of(&address.function);
        let slot = states
            .and_then(|states| states.find(name))
            .map(|(_, slot)| slot)
            .filter(|slot| slot.declared.is_some())
            .ok_or_else(|| {
                // Mutations are of the batch as a whole: which message made one is unknown.
                Defect::mistake(0, format!("the state {name:?} was never declared"))
            })?;
        match (kind, &mutation.state_value) {
            (MutationType::Delete, _) => Ok(()),
            (MutationType::Modify, None) => Err(Defect::Unsound(format!(
                "the mutation of the state {name:?} has no value"
            ))),
            // The type of the state has changed, which is no mistake of a message.
            (MutationType::Modify, Some(value)) if value.typename != *slot.typename => {
                Err(Defect::Unsound(format!(
                    "the state {name:?} was declared as {}, its new value is a {}",
                    slot.typename, value.typename
                )))
            }
            (MutationType::Modify, Some(_)) => Ok(()),
        }
    }

    /// Applies an answer in the order of StateFun: messages, delayed messages, egress records,
    /// states. The processed messages are removed in the same step.
    fn apply(&mut self, address: &Address, flight: Flight, response: InvocationResponse) {
        let sealed = self.commits.sealed();
        self.graph.sent(&address.function, &response);
        let batch = (flight.attempt, flight.messages);
        self.tell_answered(address, batch, &AttemptOutcome::Ok);
        let (parents, callers) = self.consume(address, flight.messages);
        let mut effects = Effects::new(parents, self.stories.is_some());
        for message in response.outgoing_messages {
            let (Some(target), Some(argument)) = (message.target, message.argument) else {
                continue;
            };
            let (id, trace) = effects.next(message.cause, &argument);
            self.tell_sent(address, (id, trace), &effects);
            let message = Message {
                id,
                caller: Some(address.clone()),
                argument: owned(argument),
                correction: None,
                trace,
                headers: None,
            };
            self.deliver(&Address::from(&target), message);
        }
        for delayed in response.delayed_invocations {
            self.apply_delayed(address, delayed, &mut effects);
        }
        for egress in response.outgoing_egresses {
            let Some(value) = egress.argument else {
                continue;
            };
            let (id, trace) = effects.next(egress.cause, &value);
            self.tell_sent(address, (id, trace), &effects);
            let entry = OutboxEntry {
                id,
                trace,
                egress: format!("{}/{}", egress.egress_namespace, egress.egress_type).into(),
                value: owned(value),
                key_group: self.tables.named_key_group(address),
            };
            self.put_outbox(entry);
        }
        for mutation in response.state_mutations {
            self.apply_mutation(address, mutation);
        }
        for caller in callers {
            self.call_processed(&caller);
        }
        self.refresh_values(address);
        self.succeeded(address);
        self.trial_succeeded(address);
        assert_eq!(
            self.commits.sealed(),
            sealed,
            "one delta holds all of an answer"
        );
        self.renew_declarations(address, false);
        self.make_ready(address);
        self.tables.prune(address);
    }

    /// Removes the processed messages. Returns their ids and trace contexts, which are the parents
    /// of the effects, and the callers outside that sent them.
    fn consume(&mut self, address: &Address, messages: usize) -> (Vec<Parent>, Vec<Address>) {
        let mut parents = Vec::with_capacity(messages);
        let mut callers = Vec::new();
        for _ in 0..messages {
            let active = self
                .tables
                .active_mut(address)
                .expect("its messages are in its mailbox");
            let (number, message) = active
                .pop_message()
                .expect("its messages are in its mailbox");
            self.subtract_pending(message.pending_bytes(address));
            parents.push((message.id, message.trace));
            callers.extend(message.caller.filter(is_caller));
            let key = Key::Message {
                address: address.clone(),
                number,
            };
            self.mark_ended(key, number);
        }
        self.counts.processed += messages as u64;
        (parents, callers)
    }

    fn apply_delayed(
        &mut self,
        owner: &Address,
        delayed: DelayedInvocation,
        effects: &mut Effects,
    ) {
        if delayed.is_cancellation_request {
            self.cancel_timer(owner, &delayed.cancellation_token);
            return;
        }
        let (Some(target), Some(argument)) = (delayed.target, delayed.argument) else {
            return;
        };
        let delay_ms = u64::try_from(delayed.delay_in_ms).unwrap_or(0);
        let token = delayed.cancellation_token;
        let (id, trace) = effects.next(delayed.cause, &argument);
        self.tell_sent(owner, (id, trace), effects);
        let timer = Timer {
            due_ms: self.now_ms.saturating_add(delay_ms),
            token: (!token.is_empty()).then(|| token.into()),
            target: Address::from(&target),
            message: Message {
                id,
                caller: Some(owner.clone()),
                argument: owned(argument),
                correction: None,
                trace,
                headers: None,
            },
        };
        self.tell_fact((id, trace), false, || Step::Delayed {
            target: timer.target.clone(),
            until_ms: timer.due_ms,
        });
        self.set_timer(owner, timer);
    }

    fn tell_sent(&mut self, from: &Address, (id, trace): Parent, effects: &Effects) {
        self.tell(id, trace, || Step::Sent {
            from: from.clone(),
            batch: effects.linked((id, trace)),
        });
    }

    /// Adds a record to the outbox. The record is emitted once it is durable.
    pub(super) fn put_outbox(&mut self, entry: OutboxEntry) {
        self.tell_fact((entry.id, entry.trace), false, || Step::Emitted {
            egress: entry.egress.clone(),
            typename: entry.value.typename.as_str().into(),
            bytes: entry.value.value.len(),
        });
        let number = self.tables.take_number();
        self.pending_bytes += outbox_bytes(&entry);
        self.outbox_bytes += outbox_bytes(&entry);
        self.tables.outbox.insert(number, entry);
        self.mark_changed(Key::Outbox { number });
        self.emit_when_durable(number);
    }

    fn apply_mutation(&mut self, address: &Address, mutation: PersistedValueMutation) {
        let deletes = mutation.mutation_type == i32::from(MutationType::Delete);
        let value = mutation
            .state_value
            .filter(|_| !deletes)
            .map(|value| value.value);
        self.write_state(address, &mutation.state_name, value);
    }

    /// Sets or deletes the value of a declared state.
    pub(super) fn write_state(&mut self, address: &Address, name: &str, value: Option<Bytes>) {
        let states = self.tables.states_of(&address.function);
        let Some((index, slot)) = states.and_then(|states| states.find(name)) else {
            return;
        };
        let name = slot.name.clone();
        let expires_at_ms = match slot.declared {
            Some(Expiration::AfterWrite(ms) | Expiration::AfterInvoke(ms)) => {
                Some(self.now_ms.saturating_add(ms))
            }
            Some(Expiration::Never) | None => None,
        };
        let key = Key::State {
            address: address.clone(),
            name: name.clone(),
        };
        let Some(value) = value else {
            let instance = self.tables.instance(address);
            let expires = instance.and_then(|instance| instance.expiry(index)?);
            if self.tables.remove_state(address, index) {
                self.mark_changed(key);
            }
            if expires.is_some() {
                // Otherwise the schedule would keep an entry for every deleted value until its
                // former expiry.
                let address = address.clone();
                self.schedule.remove(&Scheduled::State { address, name });
            }
            return;
        };
        self.disturb_state_drops(&address.function, &name);
        let instance = expires_at_ms.and_then(|_| self.tables.instance(address));
        let former_ms = instance.and_then(|instance| instance.expiry(index)?);
        self.tables.set_state(address, index, expires_at_ms, &value);
        self.mark_changed(key);
        if let Some(expires_at_ms) = expires_at_ms {
            self.schedule_expiry(address, name, expires_at_ms, former_ms);
        }
    }

    /// Schedules the expiry of a value, which may be earlier than the former one if the function
    /// declares another expiration now.
    fn schedule_expiry(
        &mut self,
        address: &Address,
        name: Arc<str>,
        expires_at_ms: u64,
        former_ms: Option<u64>,
    ) {
        let address = address.clone();
        let due = Scheduled::State { address, name };
        if former_ms.is_some_and(|former_ms| expires_at_ms < former_ms) {
            self.schedule.remove(&due);
        }
        self.schedule.add(expires_at_ms, due);
    }

    /// Extends the expiry of `AFTER_INVOKE` values, which every invocation keeps alive. The new
    /// expiry is part of the same delta.
    fn refresh_values(&mut self, address: &Address) {
        let Some(states) = self.tables.states_of(&address.function) else {
            return;
        };
        let kept_alive: Vec<(u16, Arc<str>, u64)> = (0..)
            .zip(&states.slots)
            .filter_map(|(index, slot)| match slot.declared {
                Some(Expiration::AfterInvoke(ms)) if slot.travels() => {
                    Some((index, slot.name.clone(), ms))
                }
                _ => None,
            })
            .collect();
        for (slot, name, ms) in kept_alive {
            let expires_at_ms = self.now_ms.saturating_add(ms);
            let instance = self.tables.instance(address);
            let Some(former_ms) = instance.and_then(|instance| instance.expiry(slot)) else {
                continue;
            };
            self.tables.refresh_state(address, slot, expires_at_ms);
            self.mark_changed(Key::State {
                address: address.clone(),
                name: name.clone(),
            });
            // A later expiry is scheduled when the former one is due.
            if former_ms.is_none_or(|former_ms| expires_at_ms < former_ms) {
                self.schedule_expiry(address, name, expires_at_ms, former_ms);
            }
        }
    }

    pub(super) fn egress_acked(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(entry) = self.take_outbox(*number) {
                self.tell_fact((entry.id, entry.trace), true, || Step::Left);
            }
        }
    }

    /// Acknowledges entries of the outbox and updates the egress's marks, in one delta.
    pub(super) fn egress_marked(
        &mut self,
        egress: &Arc<str>,
        numbers: &[u64],
        marks: Vec<EgressMark>,
    ) {
        self.egress_acked(numbers);
        for EgressMark { name, value } in marks {
            let key = (egress.clone(), name.clone());
            let changed = match value {
                Some(value) => {
                    let before = self.tables.egress_marks.insert(key, value.clone());
                    before != Some(value)
                }
                None => self.tables.egress_marks.remove(&key).is_some(),
            };
            if changed {
                let egress = egress.clone();
                self.mark_changed(Key::EgressMark { egress, name });
            }
        }
    }

    /// Removes a record that was delivered, or never can be.
    pub(super) fn take_outbox(&mut self, number: u64) -> Option<OutboxEntry> {
        let entry = self.tables.outbox.remove(&number)?;
        self.subtract_pending(outbox_bytes(&entry));
        self.outbox_bytes -= outbox_bytes(&entry);
        self.mark_changed(Key::Outbox { number });
        Some(entry)
    }
}

/// Approximate size of an entry of the outbox, in bytes.
pub(super) fn outbox_bytes(entry: &OutboxEntry) -> usize {
    entry.value.value.len() + entry.value.typename.len() + 128
}

fn check_message(
    what: &str,
    target: Option<&reqreply::Address>,
    argument: Option<&TypedValue>,
) -> Result<(), Defect> {
    let unsound = |text| Err(Defect::Unsound(text));
    let Some(target) = target else {
        return unsound(format!("{what} has no target"));
    };
    if target.namespace.is_empty() || target.r#type.is_empty() {
        return unsound(format!("{what} has an incomplete target, {target}"));
    }
    if !FunctionType::is_segment(&target.r#type) {
        let name = &target.r#type;
        let text = format!("{what} has the target {target}, and no function is named `{name}`");
        return Err(Defect::mistake(0, text));
    }
    let bytes = target.id.len();
    if bytes > ID_BYTES_MAX {
        let function = format!("{}/{}", target.namespace, target.r#type);
        let text = format!(
            "{what} to {function} has an id of {bytes} bytes; at most {ID_BYTES_MAX} are allowed"
        );
        return Err(Defect::mistake(0, text));
    }
    match argument {
        Some(_) => Ok(()),
        None => unsound(format!("{what} to {target} has no argument")),
    }
}

/// Copies a value out of its answer. Otherwise a small part could keep the buffer of the whole
/// answer in memory.
fn owned(value: TypedValue) -> TypedValue {
    TypedValue {
        value: Bytes::copy_from_slice(&value.value),
        ..value
    }
}
