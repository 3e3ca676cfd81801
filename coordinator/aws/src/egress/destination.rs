//! An egress as its module file describes it, and how it begins to run.

use std::sync::Arc;

use satchel_engine::input::EgressMark;
use satchel_engine::output::Emission;
use satchel_engine::sink::reconcile::UnknownMark;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Outlet;
use super::dynamodb::{DynamoDbService, DynamoDbSettings};
use super::eventbridge::{EventBridgeService, EventBridgeSettings};
use super::kinesis::exactly_once::{ExactlyOnce, Left, Ownership, forget_all};
use super::kinesis::{KinesisService, KinesisSettings};
use super::lambda::{LambdaService, LambdaSettings};
use super::sns::{SnsService, SnsSettings};
use super::sqs::{SqsService, SqsSettings};
use crate::config::{AwsAccess, ConfigError};

/// An egress to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsEgress {
    /// Which AWS, and as whom.
    pub access: AwsAccess,
    /// Which service, and how.
    pub destination: Destination,
}

/// Which service takes the records, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Streams that the records name.
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

/// How often a record may be in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Once, or more often if an answer is lost or a process dies.
    #[default]
    AtLeastOnce,
    /// Once, within the bound that [`super::kinesis::exactly_once`] states.
    ExactlyOnce,
}

/// What an egress must know of the partition that it serves.
pub struct Owner {
    /// Names root, partition and egress, for ever.
    pub writer: String,
    /// What the former owner left of this egress.
    pub left: Left,
    /// When this process took the partition over, or later.
    pub taken_over: Instant,
    /// Whether it still owns it.
    pub ownership: Arc<dyn Ownership>,
    /// Becomes true when what the egress waits for is durable, as [`satchel_engine::output::Output::MarksDurable`] says.
    pub noted: watch::Receiver<bool>,
}

/// Why an egress can not run.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// AWS can not be asked.
    #[error("the egress {egress}: {source}")]
    Config {
        /// Which one.
        egress: Arc<str>,
        /// Why.
        source: ConfigError,
    },
    /// What is durable is not understood.
    #[error("the egress {egress}: {source}")]
    Mark {
        /// Which one.
        egress: Arc<str>,
        /// What.
        source: UnknownMark,
    },
}

impl AwsEgress {
    /// Delivers until `emissions` end.
    ///
    /// # Errors
    ///
    /// [`EgressError`] when it can not begin.
    pub async fn run(
        self,
        outlet: Outlet,
        owner: Owner,
        emissions: mpsc::UnboundedReceiver<Emission>,
    ) -> Result<(), EgressError> {
        let egress = Arc::clone(&outlet.id);
        let config = self.access.load().await;
        let config = config.map_err(|source| EgressError::Config { egress, source })?;
        let config = &config;
        match self.destination {
            Destination::Kinesis(settings, Delivery::ExactlyOnce) => {
                let Owner {
                    ownership,
                    left,
                    taken_over,
                    noted,
                    ..
                } = owner;
                let egress = Arc::clone(&outlet.id);
                let service = ExactlyOnce::new(config, settings, ownership, &left)
                    .map_err(|source| EgressError::Mark { egress, source })?;
                service
                    .run(outlet, left.numbers, taken_over, noted, emissions)
                    .await;
            }
            Destination::Kinesis(settings, Delivery::AtLeastOnce) => {
                let stale: Vec<EgressMark> = forget_all(&owner.left);
                outlet.arrived(Vec::new(), stale);
                let service = KinesisService::new(config, settings);
                outlet.run(service, emissions).await;
            }
            Destination::Sqs(settings) => {
                let service = SqsService::new(config, settings);
                outlet.run(service, emissions).await;
            }
            Destination::Sns(settings) => {
                let service = SnsService::new(config, settings);
                outlet.run(service, emissions).await;
            }
            Destination::EventBridge(settings) => {
                let service = EventBridgeService::new(config, settings);
                outlet.run(service, emissions).await;
            }
            Destination::DynamoDb(settings) => {
                let service = DynamoDbService::new(config, settings, owner.writer);
                outlet.run(service, emissions).await;
            }
            Destination::Lambda(settings) => {
                let service = LambdaService::new(config, settings);
                outlet.run(service, emissions).await;
            }
        }
        Ok(())
    }
}
