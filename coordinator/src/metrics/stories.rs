//! Metrics of the stories of messages.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Metrics, Names, gauge_value};

impl Metrics {
    /// Counts events of sampled messages, and those that were dropped because too many came at
    /// once.
    pub fn observe_story_events(&self, events: usize, dropped: u64) {
        let stories = &self.0.stories;
        stories.events.inc_by(events as u64);
        stories.dropped.inc_by(dropped);
    }

    /// Sets the number of traces that are kept and their size in bytes, and counts those that were
    /// evicted.
    pub fn observe_stories(&self, traces: usize, bytes: usize, evicted: usize) {
        let stories = &self.0.stories;
        stories.traces.set(gauge_value(traces));
        stories.bytes.set(gauge_value(bytes));
        stories.evicted.inc_by(evicted as u64);
    }

    /// Counts spans or metrics (`signal` is `traces` or `metrics`) that a collector accepted.
    pub fn observe_otlp_exported(&self, signal: &'static str, items: usize) {
        let exported = &self.0.stories.otlp_exported;
        let exported = exported.get_or_create(&Signal { signal });
        exported.inc_by(items as u64);
    }

    /// Counts spans or metrics that were dropped: `queue_full`, `rejected`, `refused`,
    /// `timed_out`, `unreachable`.
    pub fn observe_otlp_dropped(&self, signal: &'static str, reason: &'static str, items: usize) {
        let dropped = &self.0.stories.otlp_dropped;
        let dropped = dropped.get_or_create(&Loss { signal, reason });
        dropped.inc_by(items as u64);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Signal {
    signal: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Loss {
    signal: &'static str,
    reason: &'static str,
}

pub(super) struct StoryFamilies {
    events: Counter,
    dropped: Counter,
    traces: Gauge,
    bytes: Gauge,
    evicted: Counter,
    otlp_exported: Family<Signal, Counter>,
    otlp_dropped: Family<Loss, Counter>,
}

impl StoryFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            events: names.add("trace_events", "Events of messages of sampled traces"),
            dropped: names.add(
                "trace_events_dropped",
                "Such events that were dropped because too many came at once",
            ),
            traces: names.add("traces_kept", "Traces in memory"),
            bytes: names.add(
                "traces_memory_bytes",
                "Approximate size of those traces, in bytes",
            ),
            evicted: names.add(
                "traces_evicted",
                "Traces removed from memory because newer ones need the room",
            ),
            otlp_exported: names.add(
                "otlp_exported",
                "Spans and metrics that an OpenTelemetry collector accepted",
            ),
            otlp_dropped: names.add(
                "otlp_dropped",
                "Spans and metrics that no OpenTelemetry collector accepted, by reason",
            ),
        }
    }
}
