//! Metrics of SQS ingresses.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use satchel_aws::sqs::SqsObserver;

use super::{Metrics, Names};

impl SqsObserver for Metrics {
    fn received(&self, ingress: &str, messages: u64, bytes: u64) {
        let (sqs, ingress) = (&self.0.sqs, Queue::of(ingress));
        sqs.messages.get_or_create(&ingress).inc_by(messages);
        sqs.bytes.get_or_create(&ingress).inc_by(bytes);
        self.status().ingress_received(&ingress.ingress, messages);
    }

    fn deleted(&self, ingress: &str, messages: u64) {
        let deleted = &self.0.sqs.deleted;
        deleted.get_or_create(&Queue::of(ingress)).inc_by(messages);
    }

    fn lag(&self, ingress: &str, behind_ms: u64) {
        let lag = self.0.sqs.lag.get_or_create(&Queue::of(ingress));
        lag.set(behind_ms as f64 / 1_000.0);
        self.status().ingress_lag(ingress, "queue", behind_ms);
    }

    fn backlog(&self, ingress: &str, visible: u64, in_flight: u64) {
        self.status().ingress_backlog(ingress, visible, in_flight);
        for (state, messages) in [("visible", visible), ("in-flight", in_flight)] {
            let ingress = ingress.to_owned();
            let backlog = self
                .0
                .sqs
                .backlog
                .get_or_create(&Backlog { ingress, state });
            backlog.set(i64::try_from(messages).unwrap_or(i64::MAX));
        }
    }

    fn failed(&self, ingress: &str, error: &str) {
        self.status().ingress_failed(ingress, error);
    }

    fn retried(&self, operation: &'static str, throttled: bool) {
        let reason = if throttled { "throttled" } else { "failed" };
        let repeated = Repeated { operation, reason };
        self.0.sqs.repeated.get_or_create(&repeated).inc();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    ingress: String,
}

impl Queue {
    fn of(ingress: &str) -> Self {
        Self {
            ingress: ingress.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Backlog {
    ingress: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Repeated {
    operation: &'static str,
    reason: &'static str,
}

pub(super) struct SqsFamilies {
    lag: Family<Queue, Gauge<f64, AtomicU64>>,
    backlog: Family<Backlog, Gauge>,
    messages: Family<Queue, Counter>,
    bytes: Family<Queue, Counter>,
    deleted: Family<Queue, Counter>,
    repeated: Family<Repeated, Counter>,
    pub(super) ids: Gauge,
}

impl SqsFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            lag: names.add(
                "sqs_lag_seconds",
                "Age of the oldest message of the last answer; 0 without messages",
            ),
            backlog: names.add(
                "sqs_backlog_messages",
                "Approximate number of messages in a queue, as SQS reports it",
            ),
            messages: names.add(
                "sqs_received_messages",
                "Messages received, repeated receives included",
            ),
            bytes: names.add(
                "sqs_received_bytes",
                "Bytes in the bodies of those messages",
            ),
            deleted: names.add(
                "sqs_deleted_messages",
                "Messages whose deletion is confirmed",
            ),
            repeated: names.add(
                "sqs_repeated_requests",
                "Requests to SQS that failed and were retried, by operation and reason",
            ),
            ids: names.add("sqs_ids_kept", "Ids kept to deduplicate messages"),
        }
    }
}
