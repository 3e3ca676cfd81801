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
//! While concurrency is free, a batch leaves at once, alone. While it is not, batches gather.
//! Bundles therefore grow with the load, and no timer delays a batch.
//!
//! The concurrency limit adapts to throttling: it grows by one per round of successes, and halves
//! after a throttled request.
//!
//! A bundle that fails as a whole is sent once more, then split in halves until the failing batch
//! is alone. The partition handles that batch, because it knows the messages inside.

mod lane;

use std::collections::VecDeque;
use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;

use crate::endpoint::Endpoints;
use crate::invocation::{
    AttemptId, Batch, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure, FailureKind,
};
use crate::map::Map;

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
    /// The requested wake-up time was reached (possibly early). The wake-up is used up: if it came
    /// too early, the dispatcher requests another one.
    TimeReached,
}

/// An imperative taken from [`Dispatcher::poll_output`].
#[derive(Debug, Clone, PartialEq)]
pub enum DispatcherOutput {
    /// Send this request; always answer with `BundleReturned`.
    Send(Bundle),
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
    /// Send `TimeReached` at this time, in ms since the epoch. Replaces an earlier request.
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
/// `Completed` or `Failed`, however often its request is retried.
///
/// # Observation
///
/// [`counts`](Dispatcher::counts), [`bundles_under_way`](Dispatcher::bundles_under_way),
/// [`batches_waiting`](Dispatcher::batches_waiting) and [`load_of`](Dispatcher::load_of) read
/// counters and gauges. They may be called at any time and change nothing.
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

struct UnderWay {
    endpoint: EndpointIndex,
    group: Group,
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

    /// Handles one fact. `now_ms` is the present time, in ms since the epoch.
    pub fn handle_input(&mut self, now_ms: u64, input: DispatcherInput) {
        self.now_ms = self.now_ms.max(now_ms);
        self.wake_requested_ms = self
            .wake_requested_ms
            .filter(|requested_ms| *requested_ms > self.now_ms);
        match input {
            DispatcherInput::BatchReady { endpoint, batch } => {
                self.lane(endpoint).waiting.push_back(batch);
            }
            DispatcherInput::BundleReturned { bundle, outcome } => {
                self.bundle_returned(bundle, outcome);
            }
            // The wake-up may have come too early, and the driver has no other pending: request one
            // again.
            DispatcherInput::TimeReached => self.wake_requested_ms = None,
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

    /// Number of requests in flight to an endpoint, and of batches that wait for it.
    pub fn load_of(&self, endpoint: EndpointIndex) -> (usize, usize) {
        let lane = &self.lanes[endpoint.0 as usize];
        (lane.under_way(), lane.batches_waiting())
    }

    fn lane(&mut self, endpoint: EndpointIndex) -> &mut Lane {
        &mut self.lanes[endpoint.0 as usize]
    }

    fn send_ready_bundles(&mut self) {
        for (endpoint, limits) in self.endpoints.iter() {
            let lane = &mut self.lanes[endpoint.0 as usize];
            while let Some(group) = lane.next_group(limits, self.now_ms) {
                let id = BundleId(self.next_bundle);
                self.next_bundle += 1;
                self.counts.bundles += 1;
                self.counts.batches += group.batches.len() as u64;
                let batches = group.batches.clone();
                self.under_way.insert(id, UnderWay { endpoint, group });
                self.outputs.push_back(DispatcherOutput::Send(Bundle {
                    id,
                    endpoint,
                    batches,
                }));
            }
        }
    }

    fn bundle_returned(&mut self, bundle: BundleId, outcome: BundleOutcome) {
        let Some(UnderWay { endpoint, group }) = self.under_way.remove(&bundle) else {
            self.counts.foreign_results += 1;
            return;
        };
        self.lane(endpoint).request_ended();
        match outcome {
            BundleOutcome::Answered(results) => {
                self.lane(endpoint).succeeded();
                self.distribute_results(&group, results);
            }
            BundleOutcome::Failed(failure) => self.failed(endpoint, group, failure),
        }
    }

    /// Passes each batch its own result. A batch without a result has failed; a result without a
    /// batch is dropped.
    fn distribute_results(
        &mut self,
        group: &Group,
        results: Vec<(AttemptId, Result<FromFunction, Failure>)>,
    ) {
        let mut open: Map<AttemptId, ()> = group
            .batches
            .iter()
            .map(|batch| (batch.attempt, ()))
            .collect();
        for (attempt, result) in results {
            if open.remove(&attempt).is_none() {
                self.counts.foreign_results += 1;
                continue;
            }
            self.outputs.push_back(match result {
                Ok(answer) => DispatcherOutput::Completed { attempt, answer },
                Err(failure) => DispatcherOutput::Failed { attempt, failure },
            });
        }
        for batch in group
            .batches
            .iter()
            .filter(|batch| open.contains_key(&batch.attempt))
        {
            let message = "the response holds no result for this batch";
            self.outputs.push_back(DispatcherOutput::Failed {
                attempt: batch.attempt,
                failure: Failure::new(FailureKind::Function, message),
            });
        }
    }

    fn failed(&mut self, endpoint: EndpointIndex, mut group: Group, failure: Failure) {
        let retries = self.endpoints.get(endpoint).retries;
        let draw = self.draw();
        let now_ms = self.now_ms;
        let lane = &mut self.lanes[endpoint.0 as usize];
        match failure.kind {
            FailureKind::Throttled => {
                self.counts.throttled += 1;
                lane.throttled(&group);
                lane.block(now_ms, retries, draw);
                lane.requeue(now_ms, group);
            }
            FailureKind::Unreachable => {
                lane.block(now_ms, retries, draw);
                lane.requeue(now_ms, group);
            }
            FailureKind::Function | FailureKind::RequestTooLarge if group.batches.len() == 1 => {
                self.outputs.push_back(DispatcherOutput::Failed {
                    attempt: group.batches[0].attempt,
                    failure,
                });
            }
            FailureKind::RequestTooLarge => {
                let second = group.split_off_half();
                lane.requeue(now_ms, group);
                lane.requeue(now_ms, second);
            }
            FailureKind::Function => {
                group.failures += 1;
                let due_ms = now_ms + lane::delay_ms(retries, group.failures, draw);
                if group.failures > 1 {
                    let second = group.split_off_half();
                    lane.requeue(due_ms, second);
                }
                lane.requeue(due_ms, group);
            }
        }
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
        let due_ms = self
            .lanes
            .iter()
            .filter_map(|lane| lane.due_ms(self.now_ms))
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
