//! A stand-in for a partition: an outbox, marks, and a log to which both are committed now and
//! then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
use satchel_aws::egress::destination::{AwsEgress, Destination, Owner};
use satchel_aws::egress::kinesis::exactly_once::{Inherited, Ownership};
use satchel_aws::egress::{EgressHandle, Observer};
use satchel_aws::secret::Secret;
use satchel_clock::BootTime;
use satchel_engine::input::Input;
use satchel_engine::message::MessageId;
use satchel_engine::output::Emission;
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Maximum time of any step, also on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Region and credentials for the server at `endpoint`.
pub(crate) fn access(endpoint: &str) -> AwsAccess {
    AwsAccess {
        region: AwsRegion::CustomEndpoint {
            endpoint: endpoint.to_owned(),
            region: "us-east-1".to_owned(),
        },
        credentials: AwsCredentials::Basic {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("example"),
        },
    }
}

/// An emitted record.
pub(crate) fn emission(number: u64, value: TypedValue) -> Emission {
    let mut id = [0x5a; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Emission {
        number,
        id: MessageId(id),
        egress: "example/out".into(),
        value,
        trace: None,
    }
}

#[derive(Debug, Default)]
struct Always(AtomicU64);

impl Ownership for Always {
    fn confirmed_ago(&self) -> Duration {
        Duration::ZERO
    }
}

impl Observer for Always {
    fn delivered(&self, _egress: &str, _records: u64) {}

    fn refused(&self, _egress: &str) {}

    fn retried(&self, _egress: &str, records: u64, _reason: &str) {
        self.0.fetch_add(records, Ordering::Relaxed);
    }
}

/// Durable content, or the content in memory of the running process.
#[derive(Debug, Clone, Default)]
struct Facts {
    outbox: BTreeMap<u64, Emission>,
    marks: BTreeMap<Arc<str>, Bytes>,
    refused: BTreeMap<u64, String>,
}

/// Stand-in for a partition.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    durable: Facts,
    known: Facts,
    /// Time since the takeovers.
    taken_over_ago: Duration,
    /// Notifies the running egress that its marks are durable.
    marks_durable: Option<watch::Sender<bool>>,
}

/// A running egress of the partition.
pub(crate) struct Running {
    emissions: mpsc::UnboundedSender<Emission>,
    facts: mpsc::UnboundedReceiver<Input>,
    task: JoinHandle<()>,
    observer: Arc<Always>,
}

impl Outbox {
    /// An empty outbox, whose owners run for this long when their egress starts.
    pub(crate) fn taken_over_ago(taken_over_ago: Duration) -> Self {
        Self {
            taken_over_ago,
            ..Self::default()
        }
    }

    /// Takes the partition over, runs the egress, and hands it the durable records again.
    pub(crate) fn start(&mut self, endpoint: &str, destination: Destination) -> Running {
        let running = self.start_held(endpoint, destination);
        for emission in self.known.outbox.values() {
            running.emissions.send(emission.clone()).unwrap();
        }
        running
    }

    /// Takes the partition over and runs the egress, without handing it any record.
    pub(crate) fn start_held(&mut self, endpoint: &str, destination: Destination) -> Running {
        self.known = self.durable.clone();
        let (emissions, receiver) = mpsc::unbounded_channel();
        let (facts_sender, facts) = mpsc::unbounded_channel();
        let observer = Arc::new(Always::default());
        let (sender, marks_durable) = watch::channel(false);
        self.marks_durable = Some(sender);
        let handle = EgressHandle {
            id: "example/out".into(),
            facts: facts_sender,
            observer: Arc::clone(&observer) as Arc<_>,
            seed: 7,
        };
        let owner = Owner {
            writer: "root-0-example/out".to_owned(),
            inherited: Inherited {
                numbers: self.known.outbox.keys().copied().collect(),
                marks: self.known.marks.clone().into_iter().collect(),
            },
            taken_over: BootTime::now()
                .checked_sub(self.taken_over_ago)
                .expect("this machine runs for longer"),
            ownership: Arc::new(Always::default()),
            marks_durable,
        };
        let egress = AwsEgress {
            access: access(endpoint),
            destination,
        };
        let task = tokio::spawn(async move { egress.run(handle, owner, receiver).await.unwrap() });
        Running {
            emissions,
            facts,
            task,
            observer,
        }
    }

    /// Makes a record durable and hands it over.
    pub(crate) fn emit(&mut self, running: &Running, emission: Emission) {
        self.known.outbox.insert(emission.number, emission.clone());
        self.commit();
        running.emissions.send(emission).unwrap();
    }

    /// Makes a record durable without handing it over, as if its owner died before.
    pub(crate) fn inherit(&mut self, emission: Emission) {
        self.durable.outbox.insert(emission.number, emission);
    }

    /// Makes everything durable.
    pub(crate) fn commit(&mut self) {
        self.durable = self.known.clone();
    }

    /// Drops the outbox, as lifting a fork's hold may do, while its records are in doubt for a
    /// running egress.
    pub(crate) fn drop_all(&mut self) {
        self.known.outbox.clear();
        self.commit();
    }

    /// Applies facts until at most `left` records are in the outbox.
    pub(crate) async fn until(&mut self, running: &mut Running, left: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.known.outbox.len() > left {
            let fact = tokio::time::timeout_at(deadline, running.facts.recv()).await;
            let fact = fact.unwrap_or_else(|_| panic!("{} are left", self.known.outbox.len()));
            self.apply(fact.expect("the egress runs"));
        }
    }

    fn apply(&mut self, fact: Input) {
        match fact {
            Input::EgressAcked { numbers } => self.acked(&numbers),
            Input::EgressMarked {
                numbers,
                marks,
                confirm,
                ..
            } => {
                self.acked(&numbers);
                for mark in marks {
                    match mark.value {
                        Some(value) => self.known.marks.insert(mark.name, value),
                        None => self.known.marks.remove(&mark.name),
                    };
                }
                if confirm {
                    self.commit();
                    if let Some(marks_durable) = &self.marks_durable {
                        marks_durable.send_replace(true);
                    }
                }
            }
            Input::EgressRefused { number, reason } => {
                self.acked(&[number]);
                self.known.refused.insert(number, reason);
            }
            other => panic!("an egress does not send {other:?}"),
        }
    }

    /// Applies facts until the egress has set the mark `name`, and makes it durable.
    pub(crate) async fn until_marked(&mut self, running: &mut Running, name: &str) {
        while !self.known.marks.contains_key(name) {
            let fact = tokio::time::timeout(PATIENCE, running.facts.recv()).await;
            self.apply(fact.unwrap().expect("the egress runs"));
        }
        self.commit();
    }

    /// Refused records, with the reasons.
    pub(crate) fn refused(&self) -> &BTreeMap<u64, String> {
        &self.known.refused
    }

    fn acked(&mut self, numbers: &[u64]) {
        for number in numbers {
            let removed = self.known.outbox.remove(number);
            assert!(removed.is_some(), "{number} is acknowledged once");
        }
    }
}

impl Running {
    /// Stops the egress as a crash would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Number of times that a record was not accepted.
    pub(crate) fn retried(&self) -> u64 {
        self.observer.0.load(Ordering::Relaxed)
    }
}
