//! Health of endpoints: the dispatcher's judgement, and the outcomes of requests.

use std::sync::Arc;

use satchel_engine::clock::Reading;
use satchel_engine::dispatcher::EndpointHealth;
use satchel_engine::invocation::{Batch, BundleOutcome, EndpointIndex, Failure, FailureKind};

use super::{Status, one_line};

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
    /// Health and load, as the dispatcher judges them.
    pub(crate) health: EndpointHealth,
    /// Time since which it is down, in ms since the epoch; none if it is up.
    pub(crate) down_since_ms: Option<u64>,
    /// Last failed request or batch.
    pub(crate) last_failure: Option<LastFailure>,
    /// Last batch that a function processed, in ms since the epoch.
    pub(crate) last_success_ms: Option<u64>,
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

/// Change of an endpoint's health.
#[derive(Debug)]
enum Transition {
    /// It does not answer any more, with the last failure.
    Down(Option<LastFailure>),
    /// It answers again.
    Up(Outage),
}

/// Outage that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outage {
    /// Duration, in ms.
    pub(super) down_ms: u64,
    /// Requests that failed since the last success before it.
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

impl EndpointView {
    /// Returns whether the endpoint is down.
    pub(crate) fn is_down(&self) -> bool {
        self.down_since_ms.is_some()
    }

    /// Returns whether the last failure is younger than the last success.
    pub(crate) fn is_failing(&self) -> bool {
        let failed_ms = self.last_failure.as_ref().map(|failure| failure.at_ms);
        failed_ms > self.last_success_ms
    }

    fn note_success(&mut self, now_ms: u64) {
        self.last_success_ms = Some(now_ms);
    }

    fn note_failure(&mut self, now_ms: u64, failure: &Failure) {
        self.last_failure = Some(LastFailure {
            at_ms: now_ms,
            kind: kind_name(failure.kind),
            message: one_line(&failure.message),
        });
    }

    fn note_outcome(&mut self, now_ms: u64, outcome: &BundleOutcome) {
        let results = match outcome {
            BundleOutcome::Failed(failure) => return self.note_failure(now_ms, failure),
            BundleOutcome::Answered(results) => results,
        };
        if results.iter().any(|(_, result)| result.is_ok()) {
            self.note_success(now_ms);
        }
        if let Some(failure) = results.iter().find_map(|(_, result)| result.as_ref().err()) {
            self.note_failure(now_ms, failure);
        }
    }

    /// Takes over the judgement of the dispatcher, whose times are on the boot-time clock.
    fn judge(&mut self, now: Reading, health: EndpointHealth) -> Option<Transition> {
        let before = std::mem::replace(&mut self.health, health);
        let age_ms = |since_ms: u64| now.boot_ms.saturating_sub(since_ms);
        match (before.down_since_ms, health.down_since_ms) {
            (None, Some(since_ms)) => {
                self.down_since_ms = Some(now.calendar_ms.saturating_sub(age_ms(since_ms)));
                Some(Transition::Down(self.last_failure.clone()))
            }
            (Some(since_ms), None) => {
                self.down_since_ms = None;
                Some(Transition::Up(Outage {
                    down_ms: age_ms(since_ms),
                    failed_requests: before.failed_requests,
                }))
            }
            (None, None) | (Some(_), Some(_)) => None,
        }
    }
}

impl Status {
    /// Shows the health of an endpoint as the dispatcher judges it. Writes the beginning and the
    /// end of an outage to the log. Returns whether an outage begins.
    pub(crate) fn endpoint_judged(
        &self,
        now: Reading,
        (endpoint, name): (EndpointIndex, &Arc<str>),
        health: EndpointHealth,
    ) -> bool {
        let transition = {
            let mut components = self.components();
            let view = components.endpoints.get_mut(endpoint.0 as usize);
            view.and_then(|view| view.judge(now, health))
        };
        match transition {
            Some(Transition::Down(cause)) => {
                self.log_down(name, cause.as_ref());
                true
            }
            Some(Transition::Up(outage)) => {
                self.log_up(name, outage);
                false
            }
            None => false,
        }
    }

    /// Records the outcome of a request to an endpoint, and writes about failures to the log.
    /// `judge` hands the outcome to the dispatcher, and returns the health of the endpoint by it.
    pub(crate) fn request_ended(
        &self,
        now: Reading,
        endpoint: (EndpointIndex, &Arc<str>),
        batches: &[Arc<Batch>],
        outcome: BundleOutcome,
        judge: impl FnOnce(BundleOutcome) -> EndpointHealth,
    ) {
        let (EndpointIndex(index), name) = endpoint;
        if let Some(view) = self.components().endpoints.get_mut(index as usize) {
            view.note_outcome(now.calendar_ms, &outcome);
        }
        let failed = match &outcome {
            BundleOutcome::Failed(failure) => Some(failure.clone()),
            BundleOutcome::Answered(results) => {
                self.log_failed_batches(name, batches, results);
                None
            }
        };
        let health = judge(outcome);
        // One line stands for the outage and the request that showed it.
        if !self.endpoint_judged(now, endpoint, health)
            && let Some(failure) = failed
        {
            self.log_failed_request(name, batches, &failure);
        }
    }
}
