//! Egresses: delivery of the outbox to services.
//!
//! The partition hands over a record only when it is durable, and keeps it until the egress
//! acknowledges or refuses it.

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod local_record;
pub mod local_stream;
pub mod ownership;
pub mod playground;
#[cfg(not(feature = "kafka"))]
mod without_kafka;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
#[cfg(feature = "aws")]
use satchel_aws::egress::destination::AwsEgress;
use satchel_clock::BootTime;
use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use tokio::sync::{mpsc, watch};

use crate::error::Failure;
use crate::metrics::Metrics;

#[cfg(feature = "kafka")]
use kafka::KafkaTopics;
use local_stream::LocalStreamEgress;
use ownership::EpochWatch;
use playground::PlaygroundTopics;

#[cfg(feature = "kafka")]
pub use kafka::kafka_egress;
#[cfg(not(feature = "kafka"))]
pub use without_kafka::kafka_egress;

/// Adapter of one egress.
#[derive(Debug, Clone)]
pub enum Egress {
    /// Streams of this machine, in the place of a service.
    LocalStream(LocalStreamEgress),
    /// Topics from which clients take the records.
    Playground(PlaygroundTopics),
    /// Topics of Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaTopics>),
    /// A service of AWS.
    #[cfg(feature = "aws")]
    Aws(Box<AwsEgress>),
}

impl Egress {
    /// True if no other partition may write to the same place. An egress that finds its own records
    /// again by key and content would take those of another partition for its own.
    #[must_use]
    pub fn needs_one_writer(&self) -> bool {
        match self {
            Self::LocalStream(_) | Self::Playground(_) => false,
            // Each partition has a transactional id of its own.
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => false,
            #[cfg(feature = "aws")]
            Self::Aws(egress) => egress.recognizes_by_content(),
        }
    }

    /// Delivers until the inbox ends.
    ///
    /// # Errors
    ///
    /// A problem that retries cannot solve: unusable AWS settings, or marks that this software does
    /// not understand.
    pub async fn run(self, context: EgressContext, inbox: EgressInbox) -> Result<(), Failure> {
        match self {
            Self::LocalStream(egress) => {
                egress.run(&context, inbox.emissions).await;
                Ok(())
            }
            Self::Playground(topics) => {
                topics.run(&context, inbox.emissions).await;
                Ok(())
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(topics) => topics.run(context, inbox).await,
            #[cfg(feature = "aws")]
            Self::Aws(egress) => Ok(aws::run(*egress, context, inbox).await?),
        }
    }
}

/// Connection of an egress to its partition.
pub struct EgressContext {
    /// Id of the egress, `namespace/name`.
    pub id: Arc<str>,
    /// Name of the producer. No other root, partition or egress ever uses it.
    pub writer: String,
    /// Sender to the partition.
    pub inputs: mpsc::UnboundedSender<Input>,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// State that the former owner left of this egress.
    pub inherited: Inherited,
    /// Time at which this process took the partition over, or later.
    pub taken_over: BootTime,
    /// Freshness of the ownership.
    pub ownership: Arc<EpochWatch>,
}

/// State of an egress at a takeover.
#[derive(Debug, Clone, Default)]
pub struct Inherited {
    /// Numbers of the records in the outbox.
    pub outbox: BTreeSet<u64>,
    /// Marks by name, which only the egress understands.
    pub marks: Vec<(Arc<str>, Bytes)>,
}

/// Receivers of what the partition sends to one egress.
pub struct EgressInbox {
    /// Records to deliver, in order.
    pub emissions: mpsc::UnboundedReceiver<Emission>,
    /// Becomes true when the marks that the egress waits for are durable.
    pub marks_durable: watch::Receiver<bool>,
}

/// Senders to all egresses of an application.
pub struct Egresses {
    queues: HashMap<Arc<str>, Queue>,
    inputs: mpsc::UnboundedSender<Input>,
    metrics: Metrics,
}

struct Queue {
    emissions: mpsc::UnboundedSender<Emission>,
    marks_durable: watch::Sender<bool>,
}

impl Egresses {
    /// Creates a set without egresses. `inputs` leads to the partition.
    pub fn new(inputs: mpsc::UnboundedSender<Input>, metrics: Metrics) -> Self {
        Self {
            queues: HashMap::new(),
            inputs,
            metrics,
        }
    }

    /// Adds the egress `id`, `namespace/name`.
    pub fn add(&mut self, id: Arc<str>) -> EgressInbox {
        let (emissions, received) = mpsc::unbounded_channel();
        let (marks_durable, watched) = watch::channel(false);
        let queue = Queue {
            emissions,
            marks_durable,
        };
        self.queues.insert(id, queue);
        EgressInbox {
            emissions: received,
            marks_durable: watched,
        }
    }

    /// Reports that the marks which this egress waits for are durable.
    pub fn marks_durable(&self, egress: &str) {
        if let Some(queue) = self.queues.get(egress) {
            queue.marks_durable.send_replace(true);
        }
    }

    /// Hands records to their egresses, in order. The partition's limit for its outbox bounds the
    /// queues.
    pub fn emit(&self, emissions: Vec<Emission>) {
        for emission in emissions {
            match self.queues.get(&emission.egress) {
                Some(queue) => {
                    self.metrics.observe_egress_emitted(&emission.egress, 1);
                    // The task of an egress ends only with the process.
                    let _ = queue.emissions.send(emission);
                }
                None => {
                    // The module that declared the egress was removed after the record was made.
                    self.metrics.observe_egress_refused(&emission.egress);
                    let reason = format!("no egress is named {}", emission.egress);
                    let number = emission.number;
                    let _ = self.inputs.send(Input::EgressRefused { number, reason });
                }
            }
        }
    }
}
