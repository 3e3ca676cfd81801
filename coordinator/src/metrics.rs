//! What a process counts and measures, for Prometheus.
//!
//! Every metric is named here, and changed by one `observe_…` function, also here: whoever does something says what happened and need not
//! know how it is counted. Names begin with `satchel_`; times are in seconds and sizes in bytes, as Prometheus wants them. Labels take
//! few values (an endpoint, a partition, a kind), never an address or an id, so that their number does not grow with the state.

mod kinesis;
mod sqs;
mod store;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use satchel_engine::invocation::FailureKind;

use kinesis::KinesisFamilies;
use sqs::SqsFamilies;
use store::StoreFamilies;

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that a process counts. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        Self(Arc::new(Families::register()))
    }

    /// All metrics in OpenMetrics's text form, which Prometheus reads; its content type is [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0.registry).expect("a String takes whatever is written to it");
        text
    }

    /// A request was answered on `port` (`traffic` or `admin`): which `verb` (`call`, `send`, …), with which status, after how long.
    pub fn observe_http_request(
        &self,
        port: &'static str,
        verb: &'static str,
        code: u16,
        took: Duration,
    ) {
        self.0
            .http_requests
            .get_or_create(&HttpRequest { port, verb, code })
            .inc();
        self.0
            .http_seconds
            .get_or_create(&HttpVerb { port, verb })
            .observe(took.as_secs_f64());
    }

    /// Serving a request panicked.
    pub fn observe_http_panic(&self) {
        self.0.http_panics.inc();
    }

    /// A connection was opened on `port`.
    pub fn observe_connection_opened(&self, port: &'static str) {
        self.0.connections.get_or_create(&Port { port }).inc();
    }

    /// A connection was closed on `port`.
    pub fn observe_connection_closed(&self, port: &'static str) {
        self.0.connections.get_or_create(&Port { port }).dec();
    }

    /// So many requests wait for the partition's answer.
    pub fn observe_requests_waiting(&self, waiting: usize) {
        self.0.requests_waiting.set(gauge_value(waiting));
    }

    /// The partition answered a request for which nobody waits any more.
    pub fn observe_unclaimed_answer(&self) {
        self.0.unclaimed_answers.inc();
    }

    /// A bundle came back from `endpoint`, whole or not: how many batches and messages it carried, and how long it was out.
    pub fn observe_bundle(&self, endpoint: &str, batches: usize, messages: usize, took: Duration) {
        let endpoint = EndpointLabel {
            endpoint: endpoint.to_owned(),
        };
        self.0.bundles.get_or_create(&endpoint).inc();
        self.0
            .batches
            .get_or_create(&endpoint)
            .inc_by(batches as u64);
        self.0
            .messages
            .get_or_create(&endpoint)
            .inc_by(messages as u64);
        self.0
            .invocation_seconds
            .get_or_create(&endpoint)
            .observe(took.as_secs_f64());
    }

    /// A batch, or a bundle as a whole, failed at `endpoint`.
    pub fn observe_invocation_failure(&self, endpoint: &str, kind: FailureKind) {
        let kind = match kind {
            FailureKind::Throttled => "throttled",
            FailureKind::Unreachable => "unreachable",
            FailureKind::Function => "function",
            FailureKind::RequestTooLarge => "request_too_large",
        };
        self.0
            .invocation_failures
            .get_or_create(&InvocationFailure {
                endpoint: endpoint.to_owned(),
                kind,
            })
            .inc();
    }

    /// An answer was dropped because it does not answer the attempt in flight.
    pub fn observe_stale_answer(&self) {
        self.0.stale_answers.inc();
    }

    /// `partition` sealed delta `number`.
    pub fn observe_sealed(&self, partition: u32, number: u64) {
        self.0
            .sealed
            .get_or_create(&Partition { partition })
            .set(number);
    }

    /// Delta `number` of `partition`, and all before it, became durable: how large it was, and how long after its seal.
    pub fn observe_commit(&self, partition: u32, number: u64, bytes: usize, took: Duration) {
        let partition = Partition { partition };
        self.0.durable.get_or_create(&partition).set(number);
        self.0.commits.get_or_create(&partition).inc();
        self.0
            .commit_bytes
            .get_or_create(&partition)
            .inc_by(bytes as u64);
        self.0
            .commit_seconds
            .get_or_create(&partition)
            .observe(took.as_secs_f64());
    }

    /// So many messages became dead letters.
    pub fn observe_dead_letters_made(&self, count: u64) {
        self.0.dead_letters_made.inc_by(count);
    }

    /// So many dead letters are kept.
    pub fn observe_dead_letters_present(&self, count: usize) {
        self.0.dead_letters_present.set(gauge_value(count));
    }

    /// So many bytes of messages wait.
    pub fn observe_pending_bytes(&self, bytes: usize) {
        self.0.pending_bytes.set(gauge_value(bytes));
    }

    /// Shards are not read now, because too much waits; or they are again.
    pub fn observe_ingress_paused(&self, paused: bool) {
        self.0.ingress_paused.set(i64::from(paused));
    }

    /// Ingress, timers and outbox are held, because this is a fork that nobody has let go on; or they are not.
    pub fn observe_held(&self, held: bool) {
        self.0.held.set(i64::from(held));
    }

    /// So many timers are pending.
    pub fn observe_timers_pending(&self, count: usize) {
        self.0.timers_pending.set(gauge_value(count));
    }

    /// So many ids of messages of queues are kept.
    pub fn observe_received_ids(&self, count: usize) {
        self.0.sqs.ids.set(gauge_value(count));
    }

    /// So many buckets were loaded since the last time.
    pub fn observe_bucket_loads(&self, loads: u64) {
        self.0.bucket_loads.inc_by(loads);
    }

    /// So many buckets were dropped from memory since the last time.
    pub fn observe_buckets_dropped(&self, dropped: u64) {
        self.0.buckets_dropped.inc_by(dropped);
    }

    /// Of `buckets`, so many are in memory, and take about so many bytes.
    pub fn observe_state(&self, buckets: usize, loaded: usize, bytes: usize) {
        self.0.buckets.set(gauge_value(buckets));
        self.0.buckets_loaded.set(gauge_value(loaded));
        self.0.state_bytes.set(gauge_value(bytes));
    }

    /// This share of what was not in memory at the takeover is, or need not be.
    pub fn observe_recovered(&self, share: f64) {
        self.0.recovered.set(share);
    }

    /// So many records were handed to `egress`.
    pub fn observe_egress_emitted(&self, egress: &str, records: u64) {
        self.0
            .egress_emitted
            .get_or_create(&Egress::of(egress))
            .inc_by(records);
    }

    /// So many records arrived at `egress` for good.
    pub fn observe_egress_acked(&self, egress: &str, records: u64) {
        self.0
            .egress_acked
            .get_or_create(&Egress::of(egress))
            .inc_by(records);
    }

    /// `egress` did not take so many records; they are tried again.
    pub fn observe_egress_retried(&self, egress: &str, records: u64) {
        self.0
            .egress_retried
            .get_or_create(&Egress::of(egress))
            .inc_by(records);
    }

    /// A record can never be delivered to `egress` as it is.
    pub fn observe_egress_refused(&self, egress: &str) {
        self.0
            .egress_refused
            .get_or_create(&Egress::of(egress))
            .inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpRequest {
    port: &'static str,
    verb: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpVerb {
    port: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Port {
    port: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InvocationFailure {
    endpoint: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    partition: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Egress {
    egress: String,
}

impl Egress {
    fn of(egress: &str) -> Self {
        Self {
            egress: egress.to_owned(),
        }
    }
}

type Number = Gauge<u64, AtomicU64>;

struct Families {
    registry: Registry,
    http_requests: Family<HttpRequest, Counter>,
    http_seconds: Family<HttpVerb, Histogram, fn() -> Histogram>,
    http_panics: Counter,
    connections: Family<Port, Gauge>,
    requests_waiting: Gauge,
    unclaimed_answers: Counter,
    bundles: Family<EndpointLabel, Counter>,
    batches: Family<EndpointLabel, Counter>,
    messages: Family<EndpointLabel, Counter>,
    invocation_seconds: Family<EndpointLabel, Histogram, fn() -> Histogram>,
    invocation_failures: Family<InvocationFailure, Counter>,
    stale_answers: Counter,
    sealed: Family<Partition, Number>,
    durable: Family<Partition, Number>,
    commits: Family<Partition, Counter>,
    commit_bytes: Family<Partition, Counter>,
    commit_seconds: Family<Partition, Histogram, fn() -> Histogram>,
    dead_letters_made: Counter,
    dead_letters_present: Gauge,
    pending_bytes: Gauge,
    ingress_paused: Gauge,
    held: Gauge,
    timers_pending: Gauge,
    bucket_loads: Counter,
    buckets_dropped: Counter,
    buckets: Gauge,
    buckets_loaded: Gauge,
    state_bytes: Gauge,
    recovered: Gauge<f64, AtomicU64>,
    egress_emitted: Family<Egress, Counter>,
    egress_acked: Family<Egress, Counter>,
    egress_refused: Family<Egress, Counter>,
    egress_retried: Family<Egress, Counter>,
    store: StoreFamilies,
    kinesis: KinesisFamilies,
    sqs: SqsFamilies,
}

impl Families {
    #[rustfmt::skip]
    fn register() -> Self {
        let mut names = Names(Registry::with_prefix("satchel"));
        Self {
            http_requests: names.add("http_requests", "Requests answered, by port, verb and status", Family::default()),
            http_seconds: names.add("http_request_seconds", "Time from a request's head to its answer's head", Family::new_with_constructor(latencies)),
            http_panics: names.add("http_panics", "Requests whose serving panicked", Counter::default()),
            connections: names.add("http_connections", "Connections that are open", Family::default()),
            requests_waiting: names.add("requests_waiting", "Requests from outside that wait for an answer", Gauge::default()),
            unclaimed_answers: names.add("unclaimed_answers", "Answers for which nobody waited any more", Counter::default()),
            bundles: names.add("invocation_bundles", "Requests to endpoints that came back", Family::default()),
            batches: names.add("invocation_batches", "Batches in those requests", Family::default()),
            messages: names.add("invocation_messages", "Messages in those batches, repeated attempts included", Family::default()),
            invocation_seconds: names.add("invocation_seconds", "Time that a request to an endpoint took", Family::new_with_constructor(latencies)),
            invocation_failures: names.add("invocation_failures", "Failed requests and batches, by kind", Family::default()),
            stale_answers: names.add("stale_answers_dropped", "Answers that did not answer the attempt in flight", Counter::default()),
            sealed: names.add("partition_sealed_number", "Number of the newest delta that was sealed", Family::default()),
            durable: names.add("partition_durable_number", "Number of the newest delta that is durable with all before it", Family::default()),
            commits: names.add("commits", "Commits that became durable", Family::default()),
            commit_bytes: names.add("commit_bytes", "Bytes of those commits as they were written", Family::default()),
            commit_seconds: names.add("commit_seconds", "Time from a commit's seal until it was durable", Family::new_with_constructor(latencies)),
            dead_letters_made: names.add("dead_letters_made", "Messages that were given up on", Counter::default()),
            dead_letters_present: names.add("dead_letters_present", "Dead letters that wait for a person", Gauge::default()),
            pending_bytes: names.add("pending_bytes", "Bytes of messages that wait", Gauge::default()),
            ingress_paused: names.add("ingress_paused", "1 while shards are not read because too much waits, else 0", Gauge::default()),
            held: names.add("fork_held", "1 while the ingresses, timers and outbox of a fork are held, else 0", Gauge::default()),
            timers_pending: names.add("timers_pending", "Timers that have not fired", Gauge::default()),
            bucket_loads: names.add("bucket_loads", "Buckets that were loaded into memory", Counter::default()),
            buckets_dropped: names.add("buckets_dropped", "Buckets that were dropped from memory", Counter::default()),
            buckets: names.add("buckets", "Buckets into which the addresses are divided", Gauge::default()),
            buckets_loaded: names.add("buckets_loaded", "Buckets that are in memory", Gauge::default()),
            state_bytes: names.add("state_memory_bytes", "About how many bytes the buckets take in memory", Gauge::default()),
            recovered: names.add("recovered_ratio", "Share of the buckets that were not in memory at the takeover and are, or need not be", Gauge::default()),
            egress_emitted: names.add("egress_emitted_records", "Records handed to an egress, repeats included", Family::default()),
            egress_acked: names.add("egress_acked_records", "Records that arrived at an egress for good", Family::default()),
            egress_refused: names.add("egress_refused_records", "Records that an egress can never deliver as they are", Family::default()),
            egress_retried: names.add("egress_retried_records", "Records that an egress did not take and that are tried again, each time", Family::default()),
            store: StoreFamilies::register(&mut names),
            kinesis: KinesisFamilies::register(&mut names),
            sqs: SqsFamilies::register(&mut names),
            registry: names.0,
        }
    }
}

struct Names(Registry);

impl Names {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// From a quarter of a millisecond, which a local commit without fsync takes, to a minute, which a slow function takes.
fn latencies() -> Histogram {
    Histogram::new([
        0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0, 30.0, 60.0,
    ])
}

fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use satchel_aws::kinesis::KinesisObserver;
    use satchel_engine::position::ShardId;

    use super::*;
    use crate::store::s3::{S3Operation, S3Outcome, S3Request};

    /// The samples of `metrics`, without comments, buckets and sums of times, sorted.
    fn samples(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode();
        assert!(text.ends_with("# EOF\n"));
        let mut samples: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("seconds_bucket"))
            .map(str::to_owned)
            .collect();
        samples.sort();
        samples
    }

    fn observe_kinesis(metrics: &Metrics) {
        let shard = |shard: &str| ShardId {
            ingress: "example/in".into(),
            stream: "in".into(),
            shard: shard.into(),
        };
        metrics.lag(&shard("shardId-0"), 1_500);
        metrics.lag(&shard("shardId-1"), 10);
        metrics.reading_ended(&shard("shardId-1"));
        metrics.read(&shard("shardId-0"), 3, 30);
        metrics.repeated("GetRecords", true);
    }

    fn observe_sqs(metrics: &Metrics) {
        use satchel_aws::sqs::SqsObserver;
        metrics.received("example/tasks", 4, 40);
        metrics.deleted("example/tasks", 3);
        SqsObserver::lag(metrics, "example/tasks", 2_500);
        metrics.backlog("example/tasks", 7, 1);
        SqsObserver::repeated(metrics, "ReceiveMessage", false);
        metrics.observe_received_ids(12);
    }

    #[test]
    fn every_observation_is_shown_under_its_name() {
        let metrics = Metrics::new();
        let half_second = Duration::from_millis(500);
        metrics.observe_http_request("traffic", "call", 504, half_second);
        metrics.observe_http_panic();
        metrics.observe_connection_opened("admin");
        metrics.observe_connection_opened("admin");
        metrics.observe_connection_closed("admin");
        metrics.observe_requests_waiting(3);
        metrics.observe_unclaimed_answer();
        metrics.observe_bundle("example/*", 2, 5, half_second);
        metrics.observe_invocation_failure("example/*", FailureKind::RequestTooLarge);
        metrics.observe_stale_answer();
        metrics.observe_sealed(0, 9);
        metrics.observe_commit(0, 8, 1000, half_second);
        metrics.observe_dead_letters_made(2);
        metrics.observe_dead_letters_present(1);
        metrics.observe_pending_bytes(77);
        metrics.observe_ingress_paused(true);
        metrics.observe_held(true);
        metrics.observe_timers_pending(4);
        metrics.observe_bucket_loads(5);
        metrics.observe_buckets_dropped(2);
        metrics.observe_state(256, 250, 1_000);
        metrics.observe_recovered(0.5);
        metrics.observe_egress_emitted("example/out", 6);
        metrics.observe_egress_acked("example/out", 5);
        metrics.observe_egress_refused("example/out");
        metrics.observe_egress_retried("example/out", 3);
        for (operation, outcome, object_bytes) in [
            (S3Operation::PutObject, S3Outcome::Done, 300),
            (S3Operation::PutObject, S3Outcome::Refused, 0),
            (S3Operation::GetObject, S3Outcome::Done, 20),
        ] {
            metrics.observe_s3_request(S3Request {
                operation,
                outcome,
                object_bytes,
                elapsed: half_second,
            });
        }
        metrics.observe_file_written(11);
        observe_kinesis(&metrics);
        observe_sqs(&metrics);
        assert_eq!(
            samples(&metrics),
            [
                "satchel_bucket_loads_total 5",
                "satchel_buckets 256",
                "satchel_buckets_dropped_total 2",
                "satchel_buckets_loaded 250",
                "satchel_commit_bytes_total{partition=\"0\"} 1000",
                "satchel_commit_seconds_count{partition=\"0\"} 1",
                "satchel_commit_seconds_sum{partition=\"0\"} 0.5",
                "satchel_commits_total{partition=\"0\"} 1",
                "satchel_dead_letters_made_total 2",
                "satchel_dead_letters_present 1",
                "satchel_egress_acked_records_total{egress=\"example/out\"} 5",
                "satchel_egress_emitted_records_total{egress=\"example/out\"} 6",
                "satchel_egress_refused_records_total{egress=\"example/out\"} 1",
                "satchel_egress_retried_records_total{egress=\"example/out\"} 3",
                "satchel_fork_held 1",
                "satchel_http_connections{port=\"admin\"} 1",
                "satchel_http_panics_total 1",
                "satchel_http_request_seconds_count{port=\"traffic\",verb=\"call\"} 1",
                "satchel_http_request_seconds_sum{port=\"traffic\",verb=\"call\"} 0.5",
                "satchel_http_requests_total{port=\"traffic\",verb=\"call\",code=\"504\"} 1",
                "satchel_ingress_paused 1",
                "satchel_invocation_batches_total{endpoint=\"example/*\"} 2",
                "satchel_invocation_bundles_total{endpoint=\"example/*\"} 1",
                "satchel_invocation_failures_total{endpoint=\"example/*\",kind=\"request_too_large\"} 1",
                "satchel_invocation_messages_total{endpoint=\"example/*\"} 5",
                "satchel_invocation_seconds_count{endpoint=\"example/*\"} 1",
                "satchel_invocation_seconds_sum{endpoint=\"example/*\"} 0.5",
                "satchel_kinesis_read_bytes_total{ingress=\"example/in\",stream=\"in\"} 30",
                "satchel_kinesis_read_records_total{ingress=\"example/in\",stream=\"in\"} 3",
                "satchel_kinesis_repeated_requests_total{operation=\"GetRecords\",reason=\"throttled\"} 1",
                "satchel_kinesis_shard_lag_seconds{ingress=\"example/in\",stream=\"in\",shard=\"shardId-0\"} 1.5",
                "satchel_partition_durable_number{partition=\"0\"} 8",
                "satchel_partition_sealed_number{partition=\"0\"} 9",
                "satchel_pending_bytes 77",
                "satchel_recovered_ratio 0.5",
                "satchel_requests_waiting 3",
                "satchel_s3_estimated_dollars_total 0.0000104",
                "satchel_s3_object_bytes_total{operation=\"GetObject\"} 20",
                "satchel_s3_object_bytes_total{operation=\"PutObject\"} 300",
                "satchel_s3_requests_total{operation=\"GetObject\",outcome=\"done\"} 1",
                "satchel_s3_requests_total{operation=\"PutObject\",outcome=\"done\"} 1",
                "satchel_s3_requests_total{operation=\"PutObject\",outcome=\"refused\"} 1",
                "satchel_sqs_backlog_messages{ingress=\"example/tasks\",state=\"in-flight\"} 1",
                "satchel_sqs_backlog_messages{ingress=\"example/tasks\",state=\"visible\"} 7",
                "satchel_sqs_deleted_messages_total{ingress=\"example/tasks\"} 3",
                "satchel_sqs_ids_kept 12",
                "satchel_sqs_lag_seconds{ingress=\"example/tasks\"} 2.5",
                "satchel_sqs_received_bytes_total{ingress=\"example/tasks\"} 40",
                "satchel_sqs_received_messages_total{ingress=\"example/tasks\"} 4",
                "satchel_sqs_repeated_requests_total{operation=\"ReceiveMessage\",reason=\"failed\"} 1",
                "satchel_stale_answers_dropped_total 1",
                "satchel_state_file_bytes_written_total 11",
                "satchel_state_files_written_total 1",
                "satchel_state_memory_bytes 1000",
                "satchel_timers_pending 4",
                "satchel_unclaimed_answers_total 1",
            ]
        );
    }
}
