//! Archiving: once a snapshot has been in effect for the grace period, the log before its replay
//! moves to where it costs less, if the store has such a place and history still needs it.
//!
//! A number whose item was moved can be created again. So the same period must pass as before a
//! deletion: by then the owner before has seen that the next epoch is claimed, whenever it looks.

use std::collections::VecDeque;

use crate::clock::Now;

/// The log ranges of one partition that wait for being archived.
#[derive(Debug)]
pub(crate) struct Archiver {
    enabled: bool,
    grace_ms: u64,
    /// Replay starts of snapshots, with the times at which they took effect.
    waiting: VecDeque<(u64, Now)>,
    busy: bool,
}

impl Archiver {
    pub(crate) fn new(enabled: bool, grace_ms: u64) -> Self {
        Self {
            enabled,
            grace_ms,
            waiting: VecDeque::new(),
            busy: false,
        }
    }

    /// Handles a snapshot that took effect.
    pub(crate) fn took_effect(&mut self, replay_from: u64, now: Now) {
        if self.enabled {
            self.waiting.push_back((replay_from, now));
        }
    }

    /// Returns the number below which the log is to be archived now. The caller then calls
    /// [`Archiver::performed`].
    pub(crate) fn poll(&mut self, now: Now) -> Option<u64> {
        if self.busy || self.wait_ms(now)? > 0 {
            return None;
        }
        self.busy = true;
        self.waiting.pop_front().map(|(replay_from, _)| replay_from)
    }

    pub(crate) fn performed(&mut self) {
        self.busy = false;
    }

    pub(crate) fn is_idle(&self) -> bool {
        !self.busy
    }

    /// Time until the next range may be archived, in milliseconds; `None` if there is none.
    pub(crate) fn wait_ms(&self, now: Now) -> Option<u64> {
        let (_, seen) = self.waiting.front()?;
        Some(self.grace_ms.saturating_sub(now.elapsed_at_least_ms(seen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot_ms: u64) -> Now {
        Now {
            boot_ms,
            wall_ms: 0,
        }
    }

    #[test]
    fn the_log_before_a_snapshot_is_archived_after_the_grace_period_one_range_at_a_time() {
        let mut archiver = Archiver::new(true, 1000);
        archiver.took_effect(5, at(100));
        archiver.took_effect(9, at(200));
        assert_eq!(archiver.poll(at(1099)), None);
        assert_eq!(archiver.wait_ms(at(1099)), Some(1));
        assert_eq!(archiver.poll(at(1100)), Some(5));
        assert_eq!(archiver.poll(at(5000)), None, "one at a time");
        archiver.performed();
        assert_eq!(archiver.poll(at(5000)), Some(9));
        archiver.performed();
        assert_eq!(archiver.wait_ms(at(9999)), None);
    }

    #[test]
    fn a_store_without_such_a_place_is_never_asked() {
        let mut archiver = Archiver::new(false, 1000);
        archiver.took_effect(5, at(100));
        assert_eq!(archiver.poll(at(9999)), None);
    }
}
