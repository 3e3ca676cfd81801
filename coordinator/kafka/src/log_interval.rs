//! Rate limit of log lines.

use std::time::Duration;

use tokio::time::Instant;

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
