//! Mutants between the engine and the log. Each changes what passes through production's pump or
//! fold; the code under test stays the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::durable::{Change, Key, Value};
use satchel_engine::output::{BucketImage, Delta};
use satchel_engine::partition::Overlay;
use satchel_log::{Entries, Entry};
use satchel_storage::pump::DecodeJob;

use super::Mutant;

/// Memory of the mutants of one owner's storage.
#[derive(Default)]
pub(crate) struct StorageMutants {
    /// Images that wait for a later seal.
    pub(crate) held_images: Vec<BucketImage>,
    first_images: BTreeMap<u16, Entries>,
    last_overlay: Arc<Overlay>,
    loads: u64,
}

impl StorageMutants {
    /// Mutates a decode job. Returns `None` if the job is lost.
    pub(crate) fn mutate_job(
        &mut self,
        mutant: Option<Mutant>,
        mut job: DecodeJob,
    ) -> Option<DecodeJob> {
        let Some(mutant) = mutant else {
            return Some(job);
        };
        self.loads += 1;
        match mutant {
            Mutant::ForgetLoad if self.loads.is_multiple_of(3) => return None,
            Mutant::SwapLoads => std::mem::swap(&mut job.overlay, &mut self.last_overlay),
            Mutant::LoseOverlay => job.overlay = Arc::default(),
            Mutant::StaleLoad => {
                let first = self.first_images.entry(job.bucket);
                job.image = first.or_insert(job.image).clone();
            }
            Mutant::LoseLetters => job.image = without_letters(&job.image),
            mutant @ (Mutant::HastenTimers | Mutant::NeverExpire) => {
                job.image = mutate_image(mutant, &job.image);
            }
            _ => {}
        }
        Some(job)
    }
}

/// Mutates a delta before the pump takes it.
pub(crate) fn mutate_delta(mutant: Option<Mutant>, mut delta: Delta, first_of_root: bool) -> Delta {
    let Some(mutant) = mutant else {
        return delta;
    };
    delta.changes.retain(|change| {
        let set = change.value.is_some();
        !match (mutant, &change.key) {
            (Mutant::ForgetPosition, Key::Shard(_)) => !first_of_root,
            (Mutant::LoseMessages, Key::Message { number, .. }) => set && number % 5 == 0,
            (Mutant::KeepConsumed, Key::Message { number, .. }) => !set && number % 5 == 0,
            (Mutant::KeepTimers, Key::Timer { .. }) => !set,
            (Mutant::LoseTimers, Key::Timer { .. }) => set,
            (Mutant::ForgetKeys, Key::Idempotency { .. })
            | (Mutant::ForgetOutbox, Key::Outbox { .. })
            | (Mutant::ForgetMarks, Key::EgressMark { .. })
            | (Mutant::ForgetIds, Key::Received { .. })
            | (Mutant::DropDeadLetters, Key::DeadLetter { .. })
            | (Mutant::ForgetPause, Key::FunctionPause { .. }) => set,
            (Mutant::ForgetCounter, Key::Counter)
            | (Mutant::ForgetDeaths, Key::FailureRecord { .. }) => true,
            _ => false,
        }
    });
    if mutant == Mutant::LoseTrace {
        for change in &mut delta.changes {
            if let Some(Value::Message(message)) = &mut change.value {
                message.trace = None;
            }
        }
    }
    delta
}

fn without_letters(image: &Entries) -> Entries {
    let is_letter = |entry: &Entry<'_>| {
        let change = Change::decode(entry.key, entry.value);
        change.is_ok_and(|change| matches!(change.key, Key::DeadLetter { .. }))
    };
    image.iter().filter(|entry| !is_letter(entry)).collect()
}

/// Mutates the value of a durable entry. Returns `None` if the value stays as it is.
pub(crate) fn mutate_value(mutant: Option<Mutant>, entry: Entry<'_>) -> Option<Vec<u8>> {
    if !matches!(mutant, Some(Mutant::HastenTimers | Mutant::NeverExpire)) {
        return None;
    }
    let mut change = Change::decode(entry.key, entry.value).ok()?;
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

fn mutate_image(mutant: Mutant, image: &Entries) -> Entries {
    let mutated: Vec<_> = image
        .iter()
        .map(|entry| (entry, mutate_value(Some(mutant), entry)))
        .collect();
    let entries = mutated.iter().map(|(entry, value)| Entry {
        value: value.as_deref().or(entry.value),
        ..*entry
    });
    entries.collect()
}
