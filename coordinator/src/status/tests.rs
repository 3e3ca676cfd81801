//! Outcomes and notices, as the status and the log show them.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use satchel_engine::address::Address;
use satchel_engine::invocation::{AttemptId, Batch, BundleOutcome, Failure, FailureKind};
use satchel_engine::message::MessageId;
use satchel_engine::partition::Notice;
use satchel_protocol::reqreply::FromFunction;
use serde_json::{Value, json};

use super::*;

const MODULE: &str = "
kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: greeter}
---
kind: io.statefun.endpoints.v2/http
spec: {functions: web/one, urlPathTemplate: 'http://127.0.0.1:9/{function.name}'}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  awsRegion: {type: specific, id: eu-central-1}
  streams:
    - {stream: names, valueType: example/name, targets: [example/greeter]}
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/out, awsRegion: {type: specific, id: eu-central-1}}
";

const GREETER: EndpointIndex = EndpointIndex(0);

fn status() -> Status {
    let application = Application::parse(Path::new("module.yaml"), MODULE, &|_| None).unwrap();
    let status = Status::new();
    status.declare(&application);
    status
}

fn batch(id: &str, number: u64) -> Arc<Batch> {
    Arc::new(Batch {
        attempt: AttemptId {
            partition: 0,
            epoch: 1,
            number,
        },
        target: Address::new(FunctionType::new("example", "greeter"), id),
        state: vec![],
        declarations: [].into(),
        messages: vec![],
        bytes: 0,
    })
}

fn failure(kind: FailureKind, message: &str) -> BundleOutcome {
    BundleOutcome::Failed(Failure::new(kind, message))
}

fn answered(batch: &Arc<Batch>) -> BundleOutcome {
    BundleOutcome::Answered(vec![(batch.attempt, Ok(FromFunction::default()))])
}

impl Status {
    fn ended(&self, now_ms: u64, batches: &[Arc<Batch>], outcome: &BundleOutcome) {
        self.request_ended(now_ms, (GREETER, &"greeter".into()), batches, outcome);
    }

    fn greeter(&self) -> EndpointHealth {
        self.endpoints()[0].health.clone()
    }
}

/// Runs `what` and returns the log lines that it writes.
fn log_of(what: impl FnOnce()) -> Vec<Value> {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || sink.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, what);
    let written = lines.0.lock().unwrap();
    let text = std::str::from_utf8(&written).unwrap();
    let of = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let level = line["level"].take();
        let mut fields = line["fields"].take();
        fields["level"] = level;
        fields
    };
    text.lines().map(of).collect()
}

#[test]
fn an_endpoint_out_of_reach_is_down_until_it_answers_and_the_log_says_both_once() {
    let status = status();
    let alice = batch("alice", 1);
    let refused = failure(FailureKind::Unavailable, "connection refused");
    let lines = log_of(|| {
        for at_ms in 0..90 {
            status.ended(1_000 + at_ms, std::slice::from_ref(&alice), &refused);
        }
    });
    assert_eq!(
        status.greeter().state,
        EndpointState::Down { since_ms: 1_000 }
    );
    assert_eq!(status.unhealthy_endpoints(), ["greeter".into()]);
    assert_eq!(
        lines,
        [json!({
            "level": "WARN", "message": "endpoint down; its messages wait",
            "endpoint": "greeter", "kind": "unavailable", "error": "connection refused",
        })]
    );
    let lines = log_of(|| status.log_suppressed(Instant::now() + events::WINDOW));
    assert_eq!(
        lines,
        [json!({
            "level": "WARN", "message": "similar log lines suppressed", "event": "unavailable",
            "of": "greeter", "reason": "connection refused", "lines": 89,
        })]
    );
    assert!(status.greeter().is_failing());

    let lines = log_of(|| status.ended(5_000, std::slice::from_ref(&alice), &answered(&alice)));
    assert_eq!(
        lines,
        [json!({
            "level": "INFO", "message": "endpoint up again",
            "endpoint": "greeter", "down_ms": 4_000, "failed_requests": 90,
        })]
    );
    let health = status.greeter();
    assert_eq!(health.state, EndpointState::Up);
    assert_eq!(health.last_success_ms, Some(5_000));
    assert_eq!(health.last_failure.as_ref().unwrap().at_ms, 1_089);
    assert!(!health.is_failing());
    assert!(status.unhealthy_endpoints().is_empty());
}

#[test]
fn failures_of_one_address_are_its_own_and_those_of_three_are_the_endpoints() {
    let status = status();
    let failed = failure(FailureKind::Ambiguous, "500 Internal Server Error");
    let lines = log_of(|| {
        for number in 0..8 {
            status.ended(number, &[batch("alice", number)], &failed);
            status.ended(number, &[batch("bob", number)], &failed);
        }
    });
    assert_eq!(status.greeter().state, EndpointState::Up);
    assert_eq!(
        lines,
        [json!({
            "level": "WARN", "message": "function failed", "function": "example/greeter",
            "endpoint": "greeter", "kind": "ambiguous", "error": "500 Internal Server Error",
        })],
        "once, not sixteen times"
    );
    status.ended(8, &[batch("carol", 8)], &failed);
    assert_eq!(status.greeter().state, EndpointState::Down { since_ms: 0 });
}

#[test]
fn throttling_is_no_outage_and_its_own_line() {
    let status = status();
    let throttled = failure(FailureKind::Throttled, "Rate exceeded");
    let lines = log_of(|| {
        for (number, id) in (0..).zip(["a", "b", "c", "d"]) {
            status.ended(number, &[batch(id, number)], &throttled);
        }
    });
    assert_eq!(status.greeter().state, EndpointState::Up);
    assert_eq!(status.greeter().last_failure.unwrap().kind, "throttled");
    assert_eq!(
        lines,
        [json!({
            "level": "WARN",
            "message": "endpoint throttled a request; retrying with less concurrency",
            "endpoint": "greeter", "error": "Rate exceeded",
        })]
    );
}

#[test]
fn each_failed_batch_of_an_answer_names_its_function_on_one_line_without_control_characters() {
    let status = status();
    let (alice, bob) = (batch("alice", 1), batch("bob", 2));
    let error = Failure::new(FailureKind::Function, "it\npanicked \u{1b}[31m");
    let outcome = BundleOutcome::Answered(vec![
        (alice.attempt, Ok(FromFunction::default())),
        (bob.attempt, Err(error)),
    ]);
    let lines = log_of(|| status.ended(7, &[alice, bob], &outcome));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["error"], "it panicked  [31m");
    let health = status.greeter();
    assert_eq!(health.last_success_ms, Some(7));
    assert_eq!(health.last_failure.unwrap().message, "it panicked  [31m");
}

#[test]
fn dead_letters_are_written_with_their_ids_until_there_are_too_many() {
    let status = status();
    let lines = log_of(|| {
        for number in 0..50 {
            let notice = Notice::DeadLetter {
                id: MessageId([number; 16]),
                function: Some(FunctionType::new("example", "greeter")),
                egress: None,
                attempts: 8,
                reason: "it panicked".to_owned(),
            };
            status.noticed(&notice, 0);
        }
    });
    assert_eq!(lines.len(), 20);
    assert_eq!(
        lines[1],
        json!({
            "level": "WARN", "message": "dead letter made", "function": "example/greeter",
            "dead_letter": "01010101010101010101010101010101", "attempts": 8,
            "reason": "it panicked",
        })
    );
    let later = Instant::now() + events::WINDOW;
    let suppressed = status.0.limit.take_due(later);
    assert_eq!(suppressed.len(), 1);
    assert_eq!(suppressed[0].lines, 30);
}

#[test]
fn a_pause_is_shown_with_its_cause_while_it_lasts() {
    let status = status();
    let paused = Notice::IngressPaused {
        cause: PauseCause::PendingBytes,
    };
    let lines = log_of(|| {
        status.noticed(&paused, 1_000);
        assert_eq!(status.pause(), Some(PauseCause::PendingBytes));
        status.noticed(&Notice::IngressResumed, 10);
    });
    assert_eq!(status.pause(), None);
    assert_eq!(
        lines[0],
        json!({
            "level": "WARN", "message": "ingress paused", "reason": "pending_limit",
            "pending_bytes": 1_000,
        })
    );
    assert_eq!(lines[1]["message"], "ingress resumed");
    assert_eq!(lines[1]["level"], "INFO");
    assert!(lines[1]["paused_ms"].is_number());
}

#[test]
fn only_a_slow_commit_is_written() {
    let status = status();
    let lines = log_of(|| {
        status.committed(0, 7, 100, Duration::from_millis(999));
        status.committed(0, 8, 100, Duration::from_millis(1_500));
        status.committed(0, 9, 100, Duration::from_secs(9));
    });
    assert_eq!(
        lines,
        [json!({
            "level": "WARN", "message": "slow commit", "partition": 0, "number": 8,
            "bytes": 100, "took_ms": 1_500,
        })]
    );
}

#[test]
fn components_are_those_of_the_module_files_with_what_was_observed() {
    let status = status();
    assert_eq!(status.endpoints()[1].kind, "http");
    assert_eq!(status.endpoints()[1].functions, ["web/one"]);
    let one = FunctionType::new("web", "one");
    let named = [FunctionType::new("example", "greeter"), one.clone()];
    assert_eq!(status.named_functions(), named.into());
    assert_eq!(status.endpoint_of(&one).unwrap(), status.endpoints()[1]);
    assert_eq!(status.endpoint_of(&FunctionType::new("no", "one")), None);

    status.ingress_lag("example/names", "shardId-0", 10);
    status.ingress_lag("example/names", "shardId-1", 20);
    status.ingress_received("example/names", 3);
    status.ingress_failed("example/names", "GetRecords: denied");
    status.ingress_source_ended("example/names", "shardId-1");
    status.ingress_lag("another/one", "shardId-0", 10);
    let names = &status.ingresses()[0];
    assert_eq!((names.lag_ms(), names.received), (Some(10), 3));
    assert_eq!(
        names.last_error.as_ref().unwrap().message,
        "GetRecords: denied"
    );
    assert_eq!(names.sources, ["names"]);

    status.egress_delivered("example/out", 2);
    status.egress_retried("example/out", 1, "throttled");
    status.egress_refused("example/out");
    let out = &status.egresses()[0];
    assert_eq!((out.delivered, out.retried, out.refused), (2, 1, 1));
    assert_eq!(out.last_error.as_ref().unwrap().message, "throttled");
    assert!(out.last_success_ms.is_some());
}

#[tokio::test]
async fn without_a_partition_nothing_is_observed() {
    let status = status();
    assert_eq!(status.observe(|partition| partition.gauges()).await, None);
    drop(status.observe_partition());
    assert_eq!(status.observe(|partition| partition.gauges()).await, None);
}
