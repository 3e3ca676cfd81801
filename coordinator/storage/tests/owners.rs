//! Owners in turn over one root: the real partition and the real log, connected by the pump and the
//! recovery fold as in production, without threads.

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot continue")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::{BoxFuture, pending};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::{Administration, Call, CallId, Input, RequestId, Verb};
use satchel_engine::invocation::Batch;
use satchel_engine::output::{Answer, Output};
use satchel_engine::partition::{Config, Partition};
use satchel_engine::placement::Placement;
use satchel_log::{
    Clock, Contender, Log, LogError, MemoryStore, Notices, Now, ObjectStore, Options,
};
use satchel_protocol::reqreply::from_function::{
    IncompleteInvocationContext, InvocationResponse, PersistedValueMutation, PersistedValueSpec,
    Response,
};
use satchel_protocol::reqreply::{FromFunction, TypedValue};
use satchel_storage::fork::{refuse_filling, take_over};
use satchel_storage::placement::identity;
use satchel_storage::pump::{Observation, Pump, Reaction};
use satchel_storage::recovery::{RecoveryFold, period};

#[test]
fn the_next_owner_recovers_what_became_durable() {
    let store = Arc::new(MemoryStore::new());
    let mut first = Owner::take_over(&store, 1);
    assert_eq!(first.send("alice", "one"), Answer::Accepted);
    assert_eq!(first.state_of("alice"), "one");
    drop(first);
    let mut second = Owner::take_over(&store, 2);
    assert_eq!(second.state_of("alice"), "one");
    assert_eq!(second.loads, 0, "no bucket has an image");
}

#[test]
fn a_message_that_was_not_answered_is_invoked_by_the_next_owner_under_the_same_id() {
    let store = Arc::new(MemoryStore::new());
    let mut first = Owner::take_over(&store, 1);
    first.answers = false;
    assert_eq!(first.send("alice", "one"), Answer::Accepted);
    let ids: Vec<_> = first.invoked.iter().map(|batch| id_of(batch)).collect();
    drop(first);
    let mut second = Owner::take_over(&store, 2);
    assert_eq!(second.state_of("alice"), "one");
    assert!(ids.contains(&id_of(&second.invoked[0])));
}

#[test]
fn a_bucket_is_loaded_from_its_image_and_the_deltas_after_it() {
    let store = Arc::new(MemoryStore::new());
    let mut first = Owner::take_over(&store, 1);
    first.send("alice", "one");
    first.send("bob", "two");
    first.take_snapshot();
    first.send("alice", "three");
    drop(first);
    let mut second = Owner::take_over(&store, 2);
    assert_eq!(second.state_of("alice"), "one three");
    assert_eq!(second.state_of("bob"), "two");
    assert_eq!(second.loads, 1);
}

#[test]
fn an_orderly_stop_leaves_nothing_to_repeat() {
    let store = Arc::new(MemoryStore::new());
    let mut first = Owner::take_over(&store, 1);
    first.send("alice", "one");
    assert!(first.stop());
    let mut second = Owner::take_over(&store, 2);
    assert!(second.invoked.is_empty());
    assert_eq!(second.state_of("alice"), "one");
}

/// One owner. It runs until nothing is left to do after each input.
struct Owner {
    partition: Partition,
    pump: Pump,
    log: Option<Log>,
    notices: Notices,
    driver: Pin<Box<dyn Future<Output = Result<(), LogError>>>>,
    now_ms: u64,
    next_request: u64,
    /// False if functions do not answer.
    answers: bool,
    invoked: Vec<Arc<Batch>>,
    replies: Vec<(RequestId, Answer)>,
    loads: usize,
    snapshots: usize,
    stopped: bool,
}

impl Owner {
    fn take_over(store: &Arc<MemoryStore>, nonce: u8) -> Self {
        let mut fold = RecoveryFold::new(config(), |_| {});
        let ownership = block_on(take_over(place(store.clone(), nonce), &mut fold)).unwrap();
        let recovery = fold.finish().unwrap();
        refuse_filling(recovery.hold()).unwrap();
        let now_ms = 1_000_000 * u64::from(nonce);
        let partition = recovery.start(period(&ownership), now_ms);
        let (log, notices, driver) = ownership.start();
        let mut owner = Self {
            partition,
            pump: Pump::new(config().placement),
            log: Some(log),
            notices,
            driver: Box::pin(driver.run()),
            now_ms,
            next_request: 1,
            answers: true,
            invoked: Vec::new(),
            replies: Vec::new(),
            loads: 0,
            snapshots: 0,
            stopped: false,
        };
        owner.run();
        owner
    }

    /// Sends a message to an address. Returns the answer.
    fn send(&mut self, id: &str, text: &str) -> Answer {
        let request = self.request();
        self.handle(Input::CallReceived(Call {
            request,
            id: CallId([u8::try_from(request.0).unwrap(); 16]),
            verb: Verb::Send,
            target: address(id),
            argument: value(text),
            idempotency_key: None,
            trace: None,
        }));
        self.answer_to(request)
    }

    /// Returns the state of an address.
    fn state_of(&mut self, id: &str) -> String {
        let request = self.request();
        self.handle(Input::Administered {
            request,
            administration: Administration::Inspect(address(id)),
        });
        let Answer::Address(view) = self.answer_to(request) else {
            panic!("an address is inspected");
        };
        let state = view.state.first().expect("the address has a state");
        String::from_utf8(state.value.to_vec()).unwrap()
    }

    /// Takes a snapshot. Images are taken at seals, so a message is sent to cause them.
    fn take_snapshot(&mut self) {
        let before = self.snapshots;
        self.perform(Output::SnapshotWanted);
        self.run();
        for message in 0..10 {
            if self.snapshots > before {
                return;
            }
            self.send("other", &message.to_string());
        }
        panic!("the snapshot does not take effect");
    }

    /// Stops in an orderly way. Returns true if the log's driver has ended well.
    fn stop(mut self) -> bool {
        self.handle(Input::StopRequested);
        assert!(self.stopped);
        self.log = None;
        matches!(self.driver.as_mut().now_or_never(), Some(Ok(())))
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn answer_to(&mut self, request: RequestId) -> Answer {
        let found = self.replies.iter().position(|(known, _)| *known == request);
        self.replies
            .remove(found.expect("the request is answered"))
            .1
    }

    fn handle(&mut self, input: Input) {
        self.partition.handle_input(self.now_ms, input);
        self.run();
    }

    /// Performs outputs, drives the log and handles its notices until nothing is left to do.
    fn run(&mut self) {
        loop {
            let mut progressed = false;
            while let Some(output) = self.partition.poll_output() {
                self.perform(output);
                progressed = true;
            }
            if let Some(ended) = self.driver.as_mut().now_or_never() {
                panic!("the log ended: {ended:?}");
            }
            while let Ok(notice) = self.notices.try_recv() {
                progressed = true;
                let now = Duration::from_millis(self.now_ms);
                let (reaction, observed) = self.pump.on_notice(now, notice);
                if let Some(Observation::SnapshotTaken(_)) = observed {
                    self.snapshots += 1;
                }
                let input = match reaction {
                    Reaction::Tell(input) => input,
                    Reaction::Decode(job) => {
                        self.loads += 1;
                        job.run().unwrap()
                    }
                    Reaction::Nothing => continue,
                };
                self.partition.handle_input(self.now_ms, input);
            }
            if !progressed {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output) {
        let now = Duration::from_millis(self.now_ms);
        let output = match self.pump.perform(now, output) {
            Ok(command) => return command.send(self.log.as_ref().unwrap()),
            Err(output) => output,
        };
        match output {
            Output::Invoke { batch, .. } => {
                if self.answers {
                    self.partition.handle_input(self.now_ms, answer(&batch));
                }
                self.invoked.push(batch);
            }
            Output::Reply { request, answer } => self.replies.push((request, answer)),
            Output::WakeAt(at_ms) => {
                // Time passes only while there is nothing else to do.
                self.now_ms = self.now_ms.max(at_ms.min(self.now_ms + 1_000));
                self.partition.handle_input(self.now_ms, Input::TimeReached);
            }
            Output::Stopped => self.stopped = true,
            _ => {}
        }
    }
}

/// A function that keeps the texts of all its messages.
fn answer(batch: &Batch) -> Input {
    let response = match batch.state.first() {
        None => Response::IncompleteInvocationContext(IncompleteInvocationContext {
            missing_values: vec![PersistedValueSpec {
                state_name: "texts".to_owned(),
                type_typename: "shop/text".to_owned(),
                ..PersistedValueSpec::default()
            }],
            ..IncompleteInvocationContext::default()
        }),
        Some(state) => {
            let known = state.value.iter().map(|(_, value)| value.to_vec());
            let new = batch.messages.iter();
            let texts = known.chain(new.map(|message| message.argument.value.to_vec()));
            Response::InvocationResult(InvocationResponse {
                state_mutations: vec![PersistedValueMutation {
                    mutation_type: 1,
                    state_name: "texts".to_owned(),
                    state_value: Some(TypedValue {
                        value: texts.collect::<Vec<_>>().join(&b' ').into(),
                        ..value("")
                    }),
                }],
                ..InvocationResponse::default()
            })
        }
    };
    Input::InvocationCompleted {
        attempt: batch.attempt,
        answer: FromFunction {
            response: Some(response),
        },
    }
}

fn id_of(batch: &Batch) -> Arc<str> {
    batch.messages[0].id.clone()
}

fn address(id: &str) -> Address {
    Address::new(FunctionType::new("shop", "cart"), id)
}

fn value(text: &str) -> TypedValue {
    TypedValue {
        typename: "shop/text".to_owned(),
        has_value: true,
        value: text.as_bytes().to_vec().into(),
    }
}

fn config() -> Config {
    Config {
        placement: Placement::id_md5(1, false),
        endpoints: Endpoints::new(vec![Endpoint {
            functions: vec![FunctionPattern::Namespace("shop".into())],
            batch_messages_max: 10,
            bundle_batches_max: 10,
            bundle_bytes_max: 1 << 20,
            concurrency_max: 1,
            linger: Linger::Measured,
            retries: Retries {
                attempts_max: 3,
                backoff_initial_ms: 1,
                backoff_max_ms: 1,
            },
            on_poison: OnPoison::DeadLetter,
        }]),
        ..Config::default()
    }
}

fn place(store: Arc<dyn ObjectStore>, nonce: u8) -> Contender {
    Contender {
        store,
        root: "root".to_owned(),
        identity: identity("shop", config().placement),
        nonce: [nonce; 16],
        clock: Arc::new(Frozen),
        options: Options::default(),
        on_store_failure: Arc::new(|trouble| panic!("{}", trouble.error)),
    }
}

/// A clock whose sleepers never wake.
struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Now {
        Now::default()
    }

    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(pending())
    }
}
