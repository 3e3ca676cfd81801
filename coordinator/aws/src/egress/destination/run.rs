//! Start of an egress.

use std::sync::Arc;

use satchel_clock::BootTime;
use satchel_engine::input::EgressMark;
use satchel_engine::output::Emission;
use satchel_engine::sink::reconcile::UnknownMark;
use tokio::sync::{mpsc, watch};

use super::{AwsEgress, Delivery, Destination};
use crate::config::ConfigError;
use crate::egress::EgressHandle;
use crate::egress::dynamodb::DynamoDbService;
use crate::egress::eventbridge::EventBridgeService;
use crate::egress::kinesis::KinesisService;
use crate::egress::kinesis::exactly_once::{
    ExactlyOnce, Inherited, Ownership, forget_all, wait_for_order,
};
use crate::egress::lambda::LambdaService;
use crate::egress::sns::SnsService;
use crate::egress::sqs::SqsService;

/// Facts about the partition that an egress serves, and about its owner.
pub struct Owner {
    /// Permanent name of root, partition and egress.
    pub writer: String,
    /// State of this egress that the former owner left.
    pub inherited: Inherited,
    /// Time at which this process took the partition over, or later.
    pub taken_over: BootTime,
    /// Ownership of the partition by this process.
    pub ownership: Arc<dyn Ownership>,
    /// Becomes true when the marks that the egress waits for are durable, as reported by
    /// [`satchel_engine::output::Output::MarksDurable`].
    pub marks_durable: watch::Receiver<bool>,
}

/// Reason why an egress cannot run.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// AWS cannot be used.
    #[error("the egress {egress}: {source}")]
    Config {
        /// The egress's id.
        egress: Arc<str>,
        /// Reason.
        source: ConfigError,
    },
    /// A durable mark cannot be decoded.
    #[error("the egress {egress}: {source}")]
    Mark {
        /// The egress's id.
        egress: Arc<str>,
        /// The mark.
        source: UnknownMark,
    },
}

impl AwsEgress {
    /// Delivers until `emissions` end.
    ///
    /// # Errors
    ///
    /// [`EgressError`] if it cannot start.
    pub async fn run(
        self,
        handle: EgressHandle,
        owner: Owner,
        emissions: mpsc::UnboundedReceiver<Emission>,
    ) -> Result<(), EgressError> {
        let egress = Arc::clone(&handle.id);
        let config = self.access.load().await;
        let config = config.map_err(|source| EgressError::Config { egress, source })?;
        let config = &config;
        match self.destination {
            Destination::Kinesis(settings, Delivery::ExactlyOnce) => {
                let Owner {
                    ownership,
                    inherited,
                    taken_over,
                    marks_durable,
                    ..
                } = owner;
                let egress = Arc::clone(&handle.id);
                let service = ExactlyOnce::new(config, settings, ownership, &inherited)
                    .map_err(|source| EgressError::Mark { egress, source })?;
                let numbers = inherited.numbers;
                service
                    .run(handle, numbers, taken_over, marks_durable, emissions)
                    .await;
            }
            Destination::Kinesis(settings, Delivery::AtLeastOnce) => {
                let stale: Vec<EgressMark> = forget_all(&owner.inherited);
                handle.acknowledge(Vec::new(), stale);
                wait_for_order(&settings, owner.taken_over).await;
                let service = KinesisService::new(config, settings);
                handle.run(service, emissions).await;
            }
            Destination::Sqs(settings) => {
                let service = SqsService::new(config, settings);
                handle.run(service, emissions).await;
            }
            Destination::Sns(settings) => {
                let service = SnsService::new(config, settings);
                handle.run(service, emissions).await;
            }
            Destination::EventBridge(settings) => {
                let service = EventBridgeService::new(config, settings);
                handle.run(service, emissions).await;
            }
            Destination::DynamoDb(settings) => {
                let service = DynamoDbService::new(config, settings, owner.writer);
                handle.run(service, emissions).await;
            }
            Destination::Lambda(settings) => {
                let service = LambdaService::new(config, settings);
                handle.run(service, emissions).await;
            }
        }
        Ok(())
    }
}
