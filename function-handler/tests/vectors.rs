//! The vectors that handlers of every language are tested with, on a real handler process.
//!
//! `SATCHEL_UPDATE_VECTORS=1` writes them. `vectors/README.md` has their form.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "vectors/cases.rs"]
mod cases;
mod support;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_protocol::bundle::{Budget, BundleResponse};
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::Response;
use serde_json::Value;

use support::Handler;
use support::runtime_api::RuntimeApi;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/bundles.json")
}

#[test]
fn the_file_has_the_cases() {
    let mut written = serde_json::to_string_pretty(&cases::all()).unwrap();
    written.push('\n');
    if std::env::var_os("SATCHEL_UPDATE_VECTORS").is_some() {
        std::fs::write(file(), &written).unwrap();
    }
    let read = std::fs::read_to_string(file()).unwrap();
    assert!(
        read == written,
        "{} differs from the cases: SATCHEL_UPDATE_VECTORS=1 writes it",
        file().display()
    );
}

#[tokio::test]
async fn a_handler_of_this_crate_answers_each_case() {
    let cases = cases::all();
    let mut api = RuntimeApi::start();
    let _handler = Handler::on_lambda(api.address());
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let request = case["request"].to_string().into_bytes();
        let (outcome, body) = api.invoke(request, Duration::from_secs(600)).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        if case["response"].is_object() {
            assert_eq!(outcome, "response", "{name}: {answer}");
            check_bundle(name, &case["response"], &answer);
        } else if case["http"].is_object() {
            assert_eq!(outcome, "response", "{name}: {answer}");
            check_http(name, &case["http"], &answer);
        } else {
            assert_eq!(outcome, "error", "{name}: {answer}");
            let expected = &case["function_error"];
            assert_eq!(answer["errorType"], expected["errorType"], "{name}");
            assert_begins(name, &answer["errorMessage"], &expected["errorMessage"]);
        }
    }
}

fn check_bundle(name: &str, expected: &Value, answer: &Value) {
    let read = |value: &Value| BundleResponse::from_json(value.to_string().as_bytes()).unwrap();
    let (expected, answer) = (read(expected), read(answer));
    assert_eq!(answer.bundle, expected.bundle, "{name}");
    assert_eq!(answer.encoding, expected.encoding, "{name}");
    assert_eq!(answer.results.len(), expected.results.len(), "{name}");
    for (answered, wanted) in answer.results.iter().zip(&expected.results) {
        let name = format!("{name}, attempt {}", wanted.attempt);
        assert_eq!(answered.attempt, wanted.attempt, "{name}");
        let outcome = |result: &satchel_protocol::bundle::BatchResult| {
            let budget = &mut Budget::default();
            result.from_function(answer.encoding, budget).unwrap()
        };
        match (outcome(answered), outcome(wanted)) {
            (Ok(from), Ok(wanted)) => assert_eq!(without_extensions(from), wanted, "{name}"),
            (Err(error), Err(wanted)) => {
                assert_eq!(error.kind, wanted.kind, "{name}: {error:?}");
                assert_eq!(error.terminal, wanted.terminal, "{name}");
                let (text, part) = (&error.message, &wanted.message);
                assert!(text.contains(part), "{name}: {text} has no {part}");
            }
            (other, wanted) => panic!("{name}: {other:?} instead of {wanted:?}"),
        }
    }
}

fn check_http(name: &str, expected: &Value, answer: &Value) {
    assert_eq!(
        answer["statusCode"], expected["statusCode"],
        "{name}: {answer}"
    );
    for (header, value) in expected["headers"].as_object().unwrap() {
        assert_eq!(&answer["headers"][header], value, "{name}: {header}");
    }
    if expected["from"].is_null() {
        assert_begins(name, &answer["body"], &expected["body"]);
        return;
    }
    assert_eq!(answer["isBase64Encoded"], true, "{name}");
    let decoded = |text: &Value| {
        let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
        FromFunction::decode(&bytes[..]).unwrap()
    };
    let from = without_extensions(decoded(&answer["body"]));
    assert_eq!(from, decoded(&expected["from"]), "{name}");
}

fn assert_begins(name: &str, text: &Value, beginning: &Value) {
    let (text, beginning) = (text.as_str().unwrap(), beginning.as_str().unwrap());
    assert!(text.starts_with(beginning), "{name}: {text}");
}

/// The answer without the fields that only Satchel's SDK sets.
fn without_extensions(mut from: FromFunction) -> FromFunction {
    match &mut from.response {
        Some(Response::InvocationResult(result)) => {
            result.declaration = 0;
            for message in &mut result.outgoing_messages {
                message.cause = 0;
            }
        }
        Some(Response::IncompleteInvocationContext(incomplete)) => {
            incomplete.declaration = 0;
            incomplete.declared_values.clear();
        }
        None => {}
    }
    from
}
