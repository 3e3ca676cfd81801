//! Messages of a queue: a source without an order of its own, which hands out again whatever is not deleted.
//!
//! A queue has no position. What has been applied is the set of the ids of its messages, each kept until the queue can not hand the message out
//! any more. Ids are facts like positions: in the delta of what the messages became.
//!
//! ```text
//!  received ─► applied, id kept ─► durable ─► Deletable ─► the ingress deletes ─► deleted, confirmed ─► a while later the id is forgotten
//!      ▲            │ died here: neither is known, it comes again      │ died or lost here: it comes again, its id is known
//!      └────────────┴──────────────────────────────────────────────────┘
//! ```

use std::fmt;
use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use crate::address::Address;
use crate::input::Unroutable;

/// Names a message of a queue for as long as the queue has it, however often it is handed out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueuedId(pub [u8; 16]);

/// A message of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedMessage {
    /// Its id.
    pub id: QueuedId,
    /// What the queue calls it, for people.
    pub name: Arc<str>,
    /// Where it goes: the messages it becomes, or why it becomes none.
    pub routed: Result<Vec<(Address, TypedValue)>, Unroutable>,
}

impl fmt::Display for QueuedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for QueuedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
