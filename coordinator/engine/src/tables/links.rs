//! Durable side of the messages to and from other partitions.

use std::collections::BTreeMap;

use crate::durable::{Acknowledged, Key, Value};
use crate::message::PeerMessage;

/// Durable facts about the messages between this partition and one other.
#[derive(Debug, Default)]
pub(crate) struct LinkFacts {
    /// Messages to the other partition that it has not acknowledged, by number.
    out: BTreeMap<u64, Box<PeerMessage>>,
    /// Size of these messages, in bytes.
    out_bytes: usize,
    /// Number of the last message to it.
    pub(crate) assigned: u64,
    pub(crate) acknowledged: Acknowledged,
    /// Number of the last message taken from it.
    pub(crate) taken: u64,
}

impl LinkFacts {
    /// Iterates over the messages without acknowledgement, in order of their numbers.
    pub(crate) fn out(&self) -> impl Iterator<Item = (u64, &PeerMessage)> {
        self.out
            .iter()
            .map(|(number, message)| (*number, &**message))
    }

    /// Returns a message without acknowledgement.
    pub(crate) fn message(&self, number: u64) -> Option<&PeerMessage> {
        self.out.get(&number).map(|message| &**message)
    }

    /// Size of the messages without acknowledgement, in bytes.
    pub(crate) fn out_bytes(&self) -> usize {
        self.out_bytes
    }

    /// Adds a message under the number after the last one. Returns the number.
    pub(crate) fn assign(&mut self, message: PeerMessage) -> u64 {
        self.assigned += 1;
        self.insert(self.assigned, Box::new(message));
        self.assigned
    }

    /// Records an acknowledgement, and removes the messages that it covers. Returns their size in
    /// bytes.
    pub(crate) fn acknowledge(&mut self, acknowledged: Acknowledged) -> usize {
        let before = self.out_bytes;
        self.acknowledged = acknowledged;
        let kept = self.out.split_off(&(acknowledged.upto + 1));
        let removed = std::mem::replace(&mut self.out, kept);
        self.out_bytes -= removed
            .values()
            .map(|message| message.bytes())
            .sum::<usize>();
        before - self.out_bytes
    }

    /// Audits the size of the messages without acknowledgement, and their numbers.
    pub(crate) fn is_well_kept(&self) -> bool {
        let bytes: usize = self.out.values().map(|message| message.bytes()).sum();
        let numbers = self.out.keys().copied();
        bytes == self.out_bytes && numbers.eq(self.acknowledged.upto + 1..=self.assigned)
    }

    fn insert(&mut self, number: u64, message: Box<PeerMessage>) {
        self.remove(number);
        self.out_bytes += message.bytes();
        self.out.insert(number, message);
    }

    fn remove(&mut self, number: u64) {
        if let Some(message) = self.out.remove(&number) {
            self.out_bytes -= message.bytes();
        }
    }
}

/// Durable facts about the messages between this partition and the others, by their numbers, and
/// the lead of the last delta's time.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<u32, LinkFacts>,
    /// Lead of the time of the last delta over the partition's own time, in ms.
    pub(crate) lead_ms: u64,
}

impl Links {
    /// Iterates over the other partitions with facts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &LinkFacts)> {
        self.links.iter().map(|(peer, link)| (*peer, link))
    }

    /// Returns what is known about messages between this partition and `peer`.
    pub(crate) fn get(&self, peer: u32) -> Option<&LinkFacts> {
        self.links.get(&peer)
    }

    /// Like [`Self::get`], created if there is nothing.
    pub(crate) fn get_or_new(&mut self, peer: u32) -> &mut LinkFacts {
        self.links.entry(peer).or_default()
    }

    /// Size of all messages without acknowledgement, in bytes.
    pub(crate) fn out_bytes(&self) -> usize {
        self.links.values().map(LinkFacts::out_bytes).sum()
    }

    /// Returns the present value of a fact. Facts that are kept elsewhere have none here.
    pub(super) fn value(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Out { peer, number } => {
                let message = self.get(*peer)?.out.get(number)?;
                Some(Value::Out(message.clone()))
            }
            Key::Assigned { peer } => Some(Value::LinkNumber(self.get(*peer)?.assigned)),
            Key::Acknowledged { peer } => Some(Value::Acknowledged(self.get(*peer)?.acknowledged)),
            Key::Taken { peer } => Some(Value::LinkNumber(self.get(*peer)?.taken)),
            Key::Lead => (self.lead_ms > 0).then_some(Value::Lead(self.lead_ms)),
            _ => None,
        }
    }

    /// Sets the value of a fact. Returns a fact that is kept elsewhere.
    pub(super) fn put(&mut self, key: Key, value: Value) -> Option<(Key, Value)> {
        match (key, value) {
            (Key::Out { peer, number }, Value::Out(message)) => {
                self.get_or_new(peer).insert(number, message);
            }
            (Key::Assigned { peer }, Value::LinkNumber(number)) => {
                self.get_or_new(peer).assigned = number;
            }
            (Key::Acknowledged { peer }, Value::Acknowledged(acknowledged)) => {
                self.get_or_new(peer).acknowledge(acknowledged);
            }
            (Key::Taken { peer }, Value::LinkNumber(number)) => {
                self.get_or_new(peer).taken = number;
            }
            (Key::Lead, Value::Lead(ms)) => self.lead_ms = ms,
            (key, value) => return Some((key, value)),
        }
        None
    }

    /// Removes a fact. Deltas remove only the lead; a message is removed by its acknowledgement.
    pub(super) fn remove(&mut self, key: &Key) {
        match key {
            Key::Out { peer, number } => self.get_or_new(*peer).remove(*number),
            Key::Assigned { peer } => self.get_or_new(*peer).assigned = 0,
            Key::Acknowledged { peer } => {
                self.get_or_new(*peer).acknowledged = Acknowledged::default();
            }
            Key::Taken { peer } => self.get_or_new(*peer).taken = 0,
            Key::Lead => self.lead_ms = 0,
            _ => {}
        }
    }

    /// Calls `keep` with the key of every fact that was ever set.
    pub(super) fn for_each_key(&self, keep: &mut impl FnMut(Key)) {
        for (peer, link) in self.iter() {
            link.out.keys().for_each(|number| {
                keep(Key::Out {
                    peer,
                    number: *number,
                });
            });
            if link.assigned > 0 {
                keep(Key::Assigned { peer });
            }
            if link.acknowledged != Acknowledged::default() {
                keep(Key::Acknowledged { peer });
            }
            if link.taken > 0 {
                keep(Key::Taken { peer });
            }
        }
        if self.lead_ms > 0 {
            keep(Key::Lead);
        }
    }
}
