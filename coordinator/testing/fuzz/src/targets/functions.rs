//! Answers of functions, and requests of the coordinator.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message as _;
use satchel::invoker::lambda_envelope::Envelope;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::Change;
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::{Call, CallId, Input, RequestId, Verb};
use satchel_engine::invocation::{
    AttemptId, Batch, Bundle, BundleId, BundleOutcome, EndpointIndex,
};
use satchel_engine::output::{Delta, Output};
use satchel_engine::partition::{Config, Ownership, Partition, Recovery};
use satchel_engine::placement::Placement;
use satchel_protocol::bundle::{
    BatchError, Budget, BundleRequest, BundleResponse, Encoding, Terminal,
};
use satchel_protocol::effects::decode_answer;
use satchel_protocol::reqreply::from_function::{
    DelayedInvocation, EgressMessage, ExpirationSpec, IncompleteInvocationContext, Invocation,
    InvocationResponse, PersistedValueMutation, PersistedValueSpec, Response,
};
use satchel_protocol::reqreply::{self, FromFunction};
use satchel_protocol::types::typed_value;

use super::outcome;
use crate::Target;

/// Answer of a Lambda handler to a bundle.
pub(super) const BUNDLE_ANSWER: Target = Target {
    name: "bundle-answer",
    dictionary: &[
        "\"satchel\":1",
        "\"bundle\":\"b7\"",
        "\"encoding\":\"zstd\"",
        "\"results\":[",
        "\"attempt\":\"0-1-1\"",
        "\"from\":\"",
        "\"error\":{",
        "\"type\":",
        "\"message\":",
        "\"terminal\":{",
        "\"code\":",
        "\"index\":",
        "null",
        "{",
        "}",
        "]",
        "==",
        "errorMessage",
        "18446744073709551615-",
    ],
    seeds: || {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        for encoding in [Encoding::Identity, Encoding::Zstd] {
            // Only the first result of an attempt is decoded.
            for answer in answers() {
                let mut response = BundleResponse::new("b7", encoding);
                response.push("0-1-1", Ok(&answer));
                seeds.push(response.to_json());
            }
            let rejected = BatchError {
                terminal: Some(Terminal {
                    index: Some(0),
                    code: 404,
                    message: "no".to_owned(),
                }),
                ..BatchError::new("terminal", "no")
            };
            let mut response = BundleResponse::new("b7", encoding);
            response.push("0-1-1", Err(rejected));
            seeds.push(response.to_json());
        }
        seeds.push(br#"{"errorType":"Runtime.ExitError","errorMessage":"exit status 1"}"#.to_vec());
        seeds
    },
    decode: |input| {
        let mut scene = Scene::new();
        let bundle = Bundle {
            id: BundleId(7),
            endpoint: EndpointIndex(0),
            batches: vec![scene.batch.clone()],
            new_connection: false,
        };
        let failure = Envelope::function_error(input);
        assert!(
            failure.message.chars().count() <= 2_100,
            "the message is not truncated"
        );
        match Envelope::new().decode(&bundle, input) {
            BundleOutcome::Failed(failure) => failure.message,
            BundleOutcome::Answered(results) => {
                let mut described = format!("{}", results.len().min(2));
                for (attempt, outcome) in results {
                    match outcome {
                        Ok(answer) => scene.complete(attempt, answer),
                        Err(failure) => {
                            described.clone_from(&failure.message);
                            scene.handle(Input::InvocationFailed { attempt, failure });
                        }
                    }
                }
                scene.end();
                described
            }
        }
    },
};

/// StateFun answer, applied to the partition.
pub(super) const FROM_FUNCTION: Target = Target {
    name: "from-function",
    dictionary: &[
        "example",
        "out",
        "seen",
        "token",
        "satchel",
        "call",
        "io.statefun.types/string",
    ],
    seeds: || answers().iter().map(FromFunction::encode_to_vec).collect(),
    decode: |input| {
        let answer = match decode_answer(Bytes::copy_from_slice(input)) {
            Ok(answer) => answer,
            Err(error) => return error.to_string(),
        };
        let mut scene = Scene::new();
        let attempt = scene.batch.attempt;
        let again = answer.clone();
        scene.complete(attempt, answer);
        // A repeated answer is dropped, whatever it contains.
        scene.complete(attempt, again);
        scene.end()
    },
};

/// Request to a handler. Another coordinator, or a person who invokes the function, may have
/// written it.
pub(super) const BUNDLE_REQUEST: Target = Target {
    name: "bundle-request",
    dictionary: &[
        "\"accept\":[\"zstd\"]",
        "\"encoding\":\"zstd\"",
        "\"batches\":[",
        "\"to\":\"",
        "\"attempt\":",
        "null",
        "KLUv/Q",
    ],
    seeds: || {
        let batch = Scene::new().batch;
        [Encoding::Identity, Encoding::Zstd]
            .map(|encoding| {
                let mut request = BundleRequest::new("b7", encoding);
                request.push(batch.attempt.to_string(), &batch.to_wire());
                request.to_json()
            })
            .to_vec()
    },
    decode: |input| {
        let request = match BundleRequest::from_json(input) {
            Ok(request) => request,
            Err(error) => return error.to_string(),
        };
        let read = |batch: &satchel_protocol::bundle::BundledBatch| {
            // Both encodings, since that of the answer differs from that of the request.
            let zstd = STANDARD.decode(&batch.to).is_ok();
            format!(
                "{zstd} {} {}",
                outcome(&batch.to_function(Encoding::Identity, &mut Budget::default())),
                outcome(&batch.to_function(Encoding::Zstd, &mut Budget::default()))
            )
        };
        request.batches.iter().map(read).collect()
    },
};

/// Answers that contain every kind of effect.
fn answers() -> Vec<FromFunction> {
    let target = || {
        Some(reqreply::Address {
            namespace: "example".to_owned(),
            r#type: "greeter".to_owned(),
            id: "bob".to_owned(),
        })
    };
    let argument = || Some(typed_value("io.statefun.types/string", &b"\x0a\x02hi"[..]));
    let whole = InvocationResponse {
        state_mutations: vec![PersistedValueMutation {
            mutation_type: 1,
            state_name: "seen".to_owned(),
            state_value: argument(),
        }],
        outgoing_messages: vec![Invocation {
            target: target(),
            argument: argument(),
            cause: 1,
        }],
        delayed_invocations: vec![
            DelayedInvocation {
                delay_in_ms: 60_000,
                target: target(),
                argument: argument(),
                cancellation_token: "token".to_owned(),
                ..Default::default()
            },
            DelayedInvocation {
                is_cancellation_request: true,
                cancellation_token: "token".to_owned(),
                ..Default::default()
            },
        ],
        outgoing_egresses: vec![EgressMessage {
            egress_namespace: "example".to_owned(),
            egress_type: "out".to_owned(),
            argument: argument(),
            cause: 1,
        }],
        declaration: 0,
    };
    let incomplete = IncompleteInvocationContext {
        missing_values: vec![PersistedValueSpec {
            state_name: "seen".to_owned(),
            expiration_spec: Some(ExpirationSpec {
                mode: 1,
                expire_after_millis: 1_000,
            }),
            type_typename: "io.statefun.types/string".to_owned(),
        }],
        ..Default::default()
    };
    [
        Response::InvocationResult(whole),
        Response::IncompleteInvocationContext(incomplete),
    ]
    .map(|response| FromFunction {
        response: Some(response),
    })
    .to_vec()
}

/// Every kind of change that an answer can cause, as seeds for the durable targets.
pub(super) fn changes() -> Vec<Change> {
    let mut all = Vec::new();
    for answer in answers() {
        let mut scene = Scene::new();
        scene.complete(scene.batch.attempt, answer);
        scene.end();
        all.extend(scene.log.into_iter().flat_map(|delta| delta.changes));
    }
    all
}

/// A partition whose function has one message in flight.
struct Scene {
    partition: Partition,
    config: Config,
    now_ms: u64,
    batch: Arc<Batch>,
    /// Durable deltas.
    log: Vec<Delta>,
    /// Batches invoked since the last answer.
    next: Vec<AttemptId>,
}

/// Number of batches after an answer; functions may keep sending messages.
const ROUNDS: u64 = 4;

impl Scene {
    fn new() -> Self {
        let endpoint = Endpoint {
            functions: vec![FunctionPattern::Namespace("example".into())],
            batch_messages_max: 1000,
            bundle_batches_max: 500,
            bundle_bytes_max: 1 << 20,
            concurrency_max: 10,
            linger: Linger::Measured,
            retries: Retries {
                attempts_max: 2,
                backoff_initial_ms: 1,
                backoff_max_ms: 2,
            },
            on_poison: OnPoison::DeadLetter,
        };
        let config = Config {
            placement: Placement::id_md5(4, false),
            endpoints: Endpoints::new(vec![endpoint]),
            egresses: ["example/out".into()].into(),
            ..Config::default()
        };
        let ownership = Ownership {
            epoch: 1,
            committed_at_ms: 0,
            clean: true,
        };
        let mut partition = Recovery::new(config.clone()).start(ownership, 1_000);
        let call = Call {
            request: RequestId(1),
            id: CallId([7; 16]),
            verb: Verb::Call,
            target: Address::new(FunctionType::new("example", "greeter"), "alice"),
            argument: typed_value("satchel/json", &b"{}"[..]),
            idempotency_key: Some("once".into()),
            trace: None,
        };
        partition.handle_input(1_000, Input::CallReceived(call));
        let mut log = Vec::new();
        let mut batch = None;
        while let Some(output) = partition.poll_output() {
            match output {
                Output::Invoke { batch: invoked, .. } => batch = Some(invoked),
                Output::Commit(delta) => log.push(*delta),
                _ => {}
            }
        }
        let batch = batch.expect("a message to an idle address is invoked immediately");
        let mut scene = Self {
            partition,
            config,
            now_ms: 1_000,
            batch,
            log: Vec::new(),
            next: Vec::new(),
        };
        for delta in log {
            scene.durable(delta);
        }
        scene
    }

    fn handle(&mut self, input: Input) {
        self.partition.handle_input(self.now_ms, input);
        let mut sealed = Vec::new();
        while let Some(output) = self.partition.poll_output() {
            match output {
                Output::Invoke { batch, .. } => {
                    // Every batch can be encoded, whatever the answers were.
                    batch.to_wire().encode_to_vec();
                    self.next.push(batch.attempt);
                }
                Output::Commit(delta) => sealed.push(*delta),
                _ => {}
            }
        }
        for delta in sealed {
            self.durable(delta);
        }
    }

    fn durable(&mut self, delta: Delta) {
        for change in &delta.changes {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            change.encode_key(&mut key);
            let has_value = change.encode_value(&mut value);
            let read = Change::decode(&key, has_value.then_some(&value[..]));
            assert_eq!(
                read.as_ref(),
                Ok(change),
                "a committed change is not read back"
            );
        }
        let number = delta.number;
        self.log.push(delta);
        self.handle(Input::CommitDurable { number });
    }

    fn complete(&mut self, attempt: AttemptId, answer: FromFunction) {
        self.handle(Input::InvocationCompleted { attempt, answer });
    }

    /// Advances time and answers all following batches with empty responses. Then a successor
    /// recovers from the durable deltas.
    fn end(&mut self) -> String {
        for _ in 0..ROUNDS {
            self.now_ms += 100_000;
            self.handle(Input::TimeReached);
            for attempt in std::mem::take(&mut self.next) {
                let response = Some(Response::InvocationResult(InvocationResponse::default()));
                self.complete(attempt, FromFunction { response });
            }
        }
        let mut recovery = Recovery::new(self.config.clone());
        for delta in &self.log {
            for change in &delta.changes {
                recovery.apply(change.clone());
            }
        }
        let committed_at_ms = self.log.last().map_or(0, |delta| delta.committed_at_ms);
        let mut successor = recovery.start(
            Ownership {
                epoch: 2,
                committed_at_ms,
                clean: false,
            },
            self.now_ms,
        );
        while successor.poll_output().is_some() {}
        let counts = self.partition.counts();
        // As letters, because digits are ignored.
        let letter = |count: u64| char::from(b'a' + u8::try_from(count.min(9)).unwrap_or(9));
        [
            counts.dead_letters,
            counts.messages,
            counts.processed,
            counts.timers_fired,
            counts.expired,
        ]
        .map(letter)
        .iter()
        .collect()
    }
}
