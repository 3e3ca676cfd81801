//! Administration: what is shown, and who may change what.

use satchel_engine::input::Administration;
use satchel_engine::message::MessageId;
use satchel_engine::output::{AddressView, StateView, TimerView};
use satchel_protocol::types::{BuiltIn, typed_value};
use serde_json::json;

use super::dead_letters::kept;
use super::*;

const ADDRESS: &str = "/api/addresses/example/greeter/alice";

pub(super) fn silent(_: &Input) -> Option<Answer> {
    None
}

fn done(input: &Input) -> Option<Answer> {
    matches!(input, Input::Administered { .. }).then_some(Answer::Done)
}

/// Returns the administration requests that the partition received.
pub(super) fn asked(process: &Process) -> Vec<Administration> {
    process
        .told()
        .into_iter()
        .filter_map(|input| match input {
            Input::Administered { administration, .. } => Some(administration),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn health_is_told_apart_from_readiness() {
    let process = Process::answering(silent).await;
    for (readiness, status, body) in [
        (
            Readiness::Starting { recovered: 0.4 },
            503,
            json!({"state": "starting", "recovered": 0.4}),
        ),
        (
            Readiness::Starting { recovered: 0.999 },
            503,
            json!({"state": "starting", "recovered": 0.99}),
        ),
        (Readiness::Standby, 503, json!({"state": "standby"})),
        (
            Readiness::Loading { recovered: 0.25 },
            200,
            json!({"state": "serving", "recovered": 0.25}),
        ),
        (Readiness::Serving, 200, json!({"state": "serving"})),
        (Readiness::Stopping, 503, json!({"state": "stopping"})),
    ] {
        process.readiness.send_replace(readiness);
        let reply = ask(process.admin, "GET", "/readyz", &[], b"").await;
        assert_eq!((reply.status, reply.json()), (status, body));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("retry-after"), (status == 503).then_some("1"));
        let reply = ask(process.admin, "GET", "/healthz", &[], b"").await;
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!({"state": "alive"}))
        );
    }
    process.stop().await;
}

#[tokio::test]
async fn metrics_are_shown_for_prometheus() {
    let process = Process::answering(silent).await;
    process.metrics.observe_stale_answer();
    assert_eq!(
        ask(process.admin, "GET", "/healthz", &[], b"").await.status,
        200
    );
    let reply = ask(process.admin, "GET", "/metrics", &[], b"").await;
    assert_eq!(reply.status, 200);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(reply.header("content-type"), Some(content_type));
    let text = String::from_utf8(reply.body).unwrap();
    for line in [
        "satchel_stale_answers_dropped_total 1",
        r#"satchel_http_requests_total{port="admin",verb="healthz",code="200"} 1"#,
        r#"satchel_http_connections{port="admin"} 1"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
    }
    process.stop().await;
}

#[tokio::test]
async fn lists_refuse_what_they_do_not_understand() {
    let process = Process::answering(kept).await;
    for (target, expected) in [
        ("/api/dead-letters?limit=0", (400, "invalid_query")),
        ("/api/dead-letters?limit=1001", (400, "invalid_query")),
        ("/api/dead-letters?limit=some", (400, "invalid_query")),
        ("/api/dead-letters?function=greeter", (400, "invalid_query")),
        ("/api/dead-letters?page=2", (400, "invalid_query")),
        ("/api/dead-letters?after=7", (404, "not_found")),
        ("/api/timers?limit=0", (400, "invalid_query")),
        ("/api/nothing", (404, "no_such_path")),
    ] {
        let reply = ask(process.admin, "GET", target, &[], b"").await;
        assert_eq!(
            reply.code(),
            (expected.0, expected.1.to_owned()),
            "{target}"
        );
    }
    assert_eq!(process.told(), []);
    process.stop().await;
}

#[tokio::test]
async fn corrections_reach_the_partition_as_they_were_asked_for() {
    let process = Process::answering(done).await;
    let id = "0a".repeat(16);
    let state = |name: &str| format!("{ADDRESS}/state/{name}");
    for (method, target, headers, body) in [
        (
            "POST",
            format!("/api/dead-letters/{id}/retry"),
            &[][..],
            &b""[..],
        ),
        ("DELETE", format!("/api/dead-letters/{id}"), &[], b""),
        ("PUT", state("seen"), &[], b"3"),
        (
            "PUT",
            state("a%2Fb"),
            &[("content-type", "application/vnd.io.statefun.types/int")],
            b"",
        ),
        ("DELETE", state("seen?timeout=5s"), &[], b""),
        ("POST", format!("{ADDRESS}/resume"), &[], b""),
        ("POST", format!("{ADDRESS}/skip"), &[], b""),
    ] {
        let reply = ask(process.admin, method, &target, headers, body).await;
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!({})),
            "{method} {target}"
        );
    }
    let set = |state: &str, value| Administration::SetState {
        address: alice(),
        state: state.into(),
        value,
    };
    assert_eq!(
        asked(&process),
        [
            Administration::RetryDeadLetter(MessageId([0x0a; 16])),
            Administration::DropDeadLetter(MessageId([0x0a; 16])),
            set("seen", typed_value("satchel/json", &b"3"[..])),
            set("a/b", typed_value(i32::TYPENAME, &b""[..])),
            Administration::DeleteState {
                address: alice(),
                state: "seen".into(),
            },
            Administration::Resume(alice()),
            Administration::Skip(alice()),
        ]
    );
    process.stop().await;
}

#[tokio::test]
async fn corrections_that_can_not_be_understood_are_refused() {
    let process = Process::answering(done).await;
    let state = format!("{ADDRESS}/state/seen");
    let late = format!("{state}?timeout=1");
    for (method, target, expected) in [
        ("PUT", state.as_str(), (400, "invalid_json")),
        (
            "PUT",
            &format!("{state}?timeout=never"),
            (400, "invalid_timeout"),
        ),
        ("DELETE", "/api/dead-letters/nope", (404, "not_found")),
        ("POST", "/api/dead-letters/nope/retry", (404, "not_found")),
        ("POST", ADDRESS, (405, "method_not_allowed")),
        ("GET", &state, (405, "method_not_allowed")),
    ] {
        let reply = ask(process.admin, method, target, &[], b"{").await;
        assert_eq!(
            reply.code(),
            (expected.0, expected.1.to_owned()),
            "{method} {target}"
        );
    }
    assert_eq!(process.told(), []);
    process.stop().await;
    let process = Process::answering(silent).await;
    let reply = ask(process.admin, "PUT", &late, &[], b"3").await;
    assert_eq!(reply.code(), (504, "timeout".to_owned()));
    process.stop().await;
}

#[tokio::test]
async fn what_the_partition_refuses_is_told_with_its_reason() {
    let process = Process::answering(|input| match input {
        Input::Administered {
            administration: Administration::Resume(_),
            ..
        } => Some(Answer::Refused("it is not suspended".to_owned())),
        _ => Some(Answer::NotFound("there is no such state".to_owned())),
    })
    .await;
    let reply = ask(
        process.admin,
        "POST",
        &format!("{ADDRESS}/resume"),
        &[],
        b"",
    )
    .await;
    let (status, code, message) = reply.error();
    assert_eq!(
        (status, code.as_str(), message.as_str()),
        (409, "refused", "it is not suspended")
    );
    let reply = ask(process.admin, "GET", ADDRESS, &[], b"").await;
    let (status, code, message) = reply.error();
    assert_eq!(
        (status, code.as_str(), message.as_str()),
        (404, "not_found", "there is no such state")
    );
    process.stop().await;
}

#[tokio::test]
async fn an_address_is_shown_with_its_state_backlog_and_suspension() {
    let process = Process::answering(|_| {
        let state = |name: &str, typename: &str, value: Vec<u8>, expires_at_ms| StateView {
            name: name.into(),
            typename: typename.into(),
            value: value.into(),
            expires_at_ms,
        };
        Some(Answer::Address(Box::new(AddressView {
            address: alice(),
            state: vec![
                state("seen", i64::TYPENAME, 3_i64.to_wire().to_vec(), Some(0)),
                state("profile", "example/profile", b"{\"a\": [1]}".to_vec(), None),
                state("photo", "example/photo", vec![0xff, 0xd8], None),
            ],
            backlog_messages: 2,
            backlog_bytes: 300,
            in_flight: false,
            suspended: Some("it panicked".to_owned()),
            function_stopped: None,
            failing: Some((8, "it panicked".to_owned())),
        })))
    })
    .await;
    let reply = ask(process.admin, "GET", ADDRESS, &[], b"").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({
            "address": "example/greeter/alice",
            "namespace": "example",
            "name": "greeter",
            "id": "alice",
            "state": [
                {
                    "name": "seen",
                    "typename": "io.statefun.types/long",
                    "value": 3,
                    "expires_at": "1970-01-01T00:00:00.000Z",
                },
                {
                    "name": "profile",
                    "typename": "example/profile",
                    "value": {"a": [1]},
                    "expires_at": null,
                },
                {
                    "name": "photo",
                    "typename": "example/photo",
                    "base64": "/9g=",
                    "expires_at": null,
                },
            ],
            "backlog": {"messages": 2, "bytes": 300},
            "in_flight": false,
            "suspended": "it panicked",
            "function_stopped": null,
            "failing": {"attempts": 8, "reason": "it panicked"},
        })
    );
    assert_eq!(asked(&process), [Administration::Inspect(alice())]);
    process.stop().await;
}

#[tokio::test]
async fn timers_are_listed() {
    let process = Process::answering(|_| {
        Some(Answer::Timers(vec![TimerView {
            owner: alice(),
            due_ms: 1000,
            target: alice(),
            typename: "example/tick".to_owned(),
            token: Some("t-1".into()),
        }]))
    })
    .await;
    let target = "/api/timers?function=example/greeter&limit=5";
    let reply = ask(process.admin, "GET", target, &[], b"").await;
    assert_eq!(
        reply.json(),
        json!({"timers": [{
            "owner": "example/greeter/alice",
            "due": "1970-01-01T00:00:01.000Z",
            "target": "example/greeter/alice",
            "typename": "example/tick",
            "token": "t-1",
        }]})
    );
    assert_eq!(
        asked(&process),
        [Administration::ListTimers {
            function: Some("example/greeter".into()),
            limit: 5,
        }]
    );
    process.stop().await;
}

/// Every way to change something.
fn writes() -> Vec<(&'static str, String)> {
    let id = "0a".repeat(16);
    vec![
        ("POST", format!("/api/dead-letters/{id}/retry")),
        ("DELETE", format!("/api/dead-letters/{id}")),
        ("PUT", format!("{ADDRESS}/state/seen")),
        ("DELETE", format!("{ADDRESS}/state/seen")),
        ("POST", format!("{ADDRESS}/resume")),
    ]
}

#[tokio::test]
async fn with_a_token_only_those_who_show_it_change_something() {
    let setup = Setup {
        writes: AdminAccess::Token(Token::new("s3cret").unwrap()),
        ..Setup::default()
    };
    let process = Process::start(setup, done).await;
    for (method, target) in writes() {
        for authorization in [
            None,
            Some("Bearer wrong"),
            Some("Bearer s3cret2"),
            Some("Bearer"),
            Some("Basic s3cret"),
            Some("s3cret"),
        ] {
            let headers: Vec<_> = authorization
                .into_iter()
                .map(|value| ("authorization", value))
                .collect();
            let reply = ask(process.admin, method, &target, &headers, b"1").await;
            assert_eq!(
                reply.code(),
                (401, "unauthorized".to_owned()),
                "{authorization:?}"
            );
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
        let headers = [("authorization", "bearer s3cret")];
        let reply = ask(process.admin, method, &target, &headers, b"1").await;
        assert_eq!(reply.status, 200, "{method} {target}");
    }
    assert_eq!(asked(&process).len(), writes().len());
    process.stop().await;
}

#[tokio::test]
async fn beyond_loopback_what_is_read_needs_the_token_too_but_health_and_metrics_do_not() {
    let token = || AdminAccess::Token(Token::new("s3cret").unwrap());
    let setup = Setup {
        reads: token(),
        writes: token(),
        ..Setup::default()
    };
    let process = Process::start(setup, kept).await;
    for target in ["/api/dead-letters", "/api/timers", ADDRESS] {
        let reply = ask(process.admin, "GET", target, &[], b"").await;
        assert_eq!(reply.code(), (401, "unauthorized".to_owned()), "{target}");
    }
    assert_eq!(process.told(), []);
    let shown = [("authorization", "Bearer s3cret")];
    let reply = ask(process.admin, "GET", "/api/dead-letters", &shown, b"").await;
    assert_eq!(reply.status, 200);
    for target in ["/healthz", "/readyz", "/metrics"] {
        let reply = ask(process.admin, "GET", target, &[], b"").await;
        assert_eq!(reply.status, 200, "{target}");
    }
    process.stop().await;
}

#[tokio::test]
async fn without_a_token_nothing_is_changed_and_all_is_readable() {
    let setup = Setup {
        writes: AdminAccess::Denied,
        ..Setup::default()
    };
    let process = Process::start(setup, kept).await;
    for (method, target) in writes() {
        let headers = [("authorization", "Bearer anything")];
        let reply = ask(process.admin, method, &target, &headers, b"1").await;
        assert_eq!(
            reply.code(),
            (403, "not_allowed".to_owned()),
            "{method} {target}"
        );
    }
    assert_eq!(process.told(), []);
    let reply = ask(process.admin, "GET", "/api/dead-letters", &[], b"").await;
    assert_eq!(reply.status, 200);
    process.stop().await;
}

#[tokio::test]
async fn a_process_that_is_not_serving_refuses_administration_but_tells_its_health() {
    let process = Process::answering(done).await;
    process.readiness.send_replace(Readiness::Standby);
    let reply = ask(process.admin, "GET", ADDRESS, &[], b"").await;
    assert_eq!(reply.code(), (503, "standby".to_owned()));
    for (method, target) in writes() {
        let reply = ask(process.admin, method, &target, &[], b"1").await;
        assert_eq!(
            reply.code(),
            (503, "standby".to_owned()),
            "{method} {target}"
        );
    }
    assert_eq!(
        ask(process.admin, "GET", "/healthz", &[], b"").await.status,
        200
    );
    assert_eq!(
        ask(process.admin, "GET", "/metrics", &[], b"").await.status,
        200
    );
    process.stop().await;
}

#[test]
fn a_token_is_never_printed_and_never_empty() {
    let writes = AdminAccess::Token(Token::new("s3cret").unwrap());
    assert_eq!(format!("{writes:?}"), "Token(Token(…))");
    assert!(Token::new("").is_none());
}
