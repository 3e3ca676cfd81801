//! Calls and sends: every status, header and typename rule.

use satchel_engine::input::{Call, Verb};
use satchel_engine::message::MessageId;
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::typed_value;

use super::*;

pub(super) const CALL: &str = "/call/example/greeter/alice";
pub(super) const SEND: &str = "/send/example/greeter/alice";

/// Answers a call with its own argument, and accepts what is sent.
pub(super) fn echo(input: &Input) -> Option<Answer> {
    match input {
        Input::CallReceived(call) => Some(match call.verb {
            Verb::Call => Answer::Replied(call.argument.clone()),
            Verb::Send => Answer::Accepted,
        }),
        _ => None,
    }
}

/// The calls that the partition received.
fn calls(process: &Process) -> Vec<Call> {
    process
        .told()
        .into_iter()
        .filter_map(|input| match input {
            Input::CallReceived(call) => Some(call),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_call_is_answered_with_the_functions_reply_and_its_typename() {
    let process = Process::answering(echo).await;
    let reply = ask(process.traffic, "POST", CALL, &[], br#"{"name":"Alice"}"#).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("satchel-type"), Some("satchel/json"));
    assert_eq!(reply.body, br#"{"name":"Alice"}"#);
    let calls = calls(&process);
    assert_eq!(
        calls,
        [Call {
            request: calls[0].request,
            id: calls[0].id,
            verb: Verb::Call,
            target: alice(),
            argument: typed_value("satchel/json", &br#"{"name":"Alice"}"#[..]),
            idempotency_key: None,
            trace: None,
        }]
    );
    process.stop().await;
}

#[tokio::test]
async fn what_is_sent_is_answered_with_202_and_nothing_else() {
    let process = Process::answering(echo).await;
    let headers = [
        ("idempotency-key", "order-1"),
        ("satchel-type", "example/raw"),
    ];
    let reply = ask(process.traffic, "POST", SEND, &headers, b"\x00\xff").await;
    assert_eq!((reply.status, reply.body), (202, Vec::new()));
    let calls = calls(&process);
    assert_eq!(calls[0].verb, Verb::Send);
    assert_eq!(
        calls[0].argument,
        typed_value("example/raw", &b"\x00\xff"[..])
    );
    assert_eq!(calls[0].idempotency_key.as_deref(), Some("order-1"));
    process.stop().await;
}

#[tokio::test]
async fn the_typename_comes_from_the_raw_content_type_then_from_the_header() {
    let process = Process::answering(echo).await;
    for (headers, typename) in [
        (
            &[("content-type", "application/vnd.example/greet")][..],
            "example/greet",
        ),
        (
            &[
                (
                    "content-type",
                    "application/vnd.io.statefun.types/int; charset=utf-8",
                ),
                ("satchel-type", "other/type"),
            ],
            "io.statefun.types/int",
        ),
        (
            &[
                ("content-type", "text/plain"),
                ("satchel-type", "example/greet"),
            ],
            "example/greet",
        ),
    ] {
        let reply = ask(process.traffic, "POST", CALL, headers, b"\r\x01\0\0\0").await;
        assert_eq!(reply.status, 200, "{headers:?}");
        assert_eq!(reply.header("satchel-type"), Some(typename));
        let content_type = format!("application/vnd.{typename}");
        assert_eq!(reply.header("content-type"), Some(content_type.as_str()));
        assert_eq!(reply.body, b"\r\x01\0\0\0");
    }
    process.stop().await;
}

#[tokio::test]
async fn the_parts_of_an_address_are_percent_decoded() {
    let process = Process::answering(echo).await;
    for (path, namespace, name, id) in [
        (
            "/send/example/greeter/a%2Fb%20c",
            "example",
            "greeter",
            "a/b c",
        ),
        (
            "/send/org.example%2Fshop/greeter/%C3%A9+%25",
            "org.example/shop",
            "greeter",
            "é+%",
        ),
        ("/send/example/greeter/..", "example", "greeter", ".."),
        ("/send/example/greeter/100%", "example", "greeter", "100%"),
    ] {
        let reply = ask(process.traffic, "POST", path, &[], b"1").await;
        assert_eq!(reply.status, 202, "{path}");
        let expected = Address::new(FunctionType::new(namespace, name), id);
        assert_eq!(calls(&process).pop().unwrap().target, expected);
    }
    for (path, code) in [
        ("/send/example/greeter/%ff", (400, "invalid_path")),
        ("/send/example/gree%2Fter/alice", (400, "invalid_address")),
        ("/send/example/greeter/", (404, "no_such_path")),
        ("/send/example/%2e%2E/alice", (400, "invalid_address")),
        ("/send/example/./alice", (400, "invalid_address")),
        ("/send/example//alice", (400, "invalid_address")),
        ("/send/example/greeter", (404, "no_such_path")),
        ("/send/example/greeter/a/b", (404, "no_such_path")),
        ("/", (404, "no_such_path")),
    ] {
        let reply = ask(process.traffic, "POST", path, &[], b"1").await;
        assert_eq!(reply.code(), (code.0, code.1.to_owned()), "{path}");
    }
    process.stop().await;
}

#[tokio::test]
async fn text_that_should_be_json_and_is_not_is_refused_with_the_position() {
    let process = Process::answering(echo).await;
    for (body, position) in [
        (&b"{\"a\":1,\n  x}"[..], "line 2 column 3"),
        (b"", "line 1 column 0"),
        (b"1 2", "line 1 column 3"),
        (b"\"ab\xff\"", "index 3"),
    ] {
        let reply = ask(process.traffic, "POST", CALL, &[], body).await;
        let (status, code, message) = reply.error();
        assert_eq!((status, code.as_str()), (400, "invalid_json"));
        assert!(message.contains(position), "{message}");
        assert!(message.contains("satchel-type"), "{message}");
    }
    assert_eq!(calls(&process), []);
    process.stop().await;
}

#[tokio::test]
async fn headers_and_queries_that_can_not_be_understood_are_refused_by_name() {
    let process = Process::answering(echo).await;
    let long = "k".repeat(256);
    for (target, headers, code, named) in [
        (
            CALL,
            &[("idempotency-key", "")][..],
            "invalid_header",
            "idempotency-key",
        ),
        (
            CALL,
            &[("idempotency-key", "a b")],
            "invalid_header",
            "idempotency-key",
        ),
        (
            CALL,
            &[("idempotency-key", "é")],
            "invalid_header",
            "idempotency-key",
        ),
        (CALL, &[("idempotency-key", &long)], "invalid_header", "255"),
        (
            CALL,
            &[("idempotency-key", "a"), ("idempotency-key", "a")],
            "invalid_header",
            "more than once",
        ),
        (
            CALL,
            &[("satchel-type", "")],
            "invalid_header",
            "satchel-type",
        ),
        (
            CALL,
            &[("content-type", "application/vnd.")],
            "invalid_header",
            "content-type",
        ),
        (
            "/call/example/greeter/alice?timeout=soon",
            &[],
            "invalid_timeout",
            "`soon`",
        ),
        (
            "/call/example/greeter/alice?timeout=0s",
            &[],
            "invalid_timeout",
            "`0s`",
        ),
        (
            "/call/example/greeter/alice?timeout=2h",
            &[],
            "invalid_timeout",
            "3600s",
        ),
        (
            "/call/example/greeter/alice?timeout=",
            &[],
            "invalid_timeout",
            "``",
        ),
        (
            "/call/example/greeter/alice?timout=1s",
            &[],
            "invalid_query",
            "timout",
        ),
    ] {
        let reply = ask(process.traffic, "POST", target, headers, b"1").await;
        let (status, actual, message) = reply.error();
        assert_eq!(
            (status, actual.as_str()),
            (400, code),
            "{target} {headers:?}"
        );
        assert!(message.contains(named), "{message}");
    }
    let longest = "k".repeat(255);
    let reply = ask(
        process.traffic,
        "POST",
        SEND,
        &[("idempotency-key", &longest)],
        b"1",
    )
    .await;
    assert_eq!(reply.status, 202);
    assert_eq!(calls(&process).len(), 1);
    process.stop().await;
}

/// Answers each id with the answer that it names.
fn by_id(input: &Input) -> Option<Answer> {
    let Input::CallReceived(call) = input else {
        return None;
    };
    Some(match &*call.target.id {
        "dead" => Answer::Failed {
            dead_letter: MessageId([0xab; 16]),
            reason: "the function panicked: no".to_owned(),
        },
        "missing" | "forbidden" => Answer::Rejected {
            code: if &*call.target.id == "missing" {
                404
            } else {
                401
            },
            message: "no such account".to_owned(),
        },
        "unknown" => Answer::UnknownFunction(call.target.function.clone()),
        "reused" => Answer::KeyReused,
        "overloaded" => Answer::Overloaded,
        "letters" => Answer::TooManyDeadLetters { bytes_max: 7 },
        "stopping" => Answer::Stopping,
        "untaken" => Answer::NotTaken,
        "void" => Answer::Replied(TypedValue {
            typename: "example/nothing".to_owned(),
            has_value: false,
            value: bytes::Bytes::new(),
        }),
        "wrong" => Answer::Done,
        _ => return None,
    })
}

#[tokio::test]
async fn each_answer_of_the_partition_has_its_status() {
    let process = Process::answering(by_id).await;
    for (id, status, code, message) in [
        ("dead", 500, "dead_letter", "the function panicked: no"),
        (
            "dead",
            500,
            "dead_letter",
            "abababababababababababababababab",
        ),
        ("missing", 404, "rejected", "no such account"),
        ("forbidden", 401, "rejected", "no such account"),
        ("unknown", 404, "unknown_function", "example/greeter"),
        ("reused", 422, "idempotency_key_reused", "Idempotency-Key"),
        (
            "overloaded",
            503,
            "overloaded",
            "than --pending-limit allows",
        ),
        ("untaken", 503, "stopping", "the request had no effect"),
        (
            "letters",
            503,
            "too_many_dead_letters",
            "more than 7 bytes (--dead-letter-limit)",
        ),
        (
            "stopping",
            503,
            "unknown",
            "outcome is unknown; retry with the same Idempotency-Key",
        ),
        ("wrong", 500, "internal", "a bug of Satchel"),
    ] {
        for verb in ["call", "send"] {
            let target = format!("/{verb}/example/greeter/{id}");
            let reply = ask(process.traffic, "POST", &target, &[], b"1").await;
            let (actual_status, actual_code, text) = reply.error();
            assert_eq!(
                (actual_status, actual_code.as_str()),
                (status, code),
                "{target}"
            );
            assert!(text.contains(message), "{text}");
            let retry = (status == 503).then_some("1");
            assert_eq!(reply.header("retry-after"), retry, "{target}");
            assert_eq!(reply.header("www-authenticate"), None, "{target}");
        }
    }
    let reply = ask(
        process.traffic,
        "POST",
        "/call/example/greeter/void",
        &[],
        b"1",
    )
    .await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(reply.header("satchel-type"), Some("example/nothing"));
    assert!(
        process.shows(r#"satchel_http_requests_total{port="traffic",verb="call",code="422"} 1"#)
    );
    process.stop().await;
}

#[tokio::test]
async fn the_reserved_namespace_has_no_functions() {
    let process = Process::answering(echo).await;
    for path in ["/call/satchel/caller/1", "/send/satchel/caller/1"] {
        let reply = ask(process.traffic, "POST", path, &[], b"1").await;
        assert_eq!(reply.code(), (404, "unknown_function".to_owned()));
    }
    assert_eq!(process.told(), []);
    process.stop().await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_answered_with_504_and_abandoned() {
    let process = Process::answering(|_| None).await;
    for path in [CALL, SEND] {
        let target = format!("{path}?timeout=20ms");
        let reply = ask(process.traffic, "POST", &target, &[], b"1").await;
        let (status, code, message) = reply.error();
        assert_eq!((status, code.as_str()), (504, "timeout"));
        assert!(message.contains("20ms"), "{message}");
    }
    for call in calls(&process) {
        process
            .hears(|input| *input == Input::RequestAbandoned(call.request))
            .await;
    }
    process.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_abandons_its_call() {
    let process = Process::answering(|_| None).await;
    let mut stream = TcpStream::connect(process.traffic).await.unwrap();
    stream
        .write_all(&request("POST", CALL, &[], b"1"))
        .await
        .unwrap();
    let asked = process
        .hears(|input| matches!(input, Input::CallReceived(_)))
        .await;
    drop(stream);
    let request = request_of(&asked).unwrap();
    process
        .hears(|input| *input == Input::RequestAbandoned(request))
        .await;
    assert!(
        process.shows(r#"satchel_http_requests_total{port="traffic",verb="call",code="499"} 1"#)
    );
    process.stop().await;
}

#[tokio::test]
async fn a_process_that_is_not_serving_answers_503_with_retry_after() {
    let process = Process::answering(echo).await;
    for (readiness, code, retry_after) in [
        (Readiness::Starting { recovered: 0.5 }, "starting", "1"),
        (Readiness::Standby, "standby", "5"),
        (Readiness::Stopping, "stopping", "1"),
    ] {
        process.readiness.send_replace(readiness);
        for path in [CALL, SEND] {
            let reply = ask(process.traffic, "POST", path, &[], b"1").await;
            assert_eq!(reply.code(), (503, code.to_owned()));
            assert_eq!(reply.header("retry-after"), Some(retry_after));
        }
    }
    assert_eq!(process.told(), []);
    process.readiness.send_replace(Readiness::Serving);
    assert_eq!(
        ask(process.traffic, "POST", SEND, &[], b"1").await.status,
        202
    );
    process.stop().await;
}

#[tokio::test]
async fn when_the_loop_is_gone_nothing_is_taken() {
    let process = Process::answering(echo).await;
    process.partition.abort();
    while !process.partition.is_finished() {
        tokio::task::yield_now().await;
    }
    let reply = ask(process.traffic, "POST", CALL, &[], b"1").await;
    let (status, code, message) = reply.error();
    assert_eq!((status, code.as_str()), (503, "stopping"));
    assert!(message.contains("the request had no effect"), "{message}");
    process.stop().await;
}

#[tokio::test]
async fn an_id_that_is_too_long_is_refused_by_name() {
    let process = Process::answering(echo).await;
    let id = "a".repeat(8192);
    for (id, status) in [(id.clone(), 200), (format!("{id}a"), 413)] {
        let path = format!("/call/example/greeter/{id}");
        let reply = ask(process.traffic, "POST", &path, &[], b"1").await;
        assert_eq!(reply.status, status);
        if status == 413 {
            let (_, code, message) = reply.error();
            assert_eq!(code, "id_too_long");
            assert_eq!(
                message,
                "the id of an instance of example/greeter has 8193 bytes; \
                 at most 8192 are allowed"
            );
        }
    }
    process.stop().await;
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_taken() {
    let process = Process::answering(echo).await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let reply = ask(process.traffic, method, CALL, &[], b"").await;
        assert_eq!(
            reply.code(),
            (405, "method_not_allowed".to_owned()),
            "{method}"
        );
        assert_eq!(reply.header("allow"), Some("POST"), "{method}");
    }
    process.stop().await;
}

#[tokio::test]
async fn web_pages_of_other_sites_reach_neither_port() {
    let process = Process::answering(echo).await;
    for address in [process.traffic, process.admin] {
        let rebound = [("host", "evil.example")];
        let reply = ask(address, "GET", "/healthz", &rebound, b"").await;
        let (status, code, message) = reply.error();
        assert_eq!((status, code.as_str()), (403, "host_not_allowed"));
        assert!(message.contains("evil.example"), "{message}");
        let foreign = [("origin", "https://evil.example")];
        let reply = ask(address, "POST", CALL, &foreign, b"1").await;
        assert_eq!(reply.code(), (403, "origin_not_allowed".to_owned()));
    }
    assert_eq!(process.told(), []);
    let own = [("origin", "http://localhost:5173")];
    assert_eq!(
        ask(process.traffic, "POST", CALL, &own, b"1").await.status,
        200
    );
    process.stop().await;
}
