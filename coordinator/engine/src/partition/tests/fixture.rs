//! Test fixture: a partition with a manual clock and a manual log, and helpers for inputs and
//! outputs.

use std::sync::Arc;

use satchel_protocol::reqreply::from_function::{
    self, DelayedInvocation, EgressMessage, IncompleteInvocationContext, InvocationResponse,
    PersistedValueMutation, PersistedValueSpec, expiration_spec::ExpireMode,
};
use satchel_protocol::reqreply::{FromFunction, TypedValue};
use satchel_protocol::types::typed_value;

use crate::address::{Address, FunctionType};
use crate::durable::Change;
use crate::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use crate::input::{
    Administration, Call, CallId, DeadLetterFilter, Input, Record, RequestId, Verb,
};
use crate::invocation::{AttemptId, Batch, Failure, FailureKind};
use crate::output::{Answer, Delta, Emission, Output};
use crate::partition::{Config, Ownership, Partition, Recovery};
use crate::placement::Placement;
use crate::position::{ShardId, ShardPosition};
use crate::trace::TraceParent;

pub(super) struct Fixture {
    pub(super) partition: Partition,
    pub(super) config: Config,
    pub(super) now_ms: u64,
    /// Deltas that are durable.
    pub(super) log: Vec<Delta>,
    /// Deltas that are sealed and not durable.
    pub(super) sealed: Vec<Delta>,
    /// Outputs that no test has taken yet, in order and without deltas.
    pub(super) outputs: Vec<Output>,
    pub(super) epoch: u64,
    next_request: u64,
    /// Trace context of the requests.
    pub(super) trace: Option<TraceParent>,
}

pub(super) fn config(on_poison: OnPoison) -> Config {
    let endpoint = Endpoint {
        functions: vec![FunctionPattern::Namespace("example".into())],
        batch_messages_max: 1000,
        bundle_batches_max: 500,
        bundle_bytes_max: 10_000,
        concurrency_max: 10,
        linger: Linger::Measured,
        retries: Retries {
            attempts_max: 3,
            backoff_initial_ms: 100,
            backoff_max_ms: 1000,
        },
        on_poison,
    };
    Config {
        placement: Placement::id_md5(4, false),
        endpoints: Endpoints::new(vec![endpoint]),
        egresses: ["example/out".into()].into(),
        pending_bytes_max: 100_000,
        ..Config::default()
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(config(OnPoison::DeadLetter))
    }

    pub(super) fn with(config: Config) -> Self {
        let ownership = Ownership {
            epoch: 1,
            committed_at_ms: 0,
            clean: true,
        };
        Self {
            partition: Recovery::new(config.clone()).start(ownership, 1_000),
            config,
            now_ms: 1_000,
            log: vec![],
            sealed: vec![],
            outputs: vec![],
            epoch: 1,
            next_request: 1,
            trace: None,
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.partition.handle_input(self.now_ms, input);
        while let Some(output) = self.partition.poll_output() {
            match output {
                Output::Commit(delta) => self.sealed.push(*delta),
                Output::WakeAt(_) => {}
                output => self.outputs.push(output),
            }
        }
        assert_eq!(self.partition.audit(), Vec::<String>::new());
    }

    pub(super) fn later(&mut self, ms: u64) {
        self.now_ms += ms;
        self.handle(Input::TimeReached);
    }

    /// Makes everything sealed durable, including what is sealed as a result.
    pub(super) fn commit(&mut self) {
        while !self.sealed.is_empty() {
            for delta in std::mem::take(&mut self.sealed) {
                let number = delta.number;
                self.log.push(delta);
                self.handle(Input::CommitDurable { number });
            }
        }
    }

    /// Lets the commit interval pass, and makes everything durable.
    pub(super) fn settle(&mut self) {
        self.commit();
        self.later(self.config.commit_interval_ms);
        self.commit();
    }

    /// The process dies. A new owner takes over from the durable state.
    pub(super) fn crash(&mut self) {
        self.sealed.clear();
        self.outputs.clear();
        self.take_over();
    }

    pub(super) fn take_over(&mut self) {
        let mut recovery = Recovery::new(self.config.clone());
        let changes = self.log.iter().flat_map(|delta| &delta.changes);
        for change in changes {
            recovery.apply(through_bytes(change));
        }
        self.epoch += 1;
        let last = self.log.last();
        let ownership = Ownership {
            epoch: self.epoch,
            committed_at_ms: last.map_or(0, |delta| delta.committed_at_ms),
            clean: last.is_none_or(|delta| delta.clean),
        };
        self.partition = recovery.start(ownership, self.now_ms);
        self.handle(Input::TimeReached);
    }

    pub(super) fn call(&mut self, id: &str, text: &str) -> RequestId {
        self.request(Verb::Call, id, text, None)
    }

    pub(super) fn call_with_key(&mut self, id: &str, text: &str, key: &str) -> RequestId {
        self.request(Verb::Call, id, text, Some(key.into()))
    }

    pub(super) fn send(&mut self, id: &str, text: &str) -> RequestId {
        self.request(Verb::Send, id, text, None)
    }

    pub(super) fn request(
        &mut self,
        verb: Verb,
        id: &str,
        text: &str,
        idempotency_key: Option<Arc<str>>,
    ) -> RequestId {
        let request = RequestId(self.next_request);
        let mut call = [0xee; 16];
        // The partition replaces the first two bytes.
        call[2..10].copy_from_slice(&self.next_request.to_le_bytes());
        self.next_request += 1;
        self.handle(Input::CallReceived(Call {
            request,
            id: CallId(call),
            verb,
            target: address(id),
            argument: value(text),
            idempotency_key,
            trace: self.trace,
        }));
        request
    }

    pub(super) fn administer(&mut self, administration: Administration) -> Option<Answer> {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.handle(Input::Administered {
            request,
            administration,
        });
        self.commit();
        self.answer_to(request)
    }

    /// Takes the only batch in `outputs`.
    pub(super) fn batch(&mut self) -> Arc<Batch> {
        let mut batches = self.batches();
        assert_eq!(batches.len(), 1, "{batches:?}");
        batches.remove(0)
    }

    pub(super) fn batches(&mut self) -> Vec<Arc<Batch>> {
        self.take(|output| match output {
            Output::Invoke { batch, .. } => Some(batch.clone()),
            _ => None,
        })
    }

    pub(super) fn emissions(&mut self) -> Vec<Emission> {
        let emitted = self.take(|output| match output {
            Output::Emit(emissions) => Some(emissions.clone()),
            _ => None,
        });
        emitted.into_iter().flatten().collect()
    }

    pub(super) fn reads(&mut self) -> Vec<ShardPosition> {
        self.take(|output| match output {
            Output::Read { after, .. } => Some(after.clone()),
            _ => None,
        })
    }

    pub(super) fn answers(&mut self) -> Vec<(RequestId, Answer)> {
        self.take(|output| match output {
            Output::Reply { request, answer } => Some((*request, answer.clone())),
            _ => None,
        })
    }

    pub(super) fn answer_to(&mut self, wanted: RequestId) -> Option<Answer> {
        let mut answers = self.take(|output| match output {
            Output::Reply { request, answer } if *request == wanted => Some(answer.clone()),
            _ => None,
        });
        assert!(answers.len() <= 1, "one answer a request: {answers:?}");
        answers.pop()
    }

    pub(super) fn take<T>(&mut self, pick: impl Fn(&Output) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        self.outputs.retain(|output| match pick(output) {
            Some(found) => {
                picked.push(found);
                false
            }
            None => true,
        });
        picked
    }

    pub(super) fn complete(&mut self, attempt: AttemptId, answer: FromFunction) {
        self.handle(Input::InvocationCompleted { attempt, answer });
    }

    pub(super) fn fail(&mut self, attempt: AttemptId, message: &str) {
        let failure = Failure::new(FailureKind::Function, message);
        self.handle(Input::InvocationFailed { attempt, failure });
    }

    /// Declares the state `seen` of the function, with expiration `mode`.
    pub(super) fn declare(&mut self, attempt: AttemptId, mode: ExpireMode, ms: i64) {
        self.complete(attempt, incomplete("seen", "t/text", mode, ms));
    }

    /// Returns the value of the state `seen` of an address.
    pub(super) fn seen(&mut self, id: &str) -> Option<String> {
        match self.administer(Administration::Inspect(address(id))) {
            Some(Answer::Address(view)) => {
                let seen = view.state.iter().find(|state| &*state.name == "seen")?;
                Some(String::from_utf8(seen.value.to_vec()).unwrap())
            }
            _ => None,
        }
    }

    pub(super) fn dead_letters(&mut self) -> Vec<(String, String)> {
        let list = Administration::ListDeadLetters {
            filter: DeadLetterFilter::default(),
            after: None,
            limit: 100,
        };
        match self.administer(list) {
            Some(Answer::DeadLetters(letters)) => letters
                .into_iter()
                .map(|letter| (text_of(&letter.message), letter.reason))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn find_shard(&mut self, start: ShardPosition) {
        self.handle(Input::ShardFound {
            shard: shard(),
            start,
        });
    }

    /// Makes everything durable, and returns the positions of the stream's shards.
    pub(super) fn plan(&mut self) -> Vec<(Arc<str>, ShardPosition)> {
        let ShardId {
            ingress, stream, ..
        } = shard();
        self.handle(Input::StreamFound { ingress, stream });
        self.settle();
        let planned = self
            .outputs
            .iter()
            .position(|output| matches!(output, Output::Plan { .. }));
        match self.outputs.remove(planned.expect("a plan was asked for")) {
            Output::Plan { applied, .. } => applied,
            _ => unreachable!("it is a plan"),
        }
    }

    /// Reads records `numbers`, each a message with its number to the address `id`.
    pub(super) fn read(&mut self, id: &str, numbers: impl IntoIterator<Item = u64>) {
        let record = |number: u64| Record {
            sequence: number.into(),
            sub_sequence: 0,
            trace: None,
            headers: None,
            key: id.into(),
            routed: Ok(vec![(address(id), value(&number.to_string()))]),
        };
        self.handle(Input::RecordsRead {
            shard: shard(),
            records: numbers.into_iter().map(record).collect(),
        });
    }
}

/// Encodes and decodes a change, as the log does.
pub(super) fn through_bytes(change: &Change) -> Change {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    change.encode_key(&mut key);
    let set = change.encode_value(&mut value);
    Change::decode(&key, set.then_some(&value[..])).unwrap()
}

pub(super) fn address(id: &str) -> Address {
    Address::new(FunctionType::new("example", "greeter"), id)
}

pub(super) fn shard() -> ShardId {
    ShardId {
        ingress: "example/in".into(),
        stream: "in".into(),
        shard: "shardId-0".into(),
    }
}

pub(super) fn value(text: &str) -> TypedValue {
    typed_value("t/text", text.as_bytes().to_vec())
}

pub(super) fn text_of(value: &TypedValue) -> String {
    String::from_utf8(value.value.to_vec()).unwrap()
}

/// Returns the texts of a batch's messages.
pub(super) fn texts(batch: &Batch) -> Vec<String> {
    let messages = batch.messages.iter();
    messages.map(|message| text_of(&message.argument)).collect()
}

pub(super) fn effects(response: InvocationResponse) -> FromFunction {
    FromFunction {
        response: Some(from_function::Response::InvocationResult(response)),
    }
}

pub(super) fn nothing() -> FromFunction {
    FromFunction::default()
}

pub(super) fn message_to(target: &Address, text: &str) -> from_function::Invocation {
    from_function::Invocation {
        target: Some(target.to_wire()),
        argument: Some(value(text)),
        cause: 0,
    }
}

/// Replies to the caller of the batch's first message.
pub(super) fn reply(batch: &Batch, text: &str) -> FromFunction {
    let caller = batch.messages[0].caller.as_ref().unwrap();
    effects(InvocationResponse {
        outgoing_messages: vec![message_to(caller, text)],
        ..Default::default()
    })
}

pub(super) fn set_seen(text: &str) -> FromFunction {
    effects(InvocationResponse {
        state_mutations: vec![mutation("seen", "t/text", text)],
        ..Default::default()
    })
}

pub(super) fn mutation(name: &str, typename: &str, text: &str) -> PersistedValueMutation {
    PersistedValueMutation {
        mutation_type: 1,
        state_name: name.into(),
        state_value: Some(typed_value(typename, text.as_bytes().to_vec())),
    }
}

pub(super) fn emit(text: &str) -> FromFunction {
    effects(InvocationResponse {
        outgoing_egresses: vec![egress("out", text)],
        ..Default::default()
    })
}

pub(super) fn egress(name: &str, text: &str) -> EgressMessage {
    EgressMessage {
        egress_namespace: "example".into(),
        egress_type: name.into(),
        argument: Some(value(text)),
        cause: 0,
    }
}

pub(super) fn delayed(target: &str, ms: i64, text: &str, token: &str) -> DelayedInvocation {
    DelayedInvocation {
        delay_in_ms: ms,
        target: Some(address(target).to_wire()),
        argument: Some(value(text)),
        cancellation_token: token.into(),
        ..Default::default()
    }
}

pub(super) fn cancellation(token: &str) -> DelayedInvocation {
    DelayedInvocation {
        is_cancellation_request: true,
        cancellation_token: token.into(),
        ..Default::default()
    }
}

pub(super) fn later_messages(delayed_invocations: Vec<DelayedInvocation>) -> FromFunction {
    effects(InvocationResponse {
        delayed_invocations,
        ..Default::default()
    })
}

pub(super) fn incomplete(name: &str, typename: &str, mode: ExpireMode, ms: i64) -> FromFunction {
    FromFunction {
        response: Some(from_function::Response::IncompleteInvocationContext(
            IncompleteInvocationContext {
                missing_values: vec![PersistedValueSpec {
                    state_name: name.into(),
                    expiration_spec: Some(from_function::ExpirationSpec {
                        mode: mode.into(),
                        expire_after_millis: ms,
                    }),
                    type_typename: typename.into(),
                }],
                ..Default::default()
            },
        )),
    }
}
