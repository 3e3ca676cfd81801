//! The recovery of a process: production's fold, with faults and mutants before it.
//!
//! ```text
//! log ─► SimulatedRecovery: mutants, and which images stay unread ─► RecoveryFold ─► Recovery
//! ```

use std::collections::BTreeMap;

use satchel_engine::durable::{Change, Hold, Key};
use satchel_engine::partition::{BucketProblem, Config, Recovery};
use satchel_log::{BucketSummary, Entry, Fold};
use satchel_storage::recovery::RecoveryFold;
use xxhash_rust::xxh3::xxh3_64;

use crate::mutants::Mutant;
use crate::mutants::storage::mutate_value;
use crate::truth::Facts;

/// Forwards what a takeover reads to production's fold.
pub(crate) struct SimulatedRecovery {
    fold: RecoveryFold<fn(f64)>,
    mutant: Option<Mutant>,
    unread: Unread,
}

/// Choice of the buckets whose images a takeover leaves unread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unread {
    /// Share of the buckets, per mille.
    pub(crate) share: u64,
    /// Seed of the choice.
    pub(crate) salt: u64,
}

impl SimulatedRecovery {
    pub(crate) fn new(config: Config, mutant: Option<Mutant>, unread: Unread) -> Self {
        Self {
            fold: RecoveryFold::new(config, |_| {}),
            mutant,
            unread,
        }
    }

    pub(crate) fn hold(&self) -> Option<&Hold> {
        self.fold.hold()
    }

    /// Returns what the engine starts from; `facts` are all durable facts.
    pub(crate) fn finish(self, facts: &Facts) -> Result<Recovery, BucketProblem> {
        let mut recovery = self.fold.finish()?;
        if self.mutant == Some(Mutant::ReorderMailbox) {
            reverse_mailboxes(&mut recovery, facts);
        }
        Ok(recovery)
    }
}

impl Fold for SimulatedRecovery {
    fn clear(&mut self) {
        self.fold.clear();
    }

    fn apply(&mut self, entry: Entry<'_>) {
        if self.mutant == Some(Mutant::LiftHold) && is_hold(entry) {
            return;
        }
        let mutated = mutate_value(self.mutant, entry);
        self.fold.apply(Entry {
            value: mutated.as_deref().or(entry.value),
            ..entry
        });
    }

    fn absent(&mut self, bucket: u16, mut summary: BucketSummary) -> bool {
        let Unread { share, salt } = self.unread;
        let seed = [salt.to_le_bytes(), u64::from(bucket).to_le_bytes()].concat();
        if xxh3_64(&seed) % 1_000 >= share {
            return false;
        }
        if self.mutant == Some(Mutant::ForgetDue) {
            summary.earliest_due_ms = None;
        }
        self.fold.absent(bucket, summary)
    }

    fn progress(&mut self, done: u64, total: u64) {
        self.fold.progress(done, total);
    }
}

fn is_hold(entry: Entry<'_>) -> bool {
    Change::decode(entry.key, entry.value).is_ok_and(|change| change.key == Key::Hold)
}

/// Applies the messages of each mailbox once more, in reverse order.
fn reverse_mailboxes(recovery: &mut Recovery, facts: &Facts) {
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
            recovery.apply(Change {
                key: Key::Message {
                    address: address.clone(),
                    number,
                },
                value: Some(value),
            });
        }
    }
}
