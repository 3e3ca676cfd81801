//! Detection that this process slept: it may have lost its partitions without knowing.
//!
//! A process that wakes finds frames in its sockets, also from partitions that have already heard
//! of the next owner. A former owner would invoke functions with such messages and with a state
//! that lacks their causes. Its log refuses the effects, but functions would see what never was.
//! After a sleep, frames are ignored until the process has looked at the roster. They are sent
//! again.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::boot_ms;

/// Last sign of life of this process, and the end of its last sleep.
#[derive(Debug)]
pub(super) struct Wakefulness {
    /// Boot time of the last beat; 0 before the first one.
    beat_ms: AtomicU64,
    /// Boot time at which a sleep was noticed; 0 once the roster was read after it.
    woke_ms: AtomicU64,
    /// Time without a beat that counts as a sleep, in ms.
    patience_ms: AtomicU64,
}

impl Default for Wakefulness {
    fn default() -> Self {
        Self {
            beat_ms: AtomicU64::new(0),
            woke_ms: AtomicU64::new(0),
            patience_ms: AtomicU64::new(u64::MAX),
        }
    }
}

impl Wakefulness {
    /// Notes that the process is awake. A time of `patience_ms` without a beat counts as a sleep.
    pub(super) fn beat(&self, patience_ms: u64) {
        self.patience_ms.store(patience_ms, Ordering::SeqCst);
        self.look();
        self.beat_ms.store(boot_ms(), Ordering::SeqCst);
    }

    /// Notes that the roster was read, and that the read began at this boot time.
    pub(super) fn confirm(&self, begun_ms: u64) {
        let woke_ms = self.woke_ms.load(Ordering::SeqCst);
        if woke_ms <= begun_ms {
            let _ = self
                .woke_ms
                .compare_exchange(woke_ms, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Returns false between a sleep and the next read of the roster.
    pub(super) fn is_certain(&self) -> bool {
        self.look();
        self.woke_ms.load(Ordering::SeqCst) == 0
    }

    /// Notices a sleep, whichever task runs first after it.
    fn look(&self) {
        let beat_ms = self.beat_ms.load(Ordering::SeqCst);
        let now_ms = boot_ms();
        let slept_ms = now_ms.saturating_sub(beat_ms);
        if beat_ms > 0 && slept_ms > self.patience_ms.load(Ordering::SeqCst) {
            self.woke_ms.fetch_max(now_ms, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn after_a_sleep_nothing_is_certain_until_the_roster_was_read() {
        let wakefulness = Wakefulness::default();
        assert!(wakefulness.is_certain(), "one process has no roster");
        wakefulness.beat(50);
        assert!(wakefulness.is_certain());
        let before_ms = boot_ms();
        sleep(Duration::from_millis(120));
        assert!(!wakefulness.is_certain());
        wakefulness.beat(50);
        assert!(!wakefulness.is_certain(), "a beat alone proves nothing");
        wakefulness.confirm(before_ms);
        assert!(
            !wakefulness.is_certain(),
            "the read began before the sleep ended"
        );
        wakefulness.confirm(boot_ms());
        assert!(wakefulness.is_certain());
    }

    #[test]
    fn a_sleep_is_noticed_by_the_beat_too() {
        let wakefulness = Wakefulness::default();
        wakefulness.beat(50);
        sleep(Duration::from_millis(120));
        wakefulness.beat(50);
        assert!(!wakefulness.is_certain());
    }
}
