//! OpenTelemetry in a build without the cargo feature `otel`.

use satchel_engine::story::Sampling;

use crate::metrics::Metrics;
use crate::stories::Export;

/// Exporters of a process, of which this build has none.
pub(crate) enum Telemetry {}

/// Variables that ask for an exporter.
const ASKING: [&str; 5] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
];

impl Telemetry {
    /// Starts nothing. Warns if the environment asks for exporters.
    pub(crate) fn start(_: &str, _: &Metrics) -> Option<Self> {
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        let is_disabled = value("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true");
        let asks = |name: &&str| !["", "none"].contains(&value(name).trim());
        if let Some(variable) = ASKING.into_iter().find(asks).filter(|_| !is_disabled) {
            tracing::warn!(
                variable,
                "this build exports no telemetry: it lacks the cargo feature `otel`, which the \
                 container image has"
            );
        }
        None
    }

    /// Traces that the environment wants to be sampled.
    pub(crate) fn sampling(&self) -> Option<Option<Sampling>> {
        match *self {}
    }

    /// Receiver of concluded hops.
    pub(crate) fn export(&self) -> Option<Export> {
        match *self {}
    }

    /// Sends what waits.
    pub(crate) async fn flush(&self) {
        match *self {}
    }
}
