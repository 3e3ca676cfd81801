//! Egress to an SNS topic: any typed value, as described in [`super::content`], with the attributes
//! of [`super::sqs`].
//!
//! A FIFO topic gets the record's id as deduplication id, and keeps the order within a message
//! group.

#[cfg(feature = "sdk")]
mod service;

use satchel_engine::output::Emission;

use super::content::{Content, Selector};

#[cfg(feature = "sdk")]
pub use service::{Publication, SnsService};

/// Maximum length of a subject.
const SUBJECT_CHARACTERS_MAX: usize = 99;

/// Default maximum size of a request to a topic, and thus of a message, in bytes, attributes
/// included.
pub const PUBLICATION_BYTES_MAX: usize = 256 << 10;

/// Largest value of a topic's attribute `MaximumMessageSize`.
pub const PUBLICATION_BYTES_MAX_LARGE: usize = 1 << 20;

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
    /// The topic's `MaximumMessageSize`: maximum size of a request, in bytes.
    pub message_bytes_max: usize,
}

impl SnsSettings {
    /// True if the topic is a FIFO topic, by its name.
    pub fn is_fifo(&self) -> bool {
        self.topic_arn.ends_with(".fifo")
    }

    /// Subject of a record's message, if the topic has subjects.
    ///
    /// # Errors
    ///
    /// The record has none, or SNS does not allow it.
    pub fn subject(&self, emission: &Emission) -> Result<Option<String>, String> {
        let Some(subject) = &self.subject else {
            return Ok(None);
        };
        let subject = subject.select(emission, &Content::of(emission)?)?;
        let allowed = subject
            .chars()
            .all(|character| character == ' ' || character.is_ascii_graphic());
        if !allowed || subject.len() > SUBJECT_CHARACTERS_MAX {
            return Err(format!(
                "{subject:?} is not a subject: it should have at most {SUBJECT_CHARACTERS_MAX} \
                characters of ASCII, in one line"
            ));
        }
        Ok(Some(subject))
    }
}
