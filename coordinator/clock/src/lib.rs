//! Clocks of a machine, and timers that also count while it is suspended.
//!
//! A duration that decides something (how old a confirmation is, whether a request may still be
//! sent, when a lease ends) is measured by [`BootTime`]. `Instant` and the timers of tokio stand
//! still while the machine is suspended. They may pace what is harmless to do late.

mod backoff;
mod retry_after;

use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

pub use backoff::{Backoff, random_share};
pub use retry_after::retry_after_ms;

/// Clock that also counts while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SINCE_BOOT: ClockId = ClockId::Boottime;
/// On Apple's systems, this clock counts while the machine is suspended.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

/// Maximum time between two readings of the clock while a timer runs. After a suspend, a timer is
/// late by at most this.
const SLICE: Duration = Duration::from_millis(500);

/// Returns the time of the calendar clock, in ms since the epoch.
pub fn calendar_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time of the calendar clock, in microseconds since the epoch.
pub fn calendar_us() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the time since boot, in ms, including the time that the machine was suspended.
pub fn boot_ms() -> u64 {
    BootTime::now().as_ms()
}

/// Moment by the time since boot, which includes the time that the machine was suspended. It has
/// no meaning in another process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Returns the present moment.
    pub fn now() -> Self {
        let since_boot = clock_gettime(SINCE_BOOT);
        let seconds = u64::try_from(since_boot.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(since_boot.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanoseconds))
    }

    /// Returns the moment in ms since boot.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the time that has passed since an earlier moment; zero since a later one.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the time that has passed since this moment.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Returns the moment that is earlier by `duration`; none if that is before the boot.
    pub fn checked_sub(self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(duration).map(Self)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Waits until a moment. Never ends early.
pub async fn sleep_until(due: BootTime) {
    loop {
        let left = due.since(BootTime::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLICE)).await;
    }
}

/// Runs a future until a moment. Returns `None` if it did not end by then.
pub async fn timeout_at<T>(due: BootTime, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = sleep_until(due) => None,
        output = future => Some(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ordered_and_their_differences_never_negative() {
        let early = BootTime::now();
        let late = early + Duration::from_secs(3);
        assert!(early < late);
        assert_eq!(late.since(early), Duration::from_secs(3));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.checked_sub(Duration::from_secs(3)), Some(early));
        assert_eq!(early.checked_sub(Duration::MAX), None);
        assert!(boot_ms() >= early.as_ms());
    }

    #[tokio::test]
    async fn a_timer_ends_no_earlier_than_its_moment_even_over_several_slices() {
        let due = BootTime::now() + 2 * SLICE + Duration::from_millis(10);
        sleep_until(due).await;
        assert!(BootTime::now() >= due);
    }

    #[tokio::test]
    async fn a_moment_that_has_passed_leaves_no_time_even_for_what_is_ready() {
        let now = BootTime::now();
        assert_eq!(timeout_at(now, std::future::ready(7)).await, None);
        let later = now + Duration::from_secs(600);
        assert_eq!(timeout_at(later, std::future::ready(7)).await, Some(7));
    }
}
