//! Egress to an SNS topic: any typed value, as described in [`super::content`], with the attributes
//! of [`super::sqs`].
//!
//! A FIFO topic gets the record's id as deduplication id, and keeps the order within a message
//! group.

#[cfg(feature = "sdk")]
mod service;

use super::content::Selector;

#[cfg(feature = "sdk")]
pub use service::{Publication, SnsService};

/// Settings of an egress to SNS, from its module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnsSettings {
    /// ARN of the topic.
    pub topic_arn: String,
    /// Message group, within which a FIFO topic keeps the order.
    pub message_group_id: Option<Selector>,
    /// Subject of mails.
    pub subject: Option<Selector>,
    /// Attributes by name.
    pub attributes: Vec<(String, Selector)>,
}

impl SnsSettings {
    /// True if the topic is a FIFO topic, by its name.
    pub fn is_fifo(&self) -> bool {
        self.topic_arn.ends_with(".fifo")
    }
}
