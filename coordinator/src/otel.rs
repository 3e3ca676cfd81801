//! OpenTelemetry: spans of hops and metrics, sent to a collector over OTLP.
//!
//! ```text
//!  Stories ──concluded hops──► bounded queue ──► batches ──► POST /v1/traces
//!  Metrics ──each interval───────────────────────────────► POST /v1/metrics
//! ```
//!
//! A span is made of a hop's story, with the ids that the engine gave to it. A collector that is
//! down, slow or answers nonsense costs dropped spans, which are counted and logged. It never slows
//! messages. The settings are the variables `OTEL_*` of the specification. Headers are secrets: no
//! log and no error shows them.

mod exporter;
mod metric_data;
mod settings;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use satchel_engine::story::Sampling;
use tokio::sync::{mpsc, oneshot};

use self::exporter::{Exporter, Signal};
use self::settings::Settings;
use crate::metrics::Metrics;
use crate::stories::{Export, FinishedHop};

/// Maximum time for the last spans and metrics when a process stops.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Exporters of a process. Dropping it ends them without sending what waits.
pub(crate) struct Telemetry {
    settings: Arc<Settings>,
    spans: Option<mpsc::Sender<FinishedHop>>,
    flush: Vec<mpsc::Sender<oneshot::Sender<()>>>,
    metrics: Metrics,
}

impl Telemetry {
    /// Starts the exporters that the environment asks for. `application` is the name of the service
    /// unless the environment names one. Must be called within a tokio runtime.
    pub(crate) fn start(application: &str, metrics: &Metrics) -> Option<Self> {
        let (settings, problems) = Settings::read(application, &|name| std::env::var(name).ok());
        for problem in problems {
            tracing::warn!(%problem, "OpenTelemetry setting ignored");
        }
        let settings = Arc::new(settings?);
        let exporter = match Exporter::new(Arc::clone(&settings), metrics.clone()) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(error, "OpenTelemetry is off");
                return None;
            }
        };
        let mut flush = Vec::new();
        let spans = settings.traces.is_some().then(|| {
            let (sender, waiting) = mpsc::channel(settings.queue_spans_max);
            flush.push(exporter.clone().run_spans(waiting));
            sender
        });
        if settings.metrics.is_some() {
            flush.push(exporter.run_metrics());
        }
        tracing::info!(
            traces = settings.traces.as_ref().map(|it| it.shown()),
            metrics = settings.metrics.as_ref().map(|it| it.shown()),
            "OpenTelemetry is on"
        );
        Some(Self {
            settings,
            spans,
            flush,
            metrics: metrics.clone(),
        })
    }

    /// Traces that the environment wants to be sampled, if traces are exported.
    pub(crate) fn sampling(&self) -> Option<Option<Sampling>> {
        self.spans.is_some().then_some(self.settings.sampling)
    }

    /// Receiver of concluded hops, if traces are exported.
    pub(crate) fn export(&self) -> Option<Export> {
        let spans = self.spans.clone()?;
        let metrics = self.metrics.clone();
        Some(Box::new(move |hop| {
            if spans.try_send(hop).is_err() {
                metrics.observe_otlp_dropped(Signal::Traces.name(), "queue_full", 1);
            }
        }))
    }

    /// Sends what waits, for a limited time, before the process ends.
    pub(crate) async fn flush(&self) {
        let flushed = self.flush.iter().map(|exporter| async move {
            let (done, flushed) = oneshot::channel();
            if exporter.send(done).await.is_ok() {
                let _ = flushed.await;
            }
        });
        let flushed = futures::future::join_all(flushed);
        if tokio::time::timeout(FLUSH_MAX, flushed).await.is_err() {
            tracing::warn!("the last spans or metrics were not accepted in time");
        }
    }
}
