//! Options of the ingress.

use std::sync::Arc;
use std::time::Duration;

use satchel_engine::source::shards::Startup;

use super::aggregation::Aggregation;

/// Options of an ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisOptions {
    /// The ingress's id, `namespace/name`.
    pub ingress: Arc<str>,
    /// The stream's name.
    pub stream: Arc<str>,
    /// Position at which a stream that was never read is started.
    pub startup: Startup,
    /// Reaction if the retention has deleted unread records.
    pub on_expired: ExpiredPosition,
    /// Treatment of records in aggregates that belong to another shard.
    pub aggregation: Aggregation,
    /// Name under which a consumer is registered for enhanced fan-out. None to poll.
    pub consumer: Option<String>,
    /// Interval between reads of a shard. Kinesis allows five reads a second for all readers
    /// together.
    pub read_interval: Duration,
    /// Maximum number of records per read, up to 10,000.
    pub records_per_read: i32,
    /// Interval at which shards are listed when nothing indicates new ones.
    pub list_interval: Duration,
    /// Maximum number of responses in memory, each of up to 10 MB.
    pub answers_max: usize,
}

/// Reaction if the retention has deleted unread records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpiredPosition {
    /// Stop with an error that names the position.
    #[default]
    Stop,
    /// Log the loss, and continue with the oldest record.
    Earliest,
}

impl KinesisOptions {
    /// Options to read `stream` for `ingress` from its newest record on, by polling.
    pub fn new(ingress: impl Into<Arc<str>>, stream: impl Into<Arc<str>>) -> Self {
        Self {
            ingress: ingress.into(),
            stream: stream.into(),
            startup: Startup::Latest,
            on_expired: ExpiredPosition::Stop,
            aggregation: Aggregation::default(),
            consumer: None,
            read_interval: Duration::from_millis(200),
            records_per_read: 10_000,
            list_interval: Duration::from_secs(20),
            answers_max: 16,
        }
    }
}
