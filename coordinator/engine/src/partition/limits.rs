//! Limits that the process may change while the partition runs, because it shares them among its
//! partitions.

use super::{Config, Partition};

/// Limits of a partition that depend on the other partitions of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// As [`Config::commit_pace_ms`].
    pub commit_pace_ms: u64,
    /// As [`Config::pending_bytes_max`].
    pub pending_bytes_max: usize,
    /// As [`Config::memory_limit_bytes`]. A partition that began without such a limit gets none.
    pub memory_limit_bytes: Option<usize>,
}

impl Config {
    /// Returns the limits that may change.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            commit_pace_ms: self.commit_pace_ms,
            pending_bytes_max: self.pending_bytes_max,
            memory_limit_bytes: self.memory_limit_bytes,
        }
    }

    /// Changes these limits.
    pub fn limit(&mut self, limits: Limits) {
        self.commit_pace_ms = limits.commit_pace_ms;
        self.pending_bytes_max = limits.pending_bytes_max;
        // Without a limit, nothing is known of the last changes of buckets.
        let known = self.memory_limit_bytes;
        self.memory_limit_bytes = known.and(limits.memory_limit_bytes.or(known));
    }
}

impl Partition {
    /// The process shares its limits in another way. What exceeds a lower limit stays: ingress
    /// pauses, and buckets are evicted, until it is below.
    pub(super) fn limits_changed(&mut self, limits: Limits) {
        self.config.limit(limits);
    }
}
