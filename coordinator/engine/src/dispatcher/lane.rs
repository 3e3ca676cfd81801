//! The queue to one endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::health::{EndpointHealth, Health, PROBE_INTERVAL_MAX_MS};
use super::waiting::Waiting;
use crate::address::Address;
use crate::endpoint::{Endpoint, Retries};
use crate::invocation::{Batch, BundleId};

/// Batches waiting for one endpoint, and the current limits for sending them.
pub(super) struct Lane {
    /// Batches that were not sent yet.
    pub(super) waiting: Waiting,
    /// Evidence about the endpoint.
    pub(super) health: Health,
    /// Groups that were sent and failed, by the earliest time of their retry and a counter.
    retries_by_due_time: BTreeMap<(u64, u64), Group>,
    /// Number of batches in them.
    batches_to_retry: usize,
    next_group: u64,
    in_flight: BTreeSet<BundleId>,
    /// Last probe while the endpoint is down.
    probe: Option<BundleId>,
    /// True if the next probe takes a batch that was not sent yet, if there is one. Probes
    /// alternate, so that no poisonous message keeps the endpoint down.
    probes_waiting: bool,
    /// Current limit of concurrent requests, between 1 and `concurrency_max`.
    limit: usize,
    concurrency_max: usize,
    /// Successes since the limit last changed.
    successes: usize,
    /// Requests sent until now, and their number when the limit was last lowered. Only a request
    /// sent after that may lower the limit again.
    sent: u64,
    lowered_at: u64,
    /// Nothing is sent before this time, because the endpoint throttled.
    blocked_until_ms: u64,
    /// Number of consecutive blocks.
    blocks: u32,
}

/// Batches sent together.
pub(super) struct Group {
    pub(super) batches: Vec<Arc<Batch>>,
    /// Number of times they failed together, by their own fault or not.
    pub(super) failures: u32,
    /// Number of times in a row that the endpoint failed them.
    pub(super) troubles: u32,
    /// True if the next request of the group needs a connection that was not used before.
    pub(super) new_connection: bool,
    /// Number of the group's request among those sent.
    sent: u64,
}

impl Group {
    /// Creates a group of batches that did not fail yet.
    pub(super) fn new(batches: Vec<Arc<Batch>>) -> Self {
        Self {
            batches,
            failures: 0,
            troubles: 0,
            new_connection: false,
            sent: 0,
        }
    }

    /// Takes the second half away. Both halves are split again at their next failure.
    pub(super) fn split_off_half(&mut self) -> Self {
        self.failures = 1;
        let second = self.batches.split_off(self.batches.len() / 2);
        Self {
            failures: 1,
            ..Self::new(second)
        }
    }

    /// Iterates over the addresses of the group.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.batches.iter().map(|batch| &batch.target)
    }
}

impl Lane {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let concurrency_max = endpoint.concurrency_max.max(1);
        Self {
            waiting: Waiting::new(endpoint),
            health: Health::default(),
            retries_by_due_time: BTreeMap::new(),
            batches_to_retry: 0,
            next_group: 0,
            in_flight: BTreeSet::new(),
            probe: None,
            probes_waiting: true,
            limit: concurrency_max,
            concurrency_max,
            successes: 0,
            sent: 0,
            lowered_at: 0,
            blocked_until_ms: 0,
            blocks: 0,
        }
    }

    /// Sets the maximum of concurrent requests to a part of the endpoint's, at least one. The
    /// current limit keeps its proportion to it.
    pub(super) fn share(&mut self, endpoint: &Endpoint, (owned, of): (u32, u32)) {
        let part = endpoint.concurrency_max.max(1) as u64 * u64::from(owned);
        let share = part.div_ceil(u64::from(of.max(1))).max(1);
        let before = self.concurrency_max as u64;
        self.concurrency_max = share as usize;
        let limit = (self.limit as u64 * share).div_ceil(before).clamp(1, share);
        self.limit = limit as usize;
        self.successes = 0;
    }

    /// Forgets the batches of a partition that are not in flight.
    pub(super) fn forget(&mut self, partition: u32) {
        self.waiting.forget(partition);
        self.retries_by_due_time.retain(|_, group| {
            let batches = &mut group.batches;
            batches.retain(|batch| batch.attempt.partition != partition);
            !batches.is_empty()
        });
        let groups = self.retries_by_due_time.values();
        self.batches_to_retry = groups.map(|group| group.batches.len()).sum();
    }

    pub(super) fn batches_waiting(&self) -> usize {
        self.waiting.len() + self.batches_to_retry
    }

    pub(super) fn observe(&self) -> EndpointHealth {
        self.health
            .observe(self.in_flight.len(), self.batches_waiting())
    }

    /// Returns the batches of the next request, if one may be sent now: first those to retry, then
    /// those waiting, unless they still gather. While the endpoint is down, only probes are sent.
    pub(super) fn next_group(&mut self, endpoint: &Endpoint, now_ms: u64) -> Option<Group> {
        let may_send = self.in_flight.len() < self.limit && now_ms >= self.blocked_until_ms;
        if !may_send || self.health.is_down() {
            return None;
        }
        self.next_retry(now_ms)
            .or_else(|| self.next_waiting(endpoint, now_ms))
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

    fn next_waiting(&mut self, endpoint: &Endpoint, now_ms: u64) -> Option<Group> {
        let due_ms = self.waiting.due_ms(endpoint, self.in_flight.len())?;
        (due_ms <= now_ms).then(|| Group::new(self.waiting.gather(endpoint)))
    }

    /// Returns true if the endpoint is down and a probe is due.
    pub(super) fn is_probe_due(&self, now_ms: u64) -> bool {
        let due_ms = self.health.probe_at_ms();
        due_ms.is_some_and(|due_ms| now_ms >= due_ms.max(self.blocked_until_ms))
    }

    /// Takes one batch for a probe, whatever the back-off of its group.
    pub(super) fn next_probe(&mut self) -> Option<Group> {
        let waiting_first = self.probes_waiting;
        self.probes_waiting = !waiting_first;
        if waiting_first && let Some(batch) = self.waiting.pop() {
            return Some(Group::new(vec![batch]));
        }
        if let Some(mut retry) = self.retries_by_due_time.first_entry() {
            self.batches_to_retry -= 1;
            let group = retry.get_mut();
            if group.batches.len() == 1 {
                return Some(retry.remove());
            }
            let first = group.batches.remove(0);
            return Some(Group {
                failures: group.failures,
                troubles: group.troubles,
                ..Group::new(vec![first])
            });
        }
        let batch = self.waiting.pop()?;
        Some(Group::new(vec![batch]))
    }

    /// Returns the last probe, if it is in flight beyond the limit of concurrent requests. The next
    /// probe takes its place: while the endpoint is down, one request more than the limit may be in
    /// flight, so that requests that hang do not end the probes.
    pub(super) fn probe_to_replace(&self) -> Option<BundleId> {
        let probe = self.probe.filter(|probe| self.in_flight.contains(probe))?;
        (self.in_flight.len() > self.limit).then_some(probe)
    }

    /// Oldest request in flight.
    pub(super) fn oldest(&self) -> Option<BundleId> {
        self.in_flight.first().copied()
    }

    /// Takes note that the request `id` with `group` is being sent.
    pub(super) fn sending(&mut self, id: BundleId, group: &mut Group) {
        self.sent += 1;
        group.sent = self.sent;
        self.in_flight.insert(id);
    }

    /// Takes note that the request `id` is a probe.
    pub(super) fn probing(&mut self, id: BundleId, now_ms: u64) {
        self.probe = Some(id);
        self.health.probed(now_ms);
    }

    /// Takes note that a request ended, successfully or not. Returns true if it was the last probe.
    pub(super) fn request_ended(&mut self, id: BundleId) -> bool {
        self.in_flight.remove(&id);
        let was_probe = self.probe == Some(id);
        if was_probe {
            self.probe = None;
        }
        was_probe
    }

    /// Takes note that a request with these batches was answered.
    pub(super) fn answered(&mut self, batches: &[Arc<Batch>], took_ms: u64) {
        let messages = batches.iter().map(|batch| batch.messages.len()).sum();
        self.waiting.answered(messages, took_ms);
    }

    pub(super) fn succeeded(&mut self, now_ms: u64) {
        self.blocks = 0;
        self.successes += 1;
        if self.successes >= self.limit {
            self.limit = (self.limit + 1).min(self.concurrency_max);
            self.successes = 0;
        }
        if self.health.succeeded() {
            self.end_back_offs(now_ms);
        }
    }

    /// Makes all groups due, because their back-offs were an outage's, which is over.
    fn end_back_offs(&mut self, now_ms: u64) {
        let groups = std::mem::take(&mut self.retries_by_due_time);
        for ((due_ms, number), mut group) in groups {
            group.troubles = 0;
            self.retries_by_due_time
                .insert((due_ms.min(now_ms), number), group);
        }
    }

    /// Takes note of a failure of the endpoint itself.
    pub(super) fn in_trouble(&mut self, now_ms: u64, retries: Retries, draw: u64) {
        let alone = self.in_flight.is_empty();
        self.health.in_trouble(now_ms, alone, retries, draw);
    }

    pub(super) fn throttled(&mut self, group: &Group) {
        if group.sent > self.lowered_at {
            self.limit = (self.limit / 2).max(1);
            self.successes = 0;
            self.lowered_at = self.sent;
        }
    }

    /// Blocks sending for a delay that doubles with each consecutive block, and at least for the
    /// time that the endpoint asks for, up to the maximum back-off.
    pub(super) fn block(
        &mut self,
        now_ms: u64,
        retries: Retries,
        draw: u64,
        retry_after_ms: Option<u64>,
    ) {
        let asked_ms = retry_after_ms.unwrap_or(0).min(retries.backoff_max_ms);
        let blocked_ms = self.blocked_until_ms;
        self.blocked_until_ms = blocked_ms.max(now_ms + asked_ms);
        if now_ms < blocked_ms {
            // Requests in flight together fail together: they count once.
            return;
        }
        self.blocks += 1;
        let delay_ms = delay_ms(retries, self.blocks, draw).min(PROBE_INTERVAL_MAX_MS);
        self.blocked_until_ms = self.blocked_until_ms.max(now_ms + delay_ms);
    }

    pub(super) fn requeue(&mut self, due_ms: u64, group: Group) {
        self.batches_to_retry += group.batches.len();
        self.retries_by_due_time
            .insert((due_ms, self.next_group), group);
        self.next_group += 1;
    }

    /// Earliest time at which something may be sent without another input.
    pub(super) fn due_ms(&self, endpoint: &Endpoint) -> Option<u64> {
        let first_retry = self.retries_by_due_time.first_key_value();
        if let Some(probe_at_ms) = self.health.probe_at_ms() {
            let copies = self.health.hangs() && !self.in_flight.is_empty();
            let has_probe = !self.waiting.is_empty() || first_retry.is_some() || copies;
            return has_probe.then(|| probe_at_ms.max(self.blocked_until_ms));
        }
        if self.in_flight.len() >= self.limit {
            return None;
        }
        let retry_ms = first_retry.map(|(key, _)| key.0);
        let waiting_ms = self.waiting.due_ms(endpoint, self.in_flight.len());
        let due_ms = retry_ms.into_iter().chain(waiting_ms).min()?;
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
