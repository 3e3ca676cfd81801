//! Metrics of Kinesis ingresses.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use satchel_aws::kinesis::KinesisObserver;
use satchel_engine::position::ShardId;

use super::{Metrics, Names};

impl KinesisObserver for Metrics {
    fn lag(&self, shard: &ShardId, behind_ms: u64) {
        let kinesis = &self.0.kinesis;
        kinesis
            .lag
            .get_or_create(&Shard::of(shard))
            .set(behind_ms as f64 / 1_000.0);
        self.status()
            .ingress_lag(&shard.ingress, &shard.shard, behind_ms);
    }

    fn reading_ended(&self, shard: &ShardId) {
        // Shards are replaced over time, and an old one must not be shown forever.
        self.0.kinesis.lag.remove(&Shard::of(shard));
        self.status()
            .ingress_source_ended(&shard.ingress, &shard.shard);
    }

    fn retried(&self, operation: &'static str, throttled: bool) {
        let reason = if throttled { "throttled" } else { "failed" };
        let repeated = Repeated { operation, reason };
        self.0.kinesis.repeated.get_or_create(&repeated).inc();
    }

    fn read(&self, shard: &ShardId, records: u64, bytes: u64) {
        let stream = Stream::of(shard);
        let kinesis = &self.0.kinesis;
        kinesis.records.get_or_create(&stream).inc_by(records);
        kinesis.bytes.get_or_create(&stream).inc_by(bytes);
        self.0
            .meter
            .kinesis_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.status().ingress_received(&shard.ingress, records);
    }

    fn failed(&self, ingress: &str, error: &str) {
        self.status().ingress_failed(ingress, error);
    }

    fn dropped(&self, shard: &ShardId, records: u64) {
        let stream = Stream::of(shard);
        let dropped = &self.0.kinesis.dropped;
        dropped.get_or_create(&stream).inc_by(records);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Shard {
    ingress: String,
    stream: String,
    shard: String,
}

impl Shard {
    fn of(shard: &ShardId) -> Self {
        Self {
            ingress: shard.ingress.to_string(),
            stream: shard.stream.to_string(),
            shard: shard.shard.to_string(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    ingress: String,
    stream: String,
}

impl Stream {
    fn of(shard: &ShardId) -> Self {
        Self {
            ingress: shard.ingress.to_string(),
            stream: shard.stream.to_string(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Repeated {
    operation: &'static str,
    reason: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

pub(super) struct KinesisFamilies {
    lag: Family<Shard, Seconds>,
    records: Family<Stream, Counter>,
    bytes: Family<Stream, Counter>,
    dropped: Family<Stream, Counter>,
    repeated: Family<Repeated, Counter>,
}

impl KinesisFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            lag: names.add(
                "kinesis_shard_lag_seconds",
                "Lag of a shard's reader behind the newest record, as Kinesis reports it",
            ),
            records: names.add(
                "kinesis_read_records",
                "Records read; records of aggregates count one by one",
            ),
            bytes: names.add("kinesis_read_bytes", "Bytes of data in those records"),
            dropped: names.add(
                "kinesis_dropped_records",
                "Records of aggregates dropped because they belong to another shard",
            ),
            repeated: names.add(
                "kinesis_repeated_requests",
                "Requests to Kinesis that failed and were retried, by operation and reason",
            ),
        }
    }
}
