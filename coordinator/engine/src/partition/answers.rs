//! Applying the answer of a function as one transaction: all of its effects, or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::from_function::{
    DelayedInvocation, ExpirationSpec, IncompleteInvocationContext, InvocationResponse,
    PersistedValueMutation, PersistedValueSpec, Response, expiration_spec::ExpireMode,
    persisted_value_mutation::MutationType,
};
use satchel_protocol::reqreply::{self, FromFunction, TypedValue};

use super::Partition;
use super::calls::is_caller;
use super::effects::{Effects, Parent};
use super::notices::{Notice, shortened};
use super::schedule::Scheduled;
use crate::address::{Address, FunctionType};
use crate::durable::{Expiration, Key, OutboxEntry, StateSpec, Timer};
use crate::input::EgressMark;
use crate::invocation::{AttemptId, Failure, FailureKind};
use crate::message::Message;
use crate::tables::{Activity, Flight, FunctionStates};

/// Maximum number of states per function. A function that declares more is broken: every request
/// carries all states.
const STATES_PER_FUNCTION_MAX: usize = 1000;

impl Partition {
    pub(super) fn invocation_completed(&mut self, attempt: AttemptId, answer: FromFunction) {
        if self.is_in_flight(attempt) && self.awaits_pending(&answer) {
            self.defer_answer(attempt, answer);
            return;
        }
        let Some((address, flight)) = self.end_flight(attempt) else {
            return;
        };
        let problem = match answer.response {
            None => {
                self.apply(&address, flight, InvocationResponse::default());
                None
            }
            Some(Response::InvocationResult(response)) => match self.check(&address, &response) {
                Ok(()) => {
                    self.apply(&address, flight, response);
                    None
                }
                Err(problem) => Some(problem),
            },
            Some(Response::IncompleteInvocationContext(missing)) => {
                let declared = self.declare(&address.function, &missing, flight.states);
                if declared.is_ok() {
                    // The same messages are sent again, with every declared state. They were not
                    // tried yet.
                    self.withdraw_presumed_attempt(&address, flight);
                    self.make_ready(&address);
                }
                declared.err()
            }
        };
        if let Some(problem) = problem {
            self.notice(Notice::AnswerRejected {
                function: address.function.clone(),
                reason: shortened(&problem),
            });
            let message = format!("the answer was not accepted: {problem}");
            let failure = Failure::new(FailureKind::Function, message);
            self.batch_failed(&address, flight, &failure);
        }
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
    fn check(&self, address: &Address, response: &InvocationResponse) -> Result<(), String> {
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
                return Err(format!("no egress is named {id}"));
            }
            if egress.argument.is_none() {
                return Err(format!("a record for the egress {id} has no argument"));
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
    ) -> Result<(), String> {
        let tokens = self.tables.active(address).map(|active| &active.tokens);
        let mut freed = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for invocation in delayed {
            let token = invocation.cancellation_token.as_str();
            if invocation.is_cancellation_request {
                if token.is_empty() {
                    return Err("a cancellation has no token".to_owned());
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
                return Err(format!("the cancellation token {token:?} is still pending"));
            }
            taken.insert(token);
        }
        Ok(())
    }

    fn check_mutation(
        &self,
        address: &Address,
        mutation: &PersistedValueMutation,
    ) -> Result<(), String> {
        let name = &mutation.state_name;
        let states = self.tables.states_of(&address.function);
        let slot = states
            .and_then(|states| states.find(name))
            .map(|(_, slot)| slot)
            .filter(|slot| slot.declared.is_some())
            .ok_or_else(|| format!("the state {name:?} was never declared"))?;
        let Ok(kind) = MutationType::try_from(mutation.mutation_type) else {
            let kind = mutation.mutation_type;
            return Err(format!(
                "the mutation of the state {name:?} has the unknown type {kind}"
            ));
        };
        match (kind, &mutation.state_value) {
            (MutationType::Delete, _) => Ok(()),
            (MutationType::Modify, None) => {
                Err(format!("the mutation of the state {name:?} has no value"))
            }
            (MutationType::Modify, Some(value)) if value.typename != *slot.typename => {
                Err(format!(
                    "the state {name:?} was declared as {}, its new value is a {}",
                    slot.typename, value.typename
                ))
            }
            (MutationType::Modify, Some(_)) => Ok(()),
        }
    }

    /// Applies an answer in the order of StateFun: messages, delayed messages, egress records,
    /// states. The processed messages are removed in the same step.
    fn apply(&mut self, address: &Address, flight: Flight, response: InvocationResponse) {
        let sealed = self.commits.sealed();
        let (parents, callers) = self.consume(address, flight.messages);
        let mut effects = Effects::new(parents);
        for message in response.outgoing_messages {
            let (Some(target), Some(argument)) = (message.target, message.argument) else {
                continue;
            };
            let message = Message {
                trace: effects.trace(message.cause),
                id: effects.next_id(message.cause, &argument),
                caller: Some(address.clone()),
                argument: owned(argument),
                correction: None,
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
            let entry = OutboxEntry {
                trace: effects.trace(egress.cause),
                id: effects.next_id(egress.cause, &value),
                egress: format!("{}/{}", egress.egress_namespace, egress.egress_type).into(),
                value: owned(value),
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
        assert_eq!(
            self.commits.sealed(),
            sealed,
            "one delta holds all of an answer"
        );
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
            self.subtract_pending(message.bytes());
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
        let timer = Timer {
            due_ms: self.now_ms.saturating_add(delay_ms),
            token: (!token.is_empty()).then(|| token.into()),
            target: Address::from(&target),
            message: Message {
                trace: effects.trace(delayed.cause),
                id: effects.next_id(delayed.cause, &argument),
                caller: Some(owner.clone()),
                argument: owned(argument),
                correction: None,
            },
        };
        self.set_timer(owner, timer);
    }

    /// Adds a record to the outbox. The record is emitted once it is durable.
    pub(super) fn put_outbox(&mut self, entry: OutboxEntry) {
        let number = self.tables.take_number();
        self.pending_bytes += outbox_bytes(&entry);
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
        self.tables.set_state(address, index, expires_at_ms, &value);
        self.mark_changed(key);
        if let Some(expires_at_ms) = expires_at_ms {
            let address = address.clone();
            self.schedule
                .add(expires_at_ms, Scheduled::State { address, name });
        }
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
                Some(Expiration::AfterInvoke(ms)) => Some((index, slot.name.clone(), ms)),
                _ => None,
            })
            .collect();
        for (slot, name, ms) in kept_alive {
            let expires_at_ms = self.now_ms.saturating_add(ms);
            if self.tables.refresh_state(address, slot, expires_at_ms) {
                self.mark_changed(Key::State {
                    address: address.clone(),
                    name,
                });
            }
        }
    }

    /// Adds the states that a function declares. Declarations are durable, so this handshake
    /// happens once in the life of an application.
    ///
    /// `sent` is the number of states that the request carried. Another address may have declared
    /// more states since.
    fn declare(
        &mut self,
        function: &FunctionType,
        missing: &IncompleteInvocationContext,
        sent: usize,
    ) -> Result<(), String> {
        let specs = missing
            .missing_values
            .iter()
            .map(read_spec)
            .collect::<Result<Vec<_>, _>>()?;
        let states = self.tables.states_of(function);
        let mut new = BTreeSet::new();
        for spec in &specs {
            match states.and_then(|states| states.find(&spec.name)) {
                Some((_, slot)) if slot.typename != spec.typename => {
                    return Err(format!(
                        "the state {:?} is a {}, it cannot be declared as {}",
                        spec.name, slot.typename, spec.typename
                    ));
                }
                Some((_, slot)) if slot.declared.is_some() => {}
                _ => {
                    new.insert(spec.name.clone());
                }
            }
        }
        let declared = states.map_or(0, FunctionStates::declared_count);
        if new.is_empty() && declared > sent {
            return Ok(());
        }
        if new.is_empty() {
            return Err("it asks for states that the request held".to_owned());
        }
        let known = states.map_or(0, |states| states.slots.len());
        if known + new.len() > STATES_PER_FUNCTION_MAX {
            return Err(format!(
                "it declares more than {STATES_PER_FUNCTION_MAX} states"
            ));
        }
        let states = self.tables.states_of_mut(function);
        for spec in specs.iter().filter(|spec| new.contains(&spec.name)) {
            states.declare(spec);
        }
        self.mark_changed(Key::Registration {
            function: function.clone(),
        });
        Ok(())
    }

    pub(super) fn egress_acked(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.take_outbox(*number);
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
) -> Result<(), String> {
    let target = target.ok_or_else(|| format!("{what} has no target"))?;
    if target.namespace.is_empty() || target.r#type.is_empty() {
        return Err(format!("{what} has an incomplete target, {target}"));
    }
    match argument {
        Some(_) => Ok(()),
        None => Err(format!("{what} to {target} has no argument")),
    }
}

fn read_spec(spec: &PersistedValueSpec) -> Result<StateSpec, String> {
    if spec.state_name.is_empty() {
        return Err("it declares a state without a name".to_owned());
    }
    let expiration = match &spec.expiration_spec {
        None => Expiration::Never,
        Some(ExpirationSpec {
            mode,
            expire_after_millis,
        }) => {
            let name = &spec.state_name;
            let after =
                |expiration: fn(u64) -> Expiration| match u64::try_from(*expire_after_millis) {
                    Ok(ms) if ms > 0 => Ok(expiration(ms)),
                    _ => Err(format!(
                        "the state {name:?} would expire after {expire_after_millis} ms, \
                     before it could be read"
                    )),
                };
            match ExpireMode::try_from(*mode) {
                Ok(ExpireMode::None) => Expiration::Never,
                Ok(ExpireMode::AfterWrite) => after(Expiration::AfterWrite)?,
                Ok(ExpireMode::AfterInvoke) => after(Expiration::AfterInvoke)?,
                Err(_) => {
                    return Err(format!(
                        "the state {name:?} has the unknown expiration mode {mode}"
                    ));
                }
            }
        }
    };
    Ok(StateSpec {
        name: spec.state_name.as_str().into(),
        typename: spec.type_typename.as_str().into(),
        expiration,
    })
}

/// Copies a value out of its answer. Otherwise a small part could keep the buffer of the whole
/// answer in memory.
fn owned(value: TypedValue) -> TypedValue {
    TypedValue {
        value: Bytes::copy_from_slice(&value.value),
        ..value
    }
}
