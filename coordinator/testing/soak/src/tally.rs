//! What is counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts by name, and the longest of times by name.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
    longest: Mutex<BTreeMap<String, Duration>>,
}

impl Tally {
    /// One more.
    pub(crate) fn count(&self, name: impl Into<String>) {
        *lock(&self.counts).entry(name.into()).or_default() += 1;
    }

    /// It took so long this time.
    pub(crate) fn took(&self, name: &str, time: Duration) {
        let mut longest = lock(&self.longest);
        let known = longest.entry(name.to_owned()).or_default();
        *known = time.max(*known);
    }

    /// How many there are.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        lock(&self.counts).get(name).copied().unwrap_or_default()
    }

    /// All counts.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }

    /// All longest times.
    pub(crate) fn longest(&self) -> BTreeMap<String, Duration> {
        lock(&self.longest).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
