//! Log lines about what happens to an application, rate-limited. `coordinator/docs/log.md` has
//! their levels, texts and fields.

use std::sync::Arc;
use std::time::{Duration, Instant};

use satchel_engine::address::FunctionType;
use satchel_engine::invocation::{AttemptId, Batch, BatchOutcome, Failure, FailureKind};
use satchel_engine::partition::{Notice, PauseCause};
use satchel_log::StoreFailure;

use super::endpoints::{LastFailure, Outage};
use super::{Status, kind_name, one_line};
use crate::log_limit::Subject;

/// Number of lines about dead letters of the same function and reason in each [`WINDOW`]. An
/// operator needs their ids.
const DEAD_LETTERS_BURST: u32 = 20;

/// Time in which further lines about the same subject and reason are counted instead of written.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// Interval at which suppressed lines are looked for.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum duration of a commit that is reported as slow.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// Writes a summary of suppressed lines when nothing follows them. Never ends.
pub(crate) async fn report_suppressed(status: Status) {
    loop {
        tokio::time::sleep(SUMMARY_INTERVAL).await;
        status.log_suppressed(Instant::now());
    }
}

impl Status {
    pub(super) fn log_suppressed(&self, now: Instant) {
        for suppressed in self.0.limit.take_due(now) {
            let subject = suppressed.subject;
            tracing::warn!(
                event = subject.event,
                of = &*subject.of,
                reason = one_line(&subject.reason),
                lines = suppressed.lines,
                "similar log lines suppressed"
            );
        }
    }

    /// Returns the number of lines suppressed since the last one if this line may be written. The
    /// inner `None` stands for zero, for a field that is then left out.
    fn admits(&self, subject: Subject) -> Option<Option<u64>> {
        self.admits_some(subject, 1)
    }

    fn admits_some(&self, subject: Subject, burst: u32) -> Option<Option<u64>> {
        let suppressed = self.0.limit.admit(subject, burst, Instant::now())?;
        Some(Some(suppressed).filter(|suppressed| *suppressed > 0))
    }

    /// Writes about the batches that failed in an answer.
    pub(super) fn log_failed_batches(
        &self,
        endpoint: &Arc<str>,
        batches: &[Arc<Batch>],
        results: &[(AttemptId, BatchOutcome)],
    ) {
        for (attempt, result) in results {
            let Err(failure) = result else {
                continue;
            };
            let batch = batches.iter().find(|batch| batch.attempt == *attempt);
            if let Some(batch) = batch {
                self.log_function_failure(endpoint, &batch.target.function, failure);
            }
        }
    }

    /// Writes about a request that failed as a whole.
    pub(super) fn log_failed_request(
        &self,
        endpoint: &Arc<str>,
        batches: &[Arc<Batch>],
        failure: &Failure,
    ) {
        match batches {
            [batch] if is_of_function(failure.kind) => {
                self.log_function_failure(endpoint, &batch.target.function, failure);
            }
            _ => self.log_request_failure(endpoint, batches.len(), failure),
        }
    }

    fn log_request_failure(&self, endpoint: &Arc<str>, batches: usize, failure: &Failure) {
        let kind = kind_name(failure.kind);
        let subject = Subject::new(kind, Arc::clone(endpoint), &failure.message);
        let Some(suppressed) = self.admits(subject) else {
            return;
        };
        let error = one_line(&failure.message);
        if failure.kind == FailureKind::Throttled {
            tracing::warn!(
                endpoint = &**endpoint,
                error,
                suppressed,
                "endpoint throttled a request; retrying with less concurrency"
            );
        } else {
            tracing::warn!(
                endpoint = &**endpoint,
                kind,
                batches,
                error,
                suppressed,
                "request to endpoint failed; retrying"
            );
        }
    }

    fn log_function_failure(
        &self,
        endpoint: &Arc<str>,
        function: &FunctionType,
        failure: &Failure,
    ) {
        let subject = Subject::new("function", function.to_string(), &failure.message);
        if let Some(suppressed) = self.admits(subject) {
            tracing::warn!(
                function = function.to_string(),
                endpoint = &**endpoint,
                kind = kind_name(failure.kind),
                error = one_line(&failure.message),
                suppressed,
                "function failed"
            );
        }
    }

    /// Writes that an endpoint does not answer. The line stands for that of the failed request too.
    pub(super) fn log_down(&self, endpoint: &Arc<str>, cause: Option<&LastFailure>) {
        if let Some(cause) = cause {
            self.admits(Subject::new(
                cause.kind,
                Arc::clone(endpoint),
                &cause.message,
            ));
        }
        tracing::warn!(
            endpoint = &**endpoint,
            kind = cause.map(|cause| cause.kind),
            error = cause.map(|cause| &*cause.message),
            "endpoint down; its messages wait"
        );
    }

    pub(super) fn log_up(&self, endpoint: &Arc<str>, outage: Outage) {
        tracing::info!(
            endpoint = &**endpoint,
            down_ms = outage.down_ms,
            failed_requests = outage.failed_requests,
            "endpoint up again"
        );
    }

    /// Writes about what a partition noticed.
    pub(crate) fn noticed(&self, notice: &Notice, pending_bytes: usize) {
        match notice {
            Notice::DeadLetter {
                id,
                function,
                egress,
                attempts,
                reason,
            } => {
                let function = function.as_ref().map(ToString::to_string);
                let of = function.as_deref().or(egress.as_deref());
                let of = of.unwrap_or("unroutable").to_owned();
                let subject = Subject::new("dead letter", of, reason);
                if let Some(suppressed) = self.admits_some(subject, DEAD_LETTERS_BURST) {
                    tracing::warn!(
                        function,
                        egress = egress.as_deref(),
                        dead_letter = %id,
                        attempts,
                        reason = one_line(reason),
                        suppressed,
                        "dead letter made"
                    );
                }
            }
            Notice::AddressSuspended { address, reason } => {
                let of = address.function.to_string();
                if let Some(suppressed) = self.admits(Subject::new("suspension", of, reason)) {
                    tracing::warn!(
                        address = one_line(&address.to_string()),
                        reason = one_line(reason),
                        suppressed,
                        "address suspended; its messages wait for an operator"
                    );
                }
            }
            Notice::AddressResumed { address } => {
                tracing::info!(address = one_line(&address.to_string()), "address resumed");
            }
            Notice::AnswerRejected { function, reason } => {
                let subject = Subject::new("answer", function.to_string(), reason);
                if let Some(suppressed) = self.admits(subject) {
                    tracing::warn!(
                        function = function.to_string(),
                        error = one_line(reason),
                        suppressed,
                        "answer of function not accepted"
                    );
                }
            }
            Notice::IngressPaused { cause } => self.ingress_paused(*cause, pending_bytes),
            Notice::IngressResumed => self.ingress_resumed(),
        }
    }

    /// Writes that a partition noticed more than it kept.
    pub(crate) fn missed_notices(&self, missed: u64) {
        tracing::warn!(missed, "dead letters and suspensions without a log line");
    }

    fn ingress_paused(&self, cause: PauseCause, pending_bytes: usize) {
        self.components().pause = Some((cause, Instant::now()));
        let reason = cause.as_str();
        if let Some(suppressed) = self.admits(Subject::new("pause", "ingress", reason)) {
            tracing::warn!(reason, pending_bytes, suppressed, "ingress paused");
        }
    }

    fn ingress_resumed(&self) {
        let Some((cause, since)) = self.components().pause.take() else {
            return;
        };
        let reason = cause.as_str();
        if let Some(suppressed) = self.admits(Subject::new("resumption", "ingress", reason)) {
            let paused_ms = millis(since.elapsed());
            tracing::info!(reason, paused_ms, suppressed, "ingress resumed");
        }
    }

    /// Writes about a commit that hangs, again and again while it does.
    pub(crate) fn commit_hangs(&self, partition: u32, number: u64, waited: Duration) {
        let waited_ms = millis(waited);
        tracing::warn!(
            partition,
            number,
            waited_ms,
            "commit hangs; nothing that depends on it leaves"
        );
    }

    /// Writes about a request to the store that failed and is repeated.
    pub(crate) fn store_failed(&self, failure: &StoreFailure) {
        let error = failure.error.to_string();
        if let Some(suppressed) = self.admits(Subject::new("store", "the store", &error)) {
            tracing::warn!(
                error,
                attempts = failure.attempts,
                again_in_ms = failure.wait_ms,
                suppressed,
                "store request failed; retrying"
            );
        }
    }

    /// Writes about a commit that took long.
    pub(crate) fn committed(&self, partition: u32, number: u64, bytes: u64, took: Duration) {
        if took < SLOW_COMMIT {
            return;
        }
        let subject = Subject::new("slow commit", partition.to_string(), "");
        if let Some(suppressed) = self.admits(subject) {
            let took_ms = millis(took);
            tracing::warn!(partition, number, bytes, took_ms, suppressed, "slow commit");
        }
    }
}

/// Returns whether a failure of this kind says something about a function, not only about the way
/// to it.
fn is_of_function(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Function
            | FailureKind::Terminal
            | FailureKind::Ambiguous
            | FailureKind::RequestTooLarge
    )
}

/// Returns a duration as a number that a JSON line shows as a number.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
