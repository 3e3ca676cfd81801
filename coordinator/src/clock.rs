//! Clocks of this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use satchel_engine::clock::Reading;
use satchel_log::{Clock, Now};

/// Returns the time of the calendar clock, in ms since the epoch.
pub fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time since boot, in ms, including the time that the machine was suspended.
pub(crate) fn boot_ms() -> u64 {
    let boot = clock_gettime(SINCE_BOOT);
    boot.tv_sec as u64 * 1000 + boot.tv_nsec as u64 / 1_000_000
}

/// Reads the clocks of this machine.
pub(crate) fn reading() -> Reading {
    Reading {
        boot_ms: boot_ms(),
        calendar_ms: now_ms(),
    }
}

/// Clock that also counts while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SINCE_BOOT: ClockId = ClockId::Boottime;
/// On Apple's systems, this clock counts while the machine is suspended.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

/// Boot time and calendar time of this machine, and tokio's timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            boot_ms: boot_ms(),
            wall_ms: now_ms(),
        }
    }

    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
    }
}
