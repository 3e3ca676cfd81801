//! Partition time of the running process, and warnings about its calendar.

use satchel_engine::clock::PartitionClock;

use crate::clock::{TIME_WARN_FROM_MS, reading};
use crate::error::{Exit, Failure};
use crate::metrics::Metrics;

/// Service whose calendar is compared at a start, in messages.
pub(super) const STORE: &str = "the store of the state";

/// Difference from the calendar of a service that is worth a warning at a start, in ms.
const SERVICE_WARN_FROM_MS: u64 = 60_000;

/// Difference from the calendar of a service at which a process does not start, in ms. AWS rejects
/// requests beyond it too.
const SERVICE_REFUSE_FROM_MS: u64 = 15 * 60_000;

/// Checks the calendar of this machine against that of `service`, before partition time follows it.
///
/// # Errors
///
/// [`Exit::Environment`] if they differ by more than 15 minutes.
pub(crate) fn check_calendar(service: &str, ahead_ms: Option<i64>) -> Result<(), Failure> {
    let Some(ahead_ms) = ahead_ms else {
        return Ok(());
    };
    let seconds = ahead_ms.unsigned_abs() / 1000;
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let differs = format!(
        "the clock of this machine is {seconds} s {side} the `Date` that {service} answers with"
    );
    if ahead_ms.unsigned_abs() >= SERVICE_REFUSE_FROM_MS {
        return Err(Failure::new(
            Exit::Environment,
            format!(
                "{differs}; timers would be wrong: set the clock, such as by NTP, and start again"
            ),
        ));
    }
    if ahead_ms.unsigned_abs() >= SERVICE_WARN_FROM_MS {
        tracing::warn!(ahead_ms, "{differs}");
    }
    Ok(())
}

/// Partition time, which warns once about each difference from the calendar.
pub(super) struct TimeKeeper {
    clock: PartitionClock,
    warned: Option<Warned>,
}

/// Difference that was warned about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warned {
    /// Partition time is ahead of the calendar.
    Ahead,
    /// The calendar has jumped, and is not followed.
    Jump,
}

impl TimeKeeper {
    pub(super) fn new(clock: PartitionClock) -> Self {
        Self {
            clock,
            warned: None,
        }
    }

    /// Returns the present partition time, in ms since the epoch.
    pub(super) fn now_ms(&mut self, metrics: &Metrics) -> u64 {
        let now_ms = self.clock.read(reading());
        let (ahead_ms, jump_ms) = (self.clock.ahead_ms(), self.clock.jump_ms());
        metrics.observe_time(ahead_ms, jump_ms.unwrap_or(0));
        metrics.status().observe_time(ahead_ms, jump_ms);
        let differs = if jump_ms.is_some() {
            Some(Warned::Jump)
        } else {
            (ahead_ms.unsigned_abs() >= TIME_WARN_FROM_MS).then_some(Warned::Ahead)
        };
        if differs != self.warned {
            self.warned = differs;
            warn(differs, ahead_ms, jump_ms);
        }
        now_ms
    }
}

fn warn(differs: Option<Warned>, ahead_ms: i64, jump_ms: Option<i64>) {
    match differs {
        Some(Warned::Jump) => tracing::warn!(
            jump_ms,
            "calendar of this machine jumped and is not followed; timers continue by the time \
             since boot; restart the process to accept the new time, or raise --clock-jump-max"
        ),
        Some(Warned::Ahead) => tracing::warn!(
            ahead_ms,
            "partition time is ahead of the calendar, which was set back or was ahead before; new \
             timers and expiries are late by that much"
        ),
        None => tracing::info!("partition time and calendar agree again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_from_a_services_by_over_15_minutes_is_refused_by_name() {
        for ahead_ms in [None, Some(0), Some(70_000), Some(-899_999)] {
            assert!(check_calendar("S3", ahead_ms).is_ok(), "{ahead_ms:?}");
        }
        for (ahead_ms, named) in [
            (900_000, "is 900 s ahead of the `Date` that S3 answers with"),
            (
                -3_600_000,
                "is 3600 s behind the `Date` that S3 answers with",
            ),
        ] {
            let failure = check_calendar("S3", Some(ahead_ms)).unwrap_err();
            assert_eq!(failure.exit, Exit::Environment);
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }
}
