//! Messages of a queue: a source without an order of its own, which redelivers every message that
//! is not deleted.
//!
//! A queue has no position. The partition instead stores the ids of the messages that it has
//! applied. It keeps each id until the queue can no longer redeliver the message. Ids are facts
//! like positions: an id is in the delta of the messages that its message became.
//!
//! ```text
//!  received ─► applied, id kept ─► durable ─► Deletable ─► the ingress deletes ─► confirmed
//!      ▲            │                             │                                   │
//!      │            │ crash: neither is known,    │ crash or failed deletion:         ▼
//!      │            │ redelivered                 │ redelivered, its id is known   id forgotten
//!      └────────────┴─────────────────────────────┘                               after a while
//! ```

use std::fmt;
use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use crate::address::Address;
use crate::hex::Hex;
use crate::message::Unroutable;
use crate::trace::TraceParent;

/// Names a message of a queue as long as the queue holds it, over all its deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueuedId(pub [u8; 16]);

/// A message of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedMessage {
    /// Id of the message.
    pub id: QueuedId,
    /// Name given by the queue, shown to operators.
    pub name: Arc<str>,
    /// The messages that the message becomes, or the reason why it becomes none.
    pub routed: Result<Vec<(Address, TypedValue)>, Unroutable>,
    /// Trace context of the message.
    pub trace: Option<TraceParent>,
}

impl fmt::Display for QueuedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for QueuedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
