//! The truth: the fold of the durable deltas, and the laws that every durable state must keep.
//!
//! The truth is built from the deltas that were handed to the log and that the log reported
//! durable, never from what a partition believes. At each takeover the recovered state must be the
//! fold of a prefix that contains every reported delta.

mod history;

use std::collections::BTreeMap;
use std::rc::Rc;

use satchel_engine::address::Address;
use satchel_engine::durable::{Change, DeadLetter, Key, OutboxEntry, Value};
use satchel_engine::message::MessageId;
use satchel_engine::output::Delta;
use satchel_engine::position::ShardPosition;
use satchel_protocol::reqreply::TypedValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::functions::{MISUSED, address, number, text_of};
use crate::streams::{Streams, shard_id};

/// Facts by their durable key.
#[derive(Debug, Default, Clone)]
pub(crate) struct Facts {
    facts: BTreeMap<Vec<u8>, (Vec<u8>, Change)>,
    /// Hash of all facts together, in any order.
    hash: u64,
}

impl Facts {
    /// Applies a change. Returns the change that it replaces.
    pub(crate) fn apply(&mut self, change: &Change) -> Option<Change> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        change.encode_key(&mut key);
        // An image contains a counter at its beginning; a log, such as that of an import, may not
        // mention it.
        let begins = change.value == Some(Value::Counter(1));
        self.remove_acknowledged(change);
        let before = if change.encode_value(&mut value) && !begins {
            self.hash = self.hash.wrapping_add(hash(&key, &value));
            self.facts.insert(key.clone(), (value, change.clone()))
        } else {
            self.facts.remove(&key)
        };
        let (bytes, before) = before?;
        self.hash = self.hash.wrapping_sub(hash(&key, &bytes));
        Some(before)
    }

    /// Removes the messages to another partition that a change acknowledges.
    fn remove_acknowledged(&mut self, change: &Change) {
        let (Key::Acknowledged { peer }, Some(Value::Acknowledged(acknowledged))) =
            (&change.key, &change.value)
        else {
            return;
        };
        let covered = |key: &Key| {
            matches!(key, Key::Out { peer: to, number }
                if to == peer && *number <= acknowledged.upto)
        };
        let covered = self
            .facts
            .iter()
            .filter(|(_, (_, fact))| covered(&fact.key));
        let keys: Vec<Vec<u8>> = covered.map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some((bytes, _)) = self.facts.remove(&key) {
                self.hash = self.hash.wrapping_sub(hash(&key, &bytes));
            }
        }
    }

    /// Returns the hash of all facts.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.facts
            .values()
            .filter_map(|(_, change)| Some((&change.key, change.value.as_ref()?)))
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Value> {
        let mut bytes = Vec::new();
        let change = Change { key, value: None };
        change.encode_key(&mut bytes);
        self.facts.get(&bytes)?.1.value.as_ref()
    }

    /// Returns true if applying `change` would change nothing.
    fn holds(&self, change: &Change) -> bool {
        self.get(change.key.clone()) == change.value.as_ref()
    }

    /// Returns the value of a state, empty if it has none.
    pub(crate) fn state(&self, address: &Address, name: &str) -> String {
        let key = Key::State {
            address: address.clone(),
            name: name.into(),
        };
        match self.get(key) {
            Some(Value::State(state)) => String::from_utf8_lossy(&state.value).into_owned(),
            _ => String::new(),
        }
    }

    pub(crate) fn difference(&self, other: &Self) -> String {
        let missing = self
            .facts
            .iter()
            .filter(|(key, fact)| other.facts.get(*key).map(|fact| &fact.0) != Some(&fact.0));
        let added = other
            .facts
            .keys()
            .filter(|key| !self.facts.contains_key(*key));
        let missing: Vec<_> = missing.map(|(_, fact)| &fact.1).take(3).collect();
        let added: Vec<_> = added.map(|key| &other.facts[key].1).take(3).collect();
        format!("it should hold {missing:?}; it should not hold {added:?}")
    }
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64(&[&(key.len() as u64).to_le_bytes(), key, value].concat())
}

/// Durable state of a run; see the module's documentation.
pub(crate) struct Truth {
    /// Durable facts.
    pub(crate) facts: Facts,
    pub(crate) violations: Vec<String>,
    /// Failed attempts of messages that became durable since they were last checked.
    pub(crate) counted: Vec<(MessageId, u32)>,
    epochs: BTreeMap<u64, Epoch>,
    streams: Rc<std::cell::RefCell<Streams>>,
    committed_at_ms: u64,
    /// Every entry that was ever durable in the outbox.
    outbox: BTreeMap<u64, OutboxEntry>,
    /// Due time of each timer that was ever durable, in ms.
    timers: BTreeMap<(String, u64), u64>,
    /// Money in accounts and in flight.
    money: i64,
    /// First record of each shard that counts.
    pub(crate) beginnings: BTreeMap<String, u64>,
    /// Moment from which the stream is read, if not from its beginning.
    resolved_ms: Option<u64>,
    /// Forgotten shards, each with the time at which it was forgotten.
    forgotten: BTreeMap<String, u64>,
    /// Money minted in forgotten shards.
    minted_before: i64,
    /// Number of durable deltas.
    pub(crate) deltas: u64,
    /// Durable states, one after each delta.
    pub(crate) history: Vec<Moment>,
    /// Hash of the state before the first delta.
    pub(crate) at_first: u64,
    /// Money in the state before the first delta that no record minted.
    pub(crate) granted: i64,
}

/// Durable state after one delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Partition time of the delta.
    pub(crate) committed_at_ms: u64,
    /// Hash of all facts.
    pub(crate) hash: u64,
}

#[derive(Default)]
struct Epoch {
    sealed: Vec<Rc<Delta>>,
    /// Number of sealed deltas that are part of `facts`.
    applied: usize,
    /// True once a later owner has taken over, so that no further delta can count.
    over: bool,
}

impl Truth {
    pub(crate) fn new(streams: Rc<std::cell::RefCell<Streams>>) -> Self {
        Self {
            facts: Facts::default(),
            counted: Vec::new(),
            violations: Vec::new(),
            epochs: BTreeMap::new(),
            streams,
            committed_at_ms: 0,
            outbox: BTreeMap::new(),
            timers: BTreeMap::new(),
            money: 0,
            beginnings: BTreeMap::new(),
            resolved_ms: None,
            forgotten: BTreeMap::new(),
            minted_before: 0,
            deltas: 0,
            history: Vec::new(),
            at_first: 0,
            granted: 0,
        }
    }

    /// Checks the state that an owner recovered at its takeover.
    pub(crate) fn took_over(&mut self, epoch: u64, recovered: &Facts) {
        if self
            .epochs
            .keys()
            .next_back()
            .is_some_and(|last| *last > epoch)
        {
            // The takeover of a later owner returned earlier, so nothing of this epoch can count.
            self.epochs.entry(epoch).or_default().over = true;
            return;
        }
        if let Some(former) = self.epochs.keys().next_back().copied() {
            while self.facts.hash != recovered.hash && self.apply_next(former) {}
            self.pass_neutral(former);
            if let Some(former) = self.epochs.get_mut(&former) {
                former.over = true;
            }
        }
        if self.facts.hash != recovered.hash {
            let difference = self.facts.difference(recovered);
            self.violation(format!(
                "epoch {epoch} recovered another state than the fold of the durable prefix: \
                 {difference}"
            ));
        }
        if self.epochs.insert(epoch, Epoch::default()).is_some() {
            self.violation(format!("epoch {epoch} has two holders"));
        }
    }

    /// Remembers a delta that is handed to the log.
    pub(crate) fn sealed(&mut self, epoch: u64, delta: Rc<Delta>) {
        if let Some(epoch) = self.epochs.get_mut(&epoch) {
            epoch.sealed.push(delta);
        }
    }

    /// Applies the deltas that the log reports durable.
    pub(crate) fn durable(&mut self, epoch: u64, sequence: u64) {
        loop {
            let Some(known) = self.epochs.get(&epoch) else {
                return;
            };
            if known.applied as u64 >= sequence {
                return;
            }
            if known.over {
                return self.violation(format!(
                    "epoch {epoch} is over, but its delta {sequence} is reported durable"
                ));
            }
            if !self.apply_next(epoch) {
                return self.violation(format!("epoch {epoch} never sealed delta {sequence}"));
            }
        }
    }

    /// Returns the entry that the outbox durably holds or held under this number.
    pub(crate) fn outbox_entry(&self, number: u64) -> Option<&OutboxEntry> {
        self.outbox.get(&number)
    }

    pub(crate) fn dead_letters(&self) -> Vec<(Option<Address>, DeadLetter)> {
        let letters = self
            .facts
            .iter()
            .filter_map(|(key, value)| match (key, value) {
                (Key::DeadLetter { address, .. }, Value::DeadLetter(letter)) => {
                    Some((address.clone(), letter.clone()))
                }
                _ => None,
            });
        letters.collect()
    }

    fn note_attempts(&mut self, change: &Change) {
        let Key::FailureRecord { address } = &change.key else {
            return;
        };
        let Some(Value::FailureRecord(record)) = &change.value else {
            return;
        };
        let key = Key::Message {
            address: address.clone(),
            number: record.message,
        };
        if let Some(Value::Message(message)) = self.facts.get(key) {
            self.counted.push((message.id, record.attempts));
        }
    }

    /// Returns true if a timer has not fired yet.
    pub(crate) fn is_a_timer_pending(&self) -> bool {
        let mut keys = self.facts.iter().map(|(key, _)| key);
        keys.any(|key| matches!(key, Key::Timer { .. }))
    }

    /// Returns true if it is durable that a shard was read to its end.
    pub(crate) fn is_over(&self, shard: &str) -> bool {
        let position = self.facts.get(Key::Shard(shard_id(shard)));
        match position {
            Some(Value::Shard(position)) => *position == ShardPosition::End,
            _ => self.forgotten.contains_key(shard),
        }
    }

    /// Returns true if a shard was closed before the moment from which the stream is read.
    pub(crate) fn is_passed(&self, shard: &str) -> bool {
        let streams = self.streams.borrow();
        let resolved_ms = self.resolved_ms.unwrap_or(0);
        !self.beginnings.contains_key(shard) && streams.was_closed(shard, resolved_ms)
    }

    /// Returns the number of suspended addresses.
    pub(crate) fn suspended(&self) -> usize {
        let keys = self.facts.iter().map(|(key, _)| key);
        keys.filter(|key| matches!(key, Key::Suspension { .. }))
            .count()
    }

    /// Returns true if no messages wait except those of suspended addresses.
    pub(crate) fn only_suspended_wait(&self) -> bool {
        self.facts.iter().all(|(key, _)| match key {
            Key::Message { address, .. } => {
                let address = address.clone();
                self.facts.get(Key::Suspension { address }).is_some()
            }
            _ => true,
        })
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Skips deltas that change nothing. The recovered state may or may not contain them.
    fn pass_neutral(&mut self, epoch: u64) {
        let Some(known) = self.epochs.get_mut(&epoch) else {
            return;
        };
        while let Some(next) = known.sealed.get(known.applied)
            && next.changes.iter().all(|change| self.facts.holds(change))
        {
            known.applied += 1;
        }
    }

    fn apply_next(&mut self, epoch: u64) -> bool {
        let Some(known) = self.epochs.get_mut(&epoch) else {
            return false;
        };
        let Some(delta) = known.sealed.get(known.applied).cloned() else {
            return false;
        };
        known.applied += 1;
        self.apply(&delta);
        true
    }

    fn apply(&mut self, delta: &Delta) {
        self.deltas += 1;
        if delta.committed_at_ms < self.committed_at_ms {
            self.violation("partition time goes back".to_owned());
        }
        self.committed_at_ms = delta.committed_at_ms;
        let arrived: Vec<MessageId> = delta
            .changes
            .iter()
            .filter_map(|change| match &change.value {
                Some(Value::Message(message)) => Some(message.id),
                _ => None,
            })
            .collect();
        for change in &delta.changes {
            let before = self.facts.apply(change);
            if let Some(before) = &before {
                self.money -= worth(before);
                self.check_forgotten(before, change);
                self.check_end(before, change, &arrived);
            }
            self.money += worth(change);
            self.note(change);
            self.note_attempts(change);
        }
        self.history.push(Moment {
            committed_at_ms: self.committed_at_ms,
            hash: self.facts.hash,
        });
        self.check_money();
    }

    /// Checks that only the position of an ended shard is removed.
    fn check_forgotten(&mut self, before: &Change, change: &Change) {
        if let (Key::Shard(shard), Some(Value::Shard(position)), None) =
            (&before.key, &before.value, &change.value)
        {
            if *position != ShardPosition::End {
                self.violation(format!("the position {position:?} of {shard} is forgotten"));
            }
            let from = self.beginnings.get(&*shard.shard).copied();
            self.forget(&shard.shard, self.committed_at_ms, from);
        }
    }

    /// Remembers a forgotten shard that was read from this record on.
    fn forget(&mut self, shard: &str, at_ms: u64, from: Option<u64>) {
        let from = from.unwrap_or(0);
        self.forgotten.insert(shard.to_owned(), at_ms);
        self.beginnings.insert(shard.to_owned(), from);
        let streams = self.streams.borrow();
        self.minted_before += streams.minted(shard, from, streams.end(shard));
    }

    /// Checks that a timer's message does not arrive before the timer is due.
    fn check_end(&mut self, before: &Change, change: &Change, arrived: &[MessageId]) {
        if let (Key::Timer { owner, number }, Some(Value::Timer(timer)), None) =
            (&before.key, &before.value, &change.value)
            && arrived.contains(&timer.message.id)
        {
            let due_ms = self.timers.get(&(owner.to_string(), *number)).copied();
            if due_ms.is_some_and(|due_ms| due_ms > self.committed_at_ms) {
                self.violation(format!(
                    "a timer of {owner} fired at {}, and was due at {due_ms:?}",
                    self.committed_at_ms
                ));
            }
        }
    }

    pub(crate) fn note(&mut self, change: &Change) {
        match (&change.key, &change.value) {
            (Key::Message { address, .. }, Some(Value::Message(message)))
                if text_of(&message.argument).ends_with(MISUSED) =>
            {
                self.violation(format!(
                    "{address} has {:?}, whose key was used for another body",
                    message.argument
                ));
            }
            (Key::Outbox { number }, Some(Value::Outbox(entry))) => {
                let before = self.outbox.insert(*number, entry.clone());
                if before.is_some_and(|before| before != *entry) {
                    self.violation(format!("the outbox holds {number} with two contents"));
                }
            }
            (Key::Timer { owner, number }, Some(Value::Timer(timer))) => {
                let key = (owner.to_string(), *number);
                self.timers.entry(key).or_insert(timer.due_ms);
            }
            (Key::Shard(shard), Some(Value::Shard(position))) => {
                let shard = shard.shard.to_string();
                let at = self.streams.borrow().index_after(&shard, position);
                self.beginnings.entry(shard).or_insert(at);
                if let ShardPosition::Since { time_ms } = position
                    && self.resolved_ms.is_none()
                {
                    self.resolved_ms = Some(*time_ms);
                }
            }
            _ => {}
        }
    }

    /// Checks that the money in a durable state equals the money that was minted.
    pub(crate) fn check_money(&mut self) {
        let mut minted = self.minted_before;
        for (key, value) in self.facts.iter() {
            if let (Key::Shard(shard), Value::Shard(position)) = (key, value) {
                let from = self.beginnings.get(&*shard.shard).copied().unwrap_or(0);
                let to = self.streams.borrow().index_after(&shard.shard, position);
                minted += self.streams.borrow().minted(&shard.shard, from, to);
            }
        }
        if minted + self.granted != self.money {
            let money = self.money;
            self.violation(format!("{minted} was minted, but {money} exists"));
        }
    }
}

/// Returns the money in a fact.
fn worth(change: &Change) -> i64 {
    let message = |target: &Address, argument: &TypedValue| {
        if *target.function.name() != *"account" {
            return 0;
        }
        match text_of(argument).split(' ').collect::<Vec<_>>()[..] {
            ["mint" | "deposit", amount] => number(amount) as i64,
            _ => 0,
        }
    };
    match (&change.key, &change.value) {
        (Key::State { address: at, name }, Some(Value::State(state)))
            if at.function == address("steady", "account", "").function && &**name == "balance" =>
        {
            String::from_utf8_lossy(&state.value).parse().unwrap_or(0)
        }
        (Key::Message { address, .. }, Some(Value::Message(found))) => {
            message(address, &found.argument)
        }
        (Key::Timer { .. }, Some(Value::Timer(timer))) => {
            message(&timer.target, &timer.message.argument)
        }
        (
            Key::DeadLetter {
                address: Some(address),
                ..
            },
            Some(Value::DeadLetter(letter)),
        ) => message(address, &letter.argument),
        _ => 0,
    }
}
