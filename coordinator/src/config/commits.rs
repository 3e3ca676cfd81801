//! Flags about commits: what they cost, and how long a change waits for one.

use std::time::Duration;

use clap::Args;

use super::check_duration;
use crate::module::parse_duration;
use crate::store::StoreKind;

/// Rate and depth of commits. The defaults depend on what a commit costs: nothing in a directory,
/// a PUT in a bucket, an item in a table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Commits")]
pub struct CommitArgs {
    /// Let at least this time pass between two commits under load [default: 50ms in a bucket, 25ms
    /// with the log in a table, 0s in a directory]
    ///
    /// The first commit after a quiet time is made at once. Under load, an answer waits half of
    /// this time on average, and all of it at most; throughput does not suffer. Commits that only
    /// records of egresses wait for are made five times as seldom. The pace bounds the cost in a
    /// bucket: at $5 a million PUTs, 50ms is at most $263 a month, 100ms $131, 0s up to $13 for
    /// each commit a second. With the log in a table, 25ms is at most $131 for commits of up to 1
    /// KB, with their deletions. The partitions of a process share its pace: while several commit,
    /// each waits for as many paces.
    #[arg(
        long,
        env = "SATCHEL_COMMIT_PACE",
        value_name = "DURATION",
        value_parser = parse_duration
    )]
    pub commit_pace: Option<Duration>,

    /// Commit a change after this time at the latest if nothing waits for the commit [default: 1s
    /// in a bucket, 100ms in a directory]
    #[arg(
        long,
        env = "SATCHEL_COMMIT_INTERVAL",
        value_name = "DURATION",
        value_parser = parse_duration
    )]
    pub commit_interval: Option<Duration>,

    /// Maximum number of commits in flight [default: 2 in a bucket, 4 in a directory]
    #[arg(
        long,
        env = "SATCHEL_COMMIT_DEPTH",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=satchel_log::DEPTH_MAX)
    )]
    pub commit_depth: Option<u64>,
}

/// Rate and depth of commits to one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPolicy {
    /// Minimum time between two commits under load.
    pub pace: Duration,
    /// Maximum time for which a change waits for its commit if nothing waits for that.
    pub interval: Duration,
    /// Maximum number of commits in flight.
    pub depth: u64,
}

impl CommitPolicy {
    /// Policy for a bucket, where each commit is a request that is paid for.
    pub(crate) const BUCKET: Self = Self {
        pace: Duration::from_millis(50),
        interval: Duration::from_secs(1),
        depth: 2,
    };
    /// Policy for a table, where each commit is an item, and is made in a few milliseconds.
    pub(crate) const TABLE: Self = Self {
        pace: Duration::from_millis(25),
        ..Self::BUCKET
    };
    /// Policy for a directory.
    const DIRECTORY: Self = Self {
        pace: Duration::ZERO,
        interval: Duration::from_millis(100),
        depth: 4,
    };
}

impl CommitArgs {
    /// Returns the policy for a store.
    pub(crate) fn policy(&self, store: StoreKind) -> CommitPolicy {
        let default = match store {
            StoreKind::Local => CommitPolicy::DIRECTORY,
            StoreKind::Bucket => CommitPolicy::BUCKET,
            StoreKind::Table => CommitPolicy::TABLE,
        };
        CommitPolicy {
            pace: self.commit_pace.unwrap_or(default.pace),
            interval: self.commit_interval.unwrap_or(default.interval),
            depth: self.commit_depth.unwrap_or(default.depth),
        }
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        if let Some(interval) = self.commit_interval {
            let range = (Duration::from_millis(1), Duration::from_secs(60));
            check_duration("--commit-interval", interval, range)?;
        }
        if let Some(pace) = self.commit_pace {
            check_duration("--commit-pace", pace, (Duration::ZERO, PACE_MAX))?;
        }
        Ok(())
    }
}

/// Maximum of `--commit-pace`. A caller that waits for an answer would take more for a failure.
const PACE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_replaces_its_default_alone() {
        let args = CommitArgs {
            commit_pace: Some(Duration::from_millis(200)),
            ..CommitArgs::default()
        };
        let policy = args.policy(StoreKind::Bucket);
        assert_eq!(
            policy,
            CommitPolicy {
                pace: Duration::from_millis(200),
                ..CommitPolicy::BUCKET
            }
        );
        let defaults = CommitArgs::default();
        assert_eq!(defaults.policy(StoreKind::Local), CommitPolicy::DIRECTORY);
        assert_eq!(defaults.policy(StoreKind::Table), CommitPolicy::TABLE);
    }
}
