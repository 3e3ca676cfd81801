//! The active state of an address: everything of an instance except the states of its function.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::body::ALLOCATION_BYTES;
use crate::address::Address;
use crate::durable::{
    DeadLetter, FailureRecord, Idempotency, Key, Outcome, Suspension, Timer, Value,
};
use crate::map::Map;
use crate::message::Message;
use crate::request::Verb;

/// Active state of an address: pending messages, timers, idempotency records, dead letters, and its
/// current activity.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActiveState {
    /// Pending messages by number, those in flight at the front.
    pub(crate) mailbox: VecDeque<(u64, Message)>,
    pub(crate) mailbox_bytes: usize,
    timers: BTreeMap<u64, Box<Timer>>,
    pub(crate) tokens: Map<Arc<str>, u64>,
    pub(crate) suspension: Option<Suspension>,
    pub(crate) failures: Option<Box<FailureRecord>>,
    records: BTreeMap<(Verb, Arc<str>), Box<Idempotency>>,
    /// Number of records without an outcome.
    open_records: usize,
    dead_letters: BTreeMap<u64, Box<DeadLetter>>,
    /// Size of timers, records and dead letters, in bytes.
    kept_bytes: usize,
    /// Size that the bucket has counted for this state, in bytes.
    pub(super) counted_bytes: usize,
    /// Effect on eviction that the bucket has counted for this state.
    pub(super) counted_eviction: Eviction,
    /// Size of waiting messages that the bucket has counted for this state, in bytes.
    pub(super) counted_standing_bytes: usize,
    /// Not durable: a new owner begins with idle addresses.
    pub(crate) activity: Activity,
    /// Search for a poison message, if one is in progress. Not durable.
    pub(crate) isolation: Option<Isolation>,
}

/// A mailbox with at most this capacity keeps it until the mailbox is empty.
const ROOM_KEPT: usize = 64;

/// Effect of an address on the eviction of its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Eviction {
    /// The address does not keep its bucket in memory.
    #[default]
    Allowed,
    /// The address keeps its bucket in memory for an unknown time.
    Blocked,
    /// The address keeps its bucket in memory until its messages are processed.
    AfterDrain,
}

/// Current activity of an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Activity {
    /// Nothing to do.
    #[default]
    Idle,
    /// Waits for its turn.
    Ready,
    /// The crash guard counted an attempt as failed in advance. The address waits until that count
    /// is durable.
    GuardingAttempt,
    /// The count of the attempt is durable. The next message may be tried, alone.
    AttemptDurable,
    /// The crash guard waits until the messages of the next batch are durable.
    GuardingMessages,
    /// The messages of the next batch are durable.
    MessagesDurable,
    /// Waits for the end of a back-off before its next attempt.
    BackingOff,
    /// Waits until its function type is neither suspended nor paused.
    Blocked,
    /// A batch is in flight.
    InFlight(Flight),
}

/// The batch in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    /// Number of its attempt.
    pub(crate) attempt: u64,
    /// Number of messages that it took from the front of the mailbox.
    pub(crate) messages: usize,
    /// True if the attempt was counted as failed before it began.
    pub(crate) presumed_failed: bool,
    /// Number of states that it carries.
    pub(crate) states: usize,
    /// Generation of the function's declarations that it carries.
    pub(crate) generation: u64,
    /// Time of its start, in ms since the epoch.
    pub(crate) since_ms: u64,
}

/// Search for a poison message by halving the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// Maximum number of messages of the next batch.
    pub(crate) messages_max: usize,
    /// Number of the last message in the batch that failed.
    pub(crate) through: u64,
}

impl ActiveState {
    /// Returns the message `number`.
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

    /// Approximate size of the messages while they are pending for `address`, in bytes.
    pub(crate) fn pending_bytes(&self, address: &Address) -> usize {
        self.mailbox_bytes + self.mailbox.len() * address.id.len()
    }

    /// Removes the oldest message.
    pub(crate) fn pop_message(&mut self) -> Option<(u64, Message)> {
        let (number, message) = self.mailbox.pop_front()?;
        self.mailbox_bytes -= message.bytes();
        // Capacity that a backlog needed is released while the backlog shrinks.
        if self.mailbox.capacity() > ROOM_KEPT && self.mailbox.len() < self.mailbox.capacity() / 8 {
            self.mailbox.shrink_to(self.mailbox.len() * 2);
        }
        Some((number, message))
    }

    /// Removes the pending corrections of one state.
    pub(crate) fn take_corrections(&mut self, state: &str) -> VecDeque<(u64, Message)> {
        let corrects = |message: &Message| {
            let correction = message.correction.as_ref();
            correction.is_some_and(|correction| *correction.state == *state)
        };
        if !self.mailbox.iter().any(|(_, message)| corrects(message)) {
            return VecDeque::new();
        }
        let mailbox = std::mem::take(&mut self.mailbox);
        let (taken, left): (VecDeque<_>, VecDeque<_>) = mailbox
            .into_iter()
            .partition(|(_, message)| corrects(message));
        self.mailbox = left;
        self.mailbox_bytes -= taken
            .iter()
            .map(|(_, message)| message.bytes())
            .sum::<usize>();
        taken
    }

    /// Releases the capacity of an empty mailbox: the other parts of this state may stay for a long
    /// time.
    pub(super) fn release_capacity(&mut self) {
        if self.mailbox.is_empty() && self.mailbox.capacity() > 0 {
            self.mailbox = VecDeque::new();
        }
    }

    pub(crate) fn timer(&self, number: u64) -> Option<&Timer> {
        self.timers.get(&number).map(|timer| &**timer)
    }

    pub(crate) fn timers(&self) -> impl Iterator<Item = (u64, &Timer)> {
        self.timers
            .iter()
            .map(|(number, timer)| (*number, &**timer))
    }

    pub(crate) fn insert_timer(&mut self, number: u64, timer: Timer) {
        self.take_timer(number);
        if let Some(token) = &timer.token {
            self.tokens.insert(token.clone(), number);
        }
        self.kept_bytes += timer_bytes(&timer);
        self.timers.insert(number, Box::new(timer));
    }

    pub(crate) fn take_timer(&mut self, number: u64) -> Option<Timer> {
        let timer = self.timers.remove(&number)?;
        if let Some(token) = &timer.token
            && self.tokens.get(token) == Some(&number)
        {
            self.tokens.remove(token);
        }
        self.kept_bytes -= timer_bytes(&timer);
        Some(*timer)
    }

    /// Returns the record of the request with this key.
    pub(crate) fn record(&self, verb: Verb, key: &Arc<str>) -> Option<&Idempotency> {
        self.records
            .get(&(verb, key.clone()))
            .map(|record| &**record)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = (Verb, &Arc<str>, &Idempotency)> {
        let records = self.records.iter();
        records.map(|((verb, key), record)| (*verb, key, &**record))
    }

    pub(crate) fn insert_record(&mut self, verb: Verb, key: Arc<str>, record: Idempotency) {
        self.take_record(verb, &key);
        self.kept_bytes += record_bytes(&key, &record);
        self.open_records += usize::from(record.outcome.is_none());
        self.records.insert((verb, key), Box::new(record));
    }

    pub(crate) fn take_record(&mut self, verb: Verb, key: &Arc<str>) -> Option<Idempotency> {
        let record = self.records.remove(&(verb, key.clone()))?;
        self.kept_bytes -= record_bytes(key, &record);
        self.open_records -= usize::from(record.outcome.is_none());
        Some(*record)
    }

    /// Replaces the outcome and the expiry of a record. Returns whether there is a record.
    pub(crate) fn set_outcome(
        &mut self,
        (verb, key): (Verb, &Arc<str>),
        outcome: Option<Outcome>,
        expires_at_ms: Option<u64>,
    ) -> bool {
        let Some(record) = self.take_record(verb, key) else {
            return false;
        };
        let record = Idempotency {
            outcome,
            expires_at_ms,
            ..record
        };
        self.insert_record(verb, key.clone(), record);
        true
    }

    pub(crate) fn dead_letter(&self, number: u64) -> Option<&DeadLetter> {
        self.dead_letters.get(&number).map(|letter| &**letter)
    }

    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = (u64, &DeadLetter)> {
        let letters = self.dead_letters.iter();
        letters.map(|(number, letter)| (*number, &**letter))
    }

    pub(super) fn insert_dead_letter(&mut self, number: u64, letter: DeadLetter) {
        self.take_dead_letter(number);
        self.kept_bytes += dead_letter_bytes(&letter);
        self.dead_letters.insert(number, Box::new(letter));
    }

    pub(super) fn take_dead_letter(&mut self, number: u64) -> Option<DeadLetter> {
        let letter = self.dead_letters.remove(&number)?;
        self.kept_bytes -= dead_letter_bytes(&letter);
        Some(*letter)
    }

    /// Due time of the earliest timer.
    pub(super) fn earliest_timer_ms(&self) -> Option<u64> {
        self.timers.values().map(|timer| timer.due_ms).min()
    }

    /// Time at which the earliest record may be removed.
    pub(super) fn earliest_expiry_ms(&self) -> Option<u64> {
        let records = self.records.values();
        records.filter_map(|record| record.expires_at_ms).min()
    }

    /// Returns whether the next owner must load this state before it is needed: because it must be
    /// in memory, or because it holds dead letters, which the index of all dead letters lists.
    pub(super) fn is_pending(&self) -> bool {
        self.is_pinned() || !self.dead_letters.is_empty()
    }

    /// Returns whether this state must be in memory. Messages must be, and requests with an open
    /// outcome, because a reply must find them.
    fn is_pinned(&self) -> bool {
        !self.mailbox.is_empty() || self.open_records > 0
    }

    pub(super) fn eviction(&self) -> Eviction {
        let drains = self.suspension.is_none() && self.activity != Activity::Blocked;
        if !self.mailbox.is_empty() && drains {
            Eviction::AfterDrain
        } else if self.is_pinned() {
            Eviction::Blocked
        } else {
            Eviction::Allowed
        }
    }

    /// Size of the messages that wait until a suspension or a pause ends, in bytes.
    pub(super) fn standing_bytes(&self) -> usize {
        match self.eviction() {
            Eviction::Blocked => self.mailbox_bytes,
            Eviction::Allowed | Eviction::AfterDrain => 0,
        }
    }

    /// Approximate size, in bytes.
    pub(super) fn bytes(&self) -> usize {
        const MESSAGE_BYTES: usize = size_of::<(u64, Message)>();
        size_of::<Self>()
            + ALLOCATION_BYTES
            + self.mailbox.capacity() * MESSAGE_BYTES
            + self.mailbox_bytes
            + self.kept_bytes
    }

    /// Audits the counters: bytes of messages, bytes of everything else kept here, and number of
    /// requests without an outcome.
    pub(super) fn is_well_counted(&self) -> bool {
        let messages = self.mailbox.iter().map(|(_, message)| message.bytes());
        let timers = self.timers.values().map(|timer| timer_bytes(timer));
        let records = self.records.iter();
        let records = records.map(|((_, key), record)| record_bytes(key, record));
        let letters = self
            .dead_letters
            .values()
            .map(|letter| dead_letter_bytes(letter));
        let kept = timers.chain(records).chain(letters);
        let open = self.records.values();
        let open = open.filter(|record| record.outcome.is_none()).count();
        self.open_records == open
            && self.mailbox_bytes == messages.sum::<usize>()
            && self.kept_bytes == kept.sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mailbox.is_empty()
            && self.timers.is_empty()
            && self.suspension.is_none()
            && self.failures.is_none()
            && self.records.is_empty()
            && self.dead_letters.is_empty()
            && self.activity == Activity::Idle
    }

    /// Returns the present value of a fact kept here.
    pub(super) fn value(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Message { number, .. } => self.message(*number).cloned().map(Value::Message),
            Key::Timer { number, .. } => self.timer(*number).cloned().map(Value::Timer),
            Key::Suspension { .. } => self.suspension.clone().map(Value::Suspension),
            Key::FailureRecord { .. } => {
                let failures = self.failures.as_deref();
                failures.cloned().map(Value::FailureRecord)
            }
            Key::Idempotency { verb, key, .. } => {
                self.record(*verb, key).cloned().map(Value::Idempotency)
            }
            Key::DeadLetter { number, .. } => {
                self.dead_letter(*number).cloned().map(Value::DeadLetter)
            }
            _ => None,
        }
    }

    /// Sets the value of a fact kept here.
    pub(super) fn put(&mut self, key: Key, value: Value) {
        match (key, value) {
            (Key::Message { number, .. }, Value::Message(message)) => {
                self.insert_message(number, message);
            }
            (Key::Timer { number, .. }, Value::Timer(timer)) => self.insert_timer(number, timer),
            (Key::Suspension { .. }, Value::Suspension(suspension)) => {
                self.suspension = Some(suspension);
            }
            (Key::FailureRecord { .. }, Value::FailureRecord(failures)) => {
                self.failures = Some(Box::new(failures));
            }
            (Key::Idempotency { verb, key, .. }, Value::Idempotency(record)) => {
                self.insert_record(verb, key, record);
            }
            (Key::DeadLetter { number, .. }, Value::DeadLetter(letter)) => {
                self.insert_dead_letter(number, letter);
            }
            (key, value) => {
                unreachable!("{key:?} was decoded with a value of another fact, {value:?}")
            }
        }
    }

    /// Removes a fact kept here.
    pub(super) fn remove(&mut self, key: &Key) {
        match key {
            Key::Message { number, .. } => {
                let index = self
                    .mailbox
                    .binary_search_by_key(number, |(number, _)| *number);
                if let Some((_, message)) = index.ok().and_then(|index| self.mailbox.remove(index))
                {
                    self.mailbox_bytes -= message.bytes();
                }
            }
            Key::Timer { number, .. } => {
                self.take_timer(*number);
            }
            Key::Suspension { .. } => self.suspension = None,
            Key::FailureRecord { .. } => self.failures = None,
            Key::Idempotency { verb, key, .. } => {
                self.take_record(*verb, key);
            }
            Key::DeadLetter { number, .. } => {
                self.take_dead_letter(*number);
            }
            _ => {}
        }
    }

    /// Calls `keep` with the key of every fact kept here.
    pub(super) fn for_each_key(&self, address: &Address, keep: &mut impl FnMut(Key)) {
        let address = || address.clone();
        for (number, _) in &self.mailbox {
            keep(Key::Message {
                address: address(),
                number: *number,
            });
        }
        for number in self.timers.keys() {
            keep(Key::Timer {
                owner: address(),
                number: *number,
            });
        }
        if self.suspension.is_some() {
            keep(Key::Suspension { address: address() });
        }
        if self.failures.is_some() {
            keep(Key::FailureRecord { address: address() });
        }
        for (verb, key) in self.records.keys() {
            keep(Key::Idempotency {
                address: address(),
                verb: *verb,
                key: key.clone(),
            });
        }
        for number in self.dead_letters.keys() {
            keep(Key::DeadLetter {
                address: Some(address()),
                number: *number,
            });
        }
    }
}

/// Size of a map entry besides its own bytes, including its entry in the schedule.
const ENTRY_BYTES: usize = 96;

fn timer_bytes(timer: &Timer) -> usize {
    let token = timer.token.as_ref().map_or(0, |token| 2 * token.len() + 64);
    size_of::<Timer>() + timer.message.bytes() + timer.target.id.len() + token + ENTRY_BYTES
}

fn record_bytes(key: &Arc<str>, record: &Idempotency) -> usize {
    let outcome = match &record.outcome {
        Some(Outcome::Replied(value)) => value.value.len() + value.typename.len(),
        Some(Outcome::Failed { reason, .. }) => reason.len(),
        Some(Outcome::Rejected { message, .. }) => message.len(),
        Some(Outcome::Accepted) | None => 0,
    };
    // `Calls` and the schedule hold the key too.
    size_of::<Idempotency>() + key.len() + outcome + 3 * ENTRY_BYTES
}

fn dead_letter_bytes(letter: &DeadLetter) -> usize {
    let texts = letter.source.len() + letter.reason.len() + letter.argument.typename.len();
    size_of::<DeadLetter>() + texts + letter.argument.value.len() + ENTRY_BYTES
}
