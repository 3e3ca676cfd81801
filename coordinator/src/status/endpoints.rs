//! Health of endpoints, by the outcomes of requests to them.

use std::sync::Arc;

use satchel_engine::invocation::{Batch, BundleOutcome, EndpointIndex, Failure, FailureKind};

use super::{Status, one_line};

/// Number of addresses whose requests must fail, with none succeeding, until an endpoint that
/// answers counts as down. Fewer may be poison.
const ADDRESSES_DOWN: usize = 3;

/// Status of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointView {
    /// Name, as in metrics.
    pub(crate) name: Arc<str>,
    /// `lambda` or `http`.
    pub(crate) kind: &'static str,
    /// Functions that it serves, `namespace/name` or `namespace/*`.
    pub(crate) functions: Vec<String>,
    /// Maximum number of concurrent requests.
    pub(crate) concurrency_max: usize,
    /// Health by the requests of this process.
    pub(crate) health: EndpointHealth,
}

/// Health of an endpoint by the requests of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EndpointHealth {
    /// State by the last requests.
    pub(crate) state: EndpointState,
    /// Last failed request or batch.
    pub(crate) last_failure: Option<LastFailure>,
    /// Last batch that a function processed, in ms since the epoch.
    pub(crate) last_success_ms: Option<u64>,
    /// Requests in flight.
    pub(crate) in_flight: usize,
    /// Batches that wait to be sent.
    pub(crate) waiting: usize,
    /// Requests that failed since the last one that did not.
    failed_requests: u64,
    /// Time of the first of them, in ms since the epoch.
    failing_since_ms: u64,
    /// Hashes of addresses in them, up to [`ADDRESSES_DOWN`].
    failed_addresses: Vec<u64>,
}

/// State of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum EndpointState {
    /// It answers, or was not asked yet.
    #[default]
    Up,
    /// It does not answer.
    Down {
        /// First failed request, in ms since the epoch.
        since_ms: u64,
    },
}

/// Failure that happened last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastFailure {
    /// Time, in ms since the epoch.
    pub(crate) at_ms: u64,
    /// Kind of failure, as in metrics.
    pub(crate) kind: &'static str,
    /// Description, on one line.
    pub(crate) message: String,
}

/// Change of an endpoint's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    /// It does not answer any more.
    Down,
    /// It answers again.
    Up(Outage),
}

/// Outage that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outage {
    /// Duration, in ms.
    pub(super) down_ms: u64,
    /// Requests that failed meanwhile.
    pub(super) failed_requests: u64,
}

/// Name of a kind of failure, in metrics, logs and the HTTP API.
pub(crate) fn kind_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Throttled => "throttled",
        FailureKind::Unavailable => "unavailable",
        FailureKind::ConnectionLost => "connection_lost",
        FailureKind::TimedOut => "timed_out",
        FailureKind::Ambiguous => "ambiguous",
        FailureKind::Function => "function",
        FailureKind::RequestTooLarge => "request_too_large",
        FailureKind::Terminal => "terminal",
        FailureKind::Incompatible => "incompatible",
    }
}

impl EndpointHealth {
    /// Returns whether the endpoint is down.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state, EndpointState::Down { .. })
    }

    /// Returns whether the last failure is younger than the last success.
    pub(crate) fn is_failing(&self) -> bool {
        let failed_ms = self.last_failure.as_ref().map(|failure| failure.at_ms);
        failed_ms > self.last_success_ms
    }

    /// Takes the outcome of a request into account.
    pub(super) fn observe(
        &mut self,
        now_ms: u64,
        batches: &[Arc<Batch>],
        outcome: &BundleOutcome,
    ) -> Option<Transition> {
        match outcome {
            BundleOutcome::Answered(results) => {
                let failed = results.iter().find_map(|(_, result)| result.as_ref().err());
                if let Some(failure) = failed {
                    self.failed(now_ms, failure);
                }
                if results.iter().any(|(_, result)| result.is_ok()) {
                    self.last_success_ms = Some(now_ms);
                }
                self.answered(now_ms)
            }
            BundleOutcome::Failed(failure) => {
                self.failed(now_ms, failure);
                self.request_failed(now_ms, batches, failure.kind)
            }
        }
    }

    fn failed(&mut self, now_ms: u64, failure: &Failure) {
        self.last_failure = Some(LastFailure {
            at_ms: now_ms,
            kind: kind_name(failure.kind),
            message: one_line(&failure.message),
        });
    }

    fn answered(&mut self, now_ms: u64) -> Option<Transition> {
        let failed_requests = std::mem::take(&mut self.failed_requests);
        self.failed_addresses.clear();
        match std::mem::take(&mut self.state) {
            EndpointState::Up => None,
            EndpointState::Down { since_ms } => Some(Transition::Up(Outage {
                down_ms: now_ms.saturating_sub(since_ms),
                failed_requests,
            })),
        }
    }

    fn request_failed(
        &mut self,
        now_ms: u64,
        batches: &[Arc<Batch>],
        kind: FailureKind,
    ) -> Option<Transition> {
        match kind {
            // The endpoint answers.
            FailureKind::Throttled | FailureKind::RequestTooLarge => return None,
            FailureKind::Function | FailureKind::Terminal | FailureKind::Incompatible => {
                return self.answered(now_ms);
            }
            FailureKind::Unavailable
            | FailureKind::ConnectionLost
            | FailureKind::TimedOut
            | FailureKind::Ambiguous => {}
        }
        if self.failed_requests == 0 {
            self.failing_since_ms = now_ms;
        }
        self.failed_requests += 1;
        for batch in batches {
            let hash = batch.target.stable_hash();
            let room = self.failed_addresses.len() < ADDRESSES_DOWN;
            if room && !self.failed_addresses.contains(&hash) {
                self.failed_addresses.push(hash);
            }
        }
        let down =
            kind == FailureKind::Unavailable || self.failed_addresses.len() >= ADDRESSES_DOWN;
        if !down || self.is_down() {
            return None;
        }
        self.state = EndpointState::Down {
            since_ms: self.failing_since_ms,
        };
        Some(Transition::Down)
    }
}

impl Status {
    /// Sets the number of requests in flight to an endpoint, and of batches that wait for it.
    pub(crate) fn endpoint_load(&self, endpoint: EndpointIndex, in_flight: usize, waiting: usize) {
        let mut components = self.components();
        if let Some(view) = components.endpoints.get_mut(endpoint.0 as usize) {
            view.health.in_flight = in_flight;
            view.health.waiting = waiting;
        }
    }

    /// Records the outcome of a request to an endpoint, and writes about failures to the log.
    pub(crate) fn request_ended(
        &self,
        now_ms: u64,
        (endpoint, name): (EndpointIndex, &Arc<str>),
        batches: &[Arc<Batch>],
        outcome: &BundleOutcome,
    ) {
        let transition = {
            let mut components = self.components();
            let view = components.endpoints.get_mut(endpoint.0 as usize);
            view.and_then(|view| view.health.observe(now_ms, batches, outcome))
        };
        match (transition, outcome) {
            (Some(Transition::Down), BundleOutcome::Failed(failure)) => {
                self.log_down(name, failure);
            }
            _ => self.log_outcome(name, batches, outcome),
        }
        if let Some(Transition::Up(outage)) = transition {
            self.log_up(name, outage);
        }
    }
}
