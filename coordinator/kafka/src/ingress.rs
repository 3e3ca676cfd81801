//! Ingress from one topic.
//!
//! ```text
//!  metadata ─► partitions ─► durable positions ─► assign ─► records ─► RecordsRead
//!     ▲                                                         │
//!     └── every minute, and after an error about the topic ◄────┘
//! ```
//!
//! The coordinator assigns all partitions to itself and joins no consumer group. Positions are in
//! the commits of the partition. The consumer group, if there is one, is only informed of durable
//! positions; nothing depends on it.

mod consumer;
mod discovery;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use satchel_clock::Backoff;
use satchel_engine::address::Address;
use satchel_engine::input::{Input, Unroutable};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_engine::source::shards::Applied;
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::Connection;
use crate::error::KafkaError;
use crate::start::{Reset, Startup};
use reader::Reader;

/// Connection to the partition for reading. The loop around the partition implements it.
pub trait ReadingPort: Send + Sync + 'static {
    /// Waits for the partition's command to read `shard`. Must be called before the input that
    /// causes the answer is sent.
    fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition>;

    /// Waits for the durable positions of a topic's partitions. Must be called before
    /// `Input::StreamFound` is sent.
    fn expect_plan(&self, ingress: Arc<str>, topic: Arc<str>) -> oneshot::Receiver<Applied>;

    /// Watches whether reading is paused.
    fn paused(&self) -> watch::Receiver<bool>;
}

/// A record as it was read.
#[derive(Debug, Clone, Copy)]
pub struct RecordRead<'a> {
    /// Key; none for a record without a key.
    pub key: Option<&'a [u8]>,
    /// Value; none for a tombstone.
    pub value: Option<&'a Bytes>,
}

/// Routing of records: to messages, or the reason why there are none.
pub type Router =
    Arc<dyn Fn(RecordRead<'_>) -> Result<Vec<(Address, TypedValue)>, Unroutable> + Send + Sync>;

/// Receives metrics events.
pub trait KafkaObserver: Send + Sync + 'static {
    /// Number of records of a partition that were not read yet.
    fn lag(&self, partition: &ShardId, records: u64);

    /// This process stopped reading a partition.
    fn reading_ended(&self, partition: &ShardId);

    /// A request of an ingress failed, with a description of the failure. It is retried.
    fn failed(&self, ingress: &str, error: &str);

    /// A number of records was read, with the total size of their values in bytes.
    fn read(&self, partition: &ShardId, records: u64, bytes: u64);
}

/// Reaction if the retention has deleted unread records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiredPosition {
    /// Stop with an error that names the position.
    Stop,
    /// Log the loss, and continue with the oldest record.
    Earliest,
}

/// Options of an ingress.
#[derive(Clone)]
pub struct IngressOptions {
    /// The ingress's id, `namespace/name`.
    pub ingress: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// Brokers.
    pub connection: Connection,
    /// Consumer group that is informed of the positions; none to inform none.
    pub group: Option<String>,
    /// Start of partitions that were never read.
    pub startup: Startup,
    /// First record where the start names an offset that does not exist.
    pub reset: Reset,
    /// Reaction if the retention has deleted unread records.
    pub on_expired: ExpiredPosition,
    /// Interval at which the topic's partitions are listed.
    pub discovery_interval: Duration,
    /// Interval at which the group is informed.
    pub inform_interval: Duration,
}

/// Default interval at which a topic's partitions are listed.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(60);

/// Default interval at which the consumer group is informed.
pub const INFORM_INTERVAL: Duration = Duration::from_secs(5);

/// Reads one topic for one ingress.
pub struct KafkaIngress {
    options: Arc<IngressOptions>,
    router: Router,
    observer: Arc<dyn KafkaObserver>,
}

/// Reason why a reader returns.
#[derive(Debug)]
enum Stop {
    /// The partition has ended.
    PartitionClosed,
    /// The client is to be made anew, for this reason.
    Restart(String),
    /// An error that stops the ingress.
    Error(KafkaError),
}

impl From<KafkaError> for Stop {
    fn from(error: KafkaError) -> Self {
        Self::Error(error)
    }
}

impl KafkaIngress {
    /// Creates an ingress.
    pub fn new(options: IngressOptions, router: Router, observer: Arc<dyn KafkaObserver>) -> Self {
        Self {
            options: Arc::new(options),
            router,
            observer,
        }
    }

    /// Reads until the partition ends, that is, until the receiver of `inputs` is dropped.
    ///
    /// # Errors
    ///
    /// [`KafkaError`]: the topic does not exist, may not be read, or lost records.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Result<(), KafkaError> {
        let closed = inputs.clone();
        tokio::select! {
            read = self.read(inputs, reading) => read,
            () = closed.closed() => Ok(()),
        }
    }

    async fn read(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Result<(), KafkaError> {
        let mut backoff = Backoff::default();
        loop {
            let options = Arc::clone(&self.options);
            let (router, observer) = (Arc::clone(&self.router), Arc::clone(&self.observer));
            let (inputs, reading) = (inputs.clone(), Arc::clone(&reading));
            let reader = Reader::new(options, router, observer, inputs, reading);
            match reader.run(&mut backoff).await {
                Stop::PartitionClosed => return Ok(()),
                Stop::Error(error) => return Err(error),
                Stop::Restart(reason) => {
                    let (ingress, topic) = (&*self.options.ingress, &*self.options.topic);
                    tracing::warn!(
                        ingress,
                        topic,
                        reason,
                        "Kafka client failed; making a new one"
                    );
                    self.observer.failed(ingress, &reason);
                }
            }
            backoff.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_may_move_between_threads() {
        fn check<F: Future + Send>(
            run: impl Fn(KafkaIngress, mpsc::Sender<Input>, Arc<dyn ReadingPort>) -> F,
        ) {
            drop(run);
        }
        check(KafkaIngress::run);
    }
}
