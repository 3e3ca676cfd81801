//! Settings of the log of one partition.

use crate::error::LogError;
use crate::io::Retry;
use crate::writer::DEPTH_MAX;

/// Default number of objects that are read at once.
pub(crate) const PARALLEL_READS: usize = 16;

/// Settings of the log of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Maximum number of commits in flight: 1 to [`DEPTH_MAX`].
    pub depth: u64,
    /// Maximum age in milliseconds of the check that the next epoch is unclaimed, measured when a
    /// commit is answered. An older check is repeated before the commit counts. Costs one read per
    /// half of this time while there are commits. Must be at most a sixth of the grace period.
    pub window_ms: u64,
    /// Grace period in milliseconds: the time from a durable condemnation until its objects are
    /// deleted, by the clock of this process.
    pub grace_ms: u64,
    /// Retries of store requests by an owner.
    pub retry: Retry,
    /// Time in milliseconds after which a takeover gives up on one request; `None` to retry without
    /// limit.
    pub takeover_give_up_ms: Option<u64>,
    /// Maximum number of objects that a takeover reads at once.
    pub parallel_reads: usize,
    /// Start and layout of snapshots.
    pub snapshots: SnapshotPolicy,
    /// Copies of small log objects, so that a takeover reads few objects; `None` for no copies.
    pub condensation: Option<Condensation>,
    /// Retention in milliseconds of partition time. Every moment of this last period can be read.
    /// With 0, only the objects that the next owner needs are kept. Older objects are deleted with
    /// the next snapshot, after the grace period.
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
            parallel_reads: PARALLEL_READS,
            snapshots: SnapshotPolicy::default(),
            condensation: Some(Condensation::default()),
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
        } else if self
            .condensation
            .is_some_and(|it| it.objects < 2 || it.runs == 0)
        {
            wrong("a copy of log objects must hold at least two".to_owned())
        } else if self.parallel_reads == 0 {
            wrong("at least one object must be read at a time".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Copies of small log objects. They cost one create per run, and let the tail of the log be
/// bounded by its bytes instead of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condensation {
    /// Number of objects of a run, which are copied into one object.
    pub objects: u64,
    /// Number of runs that are copied into one object once more.
    pub runs: u64,
    /// Maximum size in bytes of a small object.
    pub object_bytes_max: u64,
}

impl Default for Condensation {
    fn default() -> Self {
        Self {
            objects: 64,
            runs: 32,
            object_bytes_max: 16 << 10,
        }
    }
}

/// Start conditions and layout of snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Minimum size in bytes of the log since the last snapshot before a new one begins.
    pub floor_bytes: u64,
    /// Size of the log since the last snapshot, in percent of the bytes that a new one would write,
    /// at which it begins. Write amplification is then about 1 + 100 / this.
    pub log_percent: u64,
    /// Size in bytes at which a segment is closed.
    pub segment_bytes: u64,
    /// Size in bytes of the log since the last snapshot at which a new one begins in any case. It
    /// bounds the time of a recovery, however large the state is.
    pub tail_bytes_max: u64,
    /// Bytes that each object that a takeover reads counts besides its own size: reading one object
    /// takes a reader about as long as reading this many more bytes. A copy of several log objects
    /// is one object. Without this weight, many small commits would make a takeover slow.
    pub object_bytes: u64,
    /// Maximum bytes of segments stored per second, so that a snapshot does not slow down commits;
    /// `None` for no limit. Segments are stored one at a time in any case.
    pub bytes_per_second: Option<u64>,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            floor_bytes: 4 << 20,
            log_percent: 70,
            segment_bytes: 8 << 20,
            tail_bytes_max: 256 << 20,
            object_bytes: 16 << 10,
            bytes_per_second: None,
        }
    }
}
