//! An egress as its module file describes it.

#[cfg(feature = "sdk")]
mod run;

use super::dynamodb::DynamoDbSettings;
use super::eventbridge::EventBridgeSettings;
use super::kinesis::KinesisSettings;
use super::kinesis::envelope::Envelope;
use super::lambda::LambdaSettings;
use super::sns::SnsSettings;
use super::sqs::SqsSettings;
use crate::config::AwsAccess;

#[cfg(feature = "sdk")]
pub use run::{EgressError, Owner};

/// An egress to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsEgress {
    /// Region and credentials.
    pub access: AwsAccess,
    /// Service and its settings.
    pub destination: Destination,
}

impl AwsEgress {
    /// True if it finds its own records again by their key and content. Those of another writer to
    /// the same stream would count as its own.
    #[must_use]
    pub fn recognizes_by_content(&self) -> bool {
        match &self.destination {
            Destination::Kinesis(settings, Delivery::ExactlyOnce) => {
                settings.envelope == Envelope::None
            }
            _ => false,
        }
    }
}

/// Service that receives the records, with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Kinesis streams. Each record names its stream.
    Kinesis(KinesisSettings, Delivery),
    /// A queue.
    Sqs(SqsSettings),
    /// A topic.
    Sns(SnsSettings),
    /// An event bus.
    EventBridge(EventBridgeSettings),
    /// A table.
    DynamoDb(DynamoDbSettings),
    /// A function.
    Lambda(LambdaSettings),
}

/// Delivery guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Each record is delivered once, or more often if a response is lost or a process dies.
    #[default]
    AtLeastOnce,
    /// Each record is delivered once, within the bound that `kinesis::exactly_once`
    /// states.
    ExactlyOnce,
}
