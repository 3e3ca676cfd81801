//! What is going on at an address: everything of an instance but its states.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::body::ALLOCATION_BYTES;
use crate::address::Address;
use crate::durable::{DeadLetter, Idempotency, Key, Outcome, Suspension, Timer, Trouble, Value};
use crate::input::Verb;
use crate::map::Map;
use crate::message::Message;

/// What is going on at an address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    /// The pending messages by number, those in flight at the front.
    pub(crate) mailbox: VecDeque<(u64, Message)>,
    pub(crate) mailbox_bytes: usize,
    timers: BTreeMap<u64, Box<Timer>>,
    pub(crate) tokens: Map<Arc<str>, u64>,
    pub(crate) suspension: Option<Suspension>,
    pub(crate) trouble: Option<Box<Trouble>>,
    records: BTreeMap<(Verb, Arc<str>), Box<Idempotency>>,
    /// How many of them have no outcome.
    open_records: usize,
    letters: BTreeMap<u64, Box<DeadLetter>>,
    /// What timers, records and letters take, in bytes.
    kept_bytes: usize,
    /// What its bucket has counted for it, in bytes.
    pub(super) counted_bytes: usize,
    /// As what its bucket has counted it.
    pub(super) counted: Standing,
    /// Not durable: a new owner begins idle.
    pub(crate) activity: Activity,
    /// Not durable: how many messages a batch may hold while a poison message is searched for, and the last suspect.
    pub(crate) isolation: Option<Isolation>,
}

/// A mailbox with room for no more messages than this keeps it until it is empty.
const ROOM_KEPT: usize = 64;

/// Whether an address keeps its bucket in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// It does not.
    #[default]
    Free,
    /// For nobody knows how long.
    Pending,
    /// Until its messages are worked off.
    Working,
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
        // Room that a backlog needed is given back as it is worked off.
        if self.mailbox.capacity() > ROOM_KEPT && self.mailbox.len() < self.mailbox.capacity() / 8 {
            self.mailbox.shrink_to(self.mailbox.len() * 2);
        }
        Some((number, message))
    }

    /// Takes out the corrections of one state that wait.
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

    /// Gives back the room of a mailbox in which nothing waits: something else may live here for long.
    pub(super) fn give_back_room(&mut self) {
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

    /// What became of the request under this key.
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

    /// Gives a record another outcome, if there is one; says whether there is.
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

    pub(crate) fn letter(&self, number: u64) -> Option<&DeadLetter> {
        self.letters.get(&number).map(|letter| &**letter)
    }

    pub(crate) fn letters(&self) -> impl Iterator<Item = (u64, &DeadLetter)> {
        let letters = self.letters.iter();
        letters.map(|(number, letter)| (*number, &**letter))
    }

    pub(super) fn insert_letter(&mut self, number: u64, letter: DeadLetter) {
        self.take_letter(number);
        self.kept_bytes += letter_bytes(&letter);
        self.letters.insert(number, Box::new(letter));
    }

    pub(super) fn take_letter(&mut self, number: u64) -> Option<DeadLetter> {
        let letter = self.letters.remove(&number)?;
        self.kept_bytes -= letter_bytes(&letter);
        Some(*letter)
    }

    /// When its earliest timer is due.
    pub(super) fn earliest_timer_ms(&self) -> Option<u64> {
        self.timers.values().map(|timer| timer.due_ms).min()
    }

    /// When the earliest outcome may be forgotten.
    pub(super) fn earliest_expiry_ms(&self) -> Option<u64> {
        let records = self.records.values();
        records.filter_map(|record| record.expires_at_ms).min()
    }

    /// Whether something here must be in memory: messages; requests whose outcome is open, because a reply must find them; dead letters,
    /// because the list of all of them is asked for.
    pub(super) fn is_pending(&self) -> bool {
        !self.mailbox.is_empty() || !self.letters.is_empty() || self.open_records > 0
    }

    pub(super) fn standing(&self) -> Standing {
        if !self.mailbox.is_empty() && self.suspension.is_none() {
            Standing::Working
        } else if self.is_pending() {
            Standing::Pending
        } else {
            Standing::Free
        }
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        const MESSAGE_BYTES: usize = size_of::<(u64, Message)>();
        size_of::<Self>()
            + ALLOCATION_BYTES
            + self.mailbox.capacity() * MESSAGE_BYTES
            + self.mailbox_bytes
            + self.kept_bytes
    }

    /// Whether what is counted as it goes is what there is: the bytes of the messages, those of everything else that is kept, and the requests without an
    /// outcome.
    pub(super) fn is_well_counted(&self) -> bool {
        let messages = self.mailbox.iter().map(|(_, message)| message.bytes());
        let timers = self.timers.values().map(|timer| timer_bytes(timer));
        let records = self.records.iter();
        let records = records.map(|((_, key), record)| record_bytes(key, record));
        let letters = self.letters.values().map(|letter| letter_bytes(letter));
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
            && self.trouble.is_none()
            && self.records.is_empty()
            && self.letters.is_empty()
            && self.activity == Activity::Idle
    }

    /// The present value of one of the facts that live here.
    pub(super) fn value(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Message { number, .. } => self.message(*number).cloned().map(Value::Message),
            Key::Timer { number, .. } => self.timer(*number).cloned().map(Value::Timer),
            Key::Suspension { .. } => self.suspension.clone().map(Value::Suspension),
            Key::Trouble { .. } => {
                let trouble = self.trouble.as_deref();
                trouble.cloned().map(Value::Trouble)
            }
            Key::Idempotency { verb, key, .. } => {
                self.record(*verb, key).cloned().map(Value::Idempotency)
            }
            Key::DeadLetter { number, .. } => self.letter(*number).cloned().map(Value::DeadLetter),
            _ => None,
        }
    }

    /// Takes the new value of one of the facts that live here.
    pub(super) fn put(&mut self, key: Key, value: Value) {
        match (key, value) {
            (Key::Message { number, .. }, Value::Message(message)) => {
                self.insert_message(number, message);
            }
            (Key::Timer { number, .. }, Value::Timer(timer)) => self.insert_timer(number, timer),
            (Key::Suspension { .. }, Value::Suspension(suspension)) => {
                self.suspension = Some(suspension);
            }
            (Key::Trouble { .. }, Value::Trouble(trouble)) => {
                self.trouble = Some(Box::new(trouble));
            }
            (Key::Idempotency { verb, key, .. }, Value::Idempotency(record)) => {
                self.insert_record(verb, key, record);
            }
            (Key::DeadLetter { number, .. }, Value::DeadLetter(letter)) => {
                self.insert_letter(number, letter);
            }
            (key, value) => {
                unreachable!("{key:?} was decoded with a value of another fact, {value:?}")
            }
        }
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
                self.take_record(*verb, key);
            }
            Key::DeadLetter { number, .. } => {
                self.take_letter(*number);
            }
            _ => {}
        }
    }

    /// Names every fact that lives here.
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
        if self.trouble.is_some() {
            keep(Key::Trouble { address: address() });
        }
        for (verb, key) in self.records.keys() {
            keep(Key::Idempotency {
                address: address(),
                verb: *verb,
                key: key.clone(),
            });
        }
        for number in self.letters.keys() {
            keep(Key::DeadLetter {
                address: Some(address()),
                number: *number,
            });
        }
    }
}

/// What an entry of a map takes besides its own bytes, its place on the agenda included.
const ENTRY_BYTES: usize = 96;

fn timer_bytes(timer: &Timer) -> usize {
    let token = timer.token.as_ref().map_or(0, |token| 2 * token.len() + 64);
    size_of::<Timer>() + timer.message.bytes() + timer.target.id.len() + token + ENTRY_BYTES
}

fn record_bytes(key: &Arc<str>, record: &Idempotency) -> usize {
    let outcome = match &record.outcome {
        Some(Outcome::Replied(value)) => value.value.len() + value.typename.len(),
        Some(Outcome::Failed { reason, .. }) => reason.len(),
        Some(Outcome::Accepted) | None => 0,
    };
    // The calls and the agenda know of it too.
    size_of::<Idempotency>() + key.len() + outcome + 3 * ENTRY_BYTES
}

fn letter_bytes(letter: &DeadLetter) -> usize {
    let texts = letter.source.len() + letter.reason.len() + letter.argument.typename.len();
    size_of::<DeadLetter>() + texts + letter.argument.value.len() + ENTRY_BYTES
}
