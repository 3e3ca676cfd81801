//! Outcomes and notices, as the status and the log show them.

use std::io::Write;
use std::time::Duration;

use satchel_engine::invocation::{Batch, BundleOutcome, Failure, FailureKind};
use satchel_engine::message::MessageId;
use satchel_engine::partition::Notice;
use satchel_log::{StoreError, StoreFailure};
use satchel_protocol::reqreply::FromFunction;
use serde_json::{Value, json};

use super::fixture::{application, batch, down_since, failure};
use super::*;

fn status() -> Status {
    let status = Status::new();
    status.declare(&application());
    status
}

fn up() -> EndpointHealth {
    EndpointHealth::default()
}

fn answered(batch: &Arc<Batch>) -> BundleOutcome {
    BundleOutcome::Answered(vec![(batch.attempt, Ok(FromFunction::default()))])
}

impl Status {
    fn greeter(&self) -> EndpointView {
        self.endpoints()[0].clone()
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
fn an_endpoint_is_down_while_the_dispatcher_says_so_and_the_log_says_both_changes_once() {
    let status = status();
    let alice = batch("alice", 1);
    let lines = log_of(|| {
        for at_ms in 0..90 {
            let mut health = if at_ms < 2 { up() } else { down_since(1_002) };
            health.failed_requests = at_ms + 1;
            let refused = failure(FailureKind::Unavailable, "connection refused");
            status.greeter_ended(1_000 + at_ms, std::slice::from_ref(&alice), refused, health);
        }
    });
    assert_eq!(status.greeter().down_since_ms, Some(1_002));
    assert_eq!(status.unhealthy_endpoints(), ["greeter".into()]);
    assert_eq!(
        lines,
        [
            json!({
                "level": "WARN", "message": "request to endpoint failed; retrying",
                "endpoint": "greeter", "kind": "unavailable", "batches": 1,
                "error": "connection refused",
            }),
            json!({
                "level": "WARN", "message": "endpoint down; its messages wait",
                "endpoint": "greeter", "kind": "unavailable", "error": "connection refused",
            })
        ]
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

    let answer = answered(&alice);
    let lines = log_of(|| status.greeter_ended(5_000, &[alice], answer, up()));
    assert_eq!(
        lines,
        [json!({
            "level": "INFO", "message": "endpoint up again",
            "endpoint": "greeter", "down_ms": 3_998, "failed_requests": 90,
        })]
    );
    let greeter = status.greeter();
    assert_eq!(greeter.down_since_ms, None);
    assert_eq!(greeter.last_success_ms, Some(5_000));
    assert_eq!(greeter.last_failure.as_ref().unwrap().at_ms, 1_089);
    assert!(!greeter.is_failing());
    assert!(status.unhealthy_endpoints().is_empty());
}

#[test]
fn failures_of_a_function_are_written_once_and_name_it() {
    let status = status();
    let lines = log_of(|| {
        for number in 0..8 {
            for id in ["alice", "bob"] {
                let failed = failure(FailureKind::Ambiguous, "500 Internal Server Error");
                status.greeter_ended(number, &[batch(id, number)], failed, up());
            }
        }
    });
    assert_eq!(status.greeter().down_since_ms, None);
    assert_eq!(
        lines,
        [json!({
            "level": "WARN", "message": "function failed", "function": "example/greeter",
            "endpoint": "greeter", "kind": "ambiguous", "error": "500 Internal Server Error",
        })],
        "once, not sixteen times"
    );
}

#[test]
fn throttling_has_a_line_of_its_own() {
    let status = status();
    let lines = log_of(|| {
        for (number, id) in (0..).zip(["a", "b", "c", "d"]) {
            let throttled = failure(FailureKind::Throttled, "Rate exceeded");
            status.greeter_ended(number, &[batch(id, number)], throttled, up());
        }
    });
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
    let lines = log_of(|| status.greeter_ended(7, &[alice, bob], outcome, up()));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["error"], "it panicked  [31m");
    let greeter = status.greeter();
    assert_eq!(greeter.last_success_ms, Some(7));
    assert_eq!(greeter.last_failure.unwrap().message, "it panicked  [31m");
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
fn failures_of_the_store_are_written_once_for_each_kind_and_counted() {
    let status = status();
    let failure = |key: &str, attempts| StoreFailure {
        error: StoreError::Unavailable {
            key: key.to_owned(),
            reason: "connection refused".to_owned(),
        },
        attempts,
        wait_ms: 100,
    };
    let lines = log_of(|| {
        for attempts in 1..=50 {
            status.store_failed(&failure("log/17", attempts));
            status.store_failed(&failure("log/18", attempts));
        }
        status.store_failed(&failure("manifests/1", 1));
    });
    let line = |key: &str| {
        let failure = failure(key, 1);
        json!({
            "level": "WARN", "message": "store request failed; retrying",
            "error": failure.error.to_string(), "attempts": 1, "again_in_ms": 100,
        })
    };
    assert_eq!(lines, [line("log/17"), line("manifests/1")]);
    let suppressed = status.0.limit.take_due(Instant::now() + events::WINDOW);
    assert_eq!(suppressed.len(), 1);
    assert_eq!(suppressed[0].lines, 99);
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
    assert_eq!(status.observe(|partition| partition.gauges()).await, []);
    drop(status.observe_partition(0));
    assert_eq!(status.observe(|partition| partition.gauges()).await, []);
}
