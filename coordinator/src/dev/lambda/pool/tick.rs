//! What the passing of time means for the pool: growing, reaping, starting again, giving up.

use std::time::Duration;

use tokio::time::Instant;

use super::{End, Pool, State, Trouble, refuse};

/// Requests that have waited without a break for this long are worth another process: a burst of short ones is not.
const GROW_AFTER: Duration = Duration::from_millis(20);

/// A request fails after this long while no process starts.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

/// A process that has not asked for a request after this long is ended. AWS gives 10 seconds, on a machine that builds nothing meanwhile.
const INIT_MAX: Duration = Duration::from_secs(30);

/// A process that was idle this long is not needed, unless it is the last.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A process that ends by itself this soon after it asked for a request would be started in a circle.
pub(super) const EARLY: Duration = Duration::from_secs(1);

/// The delay before a start after the first early end; it doubles with each further one.
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// The delay grows no longer than this.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);

/// What is to be done now, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Tick {
    /// Whether to start a process.
    pub(in super::super) start: bool,
    /// When to ask again if nothing happens meanwhile.
    pub(in super::super) again_at: Option<Instant>,
}

impl Pool {
    /// Does what is due, and says whether one more process should be started.
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
        alarms.extend(self.end_what_never_asked(now));
        alarms.extend(self.fail_what_cannot_be_served(now));
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

    fn end_what_never_asked(&mut self, now: Instant) -> Option<Instant> {
        let mut alarm = None;
        for slot in self.slots.values_mut() {
            if !matches!(slot.state, State::Starting) || slot.is_ending() {
                continue;
            }
            let ends_at = slot.since + INIT_MAX;
            if ends_at <= now {
                slot.init_error
                    .get_or_insert_with(|| format!("it did not ask for a request in {INIT_MAX:?}"));
                slot.end(End::AtOnce);
            } else {
                alarm = alarm.into_iter().chain([ends_at]).min();
            }
        }
        alarm
    }

    fn fail_what_cannot_be_served(&mut self, now: Instant) -> Option<Instant> {
        let why = self.trouble.not_starting.clone()?;
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

    /// Ends the processes that were idle too long, the longest first, but never the last.
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
                // Nobody tells when one becomes idle.
                return Some(now + IDLE_MAX);
            };
            let reaped_at = longest.since + IDLE_MAX;
            if reaped_at > now {
                return Some(reaped_at);
            }
            longest.end(End::Gracefully);
        }
    }

    /// When one more process should be started, if at all.
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
        Some(wanted_at.max(self.trouble.retry_at.unwrap_or(wanted_at)))
    }
}

impl Trouble {
    pub(super) fn ended_early(&mut self, now: Instant) {
        let delay = RESTART_DELAY.saturating_mul(1 << self.early_ends.min(16));
        self.retry_at = Some(now + delay.min(RESTART_DELAY_MAX));
        self.early_ends += 1;
    }
}
