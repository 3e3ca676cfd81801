//! Counters and maximum durations.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts by name, and maximum durations by name.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counts: Mutex<BTreeMap<String, u64>>,
    longest: Mutex<BTreeMap<String, Duration>>,
}

impl Metrics {
    /// Increments a count.
    pub(crate) fn count(&self, name: impl Into<String>) {
        self.add(name, 1);
    }

    /// Adds to a count.
    pub(crate) fn add(&self, name: impl Into<String>, number: u64) {
        *lock(&self.counts).entry(name.into()).or_default() += number;
    }

    /// Records a duration; the maximum is kept.
    pub(crate) fn observe(&self, name: &str, time: Duration) {
        let mut longest = lock(&self.longest);
        let known = longest.entry(name.to_owned()).or_default();
        *known = time.max(*known);
    }

    /// Value of a count.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        lock(&self.counts).get(name).copied().unwrap_or_default()
    }

    /// All counts.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }

    /// All maximum durations.
    pub(crate) fn longest(&self) -> BTreeMap<String, Duration> {
        lock(&self.longest).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
