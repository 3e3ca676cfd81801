//! Time-driven decisions of the pool: growing, reaping, restarting, giving up.

use std::time::Duration;

use tokio::time::Instant;

use super::{End, Pool, StartFailures, State, refuse};

/// Time that the queue must be non-empty before another process is started. A burst of short
/// requests does not need one.
const GROW_AFTER: Duration = Duration::from_millis(20);

/// Time after which a request fails while no process starts.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

/// Maximum time until a process asks for its first request. AWS allows 10 seconds, on machines that
/// do not build at the same time.
const INIT_MAX: Duration = Duration::from_secs(30);

/// Maximum idle time of a process, unless it is the last one.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A process that ends by itself this soon after it asked for a request counts as an early end, so
/// that restarts are delayed.
pub(super) const EARLY: Duration = Duration::from_secs(1);

/// Delay of a start after the first early end. It doubles with each further one.
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// Maximum of that delay.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);

/// Decision of the pool, and time of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Tick {
    /// True if a process should be started.
    pub(in super::super) start: bool,
    /// Time to ask again if nothing happens before.
    pub(in super::super) again_at: Option<Instant>,
}

impl Pool {
    /// Performs what is due, and decides whether another process should be started.
    pub(in super::super) fn tick(&mut self, now: Instant) -> Tick {
        if self.stopped {
            return Tick {
                start: false,
                again_at: None,
            };
        }
        self.queue
            .retain(|queued| !queued.invocation.reply.is_closed());
        self.note_backlog();
        let mut alarms = Vec::new();
        alarms.extend(self.end_silent_starters(now));
        alarms.extend(self.fail_unservable(now));
        alarms.extend(self.reap(now));
        let start_at = self.start_at(now);
        let start = start_at.is_some_and(|at| at <= now);
        if !start {
            alarms.extend(start_at);
        }
        Tick {
            start,
            again_at: alarms.into_iter().min(),
        }
    }

    fn end_silent_starters(&mut self, now: Instant) -> Option<Instant> {
        let mut alarm = None;
        if self.is_patient {
            return alarm;
        }
        for slot in self.slots.values_mut() {
            if !matches!(slot.state, State::Starting) || slot.is_ending() {
                continue;
            }
            let ends_at = slot.since + INIT_MAX;
            if ends_at <= now {
                slot.init_error.get_or_insert_with(|| {
                    format!("it did not ask for a request within {INIT_MAX:?}")
                });
                slot.end(End::AtOnce);
            } else {
                alarm = alarm.into_iter().chain([ends_at]).min();
            }
        }
        alarm
    }

    fn fail_unservable(&mut self, now: Instant) -> Option<Instant> {
        let why = self.failures.not_starting.clone()?;
        if self
            .slots
            .values()
            .any(|slot| !slot.is_ending() && !matches!(slot.state, State::Starting))
        {
            return None;
        }
        while let Some(first) = self.queue.front() {
            let fails_at = first.since + UNREACHABLE_AFTER;
            if fails_at > now {
                return Some(fails_at);
            }
            if let Some(first) = self.queue.pop_front() {
                refuse(first.invocation.reply, &why);
            }
        }
        None
    }

    /// Ends processes that were idle too long, the longest first, but never the last.
    fn reap(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let serving = self.slots.values().filter(|slot| !slot.is_ending()).count();
            if serving <= 1 {
                return None;
            }
            let Some(longest) = self
                .slots
                .values_mut()
                .filter(|slot| slot.is_idle() && !slot.is_ending())
                .min_by_key(|slot| slot.since)
            else {
                // There is no notification when a process becomes idle.
                return Some(now + IDLE_MAX);
            };
            let reaped_at = longest.since + IDLE_MAX;
            if reaped_at > now {
                return Some(reaped_at);
            }
            longest.end(End::Gracefully);
        }
    }

    /// Returns the time at which another process should be started, if any.
    fn start_at(&self, now: Instant) -> Option<Instant> {
        let serving = || self.slots.values().filter(|slot| !slot.is_ending());
        let wanted_at = if serving().next().is_none() {
            now
        } else {
            let starting = serving().any(|slot| matches!(slot.state, State::Starting));
            if starting || serving().count() >= self.processes_max {
                return None;
            }
            self.backlog_since? + GROW_AFTER
        };
        Some(wanted_at.max(self.failures.retry_at.unwrap_or(wanted_at)))
    }
}

impl StartFailures {
    pub(super) fn ended_early(&mut self, now: Instant) {
        let delay = RESTART_DELAY.saturating_mul(1 << self.early_ends.min(16));
        self.retry_at = Some(now + delay.min(RESTART_DELAY_MAX));
        self.early_ends += 1;
    }
}
