//! The memory of an owner: some buckets as a whole, and of the others only the changes since their
//! images.

use std::collections::BTreeMap;

use satchel_log::{BucketSummary, Entries, EntriesBuilder, Entry, Fold};

use crate::model::State;
use crate::random::Random;

/// The content of a partition as its owner knows it.
#[derive(Debug)]
pub(crate) struct Memory {
    held: State,
    absent: BTreeMap<u16, Absent>,
    /// Buckets of 1,000 that stay unread at the takeover.
    unread_per_mille: u64,
    random: Random,
}

/// A bucket that is not in memory.
#[derive(Debug, Default)]
struct Absent {
    summary: Option<BucketSummary>,
    /// Every change since the image, removals included.
    overlay: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Memory {
    pub(crate) fn new(unread_per_mille: u64, random: Random) -> Self {
        Self {
            held: State::default(),
            absent: BTreeMap::new(),
            unread_per_mille,
            random,
        }
    }

    pub(crate) fn is_absent(&self, bucket: u16) -> bool {
        self.absent.contains_key(&bucket)
    }

    pub(crate) fn absent(&self) -> Vec<u16> {
        self.absent.keys().copied().collect()
    }

    /// Returns true if the overlay of the bucket is not empty.
    pub(crate) fn is_overlaid(&self, bucket: u16) -> bool {
        let absent = self.absent.get(&bucket);
        absent.is_some_and(|absent| !absent.overlay.is_empty())
    }

    pub(crate) fn overlay_is_lost(&mut self, bucket: u16) {
        if let Some(absent) = self.absent.get_mut(&bucket) {
            absent.overlay.clear();
        }
    }

    pub(crate) fn value(&self, bucket: u16, key: &[u8]) -> Option<&Vec<u8>> {
        self.held.0.get(&(bucket, key.to_vec()))
    }

    pub(crate) fn evict(&mut self, bucket: u16) {
        self.held.0.retain(|(at, _), _| *at != bucket);
        self.absent.insert(bucket, Absent::default());
    }

    /// Handles the image of an absent bucket. Returns an error if it contradicts its summary.
    pub(crate) fn loaded(&mut self, bucket: u16, entries: &Entries) -> Result<(), String> {
        let absent = self.absent.remove(&bucket).unwrap_or_default();
        self.held.fold(entries);
        for (key, value) in &absent.overlay {
            self.held.apply(Entry {
                bucket,
                key,
                value: value.as_deref(),
            });
        }
        match absent.summary {
            Some(said) if said != summary(entries) => Err(format!(
                "the summary of bucket {bucket} was {said:?}, and its image is {entries:?}"
            )),
            _ => Ok(()),
        }
    }

    /// Returns the current content of the bucket; of an absent one the overlay alone.
    pub(crate) fn image(&self, bucket: u16) -> Entries {
        let mut image = EntriesBuilder::new();
        for ((_, key), value) in self.held.0.iter().filter(|((at, _), _)| *at == bucket) {
            image.push(bucket, key, Some(value));
        }
        let overlay = self.absent.get(&bucket).map(|absent| &absent.overlay);
        for (key, value) in overlay.into_iter().flatten() {
            if let Some(value) = value {
                image.push(bucket, key, Some(value));
            }
        }
        image.finish()
    }

    /// Returns the difference to `truth`, if there is one.
    pub(crate) fn contradicts(&self, truth: &State) -> Option<String> {
        let present = |bucket: &u16| !self.is_absent(*bucket);
        let held = |state: &State| -> State {
            let of_present = state.0.iter().filter(|((bucket, _), _)| present(bucket));
            State(
                of_present
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect(),
            )
        };
        let (mine, expected) = (held(&self.held), held(truth));
        if mine != expected {
            return Some(format!("{mine:?} instead of {expected:?}"));
        }
        for (bucket, absent) in &self.absent {
            for (key, value) in &absent.overlay {
                let expected = truth.0.get(&(*bucket, key.clone()));
                if value.as_ref() != expected {
                    return Some(format!(
                        "unread bucket {bucket}, {key:?}: {value:?} instead of {expected:?}"
                    ));
                }
            }
        }
        None
    }
}

impl Fold for Memory {
    fn clear(&mut self) {
        self.held.clear();
        self.absent.clear();
    }

    fn absent(&mut self, bucket: u16, summary: BucketSummary) -> bool {
        let unread = self.random.chance(self.unread_per_mille);
        if unread {
            let absent = Absent {
                summary: Some(summary),
                ..Absent::default()
            };
            self.absent.insert(bucket, absent);
        }
        unread
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match self.absent.get_mut(&entry.bucket) {
            None => self.held.apply(entry),
            Some(absent) => {
                let value = entry.value.map(<[u8]>::to_vec);
                absent.overlay.insert(entry.key.to_vec(), value);
            }
        }
    }
}

/// The summary of an image. Any two functions of the content would do.
pub(crate) fn summary(entries: &Entries) -> BucketSummary {
    let count = entries.iter().count() as u64;
    BucketSummary {
        earliest_due_ms: (count % 2 == 1).then_some(count),
        pending: count > 3,
        raw_bytes: entries.as_bytes().len() as u64,
    }
}
