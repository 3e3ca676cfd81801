//! A real partition whose log is in memory, and that receives from a queue. Its functions take note of what they get and answer nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use satchel_aws::sqs::{
    QueuePort, QueueWord, SqsError, SqsIngress, SqsMessage, SqsObserver, SqsOptions,
};
use satchel_engine::address::Address;
use satchel_engine::durable::Change;
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, OnPoison, Retries};
use satchel_engine::input::Input;
use satchel_engine::output::{Delta, Output};
use satchel_engine::partition::{Config, Ownership, Partition, Recovery};
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};
use satchel_protocol::types::typed_value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What is durable: it outlives the partition.
#[derive(Clone, Default)]
pub(crate) struct Durable {
    changes: Arc<Mutex<Vec<Change>>>,
    /// The texts that each address got, in order; an effect that is durable, as a state would be.
    pub(crate) got: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    /// How many messages SQS handed out.
    pub(crate) received: Arc<AtomicU64>,
    /// Nothing becomes durable as long as this is so.
    pub(crate) stuck: Arc<watch::Sender<bool>>,
}

/// A partition and the ingress that receives for it. Dropping it is a crash.
pub(crate) struct Running {
    partition: JoinHandle<()>,
    ingress: JoinHandle<Result<(), SqsError>>,
    paused: watch::Sender<bool>,
}

struct Port {
    words: Mutex<Option<mpsc::UnboundedSender<QueueWord>>>,
    paused: watch::Sender<bool>,
}

impl QueuePort for Port {
    fn listen(&self, _: Arc<str>) -> mpsc::UnboundedReceiver<QueueWord> {
        let (words, heard) = mpsc::unbounded_channel();
        *self.words.lock().unwrap() = Some(words);
        heard
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
    fn repeated(&self, _: &'static str, _: bool) {}
}

impl Durable {
    /// Starts a partition with what is durable, and an ingress for it. The body of a message is `address text`.
    pub(crate) fn start(&self, config: &aws_config::SdkConfig, options: SqsOptions) -> Running {
        let (inputs, received) = mpsc::channel(64);
        let port = Arc::new(Port {
            words: Mutex::default(),
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

    /// How many ids are durable.
    pub(crate) fn ids(&self) -> usize {
        recovered(&self.changes.lock().unwrap())
            .gauges()
            .received_ids
    }
}

impl Running {
    /// The process dies.
    pub(crate) async fn crash(self) {
        self.partition.abort();
        self.ingress.abort();
        let _ = self.partition.await;
        let _ = self.ingress.await;
    }

    /// Pauses receiving, or lets it go on.
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
        retries: Retries {
            attempts_max: 3,
            backoff_initial_ms: 100,
            backoff_max_ms: 1000,
        },
        on_poison: OnPoison::DeadLetter,
    };
    let mut recovery = Recovery::new(Config {
        buckets: 4,
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

/// The loop around the partition. A message takes effect when its removal is durable, both without a pause in between: a crash is before or after.
async fn run(durable: Durable, mut inputs: mpsc::Receiver<Input>, port: Arc<Port>) {
    let mut partition = recovered(&durable.changes.lock().unwrap());
    let mut stuck = durable.stuck.subscribe();
    let mut facts = VecDeque::from([Input::TimeReached]);
    let mut sealed: Vec<Box<Delta>> = Vec::new();
    let mut answers: Vec<(String, String)> = Vec::new();
    loop {
        if !*stuck.borrow_and_update() {
            // Everything that is sealed becomes durable, with the effects that it holds.
            let mut got = durable.got.lock().unwrap();
            for (id, text) in answers.drain(..) {
                got.entry(id).or_default().push(text);
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
                Output::Receive { .. } => port.say(QueueWord::Receive),
                Output::Deletable { ids, .. } => port.say(QueueWord::Deletable(ids)),
                _ => {}
            }
        }
    }
}

impl Port {
    fn say(&self, word: QueueWord) {
        if let Some(words) = &*self.words.lock().unwrap() {
            let _ = words.send(word);
        }
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since_epoch.as_millis() as u64
}
