//! Waiting for what becomes true in its own time.

use std::time::{Duration, Instant};

/// Longer than anything in a test takes, on a busy machine too; whoever waits longer waits in vain.
pub const LONG: Duration = Duration::from_secs(120);

/// How often is looked.
pub(crate) const EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until there is something to see, and gives it.
///
/// # Panics
///
/// After [`LONG`], with `what`.
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

/// Looks again and again until it is so.
///
/// # Panics
///
/// After [`LONG`], with `what`.
pub async fn until_true(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    until(what, async || is_so().await.then_some(())).await;
}
