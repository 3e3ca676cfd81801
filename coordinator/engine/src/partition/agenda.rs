//! What is due when: timers, expiries, and the end of a back-off.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::Address;
use crate::input::Verb;
use crate::map::Map;

/// Something that becomes due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Due {
    /// A timer fires.
    Timer { owner: Address, number: u64 },
    /// A value may have expired; it may also have been refreshed since.
    State { address: Address, name: Arc<str> },
    /// The outcome of a request may be forgotten.
    Idempotency {
        address: Address,
        verb: Verb,
        key: Arc<str>,
    },
    /// Ids of messages of a queue may be forgotten.
    Received { ingress: Arc<str>, at_ms: u64 },
    /// An address may try again.
    Retry { address: Address },
    /// Something in a bucket that is not in memory must be looked at.
    Bucket { bucket: u16 },
}

/// What is due when, in order of time, and of arrival where times are equal.
#[derive(Default)]
pub(super) struct Agenda {
    timers: BTreeMap<(u64, u64), Address>,
    /// Timers are kept, and none is due.
    timers_held: bool,
    others: BTreeMap<(u64, u64), Due>,
    /// What `others` holds: each thing is there once at most, however often it was put off.
    scheduled: Map<Due, (u64, u64)>,
    next_entry: u64,
    /// The time for which the driver was asked to wake us.
    asked_for_ms: Option<u64>,
}

impl Agenda {
    pub(super) fn add_timer(&mut self, due_ms: u64, number: u64, owner: Address) {
        self.timers.insert((due_ms, number), owner);
    }

    /// Keeps timers from becoming due, or lets them.
    pub(super) fn hold_timers(&mut self, held: bool) {
        self.timers_held = held;
    }

    /// Forgets a timer that was cancelled, so that cancelled timers do not pile up until they would have been due.
    pub(super) fn remove_timer(&mut self, due_ms: u64, number: u64) {
        self.timers.remove(&(due_ms, number));
    }

    /// Adds `due`, unless it is there already: one that comes up too early is added again by whoever looks at it.
    pub(super) fn add(&mut self, due_ms: u64, due: Due) {
        if !self.scheduled.contains_key(&due) {
            let entry = (due_ms, self.next_entry);
            self.scheduled.insert(due.clone(), entry);
            self.others.insert(entry, due);
            self.next_entry += 1;
        }
    }

    /// Forgets `due`, whenever it would have come up.
    pub(super) fn remove(&mut self, due: &Due) {
        if let Some(entry) = self.scheduled.remove(due) {
            self.others.remove(&entry);
        }
    }

    /// How many entries were ever made.
    pub(super) fn entries(&self) -> u64 {
        self.next_entry
    }

    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// The timers in order of time: due time, number, owner.
    pub(super) fn iter_timers(&self) -> impl Iterator<Item = (u64, u64, &Address)> {
        self.timers
            .iter()
            .map(|((due_ms, number), owner)| (*due_ms, *number, owner))
    }

    /// What is on it besides timers.
    pub(super) fn iter_others(&self) -> impl Iterator<Item = &Due> {
        self.others.values()
    }

    /// Whether everything besides timers is there once.
    pub(super) fn is_well_kept(&self) -> bool {
        let kept = |(due, entry): (&Due, &(u64, u64))| self.others.get(entry) == Some(due);
        self.scheduled.len() == self.others.len() && self.scheduled.iter().all(kept)
    }

    /// Takes what is due at `now_ms`, earliest first.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<Due> {
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
            Some(Due::Timer { owner, number })
        } else {
            let (_, due) = self.others.pop_first()?;
            self.scheduled.remove(&due);
            Some(due)
        }
    }

    /// Time has come to `now_ms`: a wake-up for then or earlier is used up.
    pub(super) fn reached(&mut self, now_ms: u64) {
        self.asked_for_ms = self.asked_for_ms.filter(|asked_ms| *asked_ms > now_ms);
    }

    /// The wake-up that was asked for has come. It may be too early: the driver waits by another clock than the one that it shows, and
    /// limits its waits; so it is asked for once more.
    pub(super) fn woken(&mut self) {
        self.asked_for_ms = None;
    }

    /// The time for which to ask for a wake-up, if none was asked for that comes as early: `also_ms`, and what is on the agenda if
    /// `agenda_too`.
    pub(super) fn wake_at(&mut self, also_ms: Option<u64>, agenda_too: bool) -> Option<u64> {
        let timer = self.next_timer_ms();
        let other = self.others.first_key_value().map(|(key, _)| key.0);
        let agenda = [timer, other].into_iter().flatten().min();
        let due_ms = also_ms
            .into_iter()
            .chain(agenda.filter(|_| agenda_too))
            .min()?;
        if self.asked_for_ms.is_some_and(|asked_ms| asked_ms <= due_ms) {
            // Waking early is harmless, and asking again for each change would cost more.
            return None;
        }
        self.asked_for_ms = Some(due_ms);
        Some(due_ms)
    }

    /// When the next timer is due.
    fn next_timer_ms(&self) -> Option<u64> {
        let next = self.timers.first_key_value().map(|(key, _)| key.0);
        next.filter(|_| !self.timers_held)
    }
}
