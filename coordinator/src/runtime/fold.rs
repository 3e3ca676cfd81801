//! What a takeover reads becomes the content of a partition.

use satchel_engine::durable::Change;
use satchel_engine::partition::{Config, Recovery};
use satchel_log::{Entry, Fold};

/// Decodes what is durable and hands it to the engine.
pub struct RecoveryFold<P> {
    config: Config,
    recovery: Recovery,
    problem: Option<String>,
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
    pub fn finish(self) -> Result<Recovery, String> {
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
        match Change::decode(entry.key, entry.value) {
            Ok(change) if change.key.bucket(self.config.buckets) == entry.bucket => {
                self.recovery.apply(change);
            }
            Ok(change) => self.refuse(format!(
                "bucket {} holds a fact of another bucket: {:?}",
                entry.bucket, change.key
            )),
            Err(malformed) => self.refuse(format!(
                "bucket {} holds an entry that can not be read: {malformed}",
                entry.bucket
            )),
        }
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

impl<P> RecoveryFold<P> {
    fn refuse(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}
