//! Requests to the collector: batches of spans, and metrics at intervals.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use satchel_clock::{Backoff, calendar_us};
use tokio::sync::{mpsc, oneshot};

use super::metric_data::{Covered, metrics_of};
use super::settings::{Collector, Settings};
use super::spans::{SCHEMA_URL, span_of, text};
use crate::log_limit::Seldom;
use crate::metrics::Metrics;
use crate::stories::FinishedHop;

/// Maximum number of requests for the same content.
const ATTEMPTS_MAX: u32 = 5;

/// Maximum time that a collector may ask to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Maximum size of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Pause between two warnings about a signal.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// Kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// Name in metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// Sender of telemetry. Cheap to clone.
#[derive(Clone)]
pub(super) struct Exporter {
    settings: Arc<Settings>,
    client: reqwest::Client,
    metrics: Metrics,
    warnings: Arc<[Mutex<Seldom>; 2]>,
    started_us: u64,
}

/// Reason why a request was not accepted.
struct Refused {
    reason: &'static str,
    details: String,
    /// Time to wait before another try; none if there is no use in one.
    retry_after: Option<Duration>,
}

impl Exporter {
    /// Creates an exporter with connections of its own.
    pub(super) fn new(settings: Arc<Settings>, metrics: Metrics) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let seldom = || Mutex::new(Seldom::new(WARNING_PAUSE));
        Ok(Self {
            settings,
            client: client.map_err(|error| crate::error::chain(&error))?,
            metrics,
            warnings: Arc::new([seldom(), seldom()]),
            started_us: calendar_us(),
        })
    }

    /// Exports hops in batches. A message through the returned channel asks for what waits now.
    pub(super) fn run_spans(
        self,
        mut waiting: mpsc::Receiver<FinishedHop>,
    ) -> mpsc::Sender<oneshot::Sender<()>> {
        let (flush, mut flushes) = mpsc::channel(1);
        tokio::spawn(async move {
            let max = self.settings.batch_spans_max;
            loop {
                let mut batch = Vec::with_capacity(max.min(64));
                let mut done: Option<oneshot::Sender<()>> = None;
                tokio::select! {
                    received = waiting.recv_many(&mut batch, max) => {
                        if received == 0 {
                            return;
                        }
                    }
                    Some(asked) = flushes.recv() => done = Some(asked),
                }
                let full = tokio::time::sleep(self.settings.spans_delay);
                tokio::pin!(full);
                while done.is_none() && batch.len() < max {
                    let room = max - batch.len();
                    tokio::select! {
                        () = &mut full => break,
                        Some(asked) = flushes.recv() => done = Some(asked),
                        received = waiting.recv_many(&mut batch, room) => {
                            if received == 0 {
                                break;
                            }
                        }
                    }
                }
                self.send_spans(&batch).await;
                if let Some(done) = done {
                    let mut rest = Vec::new();
                    while let Ok(hop) = waiting.try_recv() {
                        rest.push(hop);
                    }
                    for batch in rest.chunks(max) {
                        self.send_spans(batch).await;
                    }
                    let _ = done.send(());
                }
            }
        });
        flush
    }

    /// Exports metrics at intervals. A message through the returned channel asks for them now.
    pub(super) fn run_metrics(self) -> mpsc::Sender<oneshot::Sender<()>> {
        let (flush, mut flushes) = mpsc::channel::<oneshot::Sender<()>>(1);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(self.settings.metrics_interval);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // The first tick is at once, when there is nothing to tell.
            interval.tick().await;
            loop {
                tokio::select! {
                    _ = interval.tick() => self.send_metrics().await,
                    asked = flushes.recv() => match asked {
                        Some(done) => {
                            self.send_metrics().await;
                            let _ = done.send(());
                        }
                        None => return,
                    }
                }
            }
        });
        flush
    }

    async fn send_spans(&self, batch: &[FinishedHop]) {
        let Some(collector) = self.settings.traces.as_ref().filter(|_| !batch.is_empty()) else {
            return;
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope()),
                    spans: batch.iter().map(span_of).collect(),
                    schema_url: SCHEMA_URL.to_owned(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            }],
        };
        let rejected = |answer: &[u8]| {
            let answer = ExportTraceServiceResponse::decode(answer).ok()?;
            let partial = answer.partial_success?;
            Some((partial.rejected_spans, partial.error_message))
        };
        self.send(
            (Signal::Traces, collector),
            (request.encode_to_vec(), batch.len()),
            rejected,
        )
        .await;
    }

    async fn send_metrics(&self) {
        let Some(collector) = &self.settings.metrics else {
            return;
        };
        let covered = Covered {
            since: self.started_us * 1_000,
            until: calendar_us() * 1_000,
        };
        let metrics = metrics_of(&self.metrics.encode(), covered);
        let count = metrics.len();
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        let rejected = |answer: &[u8]| {
            let answer = ExportMetricsServiceResponse::decode(answer).ok()?;
            let partial = answer.partial_success?;
            Some((partial.rejected_data_points, partial.error_message))
        };
        self.send(
            (Signal::Metrics, collector),
            (request.encode_to_vec(), count),
            rejected,
        )
        .await;
    }

    /// Sends the body of a request, with this number of items, until it is accepted or given up.
    /// `rejected` reads from an answer what the collector did not take.
    async fn send(
        &self,
        (signal, collector): (Signal, &Collector),
        (body, items): (Vec<u8>, usize),
        rejected: impl Fn(&[u8]) -> Option<(i64, String)>,
    ) {
        let body = bytes::Bytes::from(match collector.gzip {
            true => zip(&body),
            false => body,
        });
        let mut backoff = Backoff::default();
        for attempt in 1.. {
            match self.request(collector, body.clone()).await {
                Ok(answer) => {
                    let (lost, why) = rejected(&answer).unwrap_or_default();
                    let lost = usize::try_from(lost).unwrap_or(0).min(items);
                    self.metrics
                        .observe_otlp_exported(signal.name(), items - lost);
                    if lost > 0 {
                        self.dropped(signal, "rejected", lost, &why);
                    }
                    return;
                }
                Err(refused) => match refused.retry_after {
                    Some(asked) if attempt < ATTEMPTS_MAX => {
                        tokio::time::sleep(asked).await;
                        backoff.wait().await;
                    }
                    _ => {
                        return self.dropped(signal, refused.reason, items, &refused.details);
                    }
                },
            }
        }
    }

    async fn request(&self, collector: &Collector, body: bytes::Bytes) -> Result<Vec<u8>, Refused> {
        let mut request = self
            .client
            .post(collector.url.clone())
            .timeout(collector.timeout)
            .headers(collector.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        if collector.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let lost = |error: reqwest::Error| Refused {
            reason: if error.is_timeout() {
                "timed_out"
            } else {
                "unreachable"
            },
            // The URL may have a password.
            details: crate::error::chain(&error.without_url()),
            retry_after: Some(Duration::ZERO),
        };
        let mut answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        if !status.is_success() {
            let retryable = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            let asked = answer.headers().get(RETRY_AFTER);
            let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let asked = asked.map_or(Duration::ZERO, Duration::from_secs);
            return Err(Refused {
                reason: "refused",
                details: format!("HTTP {}", status.as_u16()),
                retry_after: retryable.then(|| asked.min(RETRY_AFTER_MAX)),
            });
        }
        let mut body = Vec::new();
        // The items were taken, whatever the rest of the answer is.
        while let Ok(Some(chunk)) = answer.chunk().await {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn dropped(&self, signal: Signal, reason: &'static str, items: usize, details: &str) {
        self.metrics
            .observe_otlp_dropped(signal.name(), reason, items);
        let warnings = &self.warnings[usize::from(signal == Signal::Metrics)];
        let mut warnings = warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = warnings.admit(Instant::now()) {
            let details: String = details.chars().take(300).collect();
            tracing::warn!(
                signal = signal.name(),
                reason,
                items,
                details,
                suppressed,
                "telemetry dropped: the collector did not accept it"
            );
        }
    }

    fn resource(&self) -> Resource {
        let attributes = self.settings.resource.iter();
        Resource {
            attributes: attributes
                .map(|(name, value)| text(name, value.as_str()))
                .collect(),
            ..Resource::default()
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "satchel".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn zip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(body);
    written
        .and_then(|()| encoder.finish())
        .expect("writing to memory cannot fail")
}
