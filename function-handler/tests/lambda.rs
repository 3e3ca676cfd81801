//! A real handler process on a Runtime API.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_protocol::bundle::{
    BatchError, Budget, BundleRequest, BundleResponse, Encoding, Terminal,
};
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::{FromFunction, ToFunction, from_function};
use serde_json::{Value, json};

use support::runtime_api::RuntimeApi;
use support::{Handler, batch, count, counted, misbehave, typed};

const NO_HURRY: Duration = Duration::from_secs(600);

/// Outcome of each batch: its `FromFunction`, or `type: message` of its error.
fn outcomes(response: &BundleResponse) -> Vec<(String, Result<FromFunction, String>)> {
    response
        .results
        .iter()
        .map(|result| {
            let outcome = result
                .from_function(response.encoding, &mut Budget::default())
                .unwrap();
            let outcome = outcome.map_err(|error| format!("{}: {}", error.kind, error.message));
            (result.attempt.clone(), outcome)
        })
        .collect()
}

async fn invoke(
    api: &mut RuntimeApi,
    request: &BundleRequest,
    timeout: Duration,
) -> BundleResponse {
    let (outcome, body) = api.invoke(request.to_json(), timeout).await;
    assert_eq!(outcome, "response", "{body:?}");
    BundleResponse::from_json(&body).unwrap()
}

#[tokio::test]
async fn a_bundle_is_answered_batch_by_batch_and_a_bad_batch_fails_alone() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.push(
        "handshake",
        &batch(support::address("counter", "1"), &[], &[]),
    );
    request.push("panic", &misbehave("panic at the disco"));
    request.push("fail", &misbehave("fail on request"));
    request.push("count", &count(Some(5), &[1, 2]));
    request.push(
        "unknown",
        &batch(support::address("unbound", "1"), &[], &[typed(&1_i64)]),
    );
    request.push("empty", &ToFunction::default());
    request.push("garbage", &ToFunction::default());
    request.batches[6].to = "%".to_owned();
    request.push("last", &count(None, &[7]));

    let response = invoke(&mut api, &request, NO_HURRY).await;
    assert_eq!(response.bundle, "b1");
    let handshake = FromFunction {
        response: Some(from_function::Response::IncompleteInvocationContext(
            from_function::IncompleteInvocationContext {
                missing_values: vec![from_function::PersistedValueSpec {
                    state_name: "count".into(),
                    expiration_spec: Some(from_function::ExpirationSpec::default()),
                    type_typename: "io.statefun.types/long".into(),
                }],
                ..Default::default()
            },
        )),
    };
    let named = |attempt: &str, outcome: Result<FromFunction, &str>| {
        (attempt.to_owned(), outcome.map_err(ToOwned::to_owned))
    };
    assert_eq!(
        outcomes(&response),
        [
            named("handshake", Ok(handshake)),
            named("panic", Err("panic: at the disco")),
            named("fail", Err("function: on request")),
            named("count", Ok(counted(&[6, 8], 8))),
            named(
                "unknown",
                Err(
                    "unknown_function: this handler has no function test/unbound; \
                     it has test/counter, test/misbehave, vectors/counter"
                )
            ),
            named("empty", Err("invalid_request: the request holds no batch")),
            named(
                "garbage",
                Err(
                    "invalid_request: attempt garbage: the payload is not base64: \
                     Invalid symbol 37, offset 0."
                )
            ),
            named("last", Ok(counted(&[7], 7))),
        ]
    );

    // The process still works.
    let mut request = BundleRequest::new("b2", Encoding::Zstd);
    request.push("again", &count(Some(8), &[1]));
    let response = invoke(&mut api, &request, NO_HURRY).await;
    assert_eq!(outcomes(&response), [named("again", Ok(counted(&[9], 9)))]);
}

#[tokio::test]
async fn a_batch_that_hangs_costs_only_itself() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.push("hang", &misbehave("hang"));
    request.push("count", &count(None, &[1]));
    let response = invoke(&mut api, &request, Duration::from_secs(5)).await;
    assert_eq!(
        outcomes(&response),
        [
            (
                "hang".to_owned(),
                Err(
                    "timeout: the batch was not done before the deadline of the Lambda request"
                        .to_owned()
                )
            ),
            ("count".to_owned(), Ok(counted(&[1], 1))),
        ]
    );
}

#[tokio::test]
async fn a_batch_that_keeps_its_thread_busy_costs_only_itself() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.push("before", &count(None, &[1]));
    request.push("block", &misbehave("block 60000"));
    for number in 0..100 {
        request.push(number.to_string(), &count(Some(number), &[1]));
    }
    let response = invoke(&mut api, &request, Duration::from_secs(5)).await;
    let outcomes = outcomes(&response);
    let timeout = "timeout: the batch was not done before the deadline of the Lambda request";
    assert_eq!(outcomes.len(), 102);
    assert_eq!(outcomes[0].1, Ok(counted(&[1], 1)));
    assert_eq!(outcomes[1].1, Err(timeout.to_owned()));
    for (number, (attempt, outcome)) in (0..).zip(&outcomes[2..]) {
        assert_eq!(attempt, &number.to_string());
        assert_eq!(outcome, &Ok(counted(&[number + 1], number + 1)));
    }
}

#[tokio::test]
async fn a_deadline_in_the_past_is_ignored() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.push("sleep", &misbehave("sleep 10"));
    let response = invoke(&mut api, &request, Duration::ZERO).await;
    let nothing = FromFunction {
        response: Some(from_function::Response::InvocationResult(
            from_function::InvocationResponse::default(),
        )),
    };
    assert_eq!(outcomes(&response), [("sleep".to_owned(), Ok(nothing))]);
}

#[tokio::test]
async fn the_batches_of_a_bundle_run_concurrently() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    for attempt in 0..100 {
        request.push(attempt.to_string(), &misbehave("sleep 1000"));
    }
    // One after another, they would take 100 seconds.
    let response = invoke(&mut api, &request, Duration::from_secs(50)).await;
    assert_eq!(response.results.len(), 100);
    assert!(response.results.iter().all(|result| result.from.is_some()));
}

#[tokio::test]
async fn a_result_that_is_too_large_displaces_no_other() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.accept = vec!["brotli".to_owned()];
    request.push("too large", &misbehave("answer 6000000"));
    request.push("large", &misbehave("answer 4000000"));
    request.push("count", &count(None, &[1]));
    let response = invoke(&mut api, &request, NO_HURRY).await;
    assert_eq!(response.encoding, Encoding::Identity);
    let kinds: Vec<_> = outcomes(&response)
        .into_iter()
        .map(|(attempt, outcome)| {
            let outcome = outcome.map(|_| ());
            (
                attempt,
                outcome.map_err(|error| error.split(':').next().unwrap().to_owned()),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("too large".to_owned(), Err("response_too_large".to_owned())),
            ("large".to_owned(), Ok(())),
            ("count".to_owned(), Ok(())),
        ]
    );

    // The same compressed fits as a whole.
    request.accept = vec!["zstd".to_owned()];
    let response = invoke(&mut api, &request, NO_HURRY).await;
    assert_eq!(response.encoding, Encoding::Zstd);
    assert!(
        outcomes(&response)
            .iter()
            .all(|(_, outcome)| outcome.is_ok())
    );
}

fn http_event(version: u8, method: &str, body: Option<&[u8]>) -> Vec<u8> {
    let mut event = match version {
        1 => json!({
            "resource": "/{proxy+}",
            "httpMethod": method,
            "requestContext": {"stage": "prod"},
        }),
        _ => json!({"version": "2.0", "requestContext": {"http": {"method": method, "path": "/"}}}),
    };
    if let Some(body) = body {
        event["body"] = json!(STANDARD.encode(body));
        event["isBase64Encoded"] = json!(true);
    }
    serde_json::to_vec(&event).unwrap()
}

#[tokio::test]
async fn an_http_request_through_a_gateway_is_answered_in_statefuns_plain_form() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let body = count(Some(5), &[1]).encode_to_vec();
    for version in [1, 2] {
        let event = http_event(version, "POST", Some(&body));
        let (outcome, response) = api.invoke(event, NO_HURRY).await;
        assert_eq!(outcome, "response");
        assert_eq!(
            serde_json::from_slice::<Value>(&response).unwrap(),
            json!({
                "statusCode": 200,
                "headers": {"content-type": "application/octet-stream"},
                "body": STANDARD.encode(counted(&[6], 6).encode_to_vec()),
                "isBase64Encoded": true,
            })
        );
    }
    for (event, status, text) in [
        (
            http_event(2, "POST", None),
            400,
            "invalid_request: the body is empty: POST a ToFunction",
        ),
        (
            http_event(2, "GET", None),
            405,
            "GET is not served: POST a ToFunction",
        ),
        (
            http_event(
                2,
                "POST",
                Some(&misbehave("panic at the disco").encode_to_vec()),
            ),
            500,
            "panic: at the disco",
        ),
        (
            http_event(
                2,
                "POST",
                Some(&misbehave("fail on request").encode_to_vec()),
            ),
            500,
            "function: on request",
        ),
    ] {
        let (outcome, response) = api.invoke(event, NO_HURRY).await;
        assert_eq!(outcome, "response");
        assert_eq!(
            serde_json::from_slice::<Value>(&response).unwrap(),
            json!({
                "statusCode": status,
                "headers": {"content-type": "text/plain; charset=utf-8"},
                "body": text,
                "isBase64Encoded": false,
            })
        );
    }
}

#[tokio::test]
async fn a_rejected_message_has_a_field_and_headers_of_its_own() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    let to = batch(
        support::address("misbehave", "1"),
        &[],
        &[
            typed(&"sleep 1".to_owned()),
            typed(&"reject no such thing".to_owned()),
        ],
    );
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.push("reject", &to);
    let response = invoke(&mut api, &request, NO_HURRY).await;
    assert_eq!(
        response.results[0].error,
        Some(BatchError {
            terminal: Some(Terminal {
                index: Some(1),
                code: 404,
                message: "no such thing".to_owned(),
            }),
            ..BatchError::new("terminal", "message 2 of 2: no such thing")
        })
    );

    let event = http_event(2, "POST", Some(&to.encode_to_vec()));
    let (outcome, response) = api.invoke(event, NO_HURRY).await;
    assert_eq!(outcome, "response");
    assert_eq!(
        serde_json::from_slice::<Value>(&response).unwrap(),
        json!({
            "statusCode": 500,
            "headers": {
                "content-type": "text/plain; charset=utf-8",
                "satchel-terminal-error": "404",
                "satchel-terminal-index": "1",
            },
            "body": "no such thing",
            "isBase64Encoded": false,
        })
    );
}

#[tokio::test]
async fn a_payload_of_no_known_form_fails_the_request_and_not_the_process() {
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    for (payload, message) in [
        (
            "{}",
            "the request is neither a bundle (it has no field `satchel`) nor an HTTP request",
        ),
        (
            r#"{"satchel":2,"batches":[]}"#,
            "the bundle has version 2, this side understands version 1",
        ),
    ] {
        let (outcome, body) = api.invoke(payload.into(), NO_HURRY).await;
        assert_eq!(outcome, "error");
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({"errorType": "invalid_request", "errorMessage": message})
        );
    }
}

#[tokio::test]
async fn the_process_fails_when_the_runtime_api_is_unreachable() {
    let mut api = RuntimeApi::start();
    let mut handler = Handler::on_lambda(api.address());
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.push("count", &count(None, &[1]));
    invoke(&mut api, &request, NO_HURRY).await;
    drop(api);
    let status = tokio::task::spawn_blocking(move || handler.exit_status())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(1));
}
