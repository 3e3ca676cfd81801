//! Ingress from SQS queues.
//!
//! ```text
//!  ReceiveMessage ─► route ─► MessagesReceived ─► partition: applied once, durable
//!       ▲              │                                │ Deletable
//!       │              │ until deleted:                 ▼
//!       │              │ ChangeMessageVisibilityBatch  DeleteMessageBatch ─► MessagesDeleted
//!       │              ▼                                │ failed
//!       └──────────────┴────────────────────────────────┘ an undeleted message comes again
//! ```
//!
//! A message is deleted only when its effects are durable. Until then SQS keeps it, and hands it
//! out again if this process dies. The partition recognizes an applied message by its id.
//!
//! A message that cannot be routed becomes a dead letter of the application before it is deleted. A
//! queue's own redrive policy therefore moves only messages that no process lived long enough to
//! accept, and `maxReceiveCount` should be 5 or more.
//!
//! In a FIFO queue a message group has an order. SQS hands out nothing of a group while one of its
//! messages is neither deleted nor visible again. Messages that were received together are applied
//! in their order.

#[cfg(feature = "sdk")]
pub mod ingress;
pub mod message;

mod options;
#[cfg(feature = "sdk")]
mod requests;

use std::sync::Arc;
use std::time::Duration;

use satchel_engine::address::Address;
use satchel_engine::input::Unroutable;
use satchel_engine::queue::QueuedId;
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, watch};

#[cfg(feature = "sdk")]
pub use ingress::{SqsError, SqsIngress};
pub use message::{SqsMessage, SqsSelector};
pub use options::SqsOptions;

/// Time for which the partition remembers an accepted message whose deletion is unconfirmed: the
/// maximum retention of a queue, and a day.
pub const UNCONFIRMED_KEEP: Duration = Duration::from_secs(15 * 24 * 60 * 60);

/// Command of the partition for a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueCommand {
    /// Receiving may start.
    Receive,
    /// These messages must be deleted.
    Deletable(Vec<QueuedId>),
}

/// Connection to the partition for receiving. The loop around the partition implements it.
pub trait QueuePort: Send + Sync + 'static {
    /// Subscribes to the commands for the queue of this ingress. Must be called before
    /// [`satchel_engine::input::Input::QueueFound`] is sent.
    fn listen(&self, ingress: Arc<str>) -> mpsc::UnboundedReceiver<QueueCommand>;

    /// Watches whether receiving is paused.
    fn paused(&self) -> watch::Receiver<bool>;
}

/// Routing of messages: from a queue's message to those of the application, or the reason why there
/// are none.
pub type SqsRouter =
    Arc<dyn Fn(&SqsMessage) -> Result<Vec<(Address, TypedValue)>, Unroutable> + Send + Sync>;

/// Receives metrics events.
pub trait SqsObserver: Send + Sync + 'static {
    /// A number of messages was received, with the total size of their bodies in bytes.
    fn received(&self, ingress: &str, messages: u64, bytes: u64);

    /// A number of messages was deleted from the queue.
    fn deleted(&self, ingress: &str, messages: u64);

    /// Age of the oldest message of the last response; 0 if there was none.
    fn lag(&self, ingress: &str, behind_ms: u64);

    /// Approximate number of messages in the queue, as reported by SQS: visible, and received but
    /// not deleted.
    fn backlog(&self, ingress: &str, visible: u64, in_flight: u64);

    /// A request of an ingress failed, with a description of the failure. It is retried.
    fn failed(&self, ingress: &str, error: &str);

    /// A request failed and is retried. `throttled` is true if SQS throttled it.
    fn retried(&self, operation: &'static str, throttled: bool);
}
