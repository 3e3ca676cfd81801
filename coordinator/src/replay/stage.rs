//! A partition that lives only for a replay: the engine makes the request and judges the answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{
    Change, DeadLetter, FailureRecord, Hold, Key, StoredState, Suspension, Value,
};
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::Input;
use satchel_engine::invocation::{Batch, BatchOutcome, Failure as BatchFailure};
use satchel_engine::message::{IdSource, Message, MessageId};
use satchel_engine::output::Output;
use satchel_engine::partition::{Config, Ownership, Partition, Recovery};
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};

use crate::error::{Exit, Failure};
use crate::module::{Application, EndpointSpec};
use crate::offline::Scene;

/// Epoch of the attempts of a replay. Epochs of owners count from 1, so none has this one.
const REPLAY_EPOCH: u64 = u64::MAX;

/// Number of deltas that may be sealed without being durable, which none of a replay is.
const COMMIT_DEPTH: u64 = 64;

/// Messages that a replay delivers.
#[derive(Debug, Clone)]
pub(super) enum Delivered {
    /// Those that wait in the mailbox.
    Pending(Address),
    /// This one instead.
    Given(Address, Message),
    /// That of a dead letter, as at its last attempt.
    Letter(Address, DeadLetter),
    /// That of a dead letter, as a retry would deliver it.
    Retry(Address, DeadLetter),
}

impl Delivered {
    /// Address that gets the messages.
    pub(super) fn address(&self) -> &Address {
        match self {
            Self::Pending(address)
            | Self::Given(address, _)
            | Self::Letter(address, _)
            | Self::Retry(address, _) => address,
        }
    }
}

/// Result of playing the answers so far.
pub(super) enum Next {
    /// This request is to be sent.
    Ask(Arc<Batch>),
    /// The function has answered, or there is nothing to send.
    Over(Box<Verdict>),
}

/// Fate of the messages.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Effects of the answer, if it was applied.
    pub(super) effects: Option<InvocationResponse>,
    /// States of the address that the answer changed: their new values, `None` if deleted.
    pub(super) changed: BTreeMap<Arc<str>, Option<StoredState>>,
    /// Failure that the handler reported, or that its transport had.
    pub(super) failure: Option<BatchFailure>,
    /// Reason why an owner would not have accepted the answer.
    pub(super) rejected: Option<String>,
}

impl Verdict {
    /// Reason why the messages were not processed.
    pub(super) fn reason(&self) -> Option<String> {
        let failed = self.failure.as_ref();
        let failed = failed.map(|failure| format!("the function failed: {failure}"));
        let rejected = self.rejected.as_ref();
        failed.or_else(|| rejected.map(|reason| format!("the answer is rejected: {reason}")))
    }
}

/// A partition as it was at a moment, as far as one address needs it.
pub(super) struct Stage {
    scene: Scene,
    address: Address,
    config: Config,
    /// True if module files name the egresses. Otherwise any is accepted.
    knows_egresses: bool,
    /// Notes for people about facts that the stage leaves out.
    pub(super) notes: Vec<String>,
}

impl Stage {
    /// Prepares the partition. `endpoint` is the one of the application that serves the address.
    pub(super) fn new(
        mut scene: Scene,
        delivered: Delivered,
        application: Option<&Application>,
        endpoint: Option<&EndpointSpec>,
    ) -> Self {
        let address = delivered.address().clone();
        let function = &address.function;
        let engine = endpoint.map_or_else(|| any_endpoint(function), |it| it.engine.clone());
        let egresses = application.iter().flat_map(|it| &it.egresses);
        let config = Config {
            partition: scene.partition,
            placement: scene.division.placement,
            generation: scene.division.generation(),
            endpoints: Endpoints::new(vec![engine]),
            egresses: egresses
                .map(|egress| egress.id.to_string().into())
                .collect(),
            commit_depth: COMMIT_DEPTH,
            commit_interval_ms: 0,
            ..Config::default()
        };
        let notes = prepare(&mut scene, delivered);
        Self {
            scene,
            address,
            config,
            knows_egresses: application.is_some(),
            notes,
        }
    }

    /// Partition that owns the address.
    pub(super) fn partition(&self) -> u32 {
        self.scene.partition
    }

    /// The moment, in ms since the epoch.
    pub(super) fn at_ms(&self) -> u64 {
        self.scene.at_ms
    }

    /// Value of a state before the replay. A value that had expired is none.
    pub(super) fn state_before(&self, name: &str) -> Option<&StoredState> {
        self.scene
            .facts
            .iter()
            .find_map(|fact| match (&fact.key, &fact.value) {
                (Key::State { name: found, .. }, Some(Value::State(state))) if **found == *name => {
                    let lives = state.expires_at_ms.is_none_or(|end| end > self.scene.at_ms);
                    lives.then_some(state)
                }
                _ => None,
            })
    }

    /// Begins the partition and gives it `answers` to its requests, one after the other. The same
    /// answers always give the same.
    pub(super) fn play(&self, answers: &[BatchOutcome]) -> Result<Next, Failure> {
        let mut play = Play::begin(self, answers);
        let mut asked = play.run();
        for (index, answer) in answers.iter().enumerate() {
            let Some(batch) = asked.take() else {
                break;
            };
            play.answer(&batch, answer);
            asked = play.run();
            // Whatever follows an answer that was no request for states is not this replay's.
            let wants_states = matches!(
                answer,
                Ok(FromFunction {
                    response: Some(Response::IncompleteInvocationContext(_))
                })
            );
            if index + 1 == answers.len() && !wants_states {
                asked = None;
            }
        }
        match asked {
            Some(batch) => Ok(Next::Ask(batch)),
            None if answers.is_empty() => match play.reason() {
                Some(reason) => Err(Failure::new(Exit::Refused, reason)),
                None => Ok(Next::Over(Box::new(play.verdict(None)))),
            },
            None => Ok(Next::Over(Box::new(play.verdict(answers.last())))),
        }
    }
}

/// Adds the messages, and removes what would keep them from being delivered. Returns notes about
/// it.
fn prepare(scene: &mut Scene, delivered: Delivered) -> Vec<String> {
    let mut notes = Vec::new();
    let mut failures = None;
    let pending = matches!(delivered, Delivered::Pending(_));
    let mut counter = 1;
    scene
        .facts
        .retain_mut(|fact| match (&fact.key, &mut fact.value) {
            (Key::Suspension { .. }, Some(Value::Suspension(Suspension { reason, .. }))) => {
                notes.push(format!("the address was suspended: {reason}"));
                false
            }
            (Key::FunctionPause { .. }, Some(Value::Pause(pause))) => {
                notes.push(format!("the function was paused: {}", pause.reason));
                false
            }
            (Key::FailureRecord { .. }, Some(Value::FailureRecord(record))) => {
                // Attempts that the crash guard would count beforehand.
                record.crashes = 0;
                record.crashes_through = 0;
                pending
            }
            (Key::Counter, Some(Value::Counter(next))) => {
                counter = *next;
                false
            }
            (Key::Message { .. }, _) => pending,
            (Key::Idempotency { .. }, _) => false,
            _ => true,
        });
    let (address, message) = match delivered {
        Delivered::Pending(_) => (None, None),
        Delivered::Given(address, message) => (Some(address), Some(message)),
        Delivered::Letter(address, letter) => {
            failures = Some(FailureRecord {
                message: counter,
                attempts: letter.attempts.saturating_sub(1),
                ..FailureRecord::default()
            });
            let id = letter.id;
            (Some(address), Some(of_letter(letter, id)))
        }
        Delivered::Retry(address, letter) => {
            let parent = letter.id;
            let id = MessageId::derive(IdSource::Retry { parent }, &letter.argument);
            (Some(address), Some(of_letter(letter, id)))
        }
    };
    if let (Some(address), Some(message)) = (address, message) {
        if let Some(failures) = failures.filter(|failures| failures.attempts > 0) {
            scene.facts.push(Change {
                key: Key::FailureRecord {
                    address: address.clone(),
                },
                value: Some(Value::FailureRecord(failures)),
            });
        }
        scene.facts.push(Change {
            key: Key::Message {
                address,
                number: counter,
            },
            value: Some(Value::Message(message)),
        });
        counter += 1;
    }
    scene.facts.push(Change {
        key: Key::Counter,
        value: Some(Value::Counter(counter)),
    });
    // Timers that were due stay where they are, and nothing leaves.
    scene.facts.push(Change {
        key: Key::Hold,
        value: Some(Value::Hold(Hold {
            origin: "a replay".into(),
            since_ms: scene.at_ms,
            filling: false,
        })),
    });
    notes
}

fn of_letter(letter: DeadLetter, id: MessageId) -> Message {
    Message {
        id,
        caller: letter.caller,
        argument: letter.argument,
        correction: None,
        trace: letter.trace,
        // A dead letter keeps none.
        headers: None,
    }
}

/// Endpoint of a function without a module file, with the defaults of one of Lambda.
fn any_endpoint(function: &FunctionType) -> Endpoint {
    Endpoint {
        functions: vec![FunctionPattern::One(function.clone())],
        batch_messages_max: 1_000,
        bundle_batches_max: 1,
        // 5 MiB with base64.
        bundle_bytes_max: (5 << 20) / 4 * 3,
        concurrency_max: 1,
        linger: Linger::Fixed(0),
        retries: Retries {
            attempts_max: u32::MAX,
            backoff_initial_ms: 1_000,
            backoff_max_ms: 1_000,
        },
        on_poison: OnPoison::DeadLetter,
    }
}

/// A run of the partition.
struct Play<'a> {
    stage: &'a Stage,
    partition: Partition,
    /// Last value of each fact that changed.
    changes: Vec<Change>,
}

impl<'a> Play<'a> {
    fn begin(stage: &'a Stage, answers: &[BatchOutcome]) -> Self {
        let mut config = stage.config.clone();
        if !stage.knows_egresses {
            config.egresses.extend(egresses_in(answers));
        }
        let mut recovery = Recovery::new(config);
        for fact in &stage.scene.facts {
            recovery.apply(fact.clone());
        }
        let ownership = Ownership {
            epoch: REPLAY_EPOCH,
            committed_at_ms: stage.scene.at_ms,
            clean: true,
        };
        Self {
            stage,
            partition: recovery.start(ownership, stage.scene.at_ms),
            changes: Vec::new(),
        }
    }

    /// Performs what can be performed here. Returns the request for the address, if there is one.
    fn run(&mut self) -> Option<Arc<Batch>> {
        let mut asked = None;
        while let Some(output) = self.partition.poll_output() {
            match output {
                Output::Invoke { batch, .. } if batch.target == self.stage.address => {
                    asked = Some(batch);
                }
                Output::Commit(delta) => self.changes.extend(delta.changes),
                _ => {}
            }
        }
        asked
    }

    fn answer(&mut self, batch: &Batch, answer: &BatchOutcome) {
        let attempt = batch.attempt;
        let input = match answer.clone() {
            Ok(answer) => Input::InvocationCompleted { attempt, answer },
            Err(failure) => Input::InvocationFailed { attempt, failure },
        };
        self.partition.handle_input(self.stage.scene.at_ms, input);
    }

    fn verdict(self, last: Option<&BatchOutcome>) -> Verdict {
        let failure = last.and_then(|answer| answer.as_ref().err()).cloned();
        let applied = self.partition.counts().processed > 0;
        let rejected = match (applied, &failure, last) {
            (false, None, Some(_)) => Some(
                self.reason()
                    .unwrap_or_else(|| "the messages were not processed".to_owned()),
            ),
            _ => None,
        };
        let effects = match last {
            Some(Ok(FromFunction {
                response: Some(Response::InvocationResult(response)),
            })) if applied => Some(response.clone()),
            Some(Ok(FromFunction { response: None })) if applied => {
                Some(InvocationResponse::default())
            }
            _ => None,
        };
        let mut changed = BTreeMap::new();
        for change in self.changes {
            match (change.key, change.value) {
                (Key::State { name, .. }, Some(Value::State(state))) => {
                    changed.insert(name, Some(state));
                }
                (Key::State { name, .. }, None) => {
                    changed.insert(name, None);
                }
                _ => {}
            }
        }
        Verdict {
            effects,
            changed,
            failure,
            rejected,
        }
    }

    /// Reason why the messages were not processed, as the partition keeps it.
    fn reason(&self) -> Option<String> {
        let stoppages = self.partition.stoppages().suspended_functions;
        if let Some(stoppage) = stoppages.into_iter().next() {
            return Some(stoppage.reason);
        }
        self.changes
            .iter()
            .rev()
            .find_map(|change| match &change.value {
                Some(Value::DeadLetter(letter)) => Some(letter.reason.clone()),
                Some(Value::Suspension(suspension)) => Some(suspension.reason.clone()),
                Some(Value::FailureRecord(record)) if !record.reason.is_empty() => {
                    Some(record.reason.clone())
                }
                _ => None,
            })
    }
}

/// Egresses that answers name.
fn egresses_in(answers: &[BatchOutcome]) -> Vec<Arc<str>> {
    let mut egresses = Vec::new();
    for answer in answers {
        if let Ok(FromFunction {
            response: Some(Response::InvocationResult(response)),
        }) = answer
        {
            egresses.extend(response.outgoing_egresses.iter().map(|egress| {
                Arc::from(format!(
                    "{}/{}",
                    egress.egress_namespace, egress.egress_type
                ))
            }));
        }
    }
    egresses
}
