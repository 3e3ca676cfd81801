//! The schedule: timers, expiries, and ends of back-offs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::{Address, FunctionType};
use crate::map::Map;
use crate::request::Verb;

/// A scheduled event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scheduled {
    /// A timer fires.
    Timer { owner: Address, number: u64 },
    /// A value may have expired. It may also have been refreshed since.
    State { address: Address, name: Arc<str> },
    /// The outcome of a request may be removed.
    Idempotency {
        address: Address,
        verb: Verb,
        key: Arc<str>,
    },
    /// Ids of queue messages may be removed.
    Received { ingress: Arc<str>, at_ms: u64 },
    /// An address may try again.
    Retry { address: Address },
    /// A suspended function type is probed.
    Probe { function: FunctionType },
    /// A fact in an absent bucket becomes due.
    Bucket { bucket: u16 },
}

/// Scheduled events in order of time, then of insertion.
#[derive(Default)]
pub(super) struct Schedule {
    timers: BTreeMap<(u64, u64), Address>,
    /// True if timers are held: they are kept, but none becomes due.
    timers_held: bool,
    others: BTreeMap<(u64, u64), Scheduled>,
    /// Key of each event in `others`. An event is scheduled at most once, however often it was
    /// postponed.
    entry_of: Map<Scheduled, (u64, u64)>,
    next_entry: u64,
    /// Time of the wake-up requested from the driver.
    wake_requested_ms: Option<u64>,
}

impl Schedule {
    pub(super) fn add_timer(&mut self, due_ms: u64, number: u64, owner: Address) {
        self.timers.insert((due_ms, number), owner);
    }

    /// Holds timers or releases them.
    pub(super) fn hold_timers(&mut self, held: bool) {
        self.timers_held = held;
    }

    /// Removes a cancelled timer, so that cancelled timers do not accumulate until their due times.
    pub(super) fn remove_timer(&mut self, due_ms: u64, number: u64) {
        self.timers.remove(&(due_ms, number));
    }

    /// Schedules `due` unless it is already scheduled. The handler of an event that comes too early
    /// schedules it again.
    pub(super) fn add(&mut self, due_ms: u64, due: Scheduled) {
        if !self.entry_of.contains_key(&due) {
            let entry = (due_ms, self.next_entry);
            self.entry_of.insert(due.clone(), entry);
            self.others.insert(entry, due);
            self.next_entry += 1;
        }
    }

    /// Removes `due`, whatever its time.
    pub(super) fn remove(&mut self, due: &Scheduled) {
        if let Some(entry) = self.entry_of.remove(due) {
            self.others.remove(&entry);
        }
    }

    /// Time for which `due` is scheduled, if it is.
    pub(super) fn due_ms(&self, due: &Scheduled) -> Option<u64> {
        self.entry_of.get(due).map(|(due_ms, _)| *due_ms)
    }

    /// Number of entries ever made.
    pub(super) fn entries_made(&self) -> u64 {
        self.next_entry
    }

    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Iterates over the timers in order of time: due time, number, owner.
    pub(super) fn iter_timers(&self) -> impl Iterator<Item = (u64, u64, &Address)> {
        self.timers
            .iter()
            .map(|((due_ms, number), owner)| (*due_ms, *number, owner))
    }

    /// Iterates over the events other than timers.
    pub(super) fn iter_others(&self) -> impl Iterator<Item = &Scheduled> {
        self.others.values()
    }

    /// Audits that every event other than timers is scheduled once.
    pub(super) fn is_well_kept(&self) -> bool {
        let kept = |(due, entry): (&Scheduled, &(u64, u64))| self.others.get(entry) == Some(due);
        self.entry_of.len() == self.others.len() && self.entry_of.iter().all(kept)
    }

    /// Removes and returns the earliest event due at `now_ms`.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<Scheduled> {
        let timer = self.next_timer_ms();
        let other = self.others.first_key_value().map(|(key, _)| key.0);
        let timer_first = match (timer, other) {
            (Some(timer), Some(other)) => timer <= other,
            (timer, _) => timer.is_some(),
        };
        let earliest_ms = if timer_first { timer } else { other }?;
        if earliest_ms > now_ms {
            return None;
        }
        if timer_first {
            let ((_, number), owner) = self.timers.pop_first()?;
            Some(Scheduled::Timer { owner, number })
        } else {
            let (_, due) = self.others.pop_first()?;
            self.entry_of.remove(&due);
            Some(due)
        }
    }

    /// Uses up a requested wake-up at `now_ms` or earlier.
    pub(super) fn reached(&mut self, now_ms: u64) {
        self.wake_requested_ms = self
            .wake_requested_ms
            .filter(|requested_ms| *requested_ms > now_ms);
    }

    /// Uses up the requested wake-up. The driver may wake the partition too early: it waits by
    /// another clock than the one that it reports, and limits its waits. The wake-up is then
    /// requested again.
    pub(super) fn woken(&mut self) {
        self.wake_requested_ms = None;
    }

    /// Returns the time of a wake-up to request, unless one was requested that comes as early. The
    /// time is the minimum of `also_ms` and, with `include_schedule`, of the first event.
    pub(super) fn wake_at(&mut self, also_ms: Option<u64>, include_schedule: bool) -> Option<u64> {
        let timer = self.next_timer_ms();
        let other = self.others.first_key_value().map(|(key, _)| key.0);
        let schedule = [timer, other].into_iter().flatten().min();
        let due_ms = also_ms
            .into_iter()
            .chain(schedule.filter(|_| include_schedule))
            .min()?;
        if self
            .wake_requested_ms
            .is_some_and(|requested_ms| requested_ms <= due_ms)
        {
            // Waking early is harmless, and a request for each change would cost more.
            return None;
        }
        self.wake_requested_ms = Some(due_ms);
        Some(due_ms)
    }

    /// Due time of the next timer.
    fn next_timer_ms(&self) -> Option<u64> {
        let next = self.timers.first_key_value().map(|(key, _)| key.0);
        next.filter(|_| !self.timers_held)
    }
}
