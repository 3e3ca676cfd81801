//! The pace of deletions, which follows that of commits.

use std::time::{Duration, Instant};

/// Write units a second that DynamoDB serves of one partition key, without a reserve for bursts.
const SERVED_UNITS: f64 = 900.0;

/// Deletions a second while commits leave room for them.
const USUAL: f64 = 200.0;

/// Deletions a second that commits never displace.
const LEAST: f64 = 25.0;

/// Deletions for each commit, so that a backlog becomes smaller.
const FOR_EACH_COMMIT: f64 = 1.25;

/// Time over which commits are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts commits, and says how many items a second may be deleted.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    /// Items and write units of this window.
    counted: (u64, u64),
    /// Items and write units a second of the last window.
    rate: (f64, f64),
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            counted: (0, 0),
            rate: (0.0, 0.0),
        }
    }

    /// Counts an item that was stored.
    pub(super) fn stored(&mut self, now: Instant, units: u64) {
        self.roll(now);
        self.counted.0 += 1;
        self.counted.1 += units;
    }

    /// Minimum time from one batch of this many deletions to the next.
    pub(super) fn batch(&mut self, now: Instant, deletions: usize) -> Duration {
        self.roll(now);
        Duration::from_secs_f64(deletions as f64 / self.per_second())
    }

    fn per_second(&self) -> f64 {
        let (items, units) = self.rate;
        // What is deleted is about as large as what is stored now.
        let item_units = if items > 0.0 { units / items } else { 1.0 };
        let room = (SERVED_UNITS - units) / item_units;
        let wanted = (items * FOR_EACH_COMMIT).max(USUAL);
        wanted.min(room).max(LEAST)
    }

    fn roll(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return;
        }
        let seconds = elapsed.as_secs_f64();
        let (items, units) = self.counted;
        self.rate = (items as f64 / seconds, units as f64 / seconds);
        self.counted = (0, 0);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deletions a second after a minute of this many commits a second, of `units` each.
    fn after(commits: u64, units: u64) -> f64 {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        for number in 0..commits * 60 {
            let at = begun + Duration::from_secs(60).mul_f64(number as f64 / (commits * 60) as f64);
            pace.stored(at, units);
        }
        let batch = pace.batch(begun + Duration::from_secs(60), 25);
        25.0 / batch.as_secs_f64()
    }

    #[test]
    fn deletions_keep_up_with_commits_and_leave_room_for_them() {
        for (commits, units) in [
            (1, 1),
            (40, 1),
            (40, 4),
            (160, 1),
            (300, 1),
            (400, 1),
            (100, 4),
        ] {
            let deletions = after(commits, units);
            assert!(deletions > commits as f64, "{commits} {units}: {deletions}");
            let used = (deletions + commits as f64) * units as f64;
            assert!(used < 1_000.0, "{commits} {units}: {deletions}");
        }
        assert!((after(40, 1) - 200.0).abs() < 1.0);
        assert!((after(320, 1) - 400.0).abs() < 5.0);
    }

    #[test]
    fn commits_that_use_up_the_table_leave_a_few_deletions() {
        assert!((after(1_000, 1) - LEAST).abs() < 0.1);
    }

    #[test]
    fn a_quiet_log_is_collected_at_the_usual_pace_after_a_busy_time() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        for _ in 0..8_000 {
            pace.stored(begun + Duration::from_secs(5), 1);
        }
        let busy = pace.batch(begun + Duration::from_secs(10), 25);
        let quiet = pace.batch(begun + Duration::from_secs(20), 25);
        assert_eq!(quiet, Duration::from_millis(125));
        assert_ne!(busy, quiet);
    }
}
