use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{Batch, BatchMessage, BundleId};
use satchel_protocol::bundle::{BatchError, DECOMPRESSED_BYTES_MAX};
use satchel_protocol::effects::EFFECTS_MAX;
use satchel_protocol::reqreply::{FromFunction, TypedValue, from_function};

use super::*;
use satchel_engine::invocation::EndpointIndex;

fn attempt(number: u64) -> AttemptId {
    AttemptId {
        partition: 0,
        epoch: 3,
        number,
    }
}

fn batch(number: u64, value: Bytes) -> Arc<Batch> {
    Arc::new(Batch {
        attempt: attempt(number),
        target: Address::new(FunctionType::new("example", "greeter"), "alice"),
        state: vec![],
        declarations: [].into(),
        bytes: value.len(),
        messages: vec![BatchMessage {
            caller: None,
            argument: TypedValue {
                typename: "satchel/json".into(),
                has_value: true,
                value,
            },
            id: "m1".into(),
            failed_attempts: 2,
            trace: None,
            headers: None,
        }],
    })
}

fn bundle(batches: Vec<Arc<Batch>>) -> Bundle {
    Bundle {
        id: BundleId(9),
        endpoint: EndpointIndex(0),
        batches,
        new_connection: false,
    }
}

fn answer() -> FromFunction {
    FromFunction {
        response: Some(from_function::Response::InvocationResult(
            from_function::InvocationResponse::default(),
        )),
    }
}

/// Bytes that zstd makes nothing of, so that sizes are what they seem.
fn noise(bytes: usize) -> Bytes {
    let mut state = 1_u64;
    (0..bytes)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn a_request_carries_every_batch_under_its_attempt() {
    let bundle = bundle(vec![
        batch(1, Bytes::from_static(b"{}")),
        batch(2, Bytes::new()),
    ]);
    let request = BundleRequest::from_json(&Envelope::new().encode(&bundle).unwrap()).unwrap();
    assert_eq!(request.bundle, "b9");
    assert_eq!(request.encoding, Encoding::Identity);
    let batches: Vec<_> = request
        .batches
        .iter()
        .map(|batch| {
            let to = batch.to_function(request.encoding, &mut Budget::default());
            let to = to.unwrap();
            (batch.attempt.as_str(), to)
        })
        .collect();
    assert_eq!(
        batches,
        [
            ("0-3-1", bundle.batches[0].to_wire()),
            ("0-3-2", bundle.batches[1].to_wire()),
        ]
    );
}

#[test]
fn each_batch_has_the_outcome_that_its_result_says() {
    let bundle = bundle(vec![batch(1, Bytes::new()), batch(2, Bytes::new())]);
    let mut response = BundleResponse::new("b9", Encoding::Identity);
    response.push("0-3-2", Ok(&answer()));
    response.push(
        "0-3-1",
        Err(BatchError {
            kind: "panic".into(),
            message: "no".into(),
            terminal: None,
        }),
    );
    // Not requested, and there twice: neither is decoded, and the dispatcher counts both.
    response.push("7-8-9", Ok(&answer()));
    response.push("0-3-2", Ok(&answer()));
    // No name of ours.
    response.push("0-3", Ok(&answer()));
    response.push("0-3-1-4", Ok(&answer()));
    response.push("+0-3-1", Ok(&answer()));
    let outcome = Envelope::new().decode(&bundle, &response.to_json());
    let foreign = AttemptId {
        partition: 7,
        epoch: 8,
        number: 9,
    };
    assert_eq!(
        outcome,
        BundleOutcome::Answered(vec![
            (attempt(2), Ok(answer())),
            (
                attempt(1),
                Err(Failure::new(FailureKind::Function, "panic: no"))
            ),
            (foreign, Err(unrequested())),
            (attempt(2), Err(unrequested())),
        ])
    );
}

fn unrequested() -> Failure {
    let why = "the result was not requested, or repeats another one";
    Failure::new(FailureKind::Function, why)
}

/// An answer with a message of `bytes` bytes, of which zstd makes almost nothing.
fn large_answer(bytes: usize) -> FromFunction {
    let argument = TypedValue {
        value: vec![0; bytes].into(),
        ..TypedValue::default()
    };
    FromFunction {
        response: Some(from_function::Response::InvocationResult(
            from_function::InvocationResponse {
                outgoing_messages: vec![from_function::Invocation {
                    argument: Some(argument),
                    ..from_function::Invocation::default()
                }],
                ..from_function::InvocationResponse::default()
            },
        )),
    }
}

#[test]
fn a_small_answer_that_decompresses_to_gigabytes_fails_alone_and_is_never_built() {
    let bundle = bundle((1..=20).map(|number| batch(number, Bytes::new())).collect());
    let mut response = BundleResponse::new("b9", Encoding::Zstd);
    response.push("0-3-1", Ok(&large_answer(DECOMPRESSED_BYTES_MAX)));
    let bomb = response.results[0].clone();
    // Nineteen times 64 MiB that were requested, and nine hundred times 64 MiB that were not.
    for number in (2..20).chain(100..1000) {
        response.results.push(BatchResult {
            attempt: attempt(number).to_string(),
            ..bomb.clone()
        });
    }
    response.push("0-3-20", Ok(&answer()));
    let BundleOutcome::Answered(mut results) = Envelope::new().decode(&bundle, &response.to_json())
    else {
        panic!("the request did not fail");
    };
    assert_eq!(results.pop(), Some((attempt(20), Ok(answer()))));
    assert_eq!(results.len(), 919);
    for (attempt, outcome) in &results {
        let failure = outcome.as_ref().unwrap_err();
        if attempt.number < 20 {
            let why = "the parts of a bundle may have 67108864 bytes in all";
            assert!(failure.message.contains(why), "{failure}");
        } else {
            assert_eq!(*failure, unrequested());
        }
    }
}

#[test]
fn an_answer_of_more_effects_than_allowed_fails_its_batch() {
    let bundle = bundle(vec![batch(1, Bytes::new())]);
    let mut large = large_answer(0);
    if let Some(from_function::Response::InvocationResult(result)) = &mut large.response {
        let message = result.outgoing_messages[0].clone();
        result.outgoing_messages = vec![message; EFFECTS_MAX + 1];
    }
    let mut response = BundleResponse::new("b9", Encoding::Zstd);
    response.push("0-3-1", Ok(&large));
    let BundleOutcome::Answered(results) = Envelope::new().decode(&bundle, &response.to_json())
    else {
        panic!("the request did not fail");
    };
    let failure = results[0].1.as_ref().unwrap_err();
    assert!(
        failure.message.contains("more than 100000 effects"),
        "{failure}"
    );
}

#[test]
fn a_rejection_for_good_is_passed_on_with_its_position_status_and_text() {
    let bundle = bundle(vec![batch(1, Bytes::new()), batch(2, Bytes::new())]);
    let long = "x".repeat(3_000);
    let payload = serde_json::json!({
        "satchel": 1,
        "bundle": "b9",
        "results": [
            {"attempt": "0-3-1", "error": {
                "type": "terminal",
                "message": "the bank said no: frozen",
                "terminal": {"index": 2, "code": 409, "message": "frozen"},
            }},
            {"attempt": "0-3-2", "error": {
                "type": "invalid_message",
                "message": long,
                "terminal": {"code": 302, "message": long},
            }},
        ],
    });
    let payload = payload.to_string();
    let cut = |text: &str| format!("{}…", &text[..2_000]);
    let kind_and_text = format!("invalid_message: {long}");
    assert_eq!(
        Envelope::new().decode(&bundle, payload.as_bytes()),
        BundleOutcome::Answered(vec![
            (
                attempt(1),
                Err(Failure::terminal(
                    "terminal: the bank said no: frozen",
                    Rejection::new(Some(2), 409, "frozen"),
                ))
            ),
            (
                attempt(2),
                Err(Failure::terminal(
                    cut(&kind_and_text),
                    Rejection::new(None, 500, cut(&long)),
                ))
            ),
        ])
    );
}

#[test]
fn a_result_that_cannot_be_read_fails_its_batch_alone() {
    let bundle = bundle(vec![batch(1, Bytes::new()), batch(2, Bytes::new())]);
    let payload = serde_json::json!({
        "satchel": 1,
        "bundle": "b9",
        "results": [{"attempt": "0-3-1", "from": "%"}, {"attempt": "0-3-2", "from": ""}],
    });
    let payload = payload.to_string();
    let BundleOutcome::Answered(results) = Envelope::new().decode(&bundle, payload.as_bytes())
    else {
        panic!("the request did not fail");
    };
    let failure = results[0].1.as_ref().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Function);
    assert!(failure.message.contains("not base64"), "{failure}");
    assert_eq!(results[1], (attempt(2), Ok(FromFunction::default())));
}

#[test]
fn an_answer_that_is_no_bundle_or_another_one_fails_the_request() {
    let bundle = bundle(vec![batch(1, Bytes::new())]);
    for (payload, reason) in [
        (r#""hello""#, "not a bundle"),
        (r#"{"statusCode":200}"#, "not a bundle"),
        (
            r#"{"satchel":1,"bundle":"b8","results":[]}"#,
            "answered for another bundle: `b8` instead of `b9`",
        ),
    ] {
        let BundleOutcome::Failed(failure) = Envelope::new().decode(&bundle, payload.as_bytes())
        else {
            panic!("{payload} was accepted");
        };
        assert_eq!(failure.kind, FailureKind::Ambiguous);
        assert!(failure.message.contains(reason), "{failure}");
    }
}

#[test]
fn an_answer_in_an_unknown_version_is_no_failure_of_a_message() {
    let bundle = bundle(vec![batch(1, Bytes::new())]);
    let payload = br#"{"satchel":2,"sheaf":"b9"}"#;
    let BundleOutcome::Failed(failure) = Envelope::new().decode(&bundle, payload) else {
        panic!("it was accepted");
    };
    assert_eq!(failure.kind, FailureKind::Incompatible);
    assert!(failure.message.contains("has version 2"), "{failure}");

    // A handler that knows only other versions.
    let message = "the bundle has version 1, this side understands version 2";
    let payload = format!(r#"{{"errorType":"invalid_request","errorMessage":"{message}"}}"#);
    let failure = Envelope::function_error(payload.as_bytes());
    let text = format!("invalid_request: {message}");
    assert_eq!(failure, Failure::new(FailureKind::Incompatible, text));
}

#[test]
fn what_lambda_does_not_take_is_refused_before_it_is_sent() {
    let envelope = Envelope::new();
    let fits = bundle(vec![batch(1, noise(4_700_000))]);
    assert!(envelope.encode(&fits).unwrap().len() <= REQUEST_BYTES_MAX);
    let failure = envelope
        .encode(&bundle(vec![batch(1, noise(4_720_000))]))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::RequestTooLarge);
    assert!(
        failure.message.contains("Lambda accepts at most 6291456"),
        "{failure}"
    );
}

#[test]
fn zstd_is_sent_only_to_who_has_answered_in_it_and_where_it_pays() {
    let large = bundle(vec![batch(1, vec![b'x'; 8_000_000].into())]);
    let medium = bundle(vec![batch(1, vec![b'x'; 2_000].into())]);
    let mut response = BundleResponse::new("b9", Encoding::Zstd);
    response.push("0-3-1", Ok(&answer()));
    let encoding = |envelope: &Envelope, bundle: &Bundle| {
        let payload = envelope.encode(bundle);
        payload.map(|payload| BundleRequest::from_json(&payload).unwrap().encoding)
    };

    let envelope = Envelope::new();
    assert_eq!(
        encoding(&envelope, &large).unwrap_err().kind,
        FailureKind::RequestTooLarge
    );
    envelope.decode(&large, &response.to_json());
    assert_eq!(encoding(&envelope, &large), Ok(Encoding::Zstd));
    assert_eq!(encoding(&envelope, &medium), Ok(Encoding::Identity));

    let envelope = Envelope::compressing_from(2_000);
    assert_eq!(encoding(&envelope, &medium), Ok(Encoding::Identity));
    envelope.decode(&large, &response.to_json());
    assert_eq!(encoding(&envelope, &medium), Ok(Encoding::Zstd));
    let small = bundle(vec![batch(1, Bytes::from_static(b"x"))]);
    assert_eq!(encoding(&envelope, &small), Ok(Encoding::Identity));
    let of_small = (1..100).map(|number| batch(number, Bytes::from_static(b"x")));
    let of_small = bundle(of_small.collect());
    assert_eq!(encoding(&envelope, &of_small), Ok(Encoding::Identity));
}

#[test]
fn a_function_error_is_told_in_its_own_words() {
    for (payload, words) in [
        (
            r#"{"errorType":"Runtime.ExitError","errorMessage":"gone","stackTrace":[]}"#,
            "Runtime.ExitError: gone",
        ),
        (r#"{"errorMessage":"gone"}"#, "gone"),
        ("", "the handler failed without a reason"),
        ("[1]", "[1]"),
    ] {
        assert_eq!(
            Envelope::function_error(payload.as_bytes()),
            Failure::new(FailureKind::Ambiguous, words)
        );
    }
    let long = format!(r#"{{"errorMessage":"{}"}}"#, "ü".repeat(5_000));
    let failure = Envelope::function_error(long.as_bytes());
    assert_eq!(failure.message, format!("{}…", "ü".repeat(2_000)));
}

proptest! {
    #[test]
    fn every_attempt_is_read_back_from_what_it_shows(partition: u32, epoch: u64, number: u64) {
        let attempt = AttemptId { partition, epoch, number };
        prop_assert_eq!(parse_attempt(&attempt.to_string()), Some(attempt));
    }

    #[test]
    fn garbage_never_panics(payload: Vec<u8>, text in "\\PC*") {
        let bundle = bundle(vec![batch(1, Bytes::new())]);
        Envelope::new().decode(&bundle, &payload);
        Envelope::function_error(&payload);
        parse_attempt(&text);
    }
}
