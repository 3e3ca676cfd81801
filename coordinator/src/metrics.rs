//! Metrics of a process, for Prometheus.
//!
//! This module names every metric, and changes each by one `observe_…` function. Callers report
//! events and need not know how they are counted. Names begin with `satchel_`. Times are in seconds
//! and sizes in bytes, as is usual with Prometheus. Labels have few values (an endpoint, a
//! partition, a kind), never an address or an id, so that their number does not grow with the
//! state.

mod egresses;
pub(crate) mod emf;
mod functions;
mod kafka;
mod kinesis;
mod meter;
mod partitions;
mod peers;
mod process;
mod sqs;
mod store;
mod stories;
mod totals;

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use satchel_engine::invocation::FailureKind;
use satchel_engine::output::Stoppages;
use satchel_engine::partition::Gauges;

use egresses::EgressFamilies;
use functions::FunctionFamilies;
use kafka::KafkaFamilies;
use kinesis::KinesisFamilies;
use meter::Meter;
use partitions::PartitionFamilies;
use peers::PeerFamilies;
use process::ProcessFamilies;
use sqs::SqsFamilies;
use store::StoreFamilies;
use stories::StoryFamilies;

pub(crate) use meter::{SAMPLE_INTERVAL, Span};
pub(crate) use partitions::total;
pub use process::Role;

use crate::status::{Status, kind_name};

/// Content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a process, and its status, which the same events feed. Cheap to clone; clones
/// share the values.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

impl Metrics {
    /// Creates the metrics with all values at zero.
    pub fn new() -> Self {
        Self(Arc::new(Families::register()))
    }

    /// Encodes all metrics in the text form of OpenMetrics, with the content type [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        self.0.process.refresh();
        let mut text = String::new();
        [&self.0.registry, &self.0.system]
            .into_iter()
            .try_for_each(|registry| encode_registry(&mut text, registry))
            .and_then(|()| encode_eof(&mut text))
            .expect("writing to a String cannot fail");
        text
    }

    /// Returns the status of the process.
    pub(crate) fn status(&self) -> &Status {
        &self.0.status
    }

    /// Counts a request answered on `port` (`traffic` or `admin`), by `verb` (`call`, `send`, …)
    /// and status.
    pub fn observe_http_request(
        &self,
        port: &'static str,
        verb: &'static str,
        code: u16,
        took: Duration,
    ) {
        self.0.answered.count(port, verb);
        self.0
            .http_requests
            .get_or_create(&HttpRequest { port, verb, code })
            .inc();
        self.0
            .http_seconds
            .get_or_create(&HttpVerb { port, verb })
            .observe(took.as_secs_f64());
    }

    /// Counts a panic in a request.
    pub fn observe_http_panic(&self) {
        self.0.http_panics.inc();
    }

    /// Counts a connection opened on `port`.
    pub fn observe_connection_opened(&self, port: &'static str) {
        self.0.connections.get_or_create(&Port { port }).inc();
    }

    /// Counts a connection closed on `port`.
    pub fn observe_connection_closed(&self, port: &'static str) {
        self.0.connections.get_or_create(&Port { port }).dec();
    }

    /// Sets the number of requests that wait for the partition's answer.
    pub fn observe_requests_waiting(&self, waiting: usize) {
        self.0.requests_waiting.set(gauge_value(waiting));
    }

    /// Counts an answer whose caller no longer waits.
    pub fn observe_unclaimed_answer(&self) {
        self.0.unclaimed_answers.inc();
    }

    /// Returns the counters of `endpoint`, which a request then finds without its name.
    pub fn endpoint(&self, endpoint: &str) -> EndpointCounters {
        let endpoint = EndpointLabel {
            endpoint: endpoint.to_owned(),
        };
        let families = &self.0;
        EndpointCounters {
            bundles: families.bundles.get_or_create_owned(&endpoint),
            batches: families.batches.get_or_create_owned(&endpoint),
            messages: families.messages.get_or_create_owned(&endpoint),
            seconds: families.invocation_seconds.get_or_create_owned(&endpoint),
            meter: Arc::clone(&families.meter),
        }
    }

    /// Counts a batch, or a whole bundle, that failed at `endpoint`.
    pub fn observe_invocation_failure(&self, endpoint: &str, kind: FailureKind) {
        self.0
            .invocation_failures
            .get_or_create(&InvocationFailure {
                endpoint: endpoint.to_owned(),
                kind: kind_name(kind),
            })
            .inc();
    }

    /// Counts an answer dropped because its attempt is no longer in flight.
    pub fn observe_stale_answer(&self) {
        self.0.stale_answers.inc();
    }

    /// Records that `partition` sealed delta `number`.
    pub fn observe_sealed(&self, partition: u32, number: u64) {
        self.0
            .sealed
            .get_or_create(&Partition { partition })
            .set(number);
    }

    /// Records that delta `number` of `partition`, and all before it, became durable. `took` counts
    /// from the seal.
    pub fn observe_commit(&self, partition: u32, number: u64, bytes: usize, took: Duration) {
        let partition = Partition { partition };
        self.0.durable.get_or_create(&partition).set(number);
        self.0.commits.get_or_create(&partition).inc();
        self.0
            .commit_bytes
            .get_or_create(&partition)
            .inc_by(bytes as u64);
        let metered = &self.0.meter.commit_bytes;
        metered.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0
            .commit_seconds
            .get_or_create(&partition)
            .observe(took.as_secs_f64());
        self.0.emf.committed(took);
    }

    /// Counts new dead letters.
    pub fn observe_dead_letters_made(&self, count: u64) {
        self.0.dead_letters_made.inc_by(count);
    }

    /// Counts messages that were rejected for good, and whose callers got the verdict.
    pub fn observe_rejected(&self, count: u64) {
        self.0.rejected.inc_by(count);
    }

    /// Sets the gauges of all partitions together.
    pub fn observe_gauges(&self, gauges: &Gauges) {
        let families = &self.0;
        let present = gauge_value(gauges.dead_letters);
        families.dead_letters_present.set(present);
        let bytes = gauge_value(gauges.dead_letter_bytes);
        families.dead_letter_bytes.set(bytes);
        families
            .pending_bytes
            .set(gauge_value(gauges.pending_bytes));
        families.ingress_paused.set(gauges.ingress_paused.into());
        families.held.set(gauges.held.into());
        families.timers_pending.set(gauge_value(gauges.timers));
        families.sqs.ids.set(gauge_value(gauges.received_ids));
        families.buckets.set(gauge_value(gauges.buckets));
        families
            .buckets_loaded
            .set(gauge_value(gauges.buckets_loaded));
        families.state_bytes.set(gauge_value(gauges.state_bytes));
        let waiting = gauge_value(gauges.peer_bytes);
        families.partitions.waiting_bytes.set(waiting);
    }

    /// Records that a source of an ingress is stopped because it cannot be read, or no longer is.
    pub fn observe_source(&self, ingress: &str, source: &str, stopped: bool) {
        let label = SourceLabel {
            ingress: ingress.to_owned(),
            source: source.to_owned(),
        };
        self.0
            .ingress_stopped
            .get_or_create(&label)
            .set(i64::from(stopped));
    }

    /// Sets the numbers of functions and ingresses that stand still.
    pub fn observe_stoppages(&self, stoppages: &Stoppages) {
        let families = &self.0;
        let suspended = stoppages.suspended_functions.len();
        families.functions_suspended.set(gauge_value(suspended));
        let paused = stoppages.paused_functions.len();
        families.functions_paused.set(gauge_value(paused));
        let ingresses = stoppages.paused_ingresses.len();
        families.ingresses_paused.set(gauge_value(ingresses));
    }

    /// Sets the differences of partition time from the calendar, and the jump of the calendar that
    /// is not followed, both in ms.
    pub fn observe_time(&self, ahead_ms: i64, jump_ms: i64) {
        self.0.time_ahead.set(ahead_ms as f64 / 1000.0);
        self.0.clock_jump.set(jump_ms as f64 / 1000.0);
    }

    /// Counts loaded buckets.
    pub fn observe_bucket_loads(&self, loads: u64) {
        self.0.bucket_loads.inc_by(loads);
    }

    /// Counts buckets evicted from memory.
    pub fn observe_buckets_dropped(&self, dropped: u64) {
        self.0.buckets_dropped.inc_by(dropped);
    }

    /// Sets the share of the buckets absent at the takeover that are in memory or need not be.
    pub fn observe_recovered(&self, share: f64) {
        self.0.recovered.set(share);
    }
}

/// Counters of the requests to one endpoint. Clones share the counts.
#[derive(Clone, Debug)]
pub struct EndpointCounters {
    bundles: Counter,
    batches: Counter,
    messages: Counter,
    seconds: Histogram,
    meter: Arc<Meter>,
}

impl EndpointCounters {
    /// Counts a bundle that returned, successful or not.
    pub fn observe(&self, batches: usize, messages: usize, took: Duration) {
        self.bundles.inc();
        self.batches.inc_by(batches as u64);
        self.messages.inc_by(messages as u64);
        self.meter.requested(messages, took);
        self.seconds.observe(took.as_secs_f64());
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
struct SourceLabel {
    ingress: String,
    source: String,
}

/// Histograms of durations in seconds, by label.
type Latencies<L> = Family<L, Histogram, fn() -> Histogram>;

type Number = Gauge<u64, AtomicU64>;

struct Families {
    registry: Registry,
    /// Metrics without the prefix of this software.
    system: Registry,
    status: Status,
    answered: totals::Answered,
    meter: Arc<Meter>,
    http_requests: Family<HttpRequest, Counter>,
    http_seconds: Latencies<HttpVerb>,
    http_panics: Counter,
    connections: Family<Port, Gauge>,
    requests_waiting: Gauge,
    unclaimed_answers: Counter,
    bundles: Family<EndpointLabel, Counter>,
    batches: Family<EndpointLabel, Counter>,
    messages: Family<EndpointLabel, Counter>,
    invocation_seconds: Latencies<EndpointLabel>,
    invocation_failures: Family<InvocationFailure, Counter>,
    stale_answers: Counter,
    sealed: Family<Partition, Number>,
    durable: Family<Partition, Number>,
    commits: Family<Partition, Counter>,
    commit_bytes: Family<Partition, Counter>,
    commit_seconds: Latencies<Partition>,
    dead_letters_made: Counter,
    dead_letters_present: Gauge,
    dead_letter_bytes: Gauge,
    rejected: Counter,
    pending_bytes: Gauge,
    ingress_paused: Gauge,
    ingress_stopped: Family<SourceLabel, Gauge>,
    functions_suspended: Gauge,
    functions_paused: Gauge,
    ingresses_paused: Gauge,
    held: Gauge,
    timers_pending: Gauge,
    time_ahead: Gauge<f64, AtomicU64>,
    clock_jump: Gauge<f64, AtomicU64>,
    bucket_loads: Counter,
    buckets_dropped: Counter,
    buckets: Gauge,
    buckets_loaded: Gauge,
    state_bytes: Gauge,
    recovered: Gauge<f64, AtomicU64>,
    egresses: EgressFamilies,
    functions: FunctionFamilies,
    process: ProcessFamilies,
    store: StoreFamilies,
    kafka: KafkaFamilies,
    kinesis: KinesisFamilies,
    partitions: PartitionFamilies,
    peers: PeerFamilies,
    sqs: SqsFamilies,
    stories: StoryFamilies,
    /// Events since the last line of [`emf`].
    emf: emf::Interval,
}

impl Families {
    fn register() -> Self {
        let mut names = Names(Registry::with_prefix("satchel"));
        let mut system = Registry::default();
        Self {
            meter: Arc::new(Meter::new()),
            http_requests: names.add(
                "http_requests",
                "Requests answered, by port, verb and status",
            ),
            http_seconds: names.add_latencies(
                "http_request_seconds",
                "Time from a request's head to its answer's head",
            ),
            http_panics: names.add("http_panics", "Requests that ended in a panic"),
            connections: names.add("http_connections", "Open connections"),
            requests_waiting: names.add(
                "requests_waiting",
                "Requests from outside that wait for an answer",
            ),
            unclaimed_answers: names
                .add("unclaimed_answers", "Answers whose caller no longer waited"),
            bundles: names.add("invocation_bundles", "Requests to endpoints that returned"),
            batches: names.add("invocation_batches", "Batches in those requests"),
            messages: names.add(
                "invocation_messages",
                "Messages in those batches, repeated attempts included",
            ),
            invocation_seconds: names.add_latencies(
                "invocation_seconds",
                "Time that a request to an endpoint took",
            ),
            invocation_failures: names.add(
                "invocation_failures",
                "Failed requests and batches, by kind",
            ),
            stale_answers: names.add(
                "stale_answers_dropped",
                "Answers dropped because their attempt was no longer in flight",
            ),
            sealed: names.add(
                "partition_sealed_number",
                "Number of the newest delta that was sealed",
            ),
            durable: names.add(
                "partition_durable_number",
                "Number of the newest delta that is durable with all before it",
            ),
            commits: names.add("commits", "Commits that became durable"),
            commit_bytes: names.add(
                "commit_bytes",
                "Bytes of those commits as they were written",
            ),
            commit_seconds: names.add_latencies(
                "commit_seconds",
                "Time from a commit's seal until it was durable",
            ),
            dead_letters_made: names.add("dead_letters_made", "Messages that became dead letters"),
            dead_letters_present: names.add("dead_letters_present", "Dead letters kept"),
            dead_letter_bytes: names.add("dead_letter_bytes", "Bytes of dead letters"),
            rejected: names.add(
                "messages_rejected",
                "Messages rejected for good whose callers got the verdict",
            ),
            pending_bytes: names.add("pending_bytes", "Bytes of pending messages"),
            ingress_paused: names.add(
                "ingress_paused",
                "1 while too many pending messages pause ingress, else 0",
            ),
            ingress_stopped: names.add(
                "ingress_stopped",
                "1 while a stream or queue is not read because it cannot be, else 0",
            ),
            functions_suspended: names.add(
                "functions_suspended",
                "Function types whose deployed version does not fit",
            ),
            functions_paused: names.add("functions_paused", "Function types that a person paused"),
            ingresses_paused: names.add("ingresses_paused", "Ingresses that a person paused"),
            held: names.add(
                "fork_held",
                "1 while the ingresses, timers and outbox of a fork are held, else 0",
            ),
            timers_pending: names.add("timers_pending", "Timers that have not fired"),
            time_ahead: names.add(
                "partition_time_ahead_seconds",
                "Difference of partition time from the calendar, positive if it is ahead",
            ),
            clock_jump: names.add(
                "clock_jump_seconds",
                "Jump of the calendar that the process does not follow, 0 if there is none",
            ),
            bucket_loads: names.add("bucket_loads", "Buckets loaded into memory"),
            buckets_dropped: names.add("buckets_dropped", "Buckets evicted from memory"),
            buckets: names.add("buckets", "Number of buckets of the addresses"),
            buckets_loaded: names.add("buckets_loaded", "Buckets in memory"),
            state_bytes: names.add(
                "state_memory_bytes",
                "Approximate size of the buckets in memory, in bytes",
            ),
            recovered: names.add(
                "recovered_ratio",
                "Share of the buckets absent at the takeover that are in memory or need not be",
            ),
            egresses: EgressFamilies::register(&mut names),
            functions: FunctionFamilies::register(&mut names),
            process: ProcessFamilies::register(&mut names, &mut system),
            store: StoreFamilies::register(&mut names),
            kafka: KafkaFamilies::register(&mut names),
            kinesis: KinesisFamilies::register(&mut names),
            partitions: PartitionFamilies::register(&mut names),
            peers: PeerFamilies::register(&mut names),
            sqs: SqsFamilies::register(&mut names),
            stories: StoryFamilies::register(&mut names),
            emf: emf::Interval::default(),
            status: Status::new(),
            answered: totals::Answered::default(),
            system,
            registry: names.0,
        }
    }
}

struct Names(Registry);

impl Names {
    /// Registers a metric with the value zero.
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// Registers histograms of durations in seconds.
    fn add_latencies<L>(&mut self, name: &str, help: &str) -> Latencies<L>
    where
        L: EncodeLabelSet + Clone + Hash + Eq + fmt::Debug + Send + Sync + 'static,
    {
        let metric = Latencies::new_with_constructor(latencies as fn() -> Histogram);
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// Buckets of latencies, from a quarter of a millisecond (a local commit without fsync) to a minute
/// (a slow function).
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
mod tests;
