//! Metrics of Kafka ingresses.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use satchel_engine::position::ShardId;

use super::{Metrics, Names};

#[cfg(feature = "kafka")]
impl satchel_kafka::ingress::KafkaObserver for Metrics {
    fn lag(&self, partition: &ShardId, records: u64) {
        self.observe_kafka_lag(partition, records);
    }

    fn reading_ended(&self, partition: &ShardId) {
        self.0.kafka.lag.remove(&Partition::of(partition));
    }

    fn failed(&self, ingress: &str, error: &str) {
        self.observe_kafka_failure(ingress, error);
    }

    fn read(&self, partition: &ShardId, records: u64, bytes: u64) {
        self.observe_kafka_read(partition, records, bytes);
    }
}

impl Metrics {
    /// Sets the number of records of a partition that were not read yet.
    pub fn observe_kafka_lag(&self, partition: &ShardId, records: u64) {
        let lag = i64::try_from(records).unwrap_or(i64::MAX);
        let gauge = &self.0.kafka.lag;
        gauge.get_or_create(&Partition::of(partition)).set(lag);
    }

    /// Counts records that were read, and the size of their values.
    pub fn observe_kafka_read(&self, partition: &ShardId, records: u64, bytes: u64) {
        let topic = Topic {
            ingress: partition.ingress.to_string(),
            topic: partition.stream.to_string(),
        };
        let kafka = &self.0.kafka;
        kafka.records.get_or_create(&topic).inc_by(records);
        kafka.bytes.get_or_create(&topic).inc_by(bytes);
        self.status().ingress_received(&partition.ingress, records);
    }

    /// Counts a failure of an ingress that is retried, and keeps its description.
    pub fn observe_kafka_failure(&self, ingress: &str, error: &str) {
        let label = Ingress {
            ingress: ingress.to_owned(),
        };
        self.0.kafka.failures.get_or_create(&label).inc();
        self.status().ingress_failed(ingress, error);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    ingress: String,
    topic: String,
    partition: String,
}

impl Partition {
    fn of(partition: &ShardId) -> Self {
        Self {
            ingress: partition.ingress.to_string(),
            topic: partition.stream.to_string(),
            partition: partition.shard.to_string(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Topic {
    ingress: String,
    topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ingress {
    ingress: String,
}

pub(super) struct KafkaFamilies {
    lag: Family<Partition, Gauge>,
    records: Family<Topic, Counter>,
    bytes: Family<Topic, Counter>,
    failures: Family<Ingress, Counter>,
}

impl KafkaFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            lag: names.add(
                "kafka_partition_lag_records",
                "Records of a partition that were not read yet",
            ),
            records: names.add("kafka_read_records", "Records read"),
            bytes: names.add("kafka_read_bytes", "Bytes of values in those records"),
            failures: names.add(
                "kafka_failures",
                "Failures of a Kafka ingress that were retried",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_counted_by_topic_and_the_lag_is_shown_by_partition() {
        let metrics = Metrics::new();
        let partition = ShardId {
            ingress: "example/in".into(),
            stream: "names".into(),
            shard: "2".into(),
        };
        metrics.observe_kafka_read(&partition, 3, 40);
        metrics.observe_kafka_lag(&partition, 7);
        metrics.observe_kafka_failure("example/in", "no leader");
        let text = metrics.encode();
        let of_kafka = text
            .lines()
            .filter(|line| line.starts_with("satchel_kafka"));
        let mut samples: Vec<&str> = of_kafka.collect();
        samples.sort_unstable();
        let topic = "{ingress=\"example/in\",topic=\"names\"}";
        let lag = "{ingress=\"example/in\",topic=\"names\",partition=\"2\"}";
        let expected = [
            "satchel_kafka_failures_total{ingress=\"example/in\"} 1".to_owned(),
            format!("satchel_kafka_partition_lag_records{lag} 7"),
            format!("satchel_kafka_read_bytes_total{topic} 40"),
            format!("satchel_kafka_read_records_total{topic} 3"),
        ];
        assert_eq!(samples, expected);
    }
}
