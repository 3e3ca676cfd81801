//! Egress to an SQS queue: any typed value, as described in [`super::content`].
//!
//! Attributes describe a message: `satchel-type` (the typename), `satchel-id` (the record's id)
//! and, if the body is base64, `satchel-encoding`. A FIFO queue gets the record's id as
//! deduplication id. A message that is sent again within five minutes is therefore in the queue
//! once. The order is kept within a message group.

#[cfg(feature = "sdk")]
mod service;

use super::content::Selector;

#[cfg(feature = "sdk")]
pub use service::{Message, SqsService};

/// Settings of an egress to SQS, from its module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsSettings {
    /// URL of the queue.
    pub queue_url: String,
    /// Message group, within which a FIFO queue keeps the order.
    pub message_group_id: Option<Selector>,
    /// Attributes by name.
    pub attributes: Vec<(String, Selector)>,
}

impl SqsSettings {
    /// True if the queue is a FIFO queue, by its name.
    pub fn is_fifo(&self) -> bool {
        self.queue_url.ends_with(".fifo")
    }
}
