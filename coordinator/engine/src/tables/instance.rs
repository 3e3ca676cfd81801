//! One virtual instance: its states, and what is going on at its address.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{FunctionStates, Map};
use crate::address::Address;
use crate::durable::{DeadLetter, Idempotency, Key, Suspension, Timer, Trouble};
use crate::input::Verb;
use crate::message::Message;

/// One virtual instance. Most only keep state, so everything else is behind one pointer.
#[derive(Default)]
pub(crate) struct Instance {
    states: Vec<StateEntry>,
    pub(crate) live: Option<Box<Live>>,
}

/// The value of one state.
pub(crate) struct StateEntry {
    pub(crate) slot: u16,
    /// `u64::MAX` for never.
    expires_at_ms: u64,
    pub(crate) value: Bytes,
}

/// What is going on at an address.
#[derive(Default)]
pub(crate) struct Live {
    /// The pending messages by number, those in flight at the front.
    pub(crate) mailbox: VecDeque<(u64, Message)>,
    pub(crate) mailbox_bytes: usize,
    pub(crate) timers: BTreeMap<u64, Timer>,
    pub(crate) tokens: Map<Arc<str>, u64>,
    pub(crate) suspension: Option<Suspension>,
    pub(crate) trouble: Option<Box<Trouble>>,
    pub(crate) idempotency: BTreeMap<(Verb, Arc<str>), Idempotency>,
    pub(crate) letters: BTreeMap<u64, DeadLetter>,
    /// Not durable: a new owner begins idle.
    pub(crate) activity: Activity,
    /// Not durable: how many messages a batch may hold while a poison message is searched for, and the last suspect.
    pub(crate) isolation: Option<Isolation>,
}

/// What an address is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Activity {
    /// Nothing.
    #[default]
    Idle,
    /// It waits for its turn.
    Ready,
    /// It waits for a delta to become durable before its next message is tried.
    Gated,
    /// The gate is open: its next message alone may be tried.
    Released,
    /// It waits for what it would be given to become durable.
    Held,
    /// What it is given is durable.
    Admitted,
    /// It waits for some time before its next attempt.
    BackingOff,
    /// A batch is in flight.
    InFlight(Flight),
}

/// The batch in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    /// The number of its attempt.
    pub(crate) attempt: u64,
    /// How many messages of the mailbox's front it holds.
    pub(crate) messages: usize,
    /// Whether the attempt was counted as failed before it began.
    pub(crate) presumed: bool,
    /// How many states it holds.
    pub(crate) states: usize,
}

/// The search for a poison message by halving the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// How many messages the next batch may hold.
    pub(crate) messages_max: usize,
    /// The last message of the batch that failed.
    pub(crate) through: u64,
}

impl StateEntry {
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        (self.expires_at_ms != u64::MAX).then_some(self.expires_at_ms)
    }

    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms <= now_ms
    }
}

impl Instance {
    pub(crate) fn states(&self) -> &[StateEntry] {
        &self.states
    }

    pub(crate) fn state(&self, slot: u16) -> Option<&StateEntry> {
        self.states.iter().find(|state| state.slot == slot)
    }

    pub(crate) fn set_state(&mut self, slot: u16, value: Bytes, expires_at_ms: Option<u64>) {
        let entry = StateEntry {
            slot,
            expires_at_ms: expires_at_ms.unwrap_or(u64::MAX),
            value,
        };
        match self.states.iter_mut().find(|state| state.slot == slot) {
            Some(state) => *state = entry,
            None => {
                // Most functions have few states: grow by one, not by doubling.
                self.states.reserve_exact(1);
                self.states.push(entry);
            }
        }
    }

    /// Moves the expiry of a value, if there is one.
    pub(crate) fn refresh_state(&mut self, slot: u16, expires_at_ms: u64) -> bool {
        let state = self.states.iter_mut().find(|state| state.slot == slot);
        let found = state.is_some();
        if let Some(state) = state {
            state.expires_at_ms = expires_at_ms;
        }
        found
    }

    pub(crate) fn remove_state(&mut self, slot: u16) -> bool {
        let before = self.states.len();
        self.states.retain(|state| state.slot != slot);
        self.states.len() < before
    }

    pub(crate) fn live_or_new(&mut self) -> &mut Live {
        self.live.get_or_insert_default()
    }

    pub(crate) fn tidy(&mut self) {
        if self.live.as_ref().is_some_and(|live| live.is_empty()) {
            self.live = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty() && self.live.is_none()
    }

    /// When its earliest timer or expiry is due.
    pub(crate) fn earliest_due_ms(&self) -> Option<u64> {
        let expiries = self.states.iter().filter_map(StateEntry::expires_at_ms);
        let live = self.live.iter().flat_map(|live| {
            let timers = live.timers.values().map(|timer| timer.due_ms);
            timers.chain(
                live.idempotency
                    .values()
                    .filter_map(|record| record.expires_at_ms),
            )
        });
        expiries.chain(live).min()
    }

    /// Names every fact of the instance at `address`.
    pub(super) fn for_each_key(
        &self,
        address: &Address,
        slots: Option<&FunctionStates>,
        keep: &mut impl FnMut(Key),
    ) {
        for state in &self.states {
            let slots = slots.expect("an instance with state has a function with slots");
            keep(Key::State {
                address: address.clone(),
                name: slots.slots[usize::from(state.slot)].name.clone(),
            });
        }
        let Some(live) = &self.live else { return };
        let address = || address.clone();
        for (number, _) in &live.mailbox {
            keep(Key::Message {
                address: address(),
                number: *number,
            });
        }
        for number in live.timers.keys() {
            keep(Key::Timer {
                owner: address(),
                number: *number,
            });
        }
        if live.suspension.is_some() {
            keep(Key::Suspension { address: address() });
        }
        if live.trouble.is_some() {
            keep(Key::Trouble { address: address() });
        }
        for (verb, key) in live.idempotency.keys() {
            keep(Key::Idempotency {
                address: address(),
                verb: *verb,
                key: key.clone(),
            });
        }
        for number in live.letters.keys() {
            keep(Key::DeadLetter {
                address: Some(address()),
                number: *number,
            });
        }
    }
}

impl Live {
    /// The message `number`.
    pub(crate) fn message(&self, number: u64) -> Option<&Message> {
        let index = self
            .mailbox
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        Some(&self.mailbox[index].1)
    }

    pub(crate) fn insert_message(&mut self, number: u64, message: Message) {
        self.mailbox_bytes += message.bytes();
        match self
            .mailbox
            .binary_search_by_key(&number, |(number, _)| *number)
        {
            Ok(index) => {
                self.mailbox_bytes -= self.mailbox[index].1.bytes();
                self.mailbox[index].1 = message;
            }
            Err(index) => self.mailbox.insert(index, (number, message)),
        }
    }

    /// Takes the oldest message.
    pub(crate) fn pop_message(&mut self) -> Option<(u64, Message)> {
        let (number, message) = self.mailbox.pop_front()?;
        self.mailbox_bytes -= message.bytes();
        Some((number, message))
    }

    pub(crate) fn insert_timer(&mut self, number: u64, timer: Timer) {
        if let Some(token) = &timer.token {
            self.tokens.insert(token.clone(), number);
        }
        self.timers.insert(number, timer);
    }

    pub(crate) fn take_timer(&mut self, number: u64) -> Option<Timer> {
        let timer = self.timers.remove(&number)?;
        if let Some(token) = &timer.token
            && self.tokens.get(token) == Some(&number)
        {
            self.tokens.remove(token);
        }
        Some(timer)
    }

    fn is_empty(&self) -> bool {
        self.mailbox.is_empty()
            && self.timers.is_empty()
            && self.suspension.is_none()
            && self.trouble.is_none()
            && self.idempotency.is_empty()
            && self.letters.is_empty()
            && self.activity == Activity::Idle
    }

    /// Takes the removal of one of the facts that live here.
    pub(super) fn remove(&mut self, key: &Key) {
        match key {
            Key::Message { number, .. } => {
                let place = self
                    .mailbox
                    .binary_search_by_key(number, |(number, _)| *number);
                if let Some((_, message)) = place.ok().and_then(|index| self.mailbox.remove(index))
                {
                    self.mailbox_bytes -= message.bytes();
                }
            }
            Key::Timer { number, .. } => {
                self.take_timer(*number);
            }
            Key::Suspension { .. } => self.suspension = None,
            Key::Trouble { .. } => self.trouble = None,
            Key::Idempotency { verb, key, .. } => {
                self.idempotency.remove(&(*verb, key.clone()));
            }
            _ => {}
        }
    }
}
