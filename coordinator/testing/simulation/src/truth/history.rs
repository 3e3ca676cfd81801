//! The sequence of durable states, and a truth that begins with one of them.

use std::cell::RefCell;
use std::rc::Rc;

use satchel_engine::durable::{Key, Value};

use super::{Facts, Truth, worth};
use crate::streams::{Streams, shard_id};

impl Truth {
    /// Creates the truth of a fork that begins with these facts. `before` is the truth of its
    /// origin.
    pub(crate) fn of(
        facts: &Facts,
        committed_at_ms: u64,
        before: &Truth,
        streams: Rc<RefCell<Streams>>,
    ) -> Self {
        let mut truth = Self::new(streams);
        truth.committed_at_ms = committed_at_ms;
        for (key, value) in facts.iter() {
            let change = satchel_engine::durable::Change {
                key: key.clone(),
                value: Some(value.clone()),
            };
            truth.money += worth(&change);
            if let Key::Shard(shard) = key {
                let shard = shard.shard.to_string();
                let from = before.beginnings.get(&shard).copied();
                truth.beginnings.extend(from.map(|from| (shard, from)));
            } else {
                truth.note(&change);
            }
        }
        truth.facts = facts.clone();
        let is_shard = |(key, _): (&Key, &Value)| matches!(key, Key::Shard(_));
        truth.resolved_ms = before.resolved_ms.filter(|_| facts.iter().any(is_shard));
        // Shards that were forgotten by then stay forgotten.
        for (shard, at_ms) in &before.forgotten {
            let known = facts.get(Key::Shard(shard_id(shard))).is_some();
            if *at_ms <= committed_at_ms && !known {
                truth.forget(shard, *at_ms, before.beginnings.get(shard).copied());
            }
        }
        truth.at_first = facts.hash();
        truth
    }

    /// Counts the money of an import, which no record minted, as present from the beginning.
    pub(crate) fn grant(&mut self) {
        self.granted = self.money;
    }

    /// Returns true if a state was durable after `from` or more deltas.
    pub(crate) fn was_durable(&self, hash: u64, from: usize) -> bool {
        let later = self.history.iter().skip(from.saturating_sub(1));
        let mut later = later.map(|moment| moment.hash);
        (from == 0 && hash == self.at_first) || later.any(|known| known == hash)
    }

    /// Returns the state at a final moment.
    pub(crate) fn hash_at(&self, moment_ms: u64) -> u64 {
        let until = self
            .history
            .partition_point(|one| one.committed_at_ms <= moment_ms);
        let last = until.checked_sub(1).and_then(|last| self.history.get(last));
        last.map_or(self.at_first, |moment| moment.hash)
    }

    /// Returns the latest moment before the last delta at or before `moment_ms`, for a mutant that
    /// loses that delta.
    pub(crate) fn moment_before(&self, moment_ms: u64) -> u64 {
        let until = self
            .history
            .partition_point(|one| one.committed_at_ms <= moment_ms);
        let last = until.checked_sub(1).and_then(|last| self.history.get(last));
        last.map_or(0, |moment| moment.committed_at_ms - 1)
    }

    /// Describes a durable state, for people.
    pub(crate) fn describe(&self, hash: u64) -> String {
        match self.history.iter().position(|moment| moment.hash == hash) {
            Some(place) => format!(
                "the state after delta {} of {}, of {}",
                place + 1,
                self.history.len(),
                self.history[place].committed_at_ms
            ),
            None => "a state that was never durable".to_owned(),
        }
    }

    /// Returns number and content of the records that had left the outbox in this durable state, in
    /// order.
    pub(crate) fn departed_by(&self, facts: &Facts) -> Vec<(u64, String)> {
        let next = match facts.get(Key::Counter) {
            Some(Value::Counter(next)) => *next,
            _ => 0,
        };
        let left = self.outbox.range(..next).filter(|(number, _)| {
            let number = **number;
            facts.get(Key::Outbox { number }).is_none()
        });
        left.map(|(number, entry)| (*number, crate::functions::text_of(&entry.value)))
            .collect()
    }
}
