//! What a takeover reads becomes the content of a partition.

use satchel_engine::output::BucketSummary;
use satchel_engine::partition::{BucketProblem, Config, Recovery};
use satchel_log::{Entry, Fold};

/// Hands what is durable to the engine: all but the images of buckets, which are loaded later.
pub struct RecoveryFold<P> {
    config: Config,
    recovery: Recovery,
    problem: Option<BucketProblem>,
    progress: P,
}

impl<P: FnMut(f64)> RecoveryFold<P> {
    /// Nothing was read yet. `progress` is told how much was, from 0 to 1.
    pub fn new(config: Config, progress: P) -> Self {
        Self {
            recovery: Recovery::new(config.clone()),
            config,
            problem: None,
            progress,
        }
    }

    /// What was read.
    ///
    /// # Errors
    ///
    /// The first entry that is not a fact of a version that this software knows.
    pub fn finish(self) -> Result<Recovery, BucketProblem> {
        match self.problem {
            Some(problem) => Err(problem),
            None => Ok(self.recovery),
        }
    }
}

impl<P: FnMut(f64)> Fold for RecoveryFold<P> {
    fn clear(&mut self) {
        self.recovery = Recovery::new(self.config.clone());
        self.problem = None;
    }

    fn apply(&mut self, entry: Entry<'_>) {
        if let Err(problem) = self
            .recovery
            .apply_entry(entry.bucket, entry.key, entry.value)
        {
            self.problem.get_or_insert(problem);
        }
    }

    /// The partition loads what it needs, while it serves already.
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
        let share = if total == 0 {
            1.0
        } else {
            done as f64 / total as f64
        };
        (self.progress)(share.min(1.0));
    }
}
