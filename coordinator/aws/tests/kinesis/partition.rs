//! A real partition with its log in memory. It commits at once. Its functions record their messages
//! and send nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use satchel_aws::kinesis::{
    Applied, KinesisError, KinesisIngress, KinesisObserver, KinesisOptions, ReadingPort,
};
use satchel_engine::address::Address;
use satchel_engine::durable::Change;
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::partition::{Config, Ownership, Recovery};
use satchel_engine::placement::Placement;
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};
use satchel_protocol::types::typed_value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Durable content, which outlives the partition.
#[derive(Clone, Default)]
pub(crate) struct Durable {
    changes: Arc<Mutex<Vec<Change>>>,
    /// Texts that each address received, in order. They are durable like a state.
    pub(crate) received_texts: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

/// A partition and its ingress. Dropping it is a crash.
pub(crate) struct Running {
    partition: JoinHandle<()>,
    ingress: JoinHandle<Result<(), KinesisError>>,
    paused: watch::Sender<bool>,
}

/// Channels for which the readers wait.
struct Port {
    waiting: Mutex<HashMap<ShardId, oneshot::Sender<ShardPosition>>>,
    planning: Mutex<Option<oneshot::Sender<Applied>>>,
    paused: watch::Sender<bool>,
}

impl ReadingPort for Port {
    fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition> {
        let (start, started) = oneshot::channel();
        self.waiting.lock().unwrap().insert(shard, start);
        started
    }

    fn expect_plan(&self, _: Arc<str>, _: Arc<str>) -> oneshot::Receiver<Applied> {
        let (plan, planned) = oneshot::channel();
        *self.planning.lock().unwrap() = Some(plan);
        planned
    }

    fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }
}

struct Unobserved;

impl KinesisObserver for Unobserved {
    fn lag(&self, _: &ShardId, _: u64) {}
    fn reading_ended(&self, _: &ShardId) {}
    fn failed(&self, _: &str, _: &str) {}
    fn retried(&self, _: &'static str, _: bool) {}
    fn read(&self, _: &ShardId, _: u64, _: u64) {}
    fn dropped(&self, _: &ShardId, _: u64) {}
}

impl Durable {
    /// Starts a partition from the durable content, and an ingress for it.
    pub(crate) fn start(&self, config: &aws_config::SdkConfig, options: KinesisOptions) -> Running {
        let (inputs, received) = mpsc::channel(64);
        let port = Arc::new(Port {
            waiting: Mutex::default(),
            planning: Mutex::default(),
            paused: watch::Sender::new(false),
        });
        let router = |key: &str, data: &bytes::Bytes| {
            let function = "example/taker".parse().unwrap();
            let value = typed_value("example/text".to_owned(), data.clone());
            Ok(vec![(Address::new(function, key), value)])
        };
        let ingress = KinesisIngress::new(config, options, Arc::new(router), Arc::new(Unobserved));
        Running {
            paused: port.paused.clone(),
            partition: tokio::spawn(run(self.clone(), received, port.clone())),
            ingress: tokio::spawn(ingress.run(inputs, port)),
        }
    }

    /// Makes a position durable, as a former owner would.
    pub(crate) fn put(&self, shard: ShardId, position: ShardPosition) {
        let mut partition = recovered(&self.changes.lock().unwrap());
        partition.handle_input(
            1,
            Input::ShardFound {
                shard,
                start: position,
            },
        );
        while let Some(output) = partition.poll_output() {
            if let Output::Commit(delta) = output {
                self.changes.lock().unwrap().extend(delta.changes);
            }
        }
    }

    /// Number of received texts.
    pub(crate) fn count(&self) -> usize {
        let texts = self.received_texts.lock().unwrap();
        texts.values().map(Vec::len).sum()
    }
}

impl Running {
    /// Crashes the process.
    pub(crate) async fn crash(self) {
        self.partition.abort();
        self.ingress.abort();
        let _ = self.partition.await;
        let _ = self.ingress.await;
    }

    /// Pauses or resumes reading.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Waits for the ingress to stop. Returns its result.
    pub(crate) async fn stopped(self) -> Result<(), KinesisError> {
        let ended = self.ingress.await.unwrap();
        self.partition.abort();
        ended
    }
}

fn recovered(changes: &[Change]) -> satchel_engine::partition::Partition {
    let endpoint = Endpoint {
        functions: vec![FunctionPattern::Namespace("example".into())],
        batch_messages_max: 1000,
        bundle_batches_max: 500,
        bundle_bytes_max: 1 << 20,
        concurrency_max: 10,
        linger: Linger::Measured,
        retries: Retries {
            attempts_max: 3,
            backoff_initial_ms: 100,
            backoff_max_ms: 1000,
        },
        on_poison: OnPoison::DeadLetter,
    };
    let mut recovery = Recovery::new(Config {
        placement: Placement::id_md5(4, false),
        endpoints: Endpoints::new(vec![endpoint]),
        commit_interval_ms: 0,
        ..Config::default()
    });
    for change in changes {
        recovery.apply(change.clone());
    }
    let ownership = Ownership {
        epoch: 1,
        committed_at_ms: 0,
        clean: true,
    };
    recovery.start(ownership, now_ms())
}

/// Drives the partition. The deltas and effects of a round are applied without a pause in between,
/// so that a crash comes before or after them.
async fn run(durable: Durable, mut inputs: mpsc::Receiver<Input>, port: Arc<Port>) {
    let mut partition = recovered(&durable.changes.lock().unwrap());
    let mut facts = std::collections::VecDeque::from([Input::TimeReached]);
    loop {
        let Some(fact) = facts.pop_front() else {
            match inputs.recv().await {
                Some(input) => facts.push_back(input),
                None => return,
            }
            continue;
        };
        partition.handle_input(now_ms(), fact);
        while let Some(output) = partition.poll_output() {
            match output {
                Output::Commit(delta) => {
                    durable.changes.lock().unwrap().extend(delta.changes);
                    facts.push_back(Input::CommitDurable {
                        number: delta.number,
                    });
                }
                Output::Invoke { batch, .. } => {
                    let mut received = durable.received_texts.lock().unwrap();
                    let texts = received.entry(batch.target.id.to_string()).or_default();
                    for message in batch.messages.iter() {
                        let text = String::from_utf8(message.argument.value.to_vec());
                        texts.push(text.unwrap());
                    }
                    facts.push_back(Input::InvocationCompleted {
                        attempt: batch.attempt,
                        answer: FromFunction {
                            response: Some(Response::InvocationResult(
                                InvocationResponse::default(),
                            )),
                        },
                    });
                }
                Output::Read { shard, after } => {
                    if let Some(start) = port.waiting.lock().unwrap().remove(&shard) {
                        let _ = start.send(after);
                    }
                }
                Output::Plan { applied, .. } => {
                    if let Some(plan) = port.planning.lock().unwrap().take() {
                        let _ = plan.send(applied);
                    }
                }
                _ => {}
            }
        }
        if facts.is_empty() {
            facts.extend(inputs.try_recv().ok());
        }
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since_epoch.as_millis() as u64
}
