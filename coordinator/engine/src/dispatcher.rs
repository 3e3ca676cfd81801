//! The dispatcher: gathers batches into bundles, and sends as many at once as an endpoint bears. A pure state machine, like the partition.
//!
//! ```text
//!  BatchReady ──► waiting ──┐ as soon as a request may start
//!                           ├─────────────► Send(bundle) ──► BundleReturned ──► Completed / Failed, a batch each
//!  failed whole ─► again ───┘                                      │
//!        ▲                 after a back-off, split in halves       │
//!        └─────────────────────────────────────────────────────────┘
//! ```
//!
//! While concurrency is free a batch leaves at once, alone; while it is not, batches gather, so bundles grow with the load and no timer
//! holds anything back. How many requests may be under way adapts to throttling: one more per round of successes, half as many after
//! being throttled. A bundle that fails as a whole is sent once more, then split in halves until the batch that fails is alone; that one
//! is the partition's business, which knows the messages inside.

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

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub enum DispatcherInput {
    /// A partition has a batch to process.
    BatchReady {
        /// Where.
        endpoint: EndpointIndex,
        /// What.
        batch: Arc<Batch>,
    },
    /// A request ended.
    BundleReturned {
        /// Which one.
        bundle: BundleId,
        /// How.
        outcome: BundleOutcome,
    },
    /// Nothing happened but time. Uses up the wake-up that was asked for, even if it comes too early: then it is asked for again.
    TimeReached,
}

/// One imperative.
#[derive(Debug, Clone, PartialEq)]
pub enum DispatcherOutput {
    /// Send this request; answer with `BundleReturned`, always.
    Send(Bundle),
    /// Tell the partition of this attempt that the function answered.
    Completed {
        /// The attempt.
        attempt: AttemptId,
        /// The answer.
        answer: FromFunction,
    },
    /// Tell the partition of this attempt that it got no answer.
    Failed {
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        failure: Failure,
    },
    /// Send `TimeReached` at this time, in ms since the epoch; replaces an earlier wish.
    WakeAt(u64),
}

/// What a dispatcher has counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DispatcherCounts {
    /// Requests sent.
    pub bundles: u64,
    /// Batches sent, each time counted.
    pub batches: u64,
    /// Requests that were throttled.
    pub throttled: u64,
    /// Results for batches that were not in the request, second results, and answers to requests that had ended.
    pub foreign_results: u64,
}

/// Gathers batches into bundles, and sends as many at once as an endpoint bears.
pub struct Dispatcher {
    endpoints: Endpoints,
    lanes: Vec<Lane>,
    under_way: Map<BundleId, UnderWay>,
    next_bundle: u64,
    now_ms: u64,
    random: u64,
    asked_for_ms: Option<u64>,
    outputs: VecDeque<DispatcherOutput>,
    counts: DispatcherCounts,
}

struct UnderWay {
    endpoint: EndpointIndex,
    group: Group,
}

impl Dispatcher {
    /// A dispatcher with nothing to do. `seed` decides the jitter of back-offs.
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
            asked_for_ms: None,
            outputs: VecDeque::new(),
            counts: DispatcherCounts::default(),
        }
    }

    /// Takes one fact. `now_ms` is the present, in ms since the epoch.
    pub fn handle_input(&mut self, now_ms: u64, input: DispatcherInput) {
        self.now_ms = self.now_ms.max(now_ms);
        self.asked_for_ms = self.asked_for_ms.filter(|asked_ms| *asked_ms > self.now_ms);
        match input {
            DispatcherInput::BatchReady { endpoint, batch } => {
                self.lane(endpoint).waiting.push_back(batch);
            }
            DispatcherInput::BundleReturned { bundle, outcome } => self.returned(bundle, outcome),
            // It may be too early, and the driver then waits for nothing any more: it is asked once more.
            DispatcherInput::TimeReached => self.asked_for_ms = None,
        }
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<DispatcherOutput> {
        if self.outputs.is_empty() {
            self.send_what_may();
            self.wake_if_due();
        }
        self.outputs.pop_front()
    }

    /// What it has counted since it started.
    pub fn counts(&self) -> &DispatcherCounts {
        &self.counts
    }

    /// How many requests are under way.
    pub fn bundles_under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How many batches wait to be sent.
    pub fn batches_waiting(&self) -> usize {
        self.lanes.iter().map(Lane::batches_waiting).sum()
    }

    fn lane(&mut self, endpoint: EndpointIndex) -> &mut Lane {
        &mut self.lanes[endpoint.0 as usize]
    }

    fn send_what_may(&mut self) {
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

    fn returned(&mut self, bundle: BundleId, outcome: BundleOutcome) {
        let Some(UnderWay { endpoint, group }) = self.under_way.remove(&bundle) else {
            self.counts.foreign_results += 1;
            return;
        };
        self.lane(endpoint).landed();
        match outcome {
            BundleOutcome::Answered(results) => {
                self.lane(endpoint).succeeded();
                self.pass_on(&group, results);
            }
            BundleOutcome::Failed(failure) => self.failed(endpoint, group, failure),
        }
    }

    /// Passes each batch its own result; what the response leaves out has failed, what it adds is dropped.
    fn pass_on(&mut self, group: &Group, results: Vec<(AttemptId, Result<FromFunction, Failure>)>) {
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
                lane.put_back(now_ms, group);
            }
            FailureKind::Unreachable => {
                lane.block(now_ms, retries, draw);
                lane.put_back(now_ms, group);
            }
            FailureKind::Function | FailureKind::RequestTooLarge if group.batches.len() == 1 => {
                self.outputs.push_back(DispatcherOutput::Failed {
                    attempt: group.batches[0].attempt,
                    failure,
                });
            }
            FailureKind::RequestTooLarge => {
                let second = group.split_off_half();
                lane.put_back(now_ms, group);
                lane.put_back(now_ms, second);
            }
            FailureKind::Function => {
                group.failures += 1;
                let due_ms = now_ms + lane::delay_ms(retries, group.failures, draw);
                if group.failures > 1 {
                    let second = group.split_off_half();
                    lane.put_back(due_ms, second);
                }
                lane.put_back(due_ms, group);
            }
        }
    }

    /// The next of a row of numbers that look random (SplitMix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = self.random;
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        draw ^ (draw >> 31)
    }

    fn wake_if_due(&mut self) {
        let due_ms = self
            .lanes
            .iter()
            .filter_map(|lane| lane.due_ms(self.now_ms))
            .min();
        if let Some(due_ms) = due_ms
            && self.asked_for_ms.is_none_or(|asked_ms| asked_ms > due_ms)
        {
            self.asked_for_ms = Some(due_ms);
            self.outputs.push_back(DispatcherOutput::WakeAt(due_ms));
        }
    }
}

#[cfg(test)]
mod tests;
