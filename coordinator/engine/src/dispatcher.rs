//! The dispatcher: gathers batches into bundles, and limits the requests in flight per endpoint. A
//! pure state machine, like the partition.
//!
//! ```text
//!  BatchReady ─► waiting ─┐ as soon as a request may start
//!                         ├──────────► Send(bundle) ─► BundleReturned ─► Completed or Failed,
//!  failed ────► retry ────┘                                  │           one per batch
//!  as a whole     ▲     after a back-off, split in halves    │
//!                 └──────────────────────────────────────────┘
//! ```
//!
//! While no request to an endpoint is in flight, a batch leaves at once. While some are, batches
//! gather for the linger of the endpoint, or until the bundle is full or the last request returns.
//! While concurrency is not free, they gather in any case. Bundles therefore grow with the load,
//! and a caller that is alone never waits. What is retried never gathers.
//!
//! The concurrency limit adapts to throttling: it grows by one per round of successes, and halves
//! after a throttled request. What the endpoint asks to wait is waited, up to the maximum back-off.
//!
//! A bundle that fails as a whole is sent once more, then split in halves until the failing batch
//! is alone. The partition handles that batch, because it knows the messages inside.
//!
//! A failure of the endpoint itself is no failure of a batch: the batch stays here, however long
//! the endpoint is away. Failures that may be either's count against the batch, unless every
//! request to at least three addresses failed and none succeeded since: an outage. While an
//! endpoint is down, probes are sent: one batch at a time, at least every
//! [`PROBE_INTERVAL_MAX_MS`].

mod health;
mod lane;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;

use crate::endpoint::Endpoints;
use crate::invocation::{
    AttemptId, Batch, BatchOutcome, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure,
    FailureKind,
};
use crate::map::Map;

pub use health::{EndpointHealth, PROBE_INTERVAL_MAX_MS};
use lane::{Group, Lane};

/// A fact handed to [`Dispatcher::handle_input`].
#[derive(Debug, Clone, PartialEq)]
pub enum DispatcherInput {
    /// A partition has a batch to process.
    BatchReady {
        /// Endpoint that serves the function of the batch.
        endpoint: EndpointIndex,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// A request ended.
    BundleReturned {
        /// Id of the request.
        bundle: BundleId,
        /// Result of the request.
        outcome: BundleOutcome,
    },
    /// The process runs this part of the application's partitions, so it may use this part of the
    /// concurrency of each endpoint, at least one request.
    ShareChanged {
        /// Partitions of the process.
        owned: u32,
        /// Partitions of the application, at least one.
        of: u32,
    },
    /// The partition runs in this process no more. Its batches that were not answered are
    /// forgotten: its next owner sends them, and one that was sent here later would come after
    /// newer ones.
    PartitionLeft(u32),
    /// The requested wake-up time was reached (possibly early). The wake-up is used up: if it came
    /// too early, the dispatcher requests another one.
    TimeReached,
}

/// An imperative taken from [`Dispatcher::poll_output`].
#[derive(Debug, Clone, PartialEq)]
pub enum DispatcherOutput {
    /// Send this request; answer with `BundleReturned` unless it is abandoned.
    Send(Bundle),
    /// Abandon this request: close its connection. Its outcome is of no interest any more.
    Abandon(BundleId),
    /// Notify the partition of this attempt that the function answered.
    Completed {
        /// The attempt.
        attempt: AttemptId,
        /// The answer.
        answer: FromFunction,
    },
    /// Notify the partition of this attempt that it got no answer.
    Failed {
        /// The attempt.
        attempt: AttemptId,
        /// Reason of the failure.
        failure: Failure,
    },
    /// Send `TimeReached` at this time, in ms on the clock of the inputs. Replaces an earlier
    /// request.
    WakeAt(u64),
}

/// Counters of a dispatcher since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DispatcherCounts {
    /// Requests sent.
    pub bundles: u64,
    /// Batches sent, counting each retry.
    pub batches: u64,
    /// Requests that were throttled.
    pub throttled: u64,
    /// Probes of endpoints that were down.
    pub probes: u64,
    /// Requests that were abandoned.
    pub abandoned: u64,
    /// Results for batches that were not in the request, duplicate results, and answers to requests
    /// that had ended.
    pub foreign_results: u64,
}

/// Gathers batches into bundles, and limits the requests in flight per endpoint.
///
/// A dispatcher has no clock and performs no I/O. Its driver keeps one rule: after each input (or
/// several), take outputs until there are none.
///
/// # Facts in
///
/// [`handle_input`](Dispatcher::handle_input) takes a [`DispatcherInput`]: a batch from the
/// partition, the result of a request, or a reached wake-up time.
///
/// # Imperatives out
///
/// [`poll_output`](Dispatcher::poll_output) returns a [`DispatcherOutput`]: a request to send, a
/// result for the partition, or a wake-up time. Every batch handed in leads to exactly one
/// `Completed` or `Failed`, however often its request is retried, unless its partition leaves.
///
/// # Observation
///
/// [`counts`](Dispatcher::counts), [`bundles_under_way`](Dispatcher::bundles_under_way),
/// [`batches_waiting`](Dispatcher::batches_waiting) and
/// [`endpoint_health`](Dispatcher::endpoint_health) read counters and gauges. They may be called at
/// any time and change nothing.
pub struct Dispatcher {
    endpoints: Endpoints,
    lanes: Vec<Lane>,
    under_way: Map<BundleId, UnderWay>,
    next_bundle: u64,
    now_ms: u64,
    random: u64,
    wake_requested_ms: Option<u64>,
    outputs: VecDeque<DispatcherOutput>,
    counts: DispatcherCounts,
}

/// Request in flight.
struct UnderWay {
    endpoint: EndpointIndex,
    group: Group,
    sent_ms: u64,
    /// Request that this one copies a batch of, because the other one seems to hang. The first
    /// answer to the batch counts.
    copy_of: Option<BundleId>,
    /// Copy of a batch of this request.
    copied_as: Option<BundleId>,
}

impl Dispatcher {
    /// Creates an idle dispatcher. `seed` determines the jitter of back-offs.
    pub fn new(endpoints: Endpoints, seed: u64) -> Self {
        let lanes = endpoints
            .iter()
            .map(|(_, endpoint)| Lane::new(endpoint))
            .collect();
        Self {
            endpoints,
            lanes,
            under_way: Map::default(),
            next_bundle: 1,
            now_ms: 0,
            random: seed,
            wake_requested_ms: None,
            outputs: VecDeque::new(),
            counts: DispatcherCounts::default(),
        }
    }

    /// Handles one fact. `now_ms` is the present time in ms, on a clock that no calendar changes.
    pub fn handle_input(&mut self, now_ms: u64, input: DispatcherInput) {
        self.now_ms = self.now_ms.max(now_ms);
        self.wake_requested_ms = self
            .wake_requested_ms
            .filter(|requested_ms| *requested_ms > self.now_ms);
        match input {
            DispatcherInput::BatchReady { endpoint, batch } => {
                let now_ms = self.now_ms;
                self.lane(endpoint).waiting.push(now_ms, batch);
            }
            DispatcherInput::BundleReturned { bundle, outcome } => {
                self.bundle_returned(bundle, outcome);
            }
            DispatcherInput::ShareChanged { owned, of } => {
                for (lane, (_, endpoint)) in self.lanes.iter_mut().zip(self.endpoints.iter()) {
                    lane.share(endpoint, (owned, of));
                }
            }
            DispatcherInput::PartitionLeft(partition) => self.forget(partition),
            // The wake-up may have come too early, and the driver has no other pending: request one
            // again.
            DispatcherInput::TimeReached => self.wake_requested_ms = None,
        }
    }

    /// Forgets the batches of a partition. Requests that hold no others are abandoned.
    fn forget(&mut self, partition: u32) {
        for lane in &mut self.lanes {
            lane.forget(partition);
        }
        let mut emptied = Vec::new();
        for (id, under_way) in &mut self.under_way {
            let batches = &mut under_way.group.batches;
            batches.retain(|batch| batch.attempt.partition != partition);
            if batches.is_empty() {
                emptied.push(*id);
            }
        }
        emptied.sort_unstable();
        for id in emptied {
            self.abandon_copy_of(id);
            if let Some(UnderWay {
                copy_of: Some(original),
                ..
            }) = self.abandon(id)
                && let Some(original) = self.under_way.get_mut(&original)
            {
                original.copied_as = None;
            }
        }
    }

    /// Returns the next imperative, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<DispatcherOutput> {
        if self.outputs.is_empty() {
            self.send_ready_bundles();
            self.request_wake();
        }
        self.outputs.pop_front()
    }

    /// Returns the counters since the start.
    pub fn counts(&self) -> &DispatcherCounts {
        &self.counts
    }

    /// Number of requests in flight.
    pub fn bundles_under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Number of batches that wait to be sent.
    pub fn batches_waiting(&self) -> usize {
        self.lanes.iter().map(Lane::batches_waiting).sum()
    }

    /// Returns the health of an endpoint, with its load.
    pub fn endpoint_health(&self, endpoint: EndpointIndex) -> EndpointHealth {
        self.lanes[endpoint.0 as usize].observe()
    }

    fn lane(&mut self, endpoint: EndpointIndex) -> &mut Lane {
        &mut self.lanes[endpoint.0 as usize]
    }

    fn send_ready_bundles(&mut self) {
        for index in (0..).map(EndpointIndex).take(self.lanes.len()) {
            loop {
                let limits = self.endpoints.get(index);
                let lane = &mut self.lanes[index.0 as usize];
                let Some(group) = lane.next_group(limits, self.now_ms) else {
                    break;
                };
                self.send(index, group, None);
            }
            if self.lanes[index.0 as usize].is_probe_due(self.now_ms) {
                self.send_probe(index);
            }
        }
    }

    fn send(
        &mut self,
        endpoint: EndpointIndex,
        mut group: Group,
        copy_of: Option<BundleId>,
    ) -> BundleId {
        let id = BundleId(self.next_bundle);
        self.next_bundle += 1;
        self.counts.bundles += 1;
        self.counts.batches += group.batches.len() as u64;
        self.lane(endpoint).sending(id, &mut group);
        self.outputs.push_back(DispatcherOutput::Send(Bundle {
            id,
            endpoint,
            batches: group.batches.clone(),
            new_connection: group.new_connection,
        }));
        let under_way = UnderWay {
            endpoint,
            group,
            sent_ms: self.now_ms,
            copy_of,
            copied_as: None,
        };
        self.under_way.insert(id, under_way);
        id
    }

    /// Sends one batch to an endpoint that is down. If requests hang and no other batch waits, it
    /// is a batch in flight once more: a request that hangs would otherwise hide that the endpoint
    /// is back until its time-out.
    fn send_probe(&mut self, endpoint: EndpointIndex) {
        if let Some(probe) = self.lane(endpoint).probe_to_replace() {
            self.replace(probe);
        }
        let (group, copy_of) = match self.lane(endpoint).next_probe() {
            Some(group) => (group, None),
            None => {
                let lane = self.lane(endpoint);
                let Some(oldest) = lane.oldest().filter(|_| lane.health.hangs()) else {
                    return;
                };
                self.abandon_copy_of(oldest);
                let batch = Arc::clone(&self.under_way[&oldest].group.batches[0]);
                (Group::new(vec![batch]), Some(oldest))
            }
        };
        let id = self.send(endpoint, group, copy_of);
        if let Some(original) = copy_of.and_then(|original| self.under_way.get_mut(&original)) {
            original.copied_as = Some(id);
        }
        self.counts.probes += 1;
        let now_ms = self.now_ms;
        self.lane(endpoint).probing(id, now_ms);
    }

    /// Abandons a probe that hangs. Its batch waits again.
    fn replace(&mut self, probe: BundleId) {
        if let Some(original) = self.under_way[&probe].copy_of {
            return self.abandon_copy_of(original);
        }
        self.abandon_copy_of(probe);
        if let Some(UnderWay {
            endpoint, group, ..
        }) = self.abandon(probe)
        {
            let now_ms = self.now_ms;
            self.lane(endpoint).requeue(now_ms, group);
        }
    }

    fn abandon_copy_of(&mut self, original: BundleId) {
        let original = self.under_way.get_mut(&original);
        if let Some(copy) = original.and_then(|original| original.copied_as.take()) {
            self.abandon(copy);
        }
    }

    fn abandon(&mut self, id: BundleId) -> Option<UnderWay> {
        let under_way = self.under_way.remove(&id)?;
        self.lane(under_way.endpoint).request_ended(id);
        self.counts.abandoned += 1;
        self.outputs.push_back(DispatcherOutput::Abandon(id));
        Some(under_way)
    }

    fn bundle_returned(&mut self, bundle: BundleId, outcome: BundleOutcome) {
        // The last copy of a batch never outlives the request that it copies.
        self.abandon_copy_of(bundle);
        let Some(under_way) = self.under_way.remove(&bundle) else {
            self.counts.foreign_results += 1;
            return;
        };
        let original = under_way.copy_of;
        if let Some(original) = original.and_then(|original| self.under_way.get_mut(&original)) {
            original.copied_as = None;
        }
        let UnderWay {
            endpoint,
            group,
            sent_ms,
            ..
        } = under_way;
        let was_probe = self.lane(endpoint).request_ended(bundle);
        match outcome {
            BundleOutcome::Answered(results) => {
                let took_ms = self.now_ms - sent_ms;
                self.lane(endpoint).answered(&group.batches, took_ms);
                let is_copy = original.is_some();
                let answered = self.distribute_results(endpoint, group, results, is_copy);
                if let Some(original) = original {
                    self.take_from(original, &answered);
                }
            }
            BundleOutcome::Failed(failure) if original.is_some() => {
                self.copy_failed(endpoint, &group, &failure);
            }
            BundleOutcome::Failed(failure) => self.failed(endpoint, group, failure),
        }
        if was_probe {
            let retries = self.endpoints.get(endpoint).retries;
            let (now_ms, draw) = (self.now_ms, self.draw());
            let health = &mut self.lane(endpoint).health;
            // A success has ended the outage.
            health.probe_failed(now_ms, retries, draw);
        }
    }

    /// Passes each batch its own result. A batch without a result has failed; a result without a
    /// batch is dropped. Returns the attempts that have ended. A batch of a copy that has not ended
    /// is still in the request that was copied.
    fn distribute_results(
        &mut self,
        endpoint: EndpointIndex,
        group: Group,
        results: Vec<(AttemptId, BatchOutcome)>,
        is_copy: bool,
    ) -> Vec<AttemptId> {
        let mut open: Map<AttemptId, Arc<Batch>> = group
            .batches
            .into_iter()
            .map(|batch| (batch.attempt, batch))
            .collect();
        let mut ended = Vec::new();
        let mut troubles = Vec::new();
        for (attempt, result) in results {
            let Some(batch) = open.remove(&attempt) else {
                self.counts.foreign_results += 1;
                continue;
            };
            match result {
                Ok(answer) => {
                    ended.push(attempt);
                    self.outputs
                        .push_back(DispatcherOutput::Completed { attempt, answer });
                }
                Err(failure) if failure.kind.is_of_batch() => {
                    ended.push(attempt);
                    self.outputs
                        .push_back(DispatcherOutput::Failed { attempt, failure });
                }
                Err(failure) => troubles.push((batch, failure)),
            }
        }
        let mut missing: Vec<AttemptId> = open.into_keys().collect();
        missing.sort_unstable();
        for attempt in missing {
            let message = "the response holds no result for this batch";
            let failure = Failure::new(FailureKind::Function, message);
            ended.push(attempt);
            self.outputs
                .push_back(DispatcherOutput::Failed { attempt, failure });
        }
        let now_ms = self.now_ms;
        if !ended.is_empty() || troubles.is_empty() {
            self.lane(endpoint).succeeded(now_ms);
        }
        for (batch, failure) in troubles {
            let group = Group::new(vec![batch]);
            if is_copy {
                self.copy_failed(endpoint, &group, &failure);
            } else {
                self.failed(endpoint, group, failure);
            }
        }
        ended
    }

    /// Removes attempts that a copy has ended from the request that was copied.
    fn take_from(&mut self, original: BundleId, ended: &[AttemptId]) {
        let Some(under_way) = self.under_way.get_mut(&original) else {
            return;
        };
        let batches = &mut under_way.group.batches;
        batches.retain(|batch| !ended.contains(&batch.attempt));
        if batches.is_empty() {
            self.abandon(original);
        }
    }

    /// Takes note of a copy's failure. The request that it copies still has the batch.
    fn copy_failed(&mut self, endpoint: EndpointIndex, group: &Group, failure: &Failure) {
        let health = &mut self.lane(endpoint).health;
        health.failed(group.addresses(), failure.kind);
    }

    fn failed(&mut self, endpoint: EndpointIndex, mut group: Group, failure: Failure) {
        let retries = self.endpoints.get(endpoint).retries;
        let draw = self.draw();
        let now_ms = self.now_ms;
        let lane = &mut self.lanes[endpoint.0 as usize];
        let first_connection = !std::mem::take(&mut group.new_connection);
        match failure.kind {
            FailureKind::Throttled => {
                self.counts.throttled += 1;
                lane.throttled(&group);
                lane.block(now_ms, retries, draw, failure.retry_after_ms);
                lane.requeue(now_ms, group);
                return;
            }
            FailureKind::ConnectionLost if first_connection => {
                group.new_connection = true;
                lane.requeue(now_ms, group);
                return;
            }
            FailureKind::Incompatible => {
                // Every batch would fail alike. The partition suspends their functions.
                lane.succeeded(now_ms);
                for batch in group.batches {
                    self.outputs.push_back(DispatcherOutput::Failed {
                        attempt: batch.attempt,
                        failure: failure.clone(),
                    });
                }
                return;
            }
            FailureKind::RequestTooLarge if group.batches.len() > 1 => {
                let second = group.split_off_half();
                lane.requeue(now_ms, group);
                lane.requeue(now_ms, second);
                return;
            }
            FailureKind::RequestTooLarge => {}
            // A verdict names no batch of a bundle that failed as a whole, so it must be found.
            FailureKind::Function | FailureKind::Terminal => lane.succeeded(now_ms),
            FailureKind::Unavailable
            | FailureKind::ConnectionLost
            | FailureKind::TimedOut
            | FailureKind::Ambiguous => {
                lane.health.failed(group.addresses(), failure.kind);
                if failure.kind == FailureKind::Unavailable || lane.health.is_outage() {
                    lane.in_trouble(now_ms, retries, draw);
                    group.troubles = group.troubles.saturating_add(1);
                    let due_ms = now_ms + lane::delay_ms(retries, group.troubles, draw);
                    lane.requeue(due_ms, group);
                    return;
                }
            }
        }
        if let [batch] = group.batches.as_slice() {
            self.outputs.push_back(DispatcherOutput::Failed {
                attempt: batch.attempt,
                failure,
            });
            return;
        }
        group.failures += 1;
        let due_ms = now_ms + lane::delay_ms(retries, group.failures, draw);
        if group.failures > 1 {
            let second = group.split_off_half();
            lane.requeue(due_ms, second);
        }
        lane.requeue(due_ms, group);
    }

    /// Returns the next pseudo-random number (SplitMix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = self.random;
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        draw ^ (draw >> 31)
    }

    fn request_wake(&mut self) {
        let endpoints = self.endpoints.iter();
        let due_ms = endpoints
            .zip(&self.lanes)
            .filter_map(|((_, endpoint), lane)| lane.due_ms(endpoint))
            .min();
        if let Some(due_ms) = due_ms
            && self
                .wake_requested_ms
                .is_none_or(|requested_ms| requested_ms > due_ms)
        {
            self.wake_requested_ms = Some(due_ms);
            self.outputs.push_back(DispatcherOutput::WakeAt(due_ms));
        }
    }
}

#[cfg(test)]
mod tests;
