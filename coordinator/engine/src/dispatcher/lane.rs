//! The queue to one endpoint.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::endpoint::{Endpoint, Retries};
use crate::invocation::Batch;

/// What waits for one endpoint, and how much it bears.
pub(super) struct Lane {
    /// Batches that were not sent yet.
    pub(super) waiting: VecDeque<Arc<Batch>>,
    /// Groups that were sent and failed, by the time from which they may be sent again.
    again: BTreeMap<(u64, u64), Group>,
    next_group: u64,
    under_way: usize,
    /// How many requests may be under way; between 1 and `concurrency_max`.
    limit: usize,
    concurrency_max: usize,
    /// Successes since the limit last changed.
    successes: usize,
    /// Requests sent so far, and how many had been when the limit was last lowered: only one sent since then may lower it again.
    sent: u64,
    lowered_at: u64,
    /// Nothing is sent before this time, the endpoint having throttled or been out of reach.
    blocked_until_ms: u64,
    /// How often in a row.
    blocks: u32,
}

/// Batches that travel together.
pub(super) struct Group {
    pub(super) batches: Vec<Arc<Batch>>,
    /// How often they failed together.
    pub(super) failures: u32,
    /// The place of its request among those sent.
    sent: u64,
}

impl Group {
    /// Takes the second half away; both halves are split again at their next failure.
    pub(super) fn split_off_half(&mut self) -> Self {
        let second = self.batches.split_off(self.batches.len() / 2);
        self.failures = 1;
        Self {
            batches: second,
            failures: 1,
            sent: self.sent,
        }
    }
}

impl Lane {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let concurrency_max = endpoint.concurrency_max.max(1);
        Self {
            waiting: VecDeque::new(),
            again: BTreeMap::new(),
            next_group: 0,
            under_way: 0,
            limit: concurrency_max,
            concurrency_max,
            successes: 0,
            sent: 0,
            lowered_at: 0,
            blocked_until_ms: 0,
            blocks: 0,
        }
    }

    pub(super) fn batches_waiting(&self) -> usize {
        let again = self.again.values().map(|group| group.batches.len());
        self.waiting.len() + again.sum::<usize>()
    }

    /// The batches of the next request, if one may be sent now: first what failed before, then what waits.
    pub(super) fn next_group(&mut self, endpoint: &Endpoint, now_ms: u64) -> Option<Group> {
        if self.under_way >= self.limit || now_ms < self.blocked_until_ms {
            return None;
        }
        let mut group = self.next_again(now_ms).or_else(|| self.gather(endpoint))?;
        self.sent += 1;
        self.under_way += 1;
        group.sent = self.sent;
        Some(group)
    }

    fn next_again(&mut self, now_ms: u64) -> Option<Group> {
        let first = self
            .again
            .first_entry()
            .filter(|entry| entry.key().0 <= now_ms)?;
        Some(first.remove())
    }

    fn gather(&mut self, endpoint: &Endpoint) -> Option<Group> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = self.waiting.front() {
            let fits = bytes + batch.bytes <= endpoint.bundle_bytes_max;
            let room = batches.len() < endpoint.bundle_batches_max.max(1);
            let takes = batches.is_empty() || (fits && room);
            if !takes {
                break;
            }
            bytes += batch.bytes;
            batches.extend(self.waiting.pop_front());
        }
        (!batches.is_empty()).then_some(Group {
            batches,
            failures: 0,
            sent: 0,
        })
    }

    /// A request ended, well or not.
    pub(super) fn landed(&mut self) {
        self.under_way -= 1;
    }

    pub(super) fn succeeded(&mut self) {
        self.blocks = 0;
        self.successes += 1;
        if self.successes >= self.limit {
            self.limit = (self.limit + 1).min(self.concurrency_max);
            self.successes = 0;
        }
    }

    pub(super) fn throttled(&mut self, group: &Group) {
        if group.sent > self.lowered_at {
            self.limit = (self.limit / 2).max(1);
            self.successes = 0;
            self.lowered_at = self.sent;
        }
    }

    /// Sends nothing for a while that doubles with each time in a row.
    pub(super) fn block(&mut self, now_ms: u64, retries: Retries, draw: u64) {
        if now_ms < self.blocked_until_ms {
            // Requests that were under way together fail together: they count once.
            return;
        }
        self.blocks += 1;
        self.blocked_until_ms = now_ms + delay_ms(retries, self.blocks, draw);
    }

    pub(super) fn put_back(&mut self, due_ms: u64, group: Group) {
        self.again.insert((due_ms, self.next_group), group);
        self.next_group += 1;
    }

    /// When something may be sent for no other reason than time.
    pub(super) fn due_ms(&self, now_ms: u64) -> Option<u64> {
        if self.under_way >= self.limit {
            return None;
        }
        let again = self.again.first_key_value().map(|(key, _)| key.0);
        let waiting = (!self.waiting.is_empty()).then_some(now_ms);
        let due_ms = again.into_iter().chain(waiting).min()?;
        Some(due_ms.max(self.blocked_until_ms))
    }
}

/// The delay before the next attempt after `failures` in a row: doubling, with jitter between half of it and all of it.
pub(super) fn delay_ms(retries: Retries, failures: u32, draw: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    let delay_ms = retries
        .backoff_initial_ms
        .saturating_mul(1 << doublings)
        .min(retries.backoff_max_ms);
    delay_ms - ((delay_ms / 2) as f64 * (draw as f64 / u64::MAX as f64)) as u64
}
