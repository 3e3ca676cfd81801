//! Mailboxes, states, timers and everything that left the application.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use satchel_protocol::bundle::{BatchError, Terminal};
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::reqreply::from_function::{
    DelayedInvocation, InvocationResponse, persisted_value_mutation::MutationType,
};
use satchel_protocol::reqreply::to_function::{Invocation, PersistedValue};

use super::{DeadLetter, PendingTimer};
use crate::testing::Payload;
use crate::{Address, EgressId, Expiration, FunctionType, TerminalError, ValueSpec};

/// Callers from outside, whose messages are requests that wait for a reply.
const CALLER: FunctionType = FunctionType::new("satchel/call");

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) egressed: Vec<(EgressId, Payload)>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// Calls that a function rejected, by caller.
    pub(super) rejections: BTreeMap<Address, TerminalError>,
    /// Messages to functions that are not bound.
    kept: Vec<(Address, Payload)>,
    /// Messages of bound functions. No mailbox is empty.
    mailboxes: BTreeMap<Address, VecDeque<Letter>>,
    /// Addresses with a mailbox, in the order of their turn.
    turns: VecDeque<Address>,
    states: BTreeMap<Address, BTreeMap<String, Stored>>,
    /// By due time, then in the order in which they were set.
    timers: BTreeMap<(Duration, u64), Timer>,
    /// Last number of a message, a timer or a caller.
    number: u64,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    id: String,
    from: Option<Address>,
    argument: TypedValue,
    pub(super) failed_attempts: u32,
}

#[derive(Debug)]
pub(super) struct Timer {
    owner: Address,
    token: Option<String>,
    pub(super) target: Address,
    pub(super) letter: Letter,
}

#[derive(Debug)]
struct Stored {
    value: TypedValue,
    expires_at: Option<Duration>,
}

impl Letter {
    pub(super) fn to_invocation(&self) -> Invocation {
        Invocation {
            caller: self.from.as_ref().map(Address::to_wire),
            argument: Some(self.argument.clone()),
            message_id: self.id.clone(),
            failed_attempts: self.failed_attempts,
            ..Default::default()
        }
    }

    /// True if a caller outside waits for the reply.
    pub(super) fn is_call(&self) -> bool {
        let from = self.from.as_ref();
        from.is_some_and(|from| from.function_type().namespace() == CALLER.namespace())
    }
}

/// Messages.
impl World {
    /// A new message. Its id, the idempotency key, is like no other.
    pub(super) fn letter(&mut self, from: Option<Address>, argument: TypedValue) -> Letter {
        Letter {
            id: format!("{:032x}", self.next_number()),
            from,
            argument,
            failed_attempts: 0,
        }
    }

    pub(super) fn new_caller(&mut self) -> Address {
        CALLER.id(self.next_number().to_string())
    }

    pub(super) fn enqueue(&mut self, to: Address, letter: Letter) {
        let mailbox = self.mailboxes.entry(to.clone()).or_default();
        if mailbox.is_empty() {
            self.turns.push_back(to);
        }
        mailbox.push_back(letter);
    }

    /// Puts a message back, before all others of its address and before all other addresses.
    pub(super) fn retry(&mut self, to: Address, letter: Letter) {
        self.turns.retain(|address| *address != to);
        self.turns.push_front(to.clone());
        self.mailboxes.entry(to).or_default().push_front(letter);
    }

    /// Takes the next message out of its mailbox.
    pub(super) fn next_ready(&mut self) -> Option<(Address, Letter)> {
        let address = self.turns.pop_front()?;
        let mailbox = self.mailboxes.get_mut(&address)?;
        let letter = mailbox.pop_front()?;
        if mailbox.is_empty() {
            self.mailboxes.remove(&address);
        } else {
            self.turns.push_back(address.clone());
        }
        Some((address, letter))
    }

    pub(super) fn keep_for_the_test(&mut self, to: Address, letter: Letter) {
        self.kept.push((to, Payload(letter.argument)));
    }

    pub(super) fn kept_for(&self, to: &Address) -> impl Iterator<Item = &Payload> {
        let kept = self.kept.iter().filter(move |(kept, _)| kept == to);
        kept.map(|(_, message)| message)
    }

    pub(super) fn reject(&mut self, letter: &Letter, terminal: &Terminal) {
        if let Some(caller) = &letter.from {
            let error = TerminalError::new(terminal.code, terminal.message.clone());
            self.rejections.insert(caller.clone(), error);
        }
    }

    pub(super) fn give_up(&mut self, to: Address, letter: Letter, error: BatchError) {
        self.dead_letters.push(DeadLetter {
            to,
            from: letter.from,
            message: Payload(letter.argument),
            attempts: letter.failed_attempts,
            error,
        });
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// Answers.
impl World {
    /// Passes an answer on, or rejects it as a coordinator does: a token that is still pending may
    /// not be used again.
    pub(super) fn checked(
        &self,
        owner: &Address,
        answer: InvocationResponse,
    ) -> Result<InvocationResponse, BatchError> {
        let of_owner = self.timers.values().filter(|timer| timer.owner == *owner);
        let mut pending: BTreeSet<&str> = of_owner
            .filter_map(|timer| timer.token.as_deref())
            .collect();
        for delayed in &answer.delayed_invocations {
            let token = delayed.cancellation_token.as_str();
            if delayed.is_cancellation_request {
                pending.remove(token);
            } else if !token.is_empty() && !pending.insert(token) {
                return Err(BatchError::new(
                    "function",
                    format!("the cancellation token {token:?} is still pending"),
                ));
            }
        }
        Ok(answer)
    }

    /// Applies the answer of one message. Returns the messages that it sends without a delay.
    pub(super) fn apply(
        &mut self,
        address: &Address,
        answer: InvocationResponse,
        specs: &[ValueSpec],
    ) -> Vec<(Address, Letter)> {
        let mut sent = Vec::with_capacity(answer.outgoing_messages.len());
        for message in answer.outgoing_messages {
            let to = Address::from_wire(message.target.unwrap_or_default());
            let argument = message.argument.unwrap_or_default();
            sent.push((to, self.letter(Some(address.clone()), argument)));
        }
        for delayed in answer.delayed_invocations {
            self.apply_delayed(address, delayed);
        }
        for egressed in answer.outgoing_egresses {
            let egress = EgressId::from_wire(egressed.egress_namespace, egressed.egress_type);
            let value = Payload(egressed.argument.unwrap_or_default());
            self.egressed.push((egress, value));
        }
        for mutation in answer.state_mutations {
            if mutation.mutation_type == i32::from(MutationType::Delete) {
                self.clear(address, &mutation.state_name);
            } else {
                let value = mutation.state_value.unwrap_or_default();
                self.write(address, &mutation.state_name, value, specs);
            }
        }
        self.refresh(address, specs);
        sent
    }

    fn apply_delayed(&mut self, owner: &Address, delayed: DelayedInvocation) {
        let token = Some(delayed.cancellation_token).filter(|token| !token.is_empty());
        if delayed.is_cancellation_request {
            self.timers
                .retain(|_, timer| timer.owner != *owner || timer.token != token);
            return;
        }
        let due = self.now + Duration::from_millis(delayed.delay_in_ms.unsigned_abs());
        let letter = self.letter(Some(owner.clone()), delayed.argument.unwrap_or_default());
        let timer = Timer {
            owner: owner.clone(),
            token,
            target: Address::from_wire(delayed.target.unwrap_or_default()),
            letter,
        };
        let number = self.next_number();
        self.timers.insert((due, number), timer);
    }
}

/// Timers.
impl World {
    /// Takes the first timer that is due by `until`, and moves time to it.
    pub(super) fn next_timer(&mut self, until: Duration) -> Option<Timer> {
        let first = self.timers.first_entry()?;
        let (due, _) = *first.key();
        if due > until {
            return None;
        }
        self.now = self.now.max(due);
        Some(first.remove())
    }

    pub(super) fn pending_timers(&self) -> Vec<PendingTimer> {
        self.timers
            .iter()
            .map(|((due, _), timer)| PendingTimer {
                due: *due,
                from: timer.owner.clone(),
                to: timer.target.clone(),
                message: Payload(timer.letter.argument.clone()),
                token: timer.token.clone(),
            })
            .collect()
    }
}

/// State.
impl World {
    /// Values of an address that have not expired.
    pub(super) fn state_of(&self, address: &Address) -> BTreeMap<String, TypedValue> {
        let values = self.states.get(address).into_iter().flatten();
        values
            .filter(|(_, stored)| stored.is_there_at(self.now))
            .map(|(name, stored)| (name.clone(), stored.value.clone()))
            .collect()
    }

    /// The same in the form of a request.
    pub(super) fn persisted(&self, address: &Address) -> Vec<PersistedValue> {
        self.state_of(address)
            .into_iter()
            .map(|(state_name, value)| PersistedValue {
                state_name,
                state_value: Some(value),
            })
            .collect()
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        self.states
            .iter()
            .filter(|(_, values)| values.values().any(|stored| stored.is_there_at(self.now)))
            .map(|(address, _)| address.clone())
            .collect()
    }

    pub(super) fn write(
        &mut self,
        address: &Address,
        name: &str,
        value: TypedValue,
        specs: &[ValueSpec],
    ) {
        let spec = specs.iter().find(|spec| spec.name == name);
        let expires_at = match spec.map(|spec| spec.expiration) {
            Some(Expiration::AfterWrite(after) | Expiration::AfterInvoke(after)) => {
                Some(self.now + after)
            }
            Some(Expiration::Never) | None => None,
        };
        let values = self.states.entry(address.clone()).or_default();
        values.insert(name.to_owned(), Stored { value, expires_at });
    }

    fn clear(&mut self, address: &Address, name: &str) {
        if let Some(values) = self.states.get_mut(address) {
            values.remove(name);
        }
    }

    /// Keeps values that expire after the last invocation, and removes those that have expired.
    fn refresh(&mut self, address: &Address, specs: &[ValueSpec]) {
        let Some(values) = self.states.get_mut(address) else {
            return;
        };
        values.retain(|_, stored| stored.is_there_at(self.now));
        for spec in specs {
            if let Expiration::AfterInvoke(after) = spec.expiration
                && let Some(stored) = values.get_mut(spec.name)
            {
                stored.expires_at = Some(self.now + after);
            }
        }
    }
}

impl Stored {
    fn is_there_at(&self, now: Duration) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}
