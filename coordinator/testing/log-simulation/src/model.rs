//! The model: the laws that every run must obey.

use std::collections::BTreeMap;

use satchel_log::{Entries, Entry, Fold};

use crate::memory::Memory;

/// The content of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub BTreeMap<(u16, Vec<u8>), Vec<u8>>);

impl Fold for State {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn apply(&mut self, entry: Entry<'_>) {
        let key = (entry.bucket, entry.key.to_vec());
        match entry.value {
            Some(value) => self.0.insert(key, value.to_vec()),
            None => self.0.remove(&key),
        };
    }
}

impl State {
    /// Applies all entries.
    pub fn fold(&mut self, entries: &Entries) {
        for entry in entries.iter() {
            self.apply(entry);
        }
    }
}

/// The key in the partition-wide bucket under which each delta of `epoch` leaves its sequence.
pub(crate) fn mark(epoch: u64) -> Vec<u8> {
    format!("sequence of epoch {epoch}").into_bytes()
}

/// Everything that was sealed, acknowledged and recovered, and the laws that connect them.
#[derive(Debug, Default)]
pub struct Model {
    /// The partition-wide bucket.
    wide: u16,
    epochs: BTreeMap<u64, Epoch>,
    /// Laws that were broken.
    pub violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Epoch {
    /// Each with its time.
    deltas: Vec<(u64, Entries)>,
    acknowledged: u64,
    /// Number of its deltas that a successor found. No more of them can ever count.
    settled: Option<u64>,
}

impl Model {
    /// Creates the model of a partition with this many buckets.
    #[must_use]
    pub fn new(buckets: u16) -> Self {
        Self {
            wide: buckets,
            ..Self::default()
        }
    }

    /// Records a takeover, and returns the expected state. The recovered state must be the fold of
    /// a prefix of every earlier epoch, with nothing acknowledged missing.
    pub(crate) fn took_over(&mut self, epoch: u64, recovered: &Memory) -> State {
        let later = self.epochs.keys().next_back().copied() > Some(epoch);
        let mut expected = State::default();
        for (number, former) in self.epochs.range_mut(..epoch) {
            let found = recovered.value(self.wide, &mark(*number));
            let found = found.map_or(0, |value| {
                u64::from_le_bytes(value.as_slice().try_into().unwrap_or([0xff; 8]))
            });
            if found < former.acknowledged {
                self.violations.push(format!(
                    "epoch {epoch} recovered {found} deltas of epoch {number}, \
                     of which {} were acknowledged",
                    former.acknowledged
                ));
            }
            match former.settled {
                Some(settled) if settled != found => self.violations.push(format!(
                    "epoch {epoch} recovered {found} deltas of epoch {number}, \
                     an earlier takeover {settled}"
                )),
                _ => former.settled = Some(found),
            }
            for (_, delta) in former.deltas.iter().take(found as usize) {
                expected.fold(delta);
            }
        }
        if let Some(difference) = recovered.contradicts(&expected) {
            self.violations.push(format!(
                "epoch {epoch} recovered a state that is not the fold of the durable prefix: \
                 {difference}"
            ));
        }
        let settled = later.then_some(0);
        let known = self.epochs.insert(
            epoch,
            Epoch {
                settled,
                ..Epoch::default()
            },
        );
        if known.is_some() {
            self.violations
                .push(format!("epoch {epoch} has two holders"));
        }
        expected
    }

    /// Records a delta that an owner seals.
    pub fn sealed(&mut self, epoch: u64, time_ms: u64, entries: Entries) {
        if let Some(epoch) = self.epochs.get_mut(&epoch) {
            epoch.deltas.push((time_ms, entries));
        }
    }

    /// Records that an owner was notified of its durable delta `sequence`.
    pub fn acknowledged(&mut self, epoch: u64, sequence: u64) {
        let Some(known) = self.epochs.get_mut(&epoch) else {
            return;
        };
        if sequence != known.acknowledged + 1 {
            self.violations.push(format!(
                "epoch {epoch} was acknowledged delta {sequence} after delta {}",
                known.acknowledged
            ));
        }
        known.acknowledged = sequence;
        if let Some(settled) = known.settled.filter(|settled| sequence > *settled) {
            self.violations.push(format!(
                "the zombie of epoch {epoch} was acknowledged delta {sequence}; \
                 its successor knows only {settled}"
            ));
        }
    }

    /// Number of acknowledged deltas of each epoch.
    pub(crate) fn acknowledged_by_epoch(&self) -> BTreeMap<u64, u64> {
        let epochs = self.epochs.iter();
        epochs
            .map(|(epoch, known)| (*epoch, known.acknowledged))
            .collect()
    }

    /// Returns the difference if `state` is not the fold of a prefix of every epoch, with at least
    /// the given number of deltas each.
    pub(crate) fn is_no_prefix(
        &self,
        state: &State,
        at_least: &BTreeMap<u64, u64>,
    ) -> Option<String> {
        let mut expected = State::default();
        for (epoch, known) in &self.epochs {
            let found = state.0.get(&(self.wide, mark(*epoch)));
            let found = found.map_or(0, |value| {
                u64::from_le_bytes(value.as_slice().try_into().unwrap_or([0xff; 8]))
            });
            let least = at_least.get(epoch).copied().unwrap_or(0);
            if found < least {
                return Some(format!("{found} of {least} acknowledged of epoch {epoch}"));
            }
            for (_, delta) in known.deltas.iter().take(found as usize) {
                expected.fold(delta);
            }
        }
        (expected != *state).then(|| format!("{state:?} instead of {expected:?}"))
    }

    /// Time of the last delta that counts. Valid once no owner is at work.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.counting()
            .map(|(time_ms, _)| *time_ms)
            .max()
            .unwrap_or(0)
    }

    /// The state at a moment. Valid once no owner is at work.
    pub(crate) fn at(&self, moment_ms: u64) -> State {
        let mut state = State::default();
        for (time_ms, delta) in self.counting() {
            if *time_ms <= moment_ms {
                state.fold(delta);
            }
        }
        state
    }

    fn counting(&self) -> impl Iterator<Item = &(u64, Entries)> {
        self.epochs.values().flat_map(|epoch| {
            let count = epoch.settled.unwrap_or(epoch.acknowledged);
            epoch.deltas.iter().take(count as usize)
        })
    }

    /// Acknowledged deltas of all epochs.
    #[must_use]
    pub fn acknowledgements(&self) -> u64 {
        self.epochs.values().map(|epoch| epoch.acknowledged).sum()
    }

    /// Takeovers so far.
    #[must_use]
    pub fn takeovers(&self) -> u64 {
        self.epochs.len() as u64
    }
}
