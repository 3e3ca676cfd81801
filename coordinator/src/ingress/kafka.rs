//! Ingress from Kafka: from a module file to the reader in `satchel-kafka`.

use std::sync::Arc;

use satchel_aws::kinesis::ExpiredPosition as Expired;
use satchel_engine::address::Address;
use satchel_engine::input::{Input, Unroutable};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_engine::source::shards::Applied;
use satchel_kafka::error::KafkaError;
use satchel_kafka::ingress::{
    DISCOVERY_INTERVAL, ExpiredPosition, INFORM_INTERVAL, IngressOptions, KafkaIngress,
    ReadingPort, RecordRead,
};
use satchel_kafka::start::{Reset, Startup};
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, oneshot, watch};

use super::Ingress;
use super::routing::Routing;
use crate::error::Failure;
use crate::ingress::reading::Reading;
use crate::kafka::Brokers;
use crate::metrics::Metrics;
use crate::module::{
    self, Application, AutoOffsetReset, IngressAdapter, IngressStream, KafkaStartup, RecordId,
};
use crate::sources::{SourceId, SourceProblem, SourceStopped};

/// One topic of a Kafka ingress.
#[derive(Clone)]
pub struct KafkaTopic {
    ingress: Arc<str>,
    topic: Arc<str>,
    brokers: Brokers,
    group: Option<String>,
    startup: Startup,
    reset: Reset,
    on_expired: ExpiredPosition,
    routing: Routing,
    metrics: Metrics,
}

/// Opens the topics of all Kafka ingresses. Connects to nothing yet.
///
/// # Errors
///
/// A property of a client cannot be used, with its place in the module file.
pub fn kafka_ingresses(
    application: &Application,
    metrics: &Metrics,
) -> Result<Vec<Ingress>, Failure> {
    let mut ingresses = Vec::new();
    for spec in &application.ingresses {
        let IngressAdapter::Kafka(kafka) = &spec.adapter else {
            continue;
        };
        let (address, properties) = (&kafka.address, &kafka.properties);
        let brokers = Brokers::of(address, properties, &spec.source)?;
        let topics = kafka.topics.iter().map(|topic| {
            let ingress = spec.id.to_string();
            let topic = KafkaTopic::new(&ingress, kafka, topic, brokers.clone(), metrics);
            Ingress::Kafka(Box::new(topic))
        });
        ingresses.extend(topics);
    }
    Ok(ingresses)
}

impl KafkaTopic {
    fn new(
        ingress: &str,
        kafka: &module::KafkaIngress,
        topic: &IngressStream,
        brokers: Brokers,
        metrics: &Metrics,
    ) -> Self {
        Self {
            ingress: ingress.into(),
            topic: topic.stream.as_str().into(),
            brokers,
            group: kafka.consumer_group_id.clone(),
            startup: startup(&kafka.startup, &topic.stream),
            reset: match kafka.auto_offset_reset {
                AutoOffsetReset::Latest => Reset::Latest,
                AutoOffsetReset::Earliest => Reset::Earliest,
            },
            on_expired: match kafka.on_expired {
                Expired::Stop => ExpiredPosition::Stop,
                Expired::Earliest => ExpiredPosition::Earliest,
            },
            routing: Routing {
                value_type: topic.value_type.clone(),
                targets: topic.targets.clone(),
                id: topic.id.clone(),
            },
            metrics: metrics.clone(),
        }
    }

    /// Name of the topic.
    pub(super) fn source(&self) -> SourceId {
        SourceId {
            ingress: Arc::clone(&self.ingress),
            name: format!("topic {}", self.topic).into(),
        }
    }

    /// Id of the ingress.
    pub(super) fn id(&self) -> &str {
        &self.ingress
    }

    /// Reads until the partition is gone.
    ///
    /// # Errors
    ///
    /// There are no credentials, or as [`KafkaIngress::run`].
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<(), SourceStopped> {
        let connection = self.brokers.connect().await;
        let connection = connection.map_err(|reason| SourceStopped {
            problem: SourceProblem::Forbidden,
            reason: format!("ingress {}, topic {}: {reason}", self.ingress, self.topic),
        })?;
        let discovery_interval = connection.settings.discovery_interval;
        let options = IngressOptions {
            ingress: self.ingress,
            topic: self.topic,
            connection,
            group: self.group,
            startup: self.startup,
            reset: self.reset,
            on_expired: self.on_expired,
            discovery_interval: discovery_interval.unwrap_or(DISCOVERY_INTERVAL),
            inform_interval: INFORM_INTERVAL,
        };
        let routing = self.routing;
        let router = Arc::new(move |record: RecordRead<'_>| route(&routing, record));
        let ingress = KafkaIngress::new(options, router, Arc::new(self.metrics));
        let read = ingress.run(inputs, Arc::new(reading)).await;
        read.map_err(|error| SourceStopped {
            problem: match error {
                KafkaError::NoTopic { .. } => SourceProblem::Missing,
                KafkaError::Refused { .. } => SourceProblem::Forbidden,
                KafkaError::Settings { .. } => SourceProblem::Unreadable,
                KafkaError::ExpiredPosition { .. }
                | KafkaError::AnotherTopic { .. }
                | KafkaError::ForeignPosition { .. } => SourceProblem::Lost,
            },
            reason: error.to_string(),
        })
    }
}

impl ReadingPort for Reading {
    fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition> {
        self.expect(shard)
    }

    fn expect_plan(&self, ingress: Arc<str>, topic: Arc<str>) -> oneshot::Receiver<Applied> {
        self.expect_plan(ingress, topic)
    }

    fn paused(&self) -> watch::Receiver<bool> {
        self.paused()
    }
}

fn startup(startup: &KafkaStartup, topic: &str) -> Startup {
    match startup {
        KafkaStartup::Latest => Startup::Latest,
        KafkaStartup::Earliest => Startup::Earliest,
        KafkaStartup::GroupOffsets => Startup::GroupOffsets,
        KafkaStartup::Date(ms) => Startup::Date(*ms),
        KafkaStartup::SpecificOffsets(offsets) => {
            let own = offsets.iter().filter(|offset| offset.topic == topic);
            let own = own.map(|offset| (offset.partition, offset.offset));
            Startup::SpecificOffsets(own.collect())
        }
    }
}

/// Converts a record to messages. A tombstone becomes messages without a value.
fn route(
    routing: &Routing,
    record: RecordRead<'_>,
) -> Result<Vec<(Address, TypedValue)>, Unroutable> {
    let data = record.value.cloned().unwrap_or_default();
    let key = match std::str::from_utf8(record.key.unwrap_or_default()) {
        Ok(key) => key.to_owned(),
        Err(_) if routing.id == RecordId::Key => {
            return Err(Unroutable {
                value: TypedValue {
                    typename: routing.value_type.clone(),
                    has_value: record.value.is_some(),
                    value: data,
                },
                reason: "the record's key, which is the id of its target address, is not UTF-8"
                    .to_owned(),
            });
        }
        Err(_) => String::new(),
    };
    let has_value = record.value.is_some();
    let mut routed = routing.route(&key, &data);
    match &mut routed {
        Ok(messages) => {
            for (_, value) in messages {
                value.has_value = has_value;
            }
        }
        Err(unroutable) => unroutable.value.has_value = has_value,
    }
    routed
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn routed(
        id: RecordId,
        key: Option<&[u8]>,
        value: Option<&Bytes>,
    ) -> Result<(String, TypedValue), String> {
        let routing = Routing {
            value_type: "example/name".to_owned(),
            targets: vec!["example/greeter".parse().unwrap()],
            id,
        };
        match route(&routing, RecordRead { key, value }) {
            Ok(mut messages) => {
                let (address, value) = messages.remove(0);
                Ok((address.to_string(), value))
            }
            Err(unroutable) => Err(unroutable.reason),
        }
    }

    #[test]
    fn the_key_is_the_id_and_a_tombstone_is_a_message_without_a_value() {
        let hello = Bytes::from_static(b"hello");
        let (address, value) = routed(RecordId::Key, Some(b"bob"), Some(&hello)).unwrap();
        assert_eq!(address, "example/greeter/bob");
        assert_eq!((value.has_value, value.value), (true, hello));
        let (address, value) = routed(RecordId::Key, Some(b"bob"), None).unwrap();
        assert_eq!(address, "example/greeter/bob");
        assert_eq!((value.has_value, value.value), (false, Bytes::new()));
    }

    #[test]
    fn a_record_without_a_usable_key_is_unroutable_unless_the_key_is_not_needed() {
        let hello = Bytes::from_static(b"hello");
        let missing = routed(RecordId::Key, None, Some(&hello)).unwrap_err();
        assert!(missing.contains("has no key"), "{missing}");
        let binary = routed(RecordId::Key, Some(b"\xff"), Some(&hello)).unwrap_err();
        assert!(binary.contains("is not UTF-8"), "{binary}");
        let main = RecordId::Constant("main".to_owned());
        let (address, _) = routed(main, Some(b"\xff"), Some(&hello)).unwrap();
        assert_eq!(address, "example/greeter/main");
    }

    #[test]
    fn specific_offsets_are_those_of_the_own_topic() {
        let offset = |topic: &str, partition, offset| module::PartitionOffset {
            topic: topic.to_owned(),
            partition,
            offset,
        };
        let offsets = vec![
            offset("names", 0, 5),
            offset("other", 0, 6),
            offset("names", 2, 7),
        ];
        let own = startup(&KafkaStartup::SpecificOffsets(offsets), "names");
        assert_eq!(own, Startup::SpecificOffsets([(0, 5), (2, 7)].into()));
    }
}
