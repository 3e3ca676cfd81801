//! Requests to functions and their answers.

use satchel_engine::address::RESERVED_NAMESPACE;
use satchel_engine::dispatcher::DispatcherInput;
use satchel_engine::input::Input;
use satchel_engine::invocation::{
    AttemptId, Batch, BatchOutcome, Bundle, BundleId, BundleOutcome, Failure, FailureKind,
};
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{
    EgressMessage, InvocationResponse, PersistedValueMutation, Response,
};

use crate::functions::{STEADY, run, text};
use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::world::{Event, World};

/// Time that a caller waits for a function that hangs, in ms.
const TIMEOUT_MS: u64 = 3_000;

/// Number of answers that are kept to be repeated.
const OLD_ANSWERS_MAX: usize = 30;

impl World {
    /// Sends a request to its functions.
    pub(crate) fn send(&mut self, id: ProcessId, bundle: Bundle) {
        self.report.bundles += 1;
        let faults = self.faults.requests;
        let delay_ms = 1 + self.random.below(faults.latency_max_ms);
        let kills = |batch: &std::sync::Arc<Batch>| {
            let argument = |message: &satchel_engine::invocation::BatchMessage| {
                message.argument.value.starts_with(b"kill ")
            };
            batch.target.function.name() == "killer" && batch.messages.iter().any(argument)
        };
        if !self.stage.healed && bundle.batches.iter().any(kills) {
            // The coordinator dies of the answer, or of reading the message; both are the same
            // here.
            self.report.kills += 1;
            self.timeline.after(delay_ms.min(5), Event::Killed(id));
            return;
        }
        let failed = |kind, what: &str| BundleOutcome::Failed(Failure::new(kind, what));
        let outcome = if let Some(outcome) = self.outage(&bundle) {
            let timed_out = matches!(
                &outcome,
                BundleOutcome::Failed(failure) if failure.kind == FailureKind::TimedOut
            );
            let delay_ms = if timed_out { TIMEOUT_MS } else { delay_ms };
            self.timeline
                .after(delay_ms, Event::Returns(id, bundle.id, outcome));
            return;
        } else if self.random.chance(faults.throttled) {
            failed(FailureKind::Throttled, "too many requests")
        } else if self.random.chance(faults.unreachable) {
            failed(FailureKind::Unavailable, "port is closed")
        } else if self.random.chance(faults.failed) {
            failed(FailureKind::Ambiguous, "the handler failed")
        } else if self.random.chance(faults.hangs) {
            let outcome = failed(FailureKind::TimedOut, "the handler hangs");
            self.timeline
                .after(TIMEOUT_MS, Event::Returns(id, bundle.id, outcome));
            return;
        } else {
            self.timeline.after(delay_ms, Event::Runs(id, bundle));
            return;
        };
        self.timeline
            .after(delay_ms, Event::Returns(id, bundle.id, outcome));
    }

    /// Runs the functions of a request, whether the sender still waits or not.
    pub(crate) fn runs(&mut self, id: ProcessId, bundle: &Bundle) {
        let faults = self.faults.requests;
        let mut results: Vec<(AttemptId, BatchOutcome)> = Vec::new();
        for batch in &bundle.batches {
            let result = if self.random.chance(faults.batch_failed) {
                Err(Failure::new(FailureKind::Function, "it failed"))
            } else if self.random.chance(faults.garbage) {
                self.allow_attempt(batch);
                Ok(self.garbage())
            } else {
                run(batch, &mut self.stage)
            };
            if let Ok(answer) = &result {
                self.keep_answer(batch, answer);
            }
            results.push((batch.attempt, result));
        }
        if self.mutant == Some(Mutant::SwapAnswers) && results.len() > 1 {
            let (first, second) = (results[0].0, results[1].0);
            results[0].0 = second;
            results[1].0 = first;
        }
        if self.random.chance(faults.missing) {
            results.pop();
        }
        if self.random.chance(faults.foreign) && !self.old_answers.is_empty() {
            let at = self.random.below(self.old_answers.len() as u64) as usize;
            let (_, attempt, answer) = self.old_answers[at].clone();
            results.insert(0, (attempt, Ok(answer)));
        }
        if self.random.chance(faults.twice) {
            results.extend(results.first().cloned());
        }
        let outcome = BundleOutcome::Answered(results);
        let delay_ms = 1 + self.random.below(faults.latency_max_ms);
        if self.random.chance(faults.twice) {
            let again_ms = delay_ms + self.random.below(500);
            self.timeline
                .after(again_ms, Event::Returns(id, bundle.id, outcome.clone()));
        }
        self.timeline
            .after(delay_ms, Event::Returns(id, bundle.id, outcome));
    }

    pub(crate) fn returns(&mut self, id: ProcessId, bundle: BundleId, outcome: BundleOutcome) {
        self.judge(id, bundle, &outcome);
        let outcome = self.count_an_outage(outcome);
        self.dispatch(
            id,
            Some(DispatcherInput::BundleReturned { bundle, outcome }),
        );
        if self.random.chance(self.faults.requests.late) {
            self.late_answer(id);
        }
        self.advance(id);
    }

    /// Handles an answer that the dispatcher completes.
    pub(crate) fn completed(
        &mut self,
        id: ProcessId,
        attempt: AttemptId,
        mut answer: FromFunction,
    ) {
        let loses = self.mutant == Some(Mutant::LoseEarlyReplies);
        let Some(serving) = self.serving(id) else {
            return;
        };
        if loses
            && serving.partition.gauges().buckets_awaited > 0
            && let Some(Response::InvocationResult(result)) = &mut answer.response
        {
            result.outgoing_messages.retain(|message| {
                let target = message.target.as_ref();
                target.is_none_or(|target| target.namespace != RESERVED_NAMESPACE)
            });
        }
        let flying = serving
            .flights
            .iter()
            .find(|(_, flying)| **flying == attempt);
        if let Some((address, _)) = flying {
            let address = address.clone();
            serving.mutants.last_answer.insert(address, answer.clone());
        }
        serving
            .facts
            .push(Input::InvocationCompleted { attempt, answer });
    }

    /// Repeats the last answer of an address for its next batch, for a mutant.
    pub(crate) fn apply_twice(&mut self, id: ProcessId, batch: &Batch) {
        if self.mutant != Some(Mutant::ApplyTwice) || !self.random.chance(100) {
            return;
        }
        let attempt = batch.attempt;
        if let Some(serving) = self.serving(id)
            && let Some(answer) = serving.mutants.last_answer.get(&batch.target).cloned()
        {
            serving
                .facts
                .push(Input::InvocationCompleted { attempt, answer });
        }
    }

    fn keep_answer(&mut self, batch: &Batch, answer: &FromFunction) {
        if self.old_answers.len() == OLD_ANSWERS_MAX {
            self.old_answers.remove(0);
        }
        let kept = (batch.target.clone(), batch.attempt, answer.clone());
        self.old_answers.push(kept);
    }

    /// Delivers an answer that was given before once more, to the current owner.
    fn late_answer(&mut self, id: ProcessId) {
        if self.old_answers.is_empty() {
            return;
        }
        let at = self.random.below(self.old_answers.len() as u64) as usize;
        let (address, mut attempt, answer) = self.old_answers[at].clone();
        let retags = self.mutant == Some(Mutant::IgnoreEpoch);
        let Some(serving) = self.serving(id) else {
            return;
        };
        if retags && attempt.epoch != serving.epoch {
            match serving.flights.get(&address) {
                Some(flying) => attempt = *flying,
                None => return,
            }
        } else if serving.flights.get(&address) == Some(&attempt) {
            // The answer has not arrived for the first time yet.
            return;
        }
        serving
            .facts
            .push(Input::InvocationCompleted { attempt, answer });
    }

    /// Returns an answer that no sound SDK gives.
    fn garbage(&self) -> FromFunction {
        let mut response = InvocationResponse::default();
        match self.random.below(3) {
            0 => response.outgoing_egresses.push(EgressMessage {
                egress_namespace: STEADY.to_owned(),
                egress_type: "out".to_owned(),
                argument: None,
                cause: 0,
            }),
            1 => response.state_mutations.push(PersistedValueMutation {
                mutation_type: 7,
                state_name: "log".to_owned(),
                state_value: Some(text("garbage")),
            }),
            _ => response.outgoing_messages.push(
                satchel_protocol::reqreply::from_function::Invocation {
                    target: None,
                    argument: Some(text("for whom?")),
                    cause: 7,
                },
            ),
        }
        FromFunction {
            response: Some(Response::InvocationResult(response)),
        }
    }

    /// Handles a failure that the dispatcher passes on.
    pub(crate) fn failed(&mut self, id: ProcessId, attempt: AttemptId, mut failure: Failure) {
        match (self.mutant, &mut failure.rejection) {
            (Some(Mutant::RetryTerminal), Some(_)) => {
                failure = Failure::new(FailureKind::Function, failure.message);
            }
            (Some(Mutant::BlameFirst), Some(rejection)) => rejection.index = Some(0),
            _ => {}
        }
        if let Some(serving) = self.serving(id) {
            serving
                .facts
                .push(Input::InvocationFailed { attempt, failure });
        }
    }
}
