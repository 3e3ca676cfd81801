//! OpenTelemetry: settings, spans, metrics, and collectors that are down, slow or strange.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{AttemptId, EndpointIndex, FailureKind};
use satchel_engine::message::MessageId;
use satchel_engine::request::{CallId, Verb};
use satchel_engine::story::{AttemptOutcome, Hop, Sampling, Step};
use satchel_engine::trace::TraceParent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::exporter::Exporter;
use super::metric_data::{Covered, metrics_of};
use super::settings::Settings;
use super::spans::span_of;
use crate::metrics::Metrics;
use crate::stories::{FinishedHop, TimedStep, Told};

fn read(variables: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Settings::read("shop", &|name| {
        variables.get(name).map(|it| (*it).to_owned())
    })
}

fn settings(variables: &[(&str, &str)]) -> Settings {
    let (settings, problems) = read(variables);
    assert_eq!(problems, Vec::<String>::new());
    settings.expect("a collector is named")
}

#[test]
fn nothing_is_exported_unless_a_variable_asks_for_it() {
    for variables in [
        &[][..],
        &[
            ("OTEL_SERVICE_NAME", "x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
        ],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_SDK_DISABLED", "TRUE"),
        ],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ],
    ] {
        assert_eq!(read(variables), (None, vec![]), "{variables:?}");
    }
}

#[test]
fn variables_of_a_signal_come_before_those_of_all() {
    let settings = settings(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/base/"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://t.example:9/own",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "700"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%20ecret, x=1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=a,deployment.environment=prod%2C1",
        ),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1234"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ]);
    let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
    assert_eq!(traces.url.as_str(), "http://t.example:9/own");
    assert_eq!(metrics.url.as_str(), "https://c.example/base/v1/metrics");
    assert_eq!(traces.timeout, Duration::from_millis(500));
    assert_eq!(metrics.timeout, Duration::from_millis(700));
    assert_eq!(traces.headers["api-key"], "s ecret");
    assert_eq!(traces.headers["x"], "1");
    assert!(traces.gzip);
    let of = |name: &str| {
        let found = settings.resource.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(of("service.name"), Some("a"));
    assert_eq!(of("deployment.environment"), Some("prod,1"));
    assert_eq!(settings.metrics_interval, Duration::from_millis(1234));
    let quarter = Sampling::of_share(0.25).without_contexts();
    assert_eq!(settings.sampling, Some(quarter));
    // No text for people has a header.
    assert!(!format!("{traces:?}").contains("ecret"));
}

#[test]
fn the_service_is_the_application_unless_a_variable_names_it() {
    let name = |variables: &[(&str, &str)]| {
        let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c")];
        all.extend(variables);
        let resource = settings(&all).resource;
        let mut names = resource
            .into_iter()
            .filter(|(name, _)| name == "service.name");
        let found = names.next().unwrap().1;
        assert_eq!(names.next(), None);
        found
    };
    assert_eq!(name(&[]), "shop");
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other");
    assert_eq!(name(&[attributes]), "other");
    assert_eq!(name(&[attributes, ("OTEL_SERVICE_NAME", "named")]), "named");
}

#[test]
fn a_setting_that_cannot_be_used_is_named_without_its_secrets() {
    let problem = |variable: (&'static str, &'static str)| {
        let (_, problems) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), variable]);
        assert!(!problems.is_empty(), "{variable:?}");
        for problem in &problems {
            assert!(problem.contains(variable.0), "{problem}");
            assert!(!problem.contains("s3cret"), "{problem}");
        }
    };
    problem(("OTEL_EXPORTER_OTLP_ENDPOINT", "user:s3cret@nowhere"));
    problem(("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://s3cret@c"));
    problem(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"));
    problem(("OTEL_EXPORTER_OTLP_HEADERS", "bad name s3cret"));
    problem(("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"));
    problem(("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"));
    problem(("OTEL_TRACES_EXPORTER", "zipkin"));
    problem(("OTEL_TRACES_SAMPLER", "jaeger_remote"));
    problem(("OTEL_METRIC_EXPORT_INTERVAL", "soon"));
    let sampler = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ];
    let (found, problems) = read(&sampler);
    assert_eq!(found.unwrap().sampling, Some(Sampling::of_share(1.0)));
    assert!(problems[0].contains("OTEL_TRACES_SAMPLER_ARG"));
}

fn id(byte: u8) -> MessageId {
    MessageId([byte; 16])
}

fn address() -> Address {
    Address::new(FunctionType::new("example", "greeter"), "alice")
}

fn attempt() -> AttemptId {
    AttemptId {
        partition: 0,
        epoch: 1,
        number: 4,
    }
}

fn finished(hop: Hop, steps: Vec<Step>) -> FinishedHop {
    let steps = (0..).zip(steps).map(|(number, step)| TimedStep {
        at_us: 1_000_000 + number * 100,
        partition: 0,
        step: Told::Engine(step),
    });
    FinishedHop {
        hop,
        steps: steps.collect(),
        endpoints: vec!["example/*".into()],
    }
}

fn root(byte: u8) -> Hop {
    Hop {
        id: id(byte),
        trace: TraceParent::root(id(byte).0),
    }
}

fn processed(first: Step, outcome: AttemptOutcome) -> Vec<Step> {
    vec![
        first,
        Step::Queued {
            target: address(),
            typename: "t/text".into(),
            bytes: 5,
        },
        Step::Invoked {
            attempt: attempt(),
            endpoint: EndpointIndex(0),
            target: address(),
            messages: 2,
            batch: Some([root(1), root(2)].into()),
        },
        Step::Answered {
            attempt: attempt(),
            outcome,
        },
        Step::Committed {
            epoch: 1,
            delta: 9,
            concluded: true,
        },
    ]
}

fn called() -> Step {
    Step::Requested {
        verb: Verb::Call,
        call: CallId([3; 16]),
    }
}

fn value(attributes: &[KeyValue], name: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|it| it.key == name);
    let value = found.next()?.value.clone()?.value?;
    assert!(found.next().is_none(), "{name} occurs once");
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn the_span_of_a_call_is_a_server_s_with_the_ids_of_the_engine() {
    let span = span_of(&finished(root(1), processed(called(), AttemptOutcome::Ok)));
    assert_eq!(
        (&*span.trace_id, &*span.span_id),
        (&[1; 16][..], &[1; 8][..])
    );
    assert_eq!(span.parent_span_id, Vec::<u8>::new());
    assert_eq!(span.name, "process example/greeter");
    assert_eq!(span.kind(), SpanKind::Server);
    let times = (span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!(times, (1_000_000_000, 1_000_300_000));
    let of = |name: &str| value(&span.attributes, name);
    assert_eq!(of("messaging.system").as_deref(), Some("satchel"));
    assert_eq!(of("messaging.operation.type").as_deref(), Some("process"));
    let named = of("messaging.destination.name");
    assert_eq!(named.as_deref(), Some("example/greeter"));
    assert_eq!(of("faas.trigger").as_deref(), Some("http"));
    assert_eq!(of("messaging.batch.message_count").as_deref(), Some("2"));
    assert_eq!(of("satchel.endpoint").as_deref(), Some("example/*"));
    assert_eq!(of("error.type"), None);
    assert!(span.status.is_none());
    let [link] = &span.links[..] else {
        panic!("the other message of the batch: {:?}", span.links);
    };
    assert_eq!(link.span_id, [2; 8]);
    let events: Vec<_> = span.events.iter().map(|event| &*event.name).collect();
    assert_eq!(events, ["invoked", "answered", "committed"]);
}

#[test]
fn messages_between_functions_are_consumed_and_failures_are_errors() {
    let hop = Hop {
        id: id(2),
        trace: root(1).trace.through(id(1).0),
    };
    let sent = Step::Sent {
        from: address(),
        batch: None,
    };
    let failed = AttemptOutcome::Failed {
        kind: FailureKind::TimedOut,
        reason: "no answer".into(),
    };
    let mut steps = processed(sent.clone(), failed);
    steps.insert(
        4,
        Step::DeadLetter {
            reason: "no answer".into(),
            attempts: 3,
        },
    );
    let span = span_of(&finished(hop, steps));
    assert_eq!(span.kind(), SpanKind::Consumer);
    assert_eq!(span.parent_span_id, [1; 8]);
    assert_eq!(span.trace_id, [1; 16]);
    let error = value(&span.attributes, "error.type");
    assert_eq!(error.as_deref(), Some("dead_letter"));
    assert_eq!(span.status.unwrap().message, "no answer");
    let emitted = Step::Emitted {
        egress: "example/out".into(),
        typename: "t".into(),
        bytes: 1,
    };
    let record = span_of(&finished(hop, vec![sent, emitted, Step::Left]));
    assert_eq!(record.name, "send example/out");
    assert_eq!(record.kind(), SpanKind::Producer);
}

#[test]
fn metrics_of_prometheus_become_sums_gauges_and_histograms() {
    let text = "# HELP a_requests Requests with \"names\".\n# TYPE a_requests counter\n\
                a_requests_total{verb=\"ca\\\"ll\\n\",code=\"200\"} 7\n\
                # HELP a_pending_bytes Bytes.\n# TYPE a_pending_bytes gauge\n\
                a_pending_bytes 12.5\n\
                # HELP a_took_seconds Time.\n# TYPE a_took_seconds histogram\n\
                a_took_seconds_sum{of=\"x\"} 3.5\na_took_seconds_count{of=\"x\"} 4\n\
                a_took_seconds_bucket{le=\"0.5\",of=\"x\"} 1\n\
                a_took_seconds_bucket{le=\"1.0\",of=\"x\"} 3\n\
                a_took_seconds_bucket{le=\"+Inf\",of=\"x\"} 4\n# EOF\n";
    let covered = Covered {
        since: 10,
        until: 20,
    };
    let metrics = metrics_of(text, covered);
    let names: Vec<_> = metrics.iter().map(|it| (&*it.name, &*it.unit)).collect();
    let expected = [
        ("a_requests", ""),
        ("a_pending_bytes", "By"),
        ("a_took_seconds", "s"),
    ];
    assert_eq!(names, expected);
    let Some(Data::Sum(sum)) = &metrics[0].data else {
        panic!("a counter is a sum");
    };
    let point = &sum.data_points[0];
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(7.0)));
    assert_eq!(
        value(&point.attributes, "verb").as_deref(),
        Some("ca\"ll\n")
    );
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (10, 20));
    let Some(Data::Histogram(histogram)) = &metrics[2].data else {
        panic!("a histogram stays one");
    };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.sum), (4, Some(3.5)));
    assert_eq!(point.explicit_bounds, [0.5, 1.0]);
    assert_eq!(point.bucket_counts, [1, 2, 1]);
    assert_eq!(point.attributes.len(), 1);
}

#[test]
fn all_metrics_of_the_process_are_exported() {
    let metrics = Metrics::new();
    metrics.observe_dead_letters_made(3);
    metrics.observe_commit(0, 1, 10, Duration::from_millis(2));
    let text = metrics.encode();
    let exported = metrics_of(&text, Covered { since: 1, until: 2 });
    let described = text.lines().filter(|line| line.starts_with("# TYPE "));
    assert_eq!(exported.len(), described.count());
    let has_points = |name: &str| {
        let metric = exported.iter().find(|metric| metric.name == name).unwrap();
        match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => !sum.data_points.is_empty(),
            Data::Gauge(gauge) => !gauge.data_points.is_empty(),
            Data::Histogram(histogram) => !histogram.data_points.is_empty(),
            other => panic!("{other:?}"),
        }
    };
    for name in [
        "satchel_dead_letters_made",
        "satchel_pending_bytes",
        "satchel_commit_seconds",
        "process_cpu_seconds",
    ] {
        assert!(has_points(name), "{name}");
    }
}

/// Collector that answers as the test says, one answer after the other, the last one forever.
struct Collector {
    url: String,
    heard: Arc<Mutex<Vec<(String, Vec<u8>)>>>,
}

impl Collector {
    async fn answering(answers: Vec<(u16, &'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<(String, Vec<u8>)>>> = Arc::default();
        let kept = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, kept) = (answers.clone(), Arc::clone(&kept));
                tokio::spawn(async move { serve(stream, &answers, &kept).await });
            }
        });
        Self { url, heard }
    }

    fn spans(&self) -> Vec<Span> {
        let heard = self.heard.lock().unwrap();
        let requests = heard.iter().map(|(_, body)| {
            let request = ExportTraceServiceRequest::decode(&body[..]);
            request.expect("the body is OTLP")
        });
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: &[(u16, &'static str, Vec<u8>)],
    heard: &Mutex<Vec<(String, Vec<u8>)>>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            let mut chunk = [0; 4096];
            let read = stream
                .read(&mut chunk)
                .await
                .ok()
                .filter(|read| *read > 0)?;
            buffer.extend_from_slice(&chunk[..read]);
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let length = head.split("content-length: ").nth(1)?;
        let length: usize = length.split("\r\n").next()?.parse().ok()?;
        while buffer.len() < end + length {
            let mut chunk = [0; 4096];
            let read = stream
                .read(&mut chunk)
                .await
                .ok()
                .filter(|read| *read > 0)?;
            buffer.extend_from_slice(&chunk[..read]);
        }
        let body = buffer[end..end + length].to_vec();
        buffer.drain(..end + length);
        let (status, headers, content) = {
            let mut heard = heard.lock().unwrap();
            heard.push((head, body));
            answers[(heard.len() - 1).min(answers.len() - 1)].clone()
        };
        if status == 0 {
            // It never answers.
            return std::future::pending().await;
        }
        let head = format!(
            "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&content).await.ok()?;
    }
}

/// Exports hops to a collector, and returns the metrics when all were sent or given up.
async fn export(url: &str, further: &[(&str, &str)], hops: Vec<FinishedHop>) -> String {
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
    ];
    variables.extend(further);
    let metrics = Metrics::new();
    let settings = Arc::new(settings(&variables));
    let exporter = Exporter::new(settings, metrics.clone()).unwrap();
    let (sender, waiting) = tokio::sync::mpsc::channel(100);
    let flush = exporter.run_spans(waiting);
    for hop in hops {
        sender.send(hop).await.unwrap();
    }
    let (done, flushed) = tokio::sync::oneshot::channel();
    flush.send(done).await.unwrap();
    let flushed = tokio::time::timeout(Duration::from_secs(60), flushed);
    flushed.await.expect("it ends").unwrap();
    metrics.encode()
}

fn hops(count: u8) -> Vec<FinishedHop> {
    let hops =
        (1..=count).map(|byte| finished(root(byte), processed(called(), AttemptOutcome::Ok)));
    hops.collect()
}

#[tokio::test]
async fn spans_come_to_the_collector_in_batches_with_its_headers() {
    let collector = Collector::answering(vec![(200, "", vec![])]).await;
    let further = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
    ];
    let metrics = export(&collector.url, &further, hops(5)).await;
    assert_eq!(collector.spans().len(), 5);
    let heard = collector.heard.lock().unwrap();
    for (head, _) in &*heard {
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(
            head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        assert!(head.contains("api-key: s3cret"), "{head}");
    }
    assert!(heard.len() >= 3);
    assert!(metrics.contains("satchel_otlp_exported_total{signal=\"traces\"} 5\n"));
    assert!(!metrics.contains("satchel_otlp_dropped_total{"));
}

#[tokio::test]
async fn a_collector_that_is_busy_gets_the_same_spans_again() {
    let busy = vec![
        (429, "retry-after: 1\r\n", vec![]),
        (503, "", b"not now".to_vec()),
        (200, "", vec![]),
    ];
    let collector = Collector::answering(busy).await;
    let metrics = export(&collector.url, &[], hops(2)).await;
    let heard = collector.heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|(_, body)| *body == heard[0].1));
    assert!(metrics.contains("satchel_otlp_exported_total{signal=\"traces\"} 2\n"));
}

#[tokio::test]
async fn garbage_refusals_and_silence_cost_counted_spans_and_nothing_else() {
    // What the collector answers with 200 was taken, whatever the body is.
    let collector = Collector::answering(vec![(200, "", vec![0xff; 3_000])]).await;
    let metrics = export(&collector.url, &[], hops(2)).await;
    assert!(metrics.contains("satchel_otlp_exported_total{signal=\"traces\"} 2\n"));
    let partial = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "no room".to_owned(),
        }),
    };
    let collector = Collector::answering(vec![(200, "", partial.encode_to_vec())]).await;
    let metrics = export(&collector.url, &[], hops(2)).await;
    let lost = |reason: &str, count: u32| {
        format!("satchel_otlp_dropped_total{{signal=\"traces\",reason=\"{reason}\"}} {count}\n")
    };
    assert!(metrics.contains(&lost("rejected", 1)), "{metrics}");
    let collector = Collector::answering(vec![(400, "", b"what?".to_vec())]).await;
    let metrics = export(&collector.url, &[], hops(2)).await;
    assert!(metrics.contains(&lost("refused", 2)), "{metrics}");
    assert_eq!(
        collector.heard.lock().unwrap().len(),
        1,
        "it is not repeated"
    );
    let silent = Collector::answering(vec![(0, "", vec![])]).await;
    let metrics = export(&silent.url, &[], hops(2)).await;
    assert!(metrics.contains(&lost("timed_out", 2)), "{metrics}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let metrics = export(&url, &[], hops(2)).await;
    assert!(metrics.contains(&lost("unreachable", 2)), "{metrics}");
}
