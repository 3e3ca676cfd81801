//! A real partition with its log in memory, which receives from a queue. Its functions record their
//! messages and send nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use satchel_aws::sqs::{
    QueueCommand, QueuePort, SqsError, SqsIngress, SqsMessage, SqsObserver, SqsOptions,
};
use satchel_engine::address::Address;
use satchel_engine::durable::Change;
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::Input;
use satchel_engine::output::{Delta, Output};
use satchel_engine::partition::{Config, Ownership, Partition, Recovery};
use satchel_engine::placement::Placement;
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};
use satchel_protocol::types::typed_value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Durable content, which outlives the partition.
#[derive(Clone, Default)]
pub(crate) struct Durable {
    changes: Arc<Mutex<Vec<Change>>>,
    /// Texts that each address received, in order. They are durable like a state.
    pub(crate) received_texts: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    /// Number of messages that SQS handed out.
    pub(crate) received: Arc<AtomicU64>,
    /// Blocks commits while it is true.
    pub(crate) stuck: Arc<watch::Sender<bool>>,
}

/// A partition and its ingress. Dropping it is a crash.
pub(crate) struct Running {
    partition: JoinHandle<()>,
    ingress: JoinHandle<Result<(), SqsError>>,
    paused: watch::Sender<bool>,
}

struct Port {
    commands: Mutex<Option<mpsc::UnboundedSender<QueueCommand>>>,
    paused: watch::Sender<bool>,
}

impl QueuePort for Port {
    fn listen(&self, _: Arc<str>) -> mpsc::UnboundedReceiver<QueueCommand> {
        let (commands, receiver) = mpsc::unbounded_channel();
        *self.commands.lock().unwrap() = Some(commands);
        receiver
    }

    fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }
}

struct Counting(Arc<AtomicU64>);

impl SqsObserver for Counting {
    fn received(&self, _: &str, messages: u64, _: u64) {
        self.0.fetch_add(messages, Ordering::SeqCst);
    }
    fn deleted(&self, _: &str, _: u64) {}
    fn lag(&self, _: &str, _: u64) {}
    fn backlog(&self, _: &str, _: u64, _: u64) {}
    fn failed(&self, _: &str, _: &str) {}
    fn retried(&self, _: &'static str, _: bool) {}
}

impl Durable {
    /// Starts a partition from the durable content, and an ingress for it. The body of a message is
    /// `address text`.
    pub(crate) fn start(&self, config: &aws_config::SdkConfig, options: SqsOptions) -> Running {
        let (inputs, received) = mpsc::channel(64);
        let port = Arc::new(Port {
            commands: Mutex::default(),
            paused: watch::Sender::new(false),
        });
        let router = |message: &SqsMessage| {
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            let (id, text) = body.split_once(' ').unwrap();
            let function = "example/taker".parse().unwrap();
            let value = typed_value("example/text", text.to_owned().into_bytes());
            Ok(vec![(Address::new(function, id), value)])
        };
        let observer = Arc::new(Counting(self.received.clone()));
        let ingress = SqsIngress::new(config, options, Arc::new(router), observer);
        Running {
            paused: port.paused.clone(),
            partition: tokio::spawn(run(self.clone(), received, port.clone())),
            ingress: tokio::spawn(ingress.run(inputs, port)),
        }
    }

    /// Number of durable message ids.
    pub(crate) fn ids(&self) -> usize {
        recovered(&self.changes.lock().unwrap())
            .gauges()
            .received_ids
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

    /// Pauses or resumes receiving.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }
}

fn recovered(changes: &[Change]) -> Partition {
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

/// Drives the partition. A message takes effect when its removal is durable. Both happen without a
/// pause in between, so that a crash comes before or after them.
async fn run(durable: Durable, mut inputs: mpsc::Receiver<Input>, port: Arc<Port>) {
    let mut partition = recovered(&durable.changes.lock().unwrap());
    let mut stuck = durable.stuck.subscribe();
    let mut facts = VecDeque::from([Input::TimeReached]);
    let mut sealed: Vec<Box<Delta>> = Vec::new();
    let mut answers: Vec<(String, String)> = Vec::new();
    loop {
        if !*stuck.borrow_and_update() {
            // All sealed deltas become durable, with their effects.
            let mut texts = durable.received_texts.lock().unwrap();
            for (id, text) in answers.drain(..) {
                texts.entry(id).or_default().push(text);
            }
            for delta in sealed.drain(..) {
                durable.changes.lock().unwrap().extend(delta.changes);
                facts.push_back(Input::CommitDurable {
                    number: delta.number,
                });
            }
        }
        let Some(fact) = facts.pop_front() else {
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => facts.push_back(input),
                    None => return,
                },
                _ = stuck.changed() => {}
            }
            continue;
        };
        partition.handle_input(now_ms(), fact);
        while let Some(output) = partition.poll_output() {
            match output {
                Output::Commit(delta) => sealed.push(delta),
                Output::Invoke { batch, .. } => {
                    for message in batch.messages.iter() {
                        let text = String::from_utf8(message.argument.value.to_vec()).unwrap();
                        answers.push((batch.target.id.to_string(), text));
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
                Output::Receive { .. } => port.send(QueueCommand::Receive),
                Output::Deletable { ids, .. } => port.send(QueueCommand::Deletable(ids)),
                _ => {}
            }
        }
    }
}

impl Port {
    fn send(&self, command: QueueCommand) {
        if let Some(commands) = &*self.commands.lock().unwrap() {
            let _ = commands.send(command);
        }
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since_epoch.as_millis() as u64
}
