//! A partition with its committer and log, and an in-process function that answers at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use satchel::clock::SystemClock;
use satchel::error::Failure;
use satchel::metrics::Metrics;
use satchel::runtime::committer::Committer;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::{Input, Record};
use satchel_engine::invocation::Batch;
use satchel_engine::output::Output;
use satchel_engine::partition::{Config, Partition};
use satchel_engine::placement::Placement;
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_log::{Contender, ObjectStore, Options, take_over};
use satchel_protocol::reqreply::from_function::{
    IncompleteInvocationContext, InvocationResponse, PersistedValueMutation, PersistedValueSpec,
    Response, persisted_value_mutation::MutationType,
};
use satchel_protocol::reqreply::{FromFunction, TypedValue};
use satchel_storage::placement::identity;
use satchel_storage::pump::Pump;
use satchel_storage::recovery::{RecoveryFold, period};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Size of a value in bytes.
pub(crate) const VALUE_BYTES: usize = 200;

/// Size of `namespace/name/id` in bytes.
pub(crate) const ADDRESS_BYTES: usize = 40;

/// Time that changes wait for their delta, in ms. The benchmark advances the partition's time
/// itself, so there is no real wait.
const COMMIT_INTERVAL_MS: u64 = 100;

const COMMIT_DEPTH: u64 = 4;

/// Owner of a root that writes to it.
pub(crate) struct Owner {
    partition: Partition,
    outputs: mpsc::UnboundedSender<Output>,
    facts: mpsc::UnboundedReceiver<Input>,
    committer: JoinHandle<Result<(), Failure>>,
    driver: JoinHandle<()>,
    shard: ShardId,
    sequence: u64,
    now_ms: u64,
    sealed: HashMap<u64, Instant>,
    /// True from the log's wish for images until the snapshot takes effect.
    snapshot: bool,
    /// Bytes of the log's tail that the takeover found.
    pub(crate) replayed_bytes: u64,
    /// Measurements so far.
    pub(crate) measured: Measured,
}

/// Measurements of an owner.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Latency of each commit.
    pub(crate) commits: Vec<Latency>,
    /// CPU time of the partition: incoming messages, batches, answers, deltas.
    pub(crate) partition: Duration,
}

/// Latency of one commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    /// Time from the seal of the delta until it was known to be durable.
    pub(crate) took: Duration,
    /// True if a snapshot was under way.
    pub(crate) during_snapshot: bool,
}

impl Owner {
    /// Takes over the root.
    pub(crate) async fn of(store: Arc<dyn ObjectStore>, options: Options) -> Self {
        let config = config();
        let mut fold = RecoveryFold::new(config.clone(), |_| {});
        let ownership = take_over(place(store, options), &mut fold)
            .await
            .expect("the root can be taken over");
        let now_ms = ownership.committed_at_ms;
        let recovery = fold.finish().expect("the root can be read");
        let partition = recovery.start(period(&ownership), now_ms);
        let replayed_bytes = ownership.recovery.log_bytes;
        let (log, notices, driver) = ownership.start_with(Arc::new(|work| {
            drop(tokio::task::spawn_blocking(work));
        }));
        let (facts_in, facts) = mpsc::unbounded_channel();
        let (outputs, outputs_out) = mpsc::unbounded_channel();
        let committer = Committer::new(
            (0, Placement::default()),
            notices,
            facts_in,
            Metrics::new(),
            watch::Sender::new(0),
        );
        let mut owner = Self {
            partition,
            outputs,
            facts,
            committer: tokio::spawn(committer.run(log, outputs_out)),
            driver: tokio::spawn(async move { driver.run().await.expect("the only owner") }),
            shard: ShardId {
                ingress: "bench/records".into(),
                stream: "records".into(),
                shard: "shard-0".into(),
            },
            sequence: 0,
            now_ms,
            sealed: HashMap::new(),
            snapshot: false,
            replayed_bytes,
            measured: Measured::default(),
        };
        owner.tell(Input::ShardFound {
            shard: owner.shard.clone(),
            start: ShardPosition::Beginning,
        });
        owner
    }

    /// Writes these keys in one delta. Each key is a record that becomes a message, which becomes a
    /// state.
    pub(crate) async fn write(&mut self, keys: impl Iterator<Item = u64>) {
        let function = FunctionType::new("bench", "account");
        let records = keys.map(|key| {
            self.sequence += 1;
            Record {
                sequence: self.sequence.into(),
                sub_sequence: 0,
                trace: None,
                headers: None,
                key: "".into(),
                routed: Ok(vec![(
                    Address::new(function.clone(), id(key)),
                    TypedValue {
                        typename: "bench/write".to_owned(),
                        has_value: true,
                        value: key.to_le_bytes().to_vec().into(),
                    },
                )]),
            }
        });
        let records = records.collect();
        self.tell(Input::RecordsRead {
            shard: self.shard.clone(),
            records,
        });
        self.now_ms += COMMIT_INTERVAL_MS;
        self.tell(Input::TimeReached);
        while self.sealed.len() as u64 >= COMMIT_DEPTH {
            self.receive().await;
        }
    }

    /// Stops in an orderly way and returns the measurements.
    pub(crate) async fn stop(mut self) -> Measured {
        while !self.sealed.is_empty() {
            self.receive().await;
        }
        self.tell(Input::StopRequested);
        while !self.sealed.is_empty() {
            self.receive().await;
        }
        drop(self.outputs);
        self.driver.await.expect("the log ends well");
        let committed = self.committer.await.expect("the committer ends");
        committed.expect("the committer ends well");
        self.measured
    }

    /// Waits for the next fact from the committer and handles it.
    async fn receive(&mut self) {
        let fact = self.facts.recv().await.expect("the committer runs");
        if let Input::CommitDurable { number } = fact
            && let Some(since) = self.sealed.remove(&number)
        {
            self.measured.commits.push(Latency {
                took: since.elapsed(),
                during_snapshot: self.snapshot,
            });
        }
        self.tell(fact);
    }

    fn tell(&mut self, input: Input) {
        match &input {
            Input::ImagesWanted(_) => self.snapshot = true,
            Input::SnapshotTaken(_) => self.snapshot = false,
            _ => {}
        }
        let begun = thread_cpu();
        self.partition.handle_input(self.now_ms, input);
        let mut answers = Vec::new();
        loop {
            while let Some(output) = self.partition.poll_output() {
                match output {
                    Output::Invoke { batch, .. } => answers.push(answer(&batch)),
                    output if Pump::performs(&output) => {
                        if let Output::Commit(delta) = &output {
                            self.sealed.insert(delta.number, Instant::now());
                        }
                        let _ = self.outputs.send(output);
                    }
                    _ => {}
                }
            }
            if answers.is_empty() {
                break;
            }
            for answer in answers.drain(..) {
                self.partition.handle_input(self.now_ms, answer);
            }
        }
        self.measured.partition += thread_cpu().saturating_sub(begun);
    }
}

/// Answer that declares the one state of the address, and sets it once it is declared.
fn answer(batch: &Batch) -> Input {
    let response = if batch.state.is_empty() {
        Response::IncompleteInvocationContext(registration())
    } else {
        let seed = &batch.messages.last().expect("a batch has messages").id;
        Response::InvocationResult(InvocationResponse {
            state_mutations: vec![PersistedValueMutation {
                mutation_type: MutationType::Modify.into(),
                state_name: "balance".to_owned(),
                state_value: Some(TypedValue {
                    typename: "bench/json".to_owned(),
                    has_value: true,
                    value: value(xxhash_rust::xxh3::xxh3_64(seed.as_bytes())).into(),
                }),
            }],
            ..InvocationResponse::default()
        })
    };
    Input::InvocationCompleted {
        attempt: batch.attempt,
        answer: FromFunction {
            response: Some(response),
        },
    }
}

/// Declaration of the one state of the function.
pub(crate) fn registration() -> IncompleteInvocationContext {
    IncompleteInvocationContext {
        missing_values: vec![PersistedValueSpec {
            state_name: "balance".to_owned(),
            type_typename: "bench/json".to_owned(),
            ..PersistedValueSpec::default()
        }],
        ..IncompleteInvocationContext::default()
    }
}

/// JSON-like text with varying digits, so that it compresses about like real values.
fn value(seed: u64) -> Vec<u8> {
    let mut text = String::with_capacity(VALUE_BYTES + 32);
    text.push_str(r#"{"currency":"EUR","balances":["#);
    let mut number = seed;
    while text.len() < VALUE_BYTES - 2 {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&(number >> 34).to_string());
        text.push(',');
    }
    text.truncate(VALUE_BYTES - 2);
    text.push_str("]}");
    text.into_bytes()
}

fn id(key: u64) -> String {
    let width = ADDRESS_BYTES - "bench/account/".len();
    format!("{key:0width$}")
}

/// Address of a key as text.
pub(crate) fn address(key: u64) -> String {
    format!("bench/account/{}", id(key))
}

/// Configuration of the partition.
fn config() -> Config {
    Config {
        endpoints: Endpoints::new(vec![Endpoint {
            functions: vec![FunctionPattern::Namespace("bench".into())],
            batch_messages_max: 1000,
            bundle_batches_max: 500,
            bundle_bytes_max: 5 << 20,
            concurrency_max: 50,
            linger: Linger::Measured,
            retries: Retries {
                attempts_max: 8,
                backoff_initial_ms: 100,
                backoff_max_ms: 30_000,
            },
            on_poison: OnPoison::DeadLetter,
        }]),
        commit_depth: COMMIT_DEPTH,
        commit_interval_ms: COMMIT_INTERVAL_MS,
        ..Config::default()
    }
}

fn place(store: Arc<dyn ObjectStore>, options: Options) -> Contender {
    Contender {
        store,
        root: String::new(),
        identity: identity("satchel", Placement::default()),
        nonce: *b"the bench's own.",
        clock: Arc::new(SystemClock),
        options,
        on_store_failure: Arc::new(|trouble| eprintln!("{}", trouble.error)),
    }
}

fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// Returns the CPU time of this process.
pub(crate) fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
