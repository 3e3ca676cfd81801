//! How long to wait before asking again, and how often to ask at all.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Doubling waits with full jitter.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits after one more failure.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        let longest = (FIRST * 2u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = (self.failures + 1).min(16);
        longest.mul_f64(0.5 + random_share() / 2.0)
    }

    /// How many failures there were in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// No shard is asked less often than this, however busy others keep it.
const SLOWEST: Duration = Duration::from_secs(2);

/// The rate at which one shard is read: five reads a second are all that Kinesis allows, for all that read it together. So it is lowered
/// at once when Kinesis says that they are used up, and raised slowly.
#[derive(Debug)]
pub(super) struct Pace {
    fastest: Duration,
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub(super) fn new(fastest: Duration) -> Self {
        Self {
            fastest,
            interval: fastest,
            next: Instant::now(),
        }
    }

    /// Waits for the turn of the next read.
    pub(super) async fn turn(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.next = Instant::now() + self.interval;
    }

    /// The read was answered.
    pub(super) fn answered(&mut self) {
        self.interval = self.interval.mul_f64(0.95).max(self.fastest);
    }

    /// The read was refused: too many.
    pub(super) fn throttled(&mut self) {
        let slower = self.interval.max(Duration::from_millis(100)).mul_f64(1.5);
        self.interval = slower.min(SLOWEST);
        // Jitter, so that those who were refused together do not come together again.
        self.next = Instant::now() + self.interval.mul_f64(0.5 + random_share());
    }
}

/// A random number from 0 to 1.
fn random_share() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness all wait the same, which is no harm to what is right.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_slows_down_at_once_when_refused_and_comes_back_slowly() {
        let mut pace = Pace::new(Duration::from_millis(200));
        for _ in 0..20 {
            pace.throttled();
        }
        assert_eq!(pace.interval, SLOWEST);
        pace.answered();
        assert!(pace.interval > Duration::from_millis(1_800));
        for _ in 0..100 {
            pace.answered();
        }
        assert_eq!(pace.interval, Duration::from_millis(200));
    }

    #[test]
    fn waits_double_up_to_a_limit_with_jitter_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        let mut longest = FIRST;
        for _ in 0..12 {
            let wait = backoff.next();
            assert!(wait >= longest / 2 && wait <= longest, "{wait:?}");
            longest = (longest * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
