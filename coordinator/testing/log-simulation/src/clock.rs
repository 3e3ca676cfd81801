//! Virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use satchel_log::{Clock, Now};

use crate::executor::yield_turns;

/// A clock that moves only when [`SimulatedClock::advance`] is called. Clones share the boot time.
/// Each of [`SimulatedClock::with_own_calendar`] has its own error of the calendar.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    boot_ms: Arc<AtomicU64>,
    calendar_ms: Arc<AtomicU64>,
}

impl Default for SimulatedClock {
    fn default() -> Self {
        Self {
            boot_ms: Arc::new(AtomicU64::new(1_000_000)),
            calendar_ms: Arc::new(AtomicU64::new(1_700_000_000_000)),
        }
    }
}

impl SimulatedClock {
    /// Lets time pass.
    pub fn advance(&self, ms: u64) {
        self.boot_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Returns a clock of the same time with its own calendar.
    #[must_use]
    pub fn with_own_calendar(&self) -> Self {
        Self {
            boot_ms: self.boot_ms.clone(),
            calendar_ms: Arc::new(AtomicU64::new(self.calendar_ms.load(Ordering::Relaxed))),
        }
    }

    /// Sets the calendar of this clock ahead or back.
    pub fn shift_calendar(&self, ms: i64) {
        let now = self.calendar_ms.load(Ordering::Relaxed);
        self.calendar_ms
            .store(now.saturating_add_signed(ms), Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        let boot_ms = self.boot_ms.load(Ordering::Relaxed);
        Now {
            boot_ms,
            wall_ms: self.calendar_ms.load(Ordering::Relaxed) + boot_ms,
        }
    }

    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        let boot_ms = self.boot_ms.clone();
        let until = boot_ms.load(Ordering::Relaxed) + ms;
        Box::pin(async move {
            while boot_ms.load(Ordering::Relaxed) < until {
                yield_turns(1).await;
            }
        })
    }
}
