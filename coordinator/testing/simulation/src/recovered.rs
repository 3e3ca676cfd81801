//! Between the log and the engine, as the coordinator's runtime does it: encoding deltas and images, decoding what a takeover reads.

use std::collections::BTreeMap;

use satchel_engine::durable::{Change, Hold, Key, Value};
use satchel_engine::output::{BucketImage, BucketSummary, Delta};
use satchel_engine::partition::{Config, LoadedBucket, Overlay, Recovery};
use satchel_log::{Entries, EntriesBuilder, Entry, Fold};
use xxhash_rust::xxh3::xxh3_64;

use crate::mutants::Mutant;
use crate::truth::Facts;

/// What a takeover reads.
pub(crate) struct Recovered {
    config: Config,
    mutant: Option<Mutant>,
    /// Which buckets are left unread, per mille, and what else it depends on.
    unread: (u64, u64),
    recovery: Recovery,
    pub(crate) problem: Option<String>,
}

impl Recovered {
    pub(crate) fn new(config: Config, mutant: Option<Mutant>, unread: (u64, u64)) -> Self {
        Self {
            recovery: Recovery::new(config.clone()),
            config,
            mutant,
            unread,
            problem: None,
        }
    }

    /// Under which hold it is, if it is under one.
    pub(crate) fn hold(&self) -> Option<&Hold> {
        self.recovery.hold()
    }

    /// What the engine starts from; `facts` is all that is durable.
    pub(crate) fn finish(mut self, facts: &Facts) -> Recovery {
        if self.mutant == Some(Mutant::ReorderMailbox) {
            self.reverse_mailboxes(facts);
        }
        self.recovery
    }

    fn reverse_mailboxes(&mut self, facts: &Facts) {
        let mut mailboxes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, value) in facts.iter() {
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
        *self = Self::new(self.config.clone(), self.mutant, self.unread);
    }

    fn apply(&mut self, entry: Entry<'_>) {
        if self.mutant == Some(Mutant::LiftHold) && is_hold(entry) {
            return;
        }
        let broken = recovered_by(self.mutant, entry.key, entry.value);
        let value = broken.as_deref().or(entry.value);
        if let Err(problem) = self.recovery.apply_entry(entry.bucket, entry.key, value) {
            self.problem = Some(problem.to_string());
        }
    }

    fn absent(&mut self, bucket: u16, summary: satchel_log::BucketSummary) -> bool {
        let (share, salt) = self.unread;
        let draw = xxh3_64(&[salt.to_le_bytes(), u64::from(bucket).to_le_bytes()].concat()) % 1_000;
        let unread = draw < share;
        if unread {
            let raw_bytes = summary.raw_bytes;
            let forgets = self.mutant == Some(Mutant::ForgetDue);
            let summary = BucketSummary {
                earliest_due_ms: summary.earliest_due_ms.filter(|_| !forgets),
                pending: summary.pending,
            };
            self.recovery.absent(bucket, summary, raw_bytes);
        }
        unread
    }
}

fn is_hold(entry: Entry<'_>) -> bool {
    Change::decode(entry.key, entry.value).is_ok_and(|change| change.key == Key::Hold)
}

/// All that is durable, for the truth.
#[derive(Default)]
pub(crate) struct Everything {
    pub(crate) facts: Facts,
    pub(crate) problem: Option<String>,
}

impl Everything {
    /// The next number that the recovered counter will give out.
    pub(crate) fn next_number(&self) -> u64 {
        match self.facts.get(Key::Counter) {
            Some(Value::Counter(next)) => *next,
            _ => 1,
        }
    }
}

impl Fold for Everything {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match Change::decode(entry.key, entry.value) {
            Ok(change) => {
                self.facts.apply(&change);
            }
            Err(malformed) => self.problem = Some(malformed.to_string()),
        }
    }
}

/// The value that a mutant makes of a durable one.
fn recovered_by(mutant: Option<Mutant>, key: &[u8], value: Option<&[u8]>) -> Option<Vec<u8>> {
    if !matches!(mutant, Some(Mutant::HastenTimers | Mutant::NeverExpire)) {
        return None;
    }
    let mut change = Change::decode(key, value).ok()?;
    match (mutant, &mut change.value) {
        (Some(Mutant::HastenTimers), Some(Value::Timer(timer))) => {
            timer.due_ms = timer.due_ms.saturating_sub(3_000);
        }
        (Some(Mutant::NeverExpire), Some(Value::State(state))) => state.expires_at_ms = None,
        _ => return None,
    }
    let mut bytes = Vec::new();
    change.encode_value(&mut bytes);
    Some(bytes)
}

/// Decodes a bucket as it was loaded.
pub(crate) fn decode_bucket(
    (bucket, buckets): (u16, u16),
    mutant: Option<Mutant>,
    image: &Entries,
    replayed: &Overlay,
) -> Result<LoadedBucket, String> {
    let entries: Vec<_> = image
        .iter()
        .map(|entry| (entry, recovered_by(mutant, entry.key, entry.value)))
        .collect();
    let image = entries
        .iter()
        .map(|(entry, broken)| (entry.key, broken.as_deref().or(entry.value)));
    let nothing = Overlay::default();
    let over = if mutant == Some(Mutant::LoseOverlay) {
        &nothing
    } else {
        replayed
    };
    LoadedBucket::decode(bucket, buckets, image, entries.len(), over)
        .map_err(|problem| problem.to_string())
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
            | (Mutant::ForgetMarks, Key::EgressMark { .. })
            | (Mutant::ForgetIds, Key::Received { .. })
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
        earliest_due_ms: image.summary.earliest_due_ms,
        pending: image.summary.pending,
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
