//! Time, as the log is told it.

use futures::future::BoxFuture;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the machine started, suspended time included (`CLOCK_BOOTTIME`). Never goes back.
    pub boot_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z by the machine's calendar clock. May jump.
    pub wall_ms: u64,
}

impl Now {
    /// How long ago `earlier` was at most, in milliseconds: the larger of both clocks' differences. For "is this still fresh?".
    #[must_use]
    pub fn elapsed_at_most_ms(&self, earlier: &Now) -> u64 {
        let boot = self.boot_ms.saturating_sub(earlier.boot_ms);
        let wall = self.wall_ms.saturating_sub(earlier.wall_ms);
        boot.max(wall)
    }

    /// How long ago `earlier` was at least, in milliseconds: by the clock that nobody sets. For "has this waited long enough?".
    #[must_use]
    pub fn elapsed_at_least_ms(&self, earlier: &Now) -> u64 {
        self.boot_ms.saturating_sub(earlier.boot_ms)
    }
}

/// The clocks of the machine, or of a simulation.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;

    /// Completes after at least `ms` milliseconds.
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()>;
}
