//! The queue to one endpoint.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::endpoint::{Endpoint, Retries};
use crate::invocation::Batch;

/// Batches waiting for one endpoint, and the current limits for sending them.
pub(super) struct Lane {
    /// Batches that were not sent yet.
    pub(super) waiting: VecDeque<Arc<Batch>>,
    /// Groups that were sent and failed, by the earliest time of their retry and a counter.
    retries_by_due_time: BTreeMap<(u64, u64), Group>,
    /// Number of batches in them.
    batches_to_retry: usize,
    next_group: u64,
    under_way: usize,
    /// Current limit of concurrent requests, between 1 and `concurrency_max`.
    limit: usize,
    concurrency_max: usize,
    /// Successes since the limit last changed.
    successes: usize,
    /// Requests sent until now, and their number when the limit was last lowered. Only a request
    /// sent after that may lower the limit again.
    sent: u64,
    lowered_at: u64,
    /// Nothing is sent before this time, because the endpoint throttled or was unreachable.
    blocked_until_ms: u64,
    /// Number of consecutive blocks.
    blocks: u32,
}

/// Batches sent together.
pub(super) struct Group {
    pub(super) batches: Vec<Arc<Batch>>,
    /// Number of times they failed together.
    pub(super) failures: u32,
    /// Number of the group's request among those sent.
    sent: u64,
}

impl Group {
    /// Takes the second half away. Both halves are split again at their next failure.
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
            retries_by_due_time: BTreeMap::new(),
            batches_to_retry: 0,
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

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn batches_waiting(&self) -> usize {
        self.waiting.len() + self.batches_to_retry
    }

    /// Returns the batches of the next request, if one may be sent now: first those to retry, then
    /// those waiting.
    pub(super) fn next_group(&mut self, endpoint: &Endpoint, now_ms: u64) -> Option<Group> {
        if self.under_way >= self.limit || now_ms < self.blocked_until_ms {
            return None;
        }
        let mut group = self.next_retry(now_ms).or_else(|| self.gather(endpoint))?;
        self.sent += 1;
        self.under_way += 1;
        group.sent = self.sent;
        Some(group)
    }

    fn next_retry(&mut self, now_ms: u64) -> Option<Group> {
        let first = self
            .retries_by_due_time
            .first_entry()
            .filter(|entry| entry.key().0 <= now_ms)?;
        let group = first.remove();
        self.batches_to_retry -= group.batches.len();
        Some(group)
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

    /// Takes note that a request ended, successfully or not.
    pub(super) fn request_ended(&mut self) {
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

    /// Blocks sending for a delay that doubles with each consecutive block.
    pub(super) fn block(&mut self, now_ms: u64, retries: Retries, draw: u64) {
        if now_ms < self.blocked_until_ms {
            // Requests in flight together fail together: they count once.
            return;
        }
        self.blocks += 1;
        self.blocked_until_ms = now_ms + delay_ms(retries, self.blocks, draw);
    }

    pub(super) fn requeue(&mut self, due_ms: u64, group: Group) {
        self.batches_to_retry += group.batches.len();
        self.retries_by_due_time
            .insert((due_ms, self.next_group), group);
        self.next_group += 1;
    }

    /// Earliest time at which something may be sent without another input.
    pub(super) fn due_ms(&self, now_ms: u64) -> Option<u64> {
        if self.under_way >= self.limit {
            return None;
        }
        let retries_by_due_time = self
            .retries_by_due_time
            .first_key_value()
            .map(|(key, _)| key.0);
        let waiting = (!self.waiting.is_empty()).then_some(now_ms);
        let due_ms = retries_by_due_time.into_iter().chain(waiting).min()?;
        Some(due_ms.max(self.blocked_until_ms))
    }
}

/// Delay before the next attempt after `failures` consecutive failures: doubling, with jitter
/// between half of the delay and the full delay.
pub(super) fn delay_ms(retries: Retries, failures: u32, draw: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    let delay_ms = retries
        .backoff_initial_ms
        .saturating_mul(1 << doublings)
        .min(retries.backoff_max_ms);
    delay_ms - ((delay_ms / 2) as f64 * (draw as f64 / u64::MAX as f64)) as u64
}
