//! Producers and consumers of the test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use satchel_kafka::rdkafka::config::ClientConfig;
use satchel_kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use satchel_kafka::rdkafka::error::KafkaError;
use satchel_kafka::rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use satchel_kafka::rdkafka::producer::{
    BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer,
};
use satchel_kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use satchel_testkit::{Kafka, LONG};

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) header: Option<(&'static str, String)>,
}

/// A record with a key and a value.
pub(crate) fn sent(key: &str, value: &str) -> Sent {
    Sent {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
        ..Sent::default()
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Got {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) headers: Vec<String>,
}

/// Makes a producer whose records are in the topic once.
pub(crate) fn producer(
    kafka: &Kafka,
    settings: &[(&str, &str)],
) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.address())
        .set("enable.idempotence", "true");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Hands a record to a producer.
pub(crate) fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    record: &Sent,
) {
    let mut base: BaseRecord<'_, str, str> = BaseRecord::to(topic);
    base.key = record.key.as_deref();
    base.payload = record.value.as_deref();
    base.partition = record.partition;
    if let Some((name, value)) = &record.header {
        let header = Header {
            key: name,
            value: Some(value),
        };
        base.headers = Some(OwnedHeaders::new().insert(header));
    }
    producer.send(base).map_err(|(error, _)| error).unwrap();
}

/// Produces records, and waits until the broker has them.
pub(crate) fn produce(kafka: &Kafka, topic: &str, records: &[Sent]) {
    let producer = producer(kafka, &[]);
    for record in records {
        send(&producer, topic, record);
    }
    producer.flush(LONG).unwrap();
}

/// Reads all committed records of a topic, by partition and offset.
pub(crate) fn committed(kafka: &Kafka, topic: &str) -> Vec<Got> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.address())
        .set("group.id", "the-test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), LONG).unwrap();
    let mut list = TopicPartitionList::new();
    let partitions = metadata.topics()[0].partitions();
    for partition in partitions {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut got: BTreeMap<i32, Vec<Got>> = BTreeMap::new();
    let mut open = partitions.len();
    let begun = Instant::now();
    while open > 0 {
        assert!(begun.elapsed() < LONG, "the end of {topic} is not reached");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            // The client connects again on its own.
            Some(Err(_)) => {}
            Some(Ok(message)) => {
                let text = |bytes: Option<&[u8]>| {
                    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
                };
                let headers = message.headers().map_or_else(Vec::new, |headers| {
                    let named = headers.iter();
                    named
                        .map(|header| {
                            let value = text(header.value).unwrap_or_default();
                            format!("{}: {value}", header.key)
                        })
                        .collect()
                });
                got.entry(message.partition()).or_default().push(Got {
                    key: text(message.key()),
                    value: text(message.payload()).unwrap_or_default(),
                    headers,
                });
            }
        }
    }
    got.into_values().flatten().collect()
}

/// Waits until a topic has this number of committed records, and returns them.
pub(crate) async fn committed_when(kafka: &Kafka, topic: &str, count: usize) -> Vec<Got> {
    let mut last = 0;
    let what = format!("{topic} has {count} records");
    let found = satchel_testkit::until(&what, async || {
        let got = committed(kafka, topic);
        if got.len() != last {
            last = got.len();
            eprintln!("{topic}: {last} of {count} records");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        (got.len() >= count).then_some(got)
    });
    found.await
}

/// Values of records, in order.
pub(crate) fn values(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.value.as_str()).collect()
}

/// Values of records, sorted.
pub(crate) fn sorted(got: &[Got]) -> Vec<&str> {
    let mut values = values(got);
    values.sort_unstable();
    values
}
