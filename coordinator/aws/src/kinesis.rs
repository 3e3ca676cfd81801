//! Reading Kinesis streams for a partition.
//!
//! ```text
//!  ListShards ─► ShardPlan ─► one reader a shard: GetRecords or SubscribeToShard ─► unpacked, routed ─► RecordsRead
//!                    ▲                    │ ShardEnded
//!                    └──── Read(End) ─────┘ when the end is durable
//! ```
//!
//! Whatever Kinesis answers or does not answer, reading goes on from what the partition was given last: nothing is lost, and what comes
//! twice is dropped by its position. The exceptions stop the ingress with an error that names them: see [`KinesisError`].

pub mod aggregation;
pub mod error;
pub mod ingress;

pub(crate) mod backoff;
mod fan_out;
mod hash_key;
mod poll;
mod requests;
mod shard;

use std::sync::Arc;

use bytes::Bytes;
use satchel_engine::address::Address;
use satchel_engine::input::Unroutable;
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{oneshot, watch};

pub use error::KinesisError;
pub use ingress::{ExpiredPosition, KinesisIngress, KinesisOptions};
pub use satchel_engine::source::shards::{Applied, Startup};

/// What the partition says about reading; the loop around it hands it over.
pub trait ReadingPort: Send + Sync + 'static {
    /// Waits for the word to read `shard`, or that its end is durable; to be called before the partition is told what it answers.
    fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition>;

    /// Waits for what is durable of a stream's shards; to be called before the partition is told that the stream was found.
    fn expect_plan(&self, ingress: Arc<str>, stream: Arc<str>) -> oneshot::Receiver<Applied>;

    /// Whether reading is paused, now and later.
    fn paused(&self) -> watch::Receiver<bool>;
}

/// Where records go: from key and data to messages, or why there are none.
pub type Router =
    Arc<dyn Fn(&str, &Bytes) -> Result<Vec<(Address, TypedValue)>, Unroutable> + Send + Sync>;

/// Is told what can be counted.
pub trait KinesisObserver: Send + Sync + 'static {
    /// How far a shard's reader is behind the shard's tip, as Kinesis says (`MillisBehindLatest`).
    fn lag(&self, shard: &ShardId, behind_ms: u64);

    /// A shard is read no more by this process.
    fn reading_ended(&self, shard: &ShardId);

    /// A request failed and is repeated. `throttled` when Kinesis asked for fewer requests.
    fn repeated(&self, operation: &'static str, throttled: bool);

    /// So many records were read, and so many bytes of data in them.
    fn read(&self, shard: &ShardId, records: u64, bytes: u64);
}
