//! Ingress from Kinesis streams.
//!
//! ```text
//!  ListShards ─► ShardPlan ─► one reader per shard ─► unpack, route ─► RecordsRead
//!                    ▲         (GetRecords or SubscribeToShard)
//!                    │                  │ ShardEnded
//!                    └──── Read(End) ───┘ when the end is durable
//! ```
//!
//! After any failure of Kinesis, reading continues from the last record that the partition
//! received. Nothing is lost, and the partition drops repeated records by their position. The
//! exceptions, named in [`KinesisError`], stop the ingress.

pub mod aggregation;
pub mod error;
#[cfg(feature = "sdk")]
pub mod ingress;

#[cfg(feature = "sdk")]
mod fan_out;
#[cfg(feature = "sdk")]
mod handed;
mod hash_key;
mod options;
#[cfg(feature = "sdk")]
pub(crate) mod pace;
#[cfg(feature = "sdk")]
mod poll;
#[cfg(feature = "sdk")]
mod reading;
#[cfg(feature = "sdk")]
mod requests;
#[cfg(feature = "sdk")]
mod shard;

use std::sync::Arc;

use bytes::Bytes;
use satchel_engine::address::Address;
use satchel_engine::input::Unroutable;
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, oneshot, watch};

pub use aggregation::Aggregation;
pub use error::KinesisError;
#[cfg(feature = "sdk")]
pub use ingress::KinesisIngress;
pub use options::{ExpiredPosition, KinesisOptions};
pub use satchel_engine::source::shards::{Applied, Startup};

/// Shard that another partition handed over, and its applied position.
pub type HandedShard = (Arc<str>, ShardPosition);

/// Shards of a stream that another partition hands to this one.
#[derive(Debug)]
pub struct HandedShards {
    /// Those that are to be read now.
    pub known: Vec<HandedShard>,
    /// Those that come later. A known one may come again.
    pub more: mpsc::UnboundedReceiver<HandedShard>,
}

/// Connection to the partition for reading. The loop around the partition implements it.
pub trait ReadingPort: Send + Sync + 'static {
    /// Waits for the partition's command to read `shard`, or for the notice that its end is
    /// durable. Must be called before the input that causes the answer is sent.
    fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition>;

    /// Waits for the durable positions of a stream's shards. Must be called before
    /// `Input::StreamFound` is sent.
    fn expect_plan(&self, ingress: Arc<str>, stream: Arc<str>) -> oneshot::Receiver<Applied>;

    /// Watches whether reading is paused.
    fn paused(&self) -> watch::Receiver<bool>;
}

/// Routing of records: from key and data to messages, or the reason why there are none.
pub type Router =
    Arc<dyn Fn(&str, &Bytes) -> Result<Vec<(Address, TypedValue)>, Unroutable> + Send + Sync>;

/// Receives metrics events.
pub trait KinesisObserver: Send + Sync + 'static {
    /// Delay of a shard's reader behind the tip of the shard, as reported by Kinesis
    /// (`MillisBehindLatest`).
    fn lag(&self, shard: &ShardId, behind_ms: u64);

    /// This process stopped reading a shard.
    fn reading_ended(&self, shard: &ShardId);

    /// A request failed and is retried. `throttled` is true if Kinesis throttled it.
    fn retried(&self, operation: &'static str, throttled: bool);

    /// A request of an ingress failed, with a description of the failure. It is retried.
    fn failed(&self, ingress: &str, error: &str);

    /// A number of records was read, with the total size of their data in bytes.
    fn read(&self, shard: &ShardId, records: u64, bytes: u64);

    /// A number of records in aggregates was dropped, because they belong to another shard and
    /// their producer sends them there again.
    fn dropped(&self, shard: &ShardId, records: u64);
}
