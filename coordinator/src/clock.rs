//! Clocks of this machine.

use std::time::Duration;

use futures::future::BoxFuture;
use satchel_engine::clock::Reading;
use satchel_log::{Clock, Now};

pub(crate) use satchel_clock::{boot_ms, calendar_ms as now_ms};

/// Difference of partition time from the calendar that is worth a warning, in ms.
pub(crate) const TIME_WARN_FROM_MS: u64 = 5_000;

/// Reads the clocks of this machine.
pub(crate) fn reading() -> Reading {
    Reading {
        boot_ms: boot_ms(),
        calendar_ms: now_ms(),
    }
}

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
