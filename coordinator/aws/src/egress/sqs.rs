//! Egress to an SQS queue: any typed value, as described in [`super::content`].
//!
//! Attributes describe a message: `satchel-type` (the typename), `satchel-id` (the record's id)
//! and, if the body is base64, `satchel-encoding`. A FIFO queue gets the record's id as
//! deduplication id. A message that is sent again within five minutes is therefore in the queue
//! once. The order is kept within a message group.

mod message;
#[cfg(feature = "sdk")]
mod service;

use super::content::Selector;

pub use message::Message;
#[cfg(feature = "sdk")]
pub use service::SqsService;

/// Maximum size of a request, and thus of a message, in bytes, attributes included.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;

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
