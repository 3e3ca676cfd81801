//! Totals over all labels, for the live figures of the console.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Metrics;

/// Totals since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Calls that the traffic port answered.
    pub(crate) calls: u64,
    /// Sends that the traffic port answered.
    pub(crate) sends: u64,
    /// Requests to endpoints that returned.
    pub(crate) requests: u64,
    /// Messages that became dead letters.
    pub(crate) dead_letters_made: u64,
}

/// Requests that the traffic port answered, whatever their status.
#[derive(Debug, Default)]
pub(super) struct Answered {
    calls: AtomicU64,
    sends: AtomicU64,
}

impl Answered {
    /// Counts a request answered on `port`.
    pub(super) fn count(&self, port: &str, verb: &str) {
        let counter = match (port, verb) {
            ("traffic", "call") => &self.calls,
            ("traffic", "send") => &self.sends,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Returns the totals at present.
    pub(crate) fn totals(&self) -> Totals {
        let families = &self.0;
        let endpoints = families.status.endpoints();
        let bundles = endpoints
            .iter()
            .map(|it| self.endpoint(&it.name).bundles.get());
        Totals {
            calls: families.answered.calls.load(Ordering::Relaxed),
            sends: families.answered.sends.load(Ordering::Relaxed),
            requests: bundles.sum(),
            dead_letters_made: families.dead_letters_made.get(),
        }
    }
}
