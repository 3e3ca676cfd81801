//! Receiving from SQS queues for a partition.
//!
//! ```text
//!  ReceiveMessage ─► routed ─► MessagesReceived ─► (the partition: applied once, durable) ─► Deletable ─► DeleteMessageBatch
//!       ▲                │                                                                              │
//!       │                └── as long as it is not deleted: ChangeMessageVisibilityBatch                 ▼
//!       └──────────────── what is not deleted comes again ◄──────────────────────── failed     MessagesDeleted
//! ```
//!
//! A message is deleted only when what it became is durable; until then SQS keeps it, and hands it out again if this process dies. The
//! partition knows by its id what it has taken. What can not be routed is a dead letter of the application before it is deleted. So a queue's
//! own redrive policy moves only what no process has lived long enough to take, and `maxReceiveCount` should be 5 or more.
//!
//! In a FIFO queue a message group has its order: SQS hands out nothing of a group while something of it is neither deleted nor visible
//! again, and what was received together is applied in its order.

pub mod ingress;
pub mod message;

mod requests;

use std::sync::Arc;
use std::time::Duration;

use satchel_engine::address::Address;
use satchel_engine::input::Unroutable;
use satchel_engine::queue::QueuedId;
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, watch};

pub use ingress::{SqsError, SqsIngress, SqsOptions};
pub use message::{SqsMessage, SqsSelector};

/// For so long the partition knows what it took and has not seen deleted: the most that a queue keeps messages, and a day.
pub const UNCONFIRMED_KEEP: Duration = Duration::from_secs(15 * 24 * 60 * 60);

/// What the partition says of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueWord {
    /// It may be received from.
    Receive,
    /// These are to be deleted.
    Deletable(Vec<QueuedId>),
}

/// What the partition says about receiving; the loop around it hands it over.
pub trait QueuePort: Send + Sync + 'static {
    /// Hears what is said of the queue of this ingress; to be called before the partition is told that the queue was found.
    fn listen(&self, ingress: Arc<str>) -> mpsc::UnboundedReceiver<QueueWord>;

    /// Whether receiving is paused, now and later.
    fn paused(&self) -> watch::Receiver<bool>;
}

/// Where messages go: from a message to those of the application, or why there are none.
pub type SqsRouter =
    Arc<dyn Fn(&SqsMessage) -> Result<Vec<(Address, TypedValue)>, Unroutable> + Send + Sync>;

/// Is told what can be counted.
pub trait SqsObserver: Send + Sync + 'static {
    /// So many messages were received, and so many bytes in their bodies.
    fn received(&self, ingress: &str, messages: u64, bytes: u64);

    /// So many messages are deleted for good.
    fn deleted(&self, ingress: &str, messages: u64);

    /// How long ago the oldest message of the last answer was sent; 0 if there was none.
    fn lag(&self, ingress: &str, behind_ms: u64);

    /// About how many messages the queue has, as SQS says: visible, and received but not deleted.
    fn backlog(&self, ingress: &str, visible: u64, in_flight: u64);

    /// A request failed and is repeated. `throttled` when SQS asked for fewer requests.
    fn repeated(&self, operation: &'static str, throttled: bool);
}
