//! Polling for conditions that become true eventually.

use std::time::{Duration, Instant};

/// Longer than any step of a test takes, even on a busy machine.
pub const LONG: Duration = Duration::from_secs(120);

/// Interval between two polls.
pub(crate) const EVERY: Duration = Duration::from_millis(20);

/// Polls until `look` returns a value, and returns it.
///
/// # Panics
///
/// After [`LONG`], naming `what`.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(
            begun.elapsed() < LONG,
            "waited {LONG:?} in vain until {what}"
        );
        tokio::time::sleep(EVERY).await;
    }
}

/// Polls until `is_so` returns true.
///
/// # Panics
///
/// After [`LONG`], naming `what`.
pub async fn until_true(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    until(what, async || is_so().await.then_some(())).await;
}
