//! Egress to Kafka: from a module file to the producer in `satchel-kafka`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use satchel_kafka::egress::{Delivery, EgressHandle, EgressObserver, KafkaEgress, Ownership};

use super::ownership::EpochWatch;
use super::{Egress, EgressContext, EgressInbox};
use crate::error::{Exit, Failure};
use crate::kafka::Brokers;
use crate::metrics::Metrics;
use crate::module::{self, EgressSpec, KafkaDelivery};
use crate::random;

/// Kafka egress of a module file.
#[derive(Clone)]
pub struct KafkaTopics {
    brokers: Brokers,
    delivery: KafkaDelivery,
    application: String,
    place: String,
}

/// Makes a Kafka egress of the application named `application`. Connects to nothing yet.
///
/// # Errors
///
/// A property of the client cannot be used, with its place in the module file.
pub fn kafka_egress(
    spec: &EgressSpec,
    kafka: &module::KafkaEgress,
    application: &str,
) -> Result<Egress, Failure> {
    let source = &spec.source;
    let brokers = Brokers::of(&kafka.address, &kafka.properties, source)?;
    Ok(Egress::Kafka(Box::new(KafkaTopics {
        brokers,
        delivery: kafka.delivery,
        application: application.to_owned(),
        place: source.to_string(),
    })))
}

impl KafkaTopics {
    /// Delivers until the inbox ends.
    ///
    /// # Errors
    ///
    /// There are no credentials, or no producer can be made with the settings.
    pub(super) async fn run(
        self,
        context: EgressContext,
        inbox: EgressInbox,
    ) -> Result<(), Failure> {
        let failed = |reason: String| {
            let text = format!("{}: the egress {}: {reason}", self.place, context.id);
            Failure::new(Exit::Environment, text)
        };
        let connection = self.brokers.connect().await.map_err(&failed)?;
        let delivery = match self.delivery {
            KafkaDelivery::None => Delivery::None,
            KafkaDelivery::AtLeastOnce => Delivery::AtLeastOnce,
            KafkaDelivery::ExactlyOnce {
                transaction_timeout,
            } => Delivery::ExactlyOnce {
                transactional_id: format!("satchel-{}-{}", self.application, context.writer),
                transaction_timeout,
            },
        };
        let handle = EgressHandle {
            id: Arc::clone(&context.id),
            facts: context.inputs.clone(),
            observer: Arc::new(context.metrics.clone()),
            seed: u64::from_le_bytes(random::bytes()),
        };
        let ownership: Arc<dyn Ownership> = Arc::clone(&context.ownership) as _;
        let egress = KafkaEgress::new(connection, delivery);
        let delivered = egress.run(handle, ownership, inbox.emissions).await;
        delivered.map_err(&failed)
    }
}

impl fmt::Debug for KafkaTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaTopics")
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

impl Ownership for EpochWatch {
    fn confirmed_ago(&self) -> Duration {
        self.confirmed_ago()
    }
}

impl EgressObserver for Metrics {
    fn delivered(&self, egress: &str, records: u64) {
        self.observe_egress_acked(egress, records);
    }

    fn refused(&self, egress: &str) {
        self.observe_egress_refused(egress);
    }

    fn retried(&self, egress: &str, records: u64, reason: &str) {
        self.observe_egress_retried(egress, records, reason);
    }
}
