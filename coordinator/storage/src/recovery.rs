//! Rebuilding a partition from what a takeover reads.

use satchel_engine::durable::Hold;
use satchel_engine::output::BucketSummary;
use satchel_engine::partition::{self, BucketProblem, Config, Recovery};
use satchel_log::{Entry, Fold, Ownership};

/// Hands everything durable to the engine, except the images of buckets. Images stay unread during
/// the takeover, and the partition loads the buckets that it needs while it serves.
pub struct RecoveryFold<P> {
    config: Config,
    recovery: Recovery,
    problem: Option<BucketProblem>,
    progress: P,
}

impl<P: FnMut(f64)> RecoveryFold<P> {
    /// Creates an empty fold. `progress` receives the share of bytes read, from 0 to 1.
    pub fn new(config: Config, progress: P) -> Self {
        Self {
            recovery: Recovery::new(config.clone()),
            config,
            problem: None,
            progress,
        }
    }

    /// Returns what was read.
    ///
    /// # Errors
    /// The first entry that is not a fact that this software knows, or that lies in a bucket to
    /// which it does not belong.
    pub fn finish(self) -> Result<Recovery, BucketProblem> {
        match self.problem {
            Some(problem) => Err(problem),
            None => Ok(self.recovery),
        }
    }

    /// Returns the hold read so far, if the root is held.
    pub fn hold(&self) -> Option<&Hold> {
        self.recovery.hold()
    }
}

impl<P: FnMut(f64)> Fold for RecoveryFold<P> {
    fn clear(&mut self) {
        self.recovery = Recovery::new(self.config.clone());
        self.problem = None;
    }

    fn apply(&mut self, entry: Entry<'_>) {
        let applied = self
            .recovery
            .apply_entry(entry.bucket, entry.key, entry.value);
        if let Err(problem) = applied {
            self.problem.get_or_insert(problem);
        }
    }

    fn absent(&mut self, bucket: u16, summary: satchel_log::BucketSummary) -> bool {
        let raw_bytes = summary.raw_bytes;
        let summary = BucketSummary {
            earliest_due_ms: summary.earliest_due_ms,
            pending: summary.pending,
        };
        self.recovery.absent(bucket, summary, raw_bytes);
        true
    }

    fn progress(&mut self, done: u64, total: u64) {
        (self.progress)(share(done, total));
    }
}

/// Translates the ownership period that a takeover began into the engine's terms.
#[must_use]
pub fn period(ownership: &Ownership) -> partition::Ownership {
    partition::Ownership {
        epoch: ownership.owner.epoch,
        committed_at_ms: ownership.committed_at_ms,
        clean: ownership.clean,
    }
}

/// Returns the share of `total` that is done, from 0 to 1.
pub(crate) fn share(done: u64, total: u64) -> f64 {
    if total == 0 {
        1.0
    } else {
        (done as f64 / total as f64).min(1.0)
    }
}
