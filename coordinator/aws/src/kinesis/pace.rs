//! Denials, and the pace of reads.

use std::time::Duration;

use satchel_clock::random_share;
use tokio::time::Instant;

/// Time for which requests must be denied without a success in between before their source counts
/// as forbidden or missing. Permissions that change take effect on some servers before others.
const DENIED_FOR: Duration = Duration::from_secs(5);

/// Time since which a service has denied every request of one kind.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    since: Option<Instant>,
}

impl Denials {
    /// Notes the outcome of a request. Returns true if the denial is permanent.
    pub(crate) fn note(&mut self, is_denied: bool) -> bool {
        self.note_at(Instant::now(), is_denied)
    }

    fn note_at(&mut self, now: Instant, is_denied: bool) -> bool {
        if !is_denied {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.duration_since(since) >= DENIED_FOR
    }
}

/// Maximum interval between reads of a shard, however busy other readers keep it.
const SLOWEST: Duration = Duration::from_secs(2);

/// Interval between reads of a shard from which nothing comes. It leaves reads for other consumers,
/// and costs a fifth of the requests.
const IDLE: Duration = Duration::from_secs(1);

/// Read rate of one shard. Kinesis allows five reads a second for all readers together. The rate is
/// lowered at once when Kinesis throttles, and raised slowly. It is lowered slowly while the shard
/// is empty, and raised at once by a record.
#[derive(Debug)]
pub(super) struct Pace {
    fastest: Duration,
    interval: Duration,
    /// Minimum interval because the shard was empty. Zero after a record.
    idle: Duration,
    next: Instant,
}

impl Pace {
    pub(super) fn new(fastest: Duration) -> Self {
        Self {
            fastest,
            interval: fastest,
            idle: Duration::ZERO,
            next: Instant::now(),
        }
    }

    /// Waits until the next read is due.
    pub(super) async fn wait_turn(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.next = Instant::now() + self.interval;
    }

    /// Records a successful read. `is_empty` says that the shard held nothing more.
    pub(super) fn answered(&mut self, is_empty: bool) {
        self.interval = self.interval.mul_f64(0.95).max(self.fastest);
        self.idle = if is_empty {
            self.idle.max(self.fastest).mul_f64(1.1).min(IDLE)
        } else {
            Duration::ZERO
        };
        if self.idle > self.interval {
            self.next += self.idle - self.interval;
        }
    }

    /// Records a throttled read.
    pub(super) fn throttled(&mut self) {
        let slower = self.interval.max(Duration::from_millis(100)).mul_f64(1.5);
        self.interval = slower.min(SLOWEST);
        // Jitter, so that readers that were throttled together do not retry together.
        self.next = Instant::now() + self.interval.mul_f64(0.5 + random_share());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_permanent_when_nothing_succeeded_for_a_while() {
        let mut denials = Denials::default();
        let first = Instant::now();
        let last = first + DENIED_FOR;
        assert!(!denials.note_at(first, true));
        assert!(!denials.note_at(last - Duration::from_millis(1), true));
        assert!(denials.note_at(last, true));
        assert!(!denials.note_at(last, false));
        assert!(!denials.note_at(last, true), "counted anew after a success");
    }

    #[test]
    fn the_pace_slows_down_at_once_when_throttled_and_recovers_slowly() {
        let mut pace = Pace::new(Duration::from_millis(200));
        for _ in 0..20 {
            pace.throttled();
        }
        assert_eq!(pace.interval, SLOWEST);
        pace.answered(false);
        assert!(pace.interval > Duration::from_millis(1_800));
        for _ in 0..100 {
            pace.answered(false);
        }
        assert_eq!(pace.interval, Duration::from_millis(200));
    }

    #[test]
    fn an_empty_shard_is_read_once_a_second_until_a_record_comes() {
        let mut pace = Pace::new(Duration::from_millis(200));
        let reads_until_idle = (0..100)
            .take_while(|_| {
                pace.answered(true);
                pace.idle < IDLE
            })
            .count();
        assert!((10..30).contains(&reads_until_idle), "{reads_until_idle}");
        pace.answered(false);
        assert_eq!(pace.idle, Duration::ZERO);
        pace.answered(true);
        assert_eq!(pace.idle, Duration::from_millis(220), "it slows down anew");
    }
}
