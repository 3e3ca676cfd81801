//! What can be set.

use crate::error::LogError;
use crate::io::Retry;
use crate::snapshotter::SnapshotPolicy;
use crate::writer::DEPTH_MAX;

/// How one partition's log behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many commits may be on their way at once: 1 to [`DEPTH_MAX`].
    pub depth: u64,
    /// A commit counts if the next epoch was seen unclaimed less than this many milliseconds before the commit's answer. Costs one read per half
    /// of it while there is traffic. Must be at most a sixth of the grace.
    pub window_ms: u64,
    /// How long a durable condemnation must have stood, by this process's own clock, before what it names is deleted, in milliseconds.
    pub grace_ms: u64,
    /// How an owner repeats requests that got no answer.
    pub retry: Retry,
    /// How long a takeover repeats one request before it fails, in milliseconds; `None` for never failing.
    pub takeover_give_up_ms: Option<u64>,
    /// How many objects a takeover reads at once.
    pub parallel_reads: usize,
    /// When snapshots are taken.
    pub snapshots: SnapshotPolicy,
    /// Every moment of this many last milliseconds of partition time can be read; 0 keeps nothing but what the next owner needs. Beyond that, what is
    /// older goes with the next snapshot and the grace.
    pub retention_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            depth: 4,
            window_ms: 10_000,
            grace_ms: 3_600_000,
            retry: Retry {
                initial_ms: 50,
                max_ms: 5_000,
                give_up_ms: None,
            },
            takeover_give_up_ms: Some(60_000),
            parallel_reads: 16,
            snapshots: SnapshotPolicy::default(),
            retention_ms: 0,
        }
    }
}

impl Options {
    pub(crate) fn validate(&self) -> Result<(), LogError> {
        let wrong = |what: String| Err(LogError::Misuse(what));
        if !(1..=DEPTH_MAX).contains(&self.depth) {
            wrong(format!("the commit depth must be from 1 to {DEPTH_MAX}"))
        } else if self.window_ms == 0 || self.window_ms > self.grace_ms / 6 {
            wrong("the window must be at most a sixth of the grace, and not 0".to_owned())
        } else if self.snapshots.bytes_per_second == Some(0) {
            wrong("snapshots must be allowed some bytes per second".to_owned())
        } else if self.parallel_reads == 0 {
            wrong("at least one object must be read at a time".to_owned())
        } else {
            Ok(())
        }
    }
}
