//! Order and repetition of records: the pure state machine between a partition's outbox and a
//! producer.
//!
//! ```text
//!  offer(record) ──► queue of its topic ──round──► (producer) ──answered──► settled
//!                        ▲                                         │
//!                        └── after a backoff of the topic ◄─ retry ┘
//! ```
//!
//! Its guarantees:
//!
//! - The records of a topic are sent in the order of their numbers. A record that is repeated is
//!   sent before all later ones of its topic.
//! - No record is lost: it leaves only as delivered or refused.
//! - A topic that fails does not hold up others.
//!
//! One round is sent at a time. There is no clock: `now_ms` is an argument, from any clock that
//! never goes back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::record::ProducerRecord;

/// Delay after the first failure of a topic, in ms. It doubles with each further failure.
const BACKOFF_INITIAL_MS: u64 = 100;

const BACKOFF_MAX_MS: u64 = 20_000;

/// Number of times in a row that a topic may be missing before its records are refused. The
/// attempts span more than a minute, in which an operator or a deployment can still create it.
const MISSING_MAX: u32 = 16;

/// Limits of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of records.
    pub records: usize,
    /// Maximum sum of their sizes, in bytes, unless there is only one.
    pub bytes: usize,
}

/// Result for one record of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The brokers have the record.
    Delivered,
    /// The brokers do not have the record, for a reason that is not its own or its topic's.
    Again,
    /// The brokers did not accept the record for a temporary reason.
    Retry(String),
    /// The topic does not exist at present.
    Missing(String),
    /// The brokers can never accept the record.
    Refused(String),
    /// The brokers rejected a batch for a reason that may be any of its records.
    Suspect(String),
}

/// A record that is no longer kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The record with this number was delivered.
    Delivered(u64),
    /// The record can never be delivered.
    Refused {
        /// Number of the record.
        number: u64,
        /// Name of its topic.
        topic: Arc<str>,
        /// Reason of the refusal.
        reason: String,
    },
}

/// Records that were offered and are not settled.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    topics: BTreeMap<Arc<str>, Topic>,
    random: u64,
}

#[derive(Debug, Default)]
struct Topic {
    /// Records by number.
    waiting: BTreeMap<u64, Entry>,
    failures: u32,
    missing: u32,
    /// Nothing is sent before this time.
    not_before_ms: u64,
}

#[derive(Debug)]
struct Entry {
    record: Arc<ProducerRecord>,
    /// True if no other record of the topic is sent in the same round, because it may be the reason
    /// for which a batch was rejected.
    alone: bool,
}

impl Outbox {
    /// Creates an empty outbox. `seed` determines the jitter of backoffs.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            topics: BTreeMap::new(),
            random: seed,
        }
    }

    /// Adds a record. Its number must exceed those of all earlier records.
    pub fn offer(&mut self, record: ProducerRecord) {
        let topic = self.topics.entry(Arc::clone(&record.topic)).or_default();
        let entry = Entry {
            record: Arc::new(record),
            alone: false,
        };
        topic.waiting.insert(entry.record.number, entry);
    }

    /// Returns the records to send now, by number. Empty if there are none. They stay in the outbox
    /// until [`Outbox::answered`] settles them.
    pub fn round(&self, now_ms: u64) -> Vec<Arc<ProducerRecord>> {
        let ready: Vec<&Topic> = self
            .topics
            .values()
            .filter(|topic| topic.not_before_ms <= now_ms)
            .collect();
        let mut queues: Vec<_> = ready.iter().map(|topic| topic.sendable()).collect();
        // The first record of each topic; the lowest number is taken next.
        let mut heads = BinaryHeap::new();
        for (index, queue) in queues.iter_mut().enumerate() {
            if let Some(record) = queue.next() {
                heads.push(Reverse((record.number, index, record.bytes())));
            }
        }
        let mut round: Vec<Arc<ProducerRecord>> = Vec::new();
        let mut bytes = 0;
        while let Some(Reverse((number, index, size))) = heads.pop() {
            bytes += size;
            let is_full = round.len() >= self.limits.records || bytes > self.limits.bytes;
            if is_full && !round.is_empty() {
                break;
            }
            round.push(Arc::clone(&ready[index].waiting[&number].record));
            if let Some(next) = queues[index].next() {
                heads.push(Reverse((next.number, index, next.bytes())));
            }
        }
        round
    }

    /// Handles the results of a round: one for each of its records, in their order.
    ///
    /// # Panics
    ///
    /// Panics if there is another number of results.
    pub fn answered(
        &mut self,
        now_ms: u64,
        round: &[Arc<ProducerRecord>],
        fates: Vec<Fate>,
    ) -> Vec<Settled> {
        assert_eq!(round.len(), fates.len(), "one result per record");
        let mut settled = Vec::new();
        let mut by_topic: BTreeMap<&Arc<str>, Vec<(u64, Fate)>> = BTreeMap::new();
        for (record, fate) in round.iter().zip(fates) {
            let results = by_topic.entry(&record.topic).or_default();
            results.push((record.number, fate));
        }
        for (name, results) in by_topic {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.answered(now_ms, name, results, &mut self.random, &mut settled);
                if topic.waiting.is_empty() && topic.failures == 0 {
                    self.topics.remove(name);
                }
            }
        }
        settled
    }

    /// Removes the records of `topic` for which `is_delivered` holds, and returns their numbers.
    pub fn take_delivered(
        &mut self,
        topic: &Arc<str>,
        is_delivered: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        let Some(waiting) = self.topics.get_mut(topic) else {
            return Vec::new();
        };
        let numbers = waiting.waiting.keys().copied();
        let delivered: Vec<u64> = numbers.filter(|number| is_delivered(*number)).collect();
        for number in &delivered {
            waiting.waiting.remove(number);
        }
        delivered
    }

    /// Time at which [`Outbox::round`] returns something, if nothing else happens.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let waiting = self.topics.values();
        let waiting = waiting.filter(|topic| !topic.waiting.is_empty());
        waiting.map(|topic| topic.not_before_ms).min()
    }

    /// Number of records that are not settled.
    pub fn pending(&self) -> usize {
        self.topics.values().map(|topic| topic.waiting.len()).sum()
    }
}

impl Topic {
    /// Records that may be in one round, by number: those before the first one that is sent alone,
    /// or only that one.
    fn sendable(&self) -> impl Iterator<Item = &Arc<ProducerRecord>> {
        let first_alone = self.waiting.values().next().is_some_and(|it| it.alone);
        let most = if first_alone { 1 } else { usize::MAX };
        self.waiting
            .values()
            .take_while(move |entry| first_alone || !entry.alone)
            .take(most)
            .map(|entry| &entry.record)
    }

    fn answered(
        &mut self,
        now_ms: u64,
        name: &Arc<str>,
        results: Vec<(u64, Fate)>,
        random: &mut u64,
        settled: &mut Vec<Settled>,
    ) {
        let is_missing = |fate: &Fate| matches!(fate, Fate::Missing(_));
        let has_failed = |fate: &Fate| matches!(fate, Fate::Retry(_) | Fate::Missing(_));
        if results.iter().any(|(_, fate)| is_missing(fate)) {
            self.missing += 1;
        }
        let gives_up = self.missing >= MISSING_MAX;
        if results.iter().any(|(_, fate)| has_failed(fate)) {
            self.failures = self.failures.saturating_add(1);
            self.not_before_ms = now_ms + backoff_ms(random, self.failures);
        } else if results.iter().any(|(_, fate)| *fate == Fate::Delivered) {
            (self.failures, self.missing) = (0, 0);
        }
        for (number, fate) in results {
            let refused = |reason| Settled::Refused {
                number,
                topic: Arc::clone(name),
                reason,
            };
            let Some(entry) = self.waiting.get_mut(&number) else {
                continue;
            };
            let done = match fate {
                Fate::Delivered => Settled::Delivered(number),
                Fate::Refused(reason) => refused(reason),
                Fate::Suspect(reason) if entry.alone => refused(reason),
                Fate::Missing(reason) if gives_up => refused(reason),
                Fate::Suspect(_) => {
                    entry.alone = true;
                    continue;
                }
                Fate::Again | Fate::Retry(_) | Fate::Missing(_) => continue,
            };
            self.waiting.remove(&number);
            settled.push(done);
        }
        if gives_up {
            // Records that are offered later have their own time.
            (self.failures, self.missing, self.not_before_ms) = (0, 0, 0);
        }
    }
}

/// Delay between half of the nominal delay and all of it.
fn backoff_ms(random: &mut u64, failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = (BACKOFF_INITIAL_MS << doublings).min(BACKOFF_MAX_MS);
    whole / 2 + next_random(random) % (whole / 2 + 1)
}

/// SplitMix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
