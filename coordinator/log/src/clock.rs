//! Time, supplied by the caller.

use futures::future::BoxFuture;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the machine started, suspended time included (`CLOCK_BOOTTIME`). Never
    /// goes back.
    pub boot_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z by the calendar clock of the machine. May jump.
    pub wall_ms: u64,
}

impl Now {
    /// Upper bound of the time since `earlier`, in milliseconds: the larger difference of the two
    /// clocks. Use it to ask whether something is still fresh.
    #[must_use]
    pub fn elapsed_at_most_ms(&self, earlier: &Now) -> u64 {
        let boot = self.boot_ms.saturating_sub(earlier.boot_ms);
        let wall = self.wall_ms.saturating_sub(earlier.wall_ms);
        boot.max(wall)
    }

    /// Lower bound of the time since `earlier`, in milliseconds, by the boot clock, which is never
    /// set. Use it to ask whether something has waited long enough.
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
