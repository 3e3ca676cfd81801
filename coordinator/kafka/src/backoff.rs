//! Waits between retries.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Exponential backoff with jitter.
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
        let mut bytes = [0; 4];
        // Without randomness all waits are equal, which is harmless.
        let _ = getrandom::fill(&mut bytes);
        let share = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
        longest.mul_f64(0.5 + share / 2.0)
    }

    /// Resets the backoff after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Rate limit of log lines about failures.
#[derive(Debug, Default)]
pub(crate) struct LogInterval {
    last: Option<Instant>,
}

impl LogInterval {
    /// Returns whether a line is to be written now.
    pub(crate) fn admits(&mut self) -> bool {
        const INTERVAL: Duration = Duration::from_secs(10);
        let admits = self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if admits {
            self.last = Some(Instant::now());
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
