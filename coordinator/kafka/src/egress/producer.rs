//! Producer without transactions.

use std::sync::Arc;

use super::EgressHandle;
use super::produce::Client;
use crate::at_least_once::Producer;
use crate::client::{Connection, GAPLESS};
use crate::outbox::Fate;
use crate::record::ProducerRecord;

/// Settings of every producer. A key has the same partition as with Java's client.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("partitioner", "murmur2_random"),
    ("linger.ms", "2"),
    ("topic.metadata.propagation.max.ms", "5000"),
];

/// Settings of a producer that repeats records in order until they are delivered. An error that
/// leaves a gap ends the client, so that nothing overtakes a record that is sent again.
const AT_LEAST_ONCE: &[(&str, &str)] = &[
    ("acks", "all"),
    ("enable.idempotence", "true"),
    (GAPLESS, "true"),
    ("message.timeout.ms", "0"),
];

/// Settings of a producer that drops what is not accepted.
const NONE: &[(&str, &str)] = &[
    ("enable.idempotence", "false"),
    ("message.timeout.ms", "30000"),
];

/// Producer without transactions. Makes a new client after an error that ends the former one.
pub(super) struct PlainProducer {
    connection: Connection,
    handle: EgressHandle,
    drops: bool,
    client: Option<Client>,
}

impl PlainProducer {
    /// Makes a producer. With `drops`, a record is not repeated.
    pub(super) fn new(
        connection: Connection,
        handle: EgressHandle,
        drops: bool,
    ) -> Result<Self, String> {
        let mut producer = Self {
            connection,
            handle,
            drops,
            client: None,
        };
        producer.client = Some(producer.connect()?);
        Ok(producer)
    }

    fn connect(&self) -> Result<Client, String> {
        let fixed = if self.drops { NONE } else { AT_LEAST_ONCE };
        let config = self.connection.config(DEFAULTS, fixed);
        Client::new(&config, &self.connection, self.handle.clone())
    }
}

impl Producer for PlainProducer {
    async fn send(&mut self, records: &[Arc<ProducerRecord>]) -> Result<Vec<Fate>, String> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.connect()?,
        };
        let unusable = client.unusable_topics(records).await;
        let fate_of = |record: &Arc<ProducerRecord>| {
            let mut unusable = unusable.iter();
            unusable.find_map(|(topic, fate)| (*topic == record.topic).then(|| fate.clone()))
        };
        let usable: Vec<Arc<ProducerRecord>> = records
            .iter()
            .filter(|record| fate_of(record).is_none())
            .cloned()
            .collect();
        let mut sent = client.send(&usable).await.into_iter();
        let fates = records.iter().map(|record| {
            let fate = fate_of(record).or_else(|| sent.next());
            fate.unwrap_or(Fate::Again)
        });
        let fates = fates.collect();
        match client.fatal_error() {
            None => self.client = Some(client),
            Some(reason) => {
                let egress = &*self.handle.id;
                tracing::warn!(egress, reason, "Kafka producer failed; making a new one");
                client.close().await;
            }
        }
        Ok(fates)
    }
}
