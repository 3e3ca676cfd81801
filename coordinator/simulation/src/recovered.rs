//! Between the log and the engine, as the coordinator's runtime does it: encoding deltas and images, decoding what a takeover reads.

use std::collections::BTreeMap;

use satchel_engine::durable::{Change, Key, Value};
use satchel_engine::output::{BucketImage, Delta};
use satchel_engine::partition::{Config, Recovery};
use satchel_log::{Entries, EntriesBuilder, Entry, Fold};

use crate::mutants::Mutant;
use crate::truth::Facts;

/// What a takeover reads, for the engine and for the truth.
pub(crate) struct Recovered {
    config: Config,
    mutant: Option<Mutant>,
    recovery: Recovery,
    pub(crate) facts: Facts,
    pub(crate) problem: Option<String>,
}

impl Recovered {
    pub(crate) fn new(config: Config, mutant: Option<Mutant>) -> Self {
        Self {
            recovery: Recovery::new(config.clone()),
            config,
            mutant,
            facts: Facts::default(),
            problem: None,
        }
    }

    /// What the engine starts from.
    pub(crate) fn finish(mut self) -> Recovery {
        if self.mutant == Some(Mutant::ReorderMailbox) {
            self.reverse_mailboxes();
        }
        self.recovery
    }

    /// The next number that the recovered counter will give out.
    pub(crate) fn next_number(&self) -> u64 {
        match self.facts.get(Key::Counter) {
            Some(Value::Counter(next)) => *next,
            _ => 1,
        }
    }

    fn reverse_mailboxes(&mut self) {
        let mut mailboxes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, value) in self.facts.iter() {
            if let Key::Message { address, number } = key {
                let mailbox = mailboxes.entry(address.clone()).or_default();
                mailbox.push((*number, value.clone()));
            }
        }
        for (address, mut mailbox) in mailboxes {
            mailbox.sort_by_key(|(number, _)| *number);
            let numbers: Vec<u64> = mailbox.iter().map(|(number, _)| *number).collect();
            for (number, (_, value)) in numbers.into_iter().rev().zip(mailbox) {
                self.recovery.apply(Change {
                    key: Key::Message {
                        address: address.clone(),
                        number,
                    },
                    value: Some(value),
                });
            }
        }
    }
}

impl Fold for Recovered {
    fn clear(&mut self) {
        *self = Self::new(self.config.clone(), self.mutant);
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match Change::decode(entry.key, entry.value) {
            Ok(change) if change.key.bucket(self.config.buckets) == entry.bucket => {
                self.facts.apply(&change);
                self.recovery.apply(recovered_by(self.mutant, change));
            }
            Ok(change) => {
                self.problem = Some(format!("{:?} lies in bucket {}", change.key, entry.bucket));
            }
            Err(malformed) => self.problem = Some(malformed.to_string()),
        }
    }
}

fn recovered_by(mutant: Option<Mutant>, mut change: Change) -> Change {
    match (mutant, &mut change.value) {
        (Some(Mutant::HastenTimers), Some(Value::Timer(timer))) => {
            timer.due_ms = timer.due_ms.saturating_sub(3_000);
        }
        (Some(Mutant::NeverExpire), Some(Value::State(state))) => state.expires_at_ms = None,
        _ => {}
    }
    change
}

/// What a mutant makes of a delta before it reaches the log.
pub(crate) fn sealed_by(mutant: Option<Mutant>, mut delta: Delta, first_of_epoch: bool) -> Delta {
    let Some(mutant) = mutant else {
        return delta;
    };
    delta.changes.retain(|change| {
        let set = change.value.is_some();
        !match (mutant, &change.key) {
            (Mutant::ForgetPosition, Key::Shard(_)) => !first_of_epoch,
            (Mutant::LoseMessages, Key::Message { number, .. }) => set && number % 5 == 0,
            (Mutant::KeepConsumed, Key::Message { number, .. }) => !set && number % 5 == 0,
            (Mutant::KeepTimers, Key::Timer { .. }) => !set,
            (Mutant::LoseTimers, Key::Timer { .. }) => set,
            (Mutant::ForgetKeys, Key::Idempotency { .. })
            | (Mutant::ForgetOutbox, Key::Outbox { .. })
            | (Mutant::DropDeadLetters, Key::DeadLetter { .. }) => set,
            (Mutant::ForgetCounter, Key::Counter) | (Mutant::ForgetDeaths, Key::Trouble { .. }) => {
                true
            }
            _ => false,
        }
    });
    delta
}

pub(crate) fn encode_delta(buckets: u16, delta: &Delta) -> satchel_log::Delta {
    satchel_log::Delta {
        sequence: delta.number,
        committed_at_ms: delta.committed_at_ms,
        clean: delta.clean,
        entries: encode(buckets, &delta.changes),
    }
}

pub(crate) fn encode_image(buckets: u16, image: &BucketImage) -> satchel_log::BucketImage {
    satchel_log::BucketImage {
        bucket: image.bucket,
        sequence: image.delta,
        earliest_due_ms: image.earliest_due_ms,
        pending: image.pending,
        entries: encode(buckets, &image.content),
    }
}

fn encode(buckets: u16, changes: &[Change]) -> Entries {
    let mut entries = EntriesBuilder::new();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for change in changes {
        key.clear();
        value.clear();
        change.encode_key(&mut key);
        let set = change.encode_value(&mut value);
        entries.push(change.key.bucket(buckets), &key, set.then_some(&value[..]));
    }
    entries.finish()
}
