//! Ingresses: sources of messages for a partition, each supervised by itself.

pub mod incarnations;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "aws")]
pub mod kinesis;
pub mod local_stream;
pub mod queue_routing;
pub mod reading;
pub mod routing;
#[cfg(feature = "aws")]
pub mod sqs;
pub mod supervise;
#[cfg(not(feature = "aws"))]
mod without_aws;
#[cfg(not(feature = "kafka"))]
mod without_kafka;

use std::sync::Arc;

use satchel_engine::input::Input;
use tokio::sync::mpsc;

use crate::sources::{SourceId, SourceStopped};

use incarnations::Incarnations;
#[cfg(feature = "kafka")]
use kafka::KafkaTopic;
#[cfg(feature = "aws")]
use kinesis::KinesisStream;
use local_stream::LocalStreamIngress;
use reading::Reading;
#[cfg(feature = "aws")]
use sqs::SqsQueue;

#[cfg(feature = "aws")]
pub use {kinesis::kinesis_ingresses, sqs::sqs_ingresses};

#[cfg(feature = "kafka")]
pub use kafka::kafka_ingresses;
#[cfg(not(feature = "aws"))]
pub use without_aws::{kinesis_ingresses, sqs_ingresses};
#[cfg(not(feature = "kafka"))]
pub use without_kafka::kafka_ingresses;

/// Adapter of one stream or queue of an ingress.
#[derive(Clone)]
pub enum Ingress {
    /// Stream on this machine.
    LocalStream(LocalStreamIngress),
    /// Topic of Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaTopic>),
    /// Stream of Amazon Kinesis.
    #[cfg(feature = "aws")]
    Kinesis(Box<KinesisStream>),
    /// Queue of Amazon SQS.
    #[cfg(feature = "aws")]
    Sqs(Box<SqsQueue>),
}

impl Ingress {
    /// Name of the stream or queue.
    pub fn source(&self) -> SourceId {
        match self {
            Self::LocalStream(stream) => stream.source(),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.source(),
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => stream.source(),
            #[cfg(feature = "aws")]
            Self::Sqs(queue) => queue.source(),
        }
    }

    /// Reader for what the `home` of the source hands to another partition, if it hands anything.
    pub fn handed_to(
        &self,
        partition: u32,
        #[cfg_attr(not(feature = "aws"), expect(unused))] home: u32,
    ) -> Option<Self> {
        match self {
            Self::LocalStream(stream) => stream.handed_to(partition).map(Self::LocalStream),
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => Some(Self::Kinesis(Box::new(stream.handed(partition, home)))),
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => None,
            #[cfg(feature = "aws")]
            Self::Sqs(_) => None,
        }
    }

    /// Id of the ingress, `namespace/name`.
    pub fn id(&self) -> &str {
        match self {
            Self::LocalStream(stream) => &stream.ingress,
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.id(),
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => stream.id(),
            #[cfg(feature = "aws")]
            Self::Sqs(queue) => queue.id(),
        }
    }

    /// Reads until the partition is gone. `names` are those of the partitions, which
    /// registrations with other services bear.
    ///
    /// # Errors
    ///
    /// A problem of the source that the process cannot solve: it is damaged, missing or forbidden,
    /// or records were lost before they were read.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
        #[cfg_attr(not(feature = "aws"), expect(unused))] names: Incarnations,
    ) -> Result<(), SourceStopped> {
        match self {
            Self::LocalStream(stream) => stream.run(inputs, reading).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.run(inputs, reading).await,
            #[cfg(feature = "aws")]
            Self::Sqs(queue) => queue.run(inputs, reading).await,
            #[cfg(feature = "aws")]
            Self::Kinesis(stream) => stream.run(inputs, reading, names).await,
        }
    }
}

/// Name of a stream as a source, and of the partition to which its home hands shards.
fn stream_source(stream: &str, handed_to: Option<u32>) -> Arc<str> {
    match handed_to {
        None => format!("stream {stream}").into(),
        Some(partition) => format!("stream {stream}, partition {partition}").into(),
    }
}
