//! OpenTelemetry: the fraud example with a collector that the test starts, which decodes OTLP.
//!
//! `SATCHEL_BIN` must name a copy of the binary with the feature `otel`, because the build of the
//! example's handler replaces the one in the target directory. `.ci/run kafka` shows the commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as AnyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use satchel_testkit::{HeldService, Setup, example, until, until_true};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A collector on a free port.
struct Collector {
    url: String,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    metrics: BTreeSet<String>,
    services: BTreeSet<String>,
    /// Headers `api-key` of the requests.
    keys: BTreeSet<String>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received: Arc<Mutex<Received>> = Arc::default();
        let (of_traces, of_metrics) = (Arc::clone(&received), Arc::clone(&received));
        let traces = move |headers: HeaderMap, body: Bytes| {
            let received = Arc::clone(&of_traces);
            async move { received.lock().unwrap().take_traces(&headers, body) }
        };
        let metrics = move |headers: HeaderMap, body: Bytes| {
            let received = Arc::clone(&of_metrics);
            async move { received.lock().unwrap().take_metrics(&headers, body) }
        };
        let routes = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, received }
    }

    fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }
}

impl Received {
    fn take_traces(&mut self, headers: &HeaderMap, body: Bytes) {
        self.note(headers);
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        for resource in request.resource_spans {
            self.note_service(&resource.resource.unwrap().attributes);
            let scopes = resource.scope_spans.into_iter();
            self.spans.extend(scopes.flat_map(|scope| scope.spans));
        }
    }

    fn take_metrics(&mut self, headers: &HeaderMap, body: Bytes) {
        self.note(headers);
        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        for resource in request.resource_metrics {
            self.note_service(&resource.resource.unwrap().attributes);
            let metrics = resource.scope_metrics.into_iter().flat_map(|it| it.metrics);
            self.metrics.extend(metrics.map(|metric| metric.name));
        }
    }

    fn note(&mut self, headers: &HeaderMap) {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let key = headers["api-key"].to_str().unwrap();
        self.keys.insert(key.to_owned());
    }

    fn note_service(&mut self, attributes: &[KeyValue]) {
        self.services.extend(text(attributes, "service.name"));
    }
}

/// Value of an attribute that is a text.
fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.clone()?.value? {
        AnyValue::StringValue(text) => Some(text),
        other => panic!("{name}: {other:?}"),
    }
}

/// Spans as lines, children below their parents in the order of their names.
fn outline(spans: &[Span]) -> String {
    let mut children: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    for span in spans {
        let parent: &[u8] = &span.parent_span_id;
        children.entry(parent).or_default().push(span);
    }
    let mut lines = String::new();
    write(&children, &[], 0, &mut lines);
    lines
}

fn write(children: &BTreeMap<&[u8], Vec<&Span>>, parent: &[u8], depth: usize, lines: &mut String) {
    let mut spans = children.get(parent).cloned().unwrap_or_default();
    spans.sort_by_key(|span| &span.name);
    for span in spans {
        let indent = "  ".repeat(depth);
        lines.push_str(&format!("{indent}{} {:?}\n", span.name, span.kind()));
        write(children, &span.span_id, depth + 1, lines);
    }
}

const TREE: &str = "\
process fraud/transaction-manager Server
  process fraud/count Consumer
    process fraud/transaction-manager Consumer
  process fraud/merchant-scorer Consumer
    process fraud/transaction-manager Consumer
      process fraud/model Consumer
        process fraud/transaction-manager Consumer
          reply Producer
          send fraud/alerts Producer
";

fn shady() -> Value {
    json!({"account": "acc-1", "merchant": "shady-goods", "amount_cents": 900_000})
}

fn setup(collector: &Collector, service: &HeldService) -> Setup {
    Setup::of(example("fraud-detection"))
        .env("SCORING_SERVICE_URL", service.url())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret-key")
        .env("OTEL_SERVICE_NAME", "fraud")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
}

#[tokio::test]
async fn a_call_over_four_functions_is_one_tree_in_the_collector_through_a_kill() {
    let collector = Collector::start().await;
    let service = HeldService::answering(r#"{"trust":5.0}"#).await;
    let mut app = setup(&collector, &service).start().await;
    let client = app.client.clone();
    let call = client
        .to_call("fraud/transaction-manager/tx-1")
        .json(&shady())
        .key("judge");
    let calling = tokio::spawn(async move { call.send_until_answered().await });
    // The scorer waits for its service. What was concluded before has been exported.
    until_true("three hops were exported", async || {
        service.asked() > 0 && collector.spans().len() == 3
    })
    .await;
    app.kill9().await;
    service.release();
    app.restart().await;
    let answer = calling.await.unwrap();
    assert_eq!(answer.json()["alert"], true, "{answer:?}");
    until_true("all hops were exported", async || {
        collector.spans().len() >= 9
    })
    .await;
    assert_eq!(app.client.records_when("alerts", 1).await.len(), 1);
    until_true("metrics were exported", async || {
        let received = collector.received.lock().unwrap();
        received.metrics.contains("satchel_commits")
    })
    .await;
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    assert!(!ended.printed.contains("s3cret-key"), "{}", ended.printed);

    let spans = collector.spans();
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!((spans.len(), ids.len()), (9, 9), "each hop is there once");
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert_eq!(traces.len(), 1, "one trace");
    assert_eq!(outline(&spans), TREE);
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        let system = text(&span.attributes, "messaging.system");
        assert_eq!(system.as_deref(), Some("satchel"));
        assert!(text(&span.attributes, "error.type").is_none(), "{span:?}");
    }
    let received = collector.received.lock().unwrap();
    assert_eq!(received.keys, BTreeSet::from(["s3cret-key".to_owned()]));
    assert_eq!(received.services, BTreeSet::from(["fraud".to_owned()]));
}

#[tokio::test]
async fn a_collector_that_is_down_costs_counted_spans_and_one_warning() {
    let service = HeldService::answering(r#"{"trust":5.0}"#).await;
    service.release();
    // Nothing listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let mut app = Setup::of(example("fraud-detection"))
        .env("SCORING_SERVICE_URL", service.url())
        .env(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            format!("{url}/v1/traces"),
        )
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .start()
        .await;
    let address = "fraud/transaction-manager/tx-1";
    let answer = app.client.call(address, &shady()).await;
    assert_eq!(answer.json()["alert"], true, "{answer:?}");
    let dropped = "satchel_otlp_dropped_total{signal=\"traces\",reason=\"unreachable\"}";
    let lost = until("spans are given up", async || {
        app.client.metric(dropped).await.filter(|lost| *lost > 0.0)
    })
    .await;
    assert!(lost <= 9.0, "{lost}");
    let warnings = app.printed().matches("telemetry dropped").count();
    assert_eq!(warnings, 1, "{}", app.printed());
    assert_eq!(app.terminate().await.code, Some(0));
}
