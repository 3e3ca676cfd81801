//! The cases of the vectors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_protocol::bundle::{
    BatchError, BundleRequest, BundleResponse, DECOMPRESSED_BYTES_MAX, Encoding, Terminal,
};
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::from_function::{
    ExpirationSpec, IncompleteInvocationContext, Invocation, InvocationResponse,
    PersistedValueMutation, PersistedValueSpec, Response,
};
use satchel_protocol::reqreply::to_function::Request;
use satchel_protocol::reqreply::{Address, FromFunction, ToFunction};
use satchel_sdk::TypedValue;
use serde_json::{Value, json};

use crate::support::{self, typed};

/// Every case, in the order of the file.
pub(crate) fn all() -> Vec<Value> {
    let mut cases = vec![
        handshake(),
        counting(),
        one_by_one(),
        extensions(),
        left_out(),
        too_large(),
        compressed_request(),
        compressed_response(),
        bomb(),
        middle_of_a_batch(),
    ];
    let empty = BundleRequest::new("b-empty", Encoding::Identity);
    let response = BundleResponse::new("b-empty", Encoding::Identity);
    cases.push(case("a bundle without batches", &empty, &response));
    cases.extend(rejected_payloads());
    cases.extend(http());
    cases
}

fn counter(id: &str) -> Address {
    Address {
        namespace: "vectors".into(),
        r#type: "counter".into(),
        id: id.into(),
    }
}

fn text(text: &str) -> TypedValue {
    typed(&text.to_owned())
}

/// A batch for the counter, whose count is `None` if it was never set.
fn to(id: &str, count: Option<i32>, messages: &[&str]) -> ToFunction {
    let messages: Vec<_> = messages.iter().map(|message| text(message)).collect();
    let count = count.map(|count| typed(&count));
    support::batch(counter(id), &[("count", count)], &messages)
}

/// The answer of a counter: the new count, and what it sent to the caller.
fn from(count: Option<i32>, sent: &[TypedValue]) -> FromFunction {
    let change = count.map(|count| PersistedValueMutation {
        mutation_type: 1,
        state_name: "count".into(),
        state_value: Some(typed(&count)),
    });
    let sent = sent.iter().map(|message| Invocation {
        target: Some(support::address("caller", "1")),
        argument: Some(message.clone()),
        ..Default::default()
    });
    FromFunction {
        response: Some(Response::InvocationResult(InvocationResponse {
            state_mutations: change.into_iter().collect(),
            outgoing_messages: sent.collect(),
            ..Default::default()
        })),
    }
}

fn rejection(index: u32, code: u16, message: &str) -> BatchError {
    BatchError {
        terminal: Some(Terminal {
            index: Some(index),
            code,
            message: message.into(),
        }),
        ..BatchError::new("terminal", message)
    }
}

fn case(name: &str, request: &BundleRequest, response: &BundleResponse) -> Value {
    json!({"name": name, "request": request, "response": response})
}

fn needing(mut case: Value, needs: &[&str]) -> Value {
    case["needs"] = json!(needs);
    case
}

/// A case of batches and their results, not compressed.
fn batches(
    name: &str,
    parts: &[(&str, ToFunction, Result<FromFunction, BatchError>)],
) -> (BundleRequest, BundleResponse, String) {
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    let mut response = BundleResponse::new("b1", Encoding::Identity);
    for (attempt, to, result) in parts {
        request.push(*attempt, to);
        response.push(*attempt, result.as_ref().map_err(Clone::clone));
    }
    (request, response, name.to_owned())
}

fn handshake() -> Value {
    let to = support::batch(counter("new"), &[], &[text("add 1")]);
    let missing = PersistedValueSpec {
        state_name: "count".into(),
        expiration_spec: Some(ExpirationSpec::default()),
        type_typename: "io.statefun.types/int".into(),
    };
    let from = FromFunction {
        response: Some(Response::IncompleteInvocationContext(
            IncompleteInvocationContext {
                missing_values: vec![missing],
                ..Default::default()
            },
        )),
    };
    let (request, response, name) =
        batches("a state that the request lacks", &[("1-0-1", to, Ok(from))]);
    case(&name, &request, &response)
}

fn counting() -> Value {
    let parts = [
        (
            "1-0-1",
            to("a", None, &["add 1", "add 2"]),
            Ok(from(Some(3), &[typed(&1), typed(&3)])),
        ),
        (
            "1-0-2",
            to("b", Some(5), &["add -5"]),
            Ok(from(Some(0), &[typed(&0)])),
        ),
        (
            "1-0-3",
            to("ü/ \"x\"", Some(i32::MAX), &["answer 3"]),
            Ok(from(None, &[text("xxx")])),
        ),
    ];
    let (request, response, name) = batches("states and messages", &parts);
    case(&name, &request, &response)
}

fn one_by_one() -> Value {
    let unknown = BatchError {
        terminal: Some(Terminal {
            index: Some(0),
            code: 404,
            message: "there is no function vectors/nothing".into(),
        }),
        ..BatchError::new(
            "unknown_function",
            "this handler has no function vectors/nothing",
        )
    };
    let nothing = Address {
        r#type: "nothing".into(),
        ..counter("x")
    };
    let mut without_target = to("x", None, &["add 1"]);
    if let Some(Request::Invocation(batch)) = &mut without_target.request {
        batch.target = None;
    }
    let invalid = |message: &str| Err(BatchError::new("invalid_request", message));
    let parts = [
        (
            "fails",
            to("a", Some(1), &["fail on request"]),
            Err(BatchError::new("function", "on request")),
        ),
        (
            "rejects",
            to("b", Some(1), &["reject 422 not like this"]),
            Err(rejection(0, 422, "not like this")),
        ),
        (
            "unknown",
            support::batch(nothing, &[], &[text("add 1")]),
            Err(unknown),
        ),
        (
            "empty",
            ToFunction::default(),
            invalid("the request holds no batch"),
        ),
        (
            "no-target",
            without_target,
            invalid("the batch has no target"),
        ),
        (
            "not-base64",
            ToFunction::default(),
            invalid("attempt not-base64: the payload is not base64"),
        ),
        (
            "not-protobuf",
            ToFunction::default(),
            invalid("the payload is not a ToFunction"),
        ),
        (
            "counts",
            to("c", Some(1), &["add 1"]),
            Ok(from(Some(2), &[typed(&2)])),
        ),
    ];
    let (mut request, response, name) = batches("a batch that fails fails alone", &parts);
    request.batches[5].to = "%".to_owned();
    request.batches[6].to = STANDARD.encode([0xa2, 0x06, 0x7f]);
    case(&name, &request, &response)
}

fn middle_of_a_batch() -> Value {
    let middle = ["add 1", "reject 409 no", "add 1"];
    let parts = [("1", to("a", None, &middle), Err(rejection(1, 409, "no")))];
    let (request, response, name) = batches("the second of three messages is rejected", &parts);
    needing(case(&name, &request, &response), &["position"])
}

/// Fields of a coordinator beside those of StateFun.
fn extensions() -> Value {
    let mut extended = to("a", Some(1), &["add 1"]);
    if let Some(Request::Invocation(batch)) = &mut extended.request {
        let message = &mut batch.invocations[0];
        message.message_id = "0123456789abcdef0123456789abcdef".into();
        message.failed_attempts = 3;
        message.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    }
    let parts = [("1", extended, Ok(from(Some(2), &[typed(&2)])))];
    let (request, response, name) = batches("fields that StateFun's SDKs do not know", &parts);
    let mut case = case(&name, &request, &response);
    case["request"]["new"] = json!({"of": "a later coordinator"});
    case["request"]["accept"] = json!(["brotli"]);
    case["request"]["batches"][0]["new"] = json!(1);
    case
}

fn left_out() -> Value {
    let parts = [(
        "1",
        to("a", Some(1), &["add 1"]),
        Ok(from(Some(2), &[typed(&2)])),
    )];
    let (request, response, name) = batches("fields that have a default", &parts);
    let mut case = case(&name, &request, &response);
    let fields = case["request"].as_object_mut().unwrap();
    fields.remove("encoding");
    fields.remove("accept");
    case
}

fn too_large() -> Value {
    let parts = [
        (
            "small",
            to("a", None, &["add 1"]),
            Ok(from(Some(1), &[typed(&1)])),
        ),
        (
            "huge",
            to("b", None, &["answer 5000000"]),
            Err(BatchError::new(
                "response_too_large",
                "Lambda allows 6291456 bytes",
            )),
        ),
        (
            "last",
            to("c", None, &["add 2"]),
            Ok(from(Some(2), &[typed(&2)])),
        ),
    ];
    let (mut request, response, name) = batches("an answer over Lambda's limit", &parts);
    request.accept = Vec::new();
    case(&name, &request, &response)
}

fn compressed_request() -> Value {
    let mut request = BundleRequest::new("b1", Encoding::Zstd);
    request.push("1", &to("a", Some(1), &["add 1"]));
    request.push("2", &ToFunction::default());
    request.batches[1].to = STANDARD.encode("not zstd");
    let mut response = BundleResponse::new("b1", Encoding::Identity);
    response.push("1", Ok(&from(Some(2), &[typed(&2)])));
    let broken = "attempt 2: the payload does not decompress";
    response.push("2", Err(BatchError::new("invalid_request", broken)));
    needing(case("a compressed request", &request, &response), &["zstd"])
}

fn compressed_response() -> Value {
    let mut request = BundleRequest::new("b1", Encoding::Identity);
    request.push("1", &to("a", None, &["answer 40000"]));
    request.push("2", &to("b", None, &["fail me"]));
    let mut response = BundleResponse::new("b1", Encoding::Zstd);
    response.push("1", Ok(&from(None, &[text(&"x".repeat(40_000))])));
    response.push("2", Err(BatchError::new("function", "me")));
    needing(
        case("a compressed response", &request, &response),
        &["zstd"],
    )
}

fn bomb() -> Value {
    let mut request = BundleRequest::new("b1", Encoding::Zstd);
    let zeros = TypedValue {
        value: vec![0; DECOMPRESSED_BYTES_MAX].into(),
        ..text("")
    };
    request.push("bomb", &support::batch(counter("a"), &[], &[zeros]));
    request.push("fits", &to("b", Some(1), &["add 1"]));
    let mut response = BundleResponse::new("b1", Encoding::Identity);
    let larger = "attempt bomb: the parts of a bundle may have 67108864 bytes in all";
    response.push("bomb", Err(BatchError::new("invalid_request", larger)));
    response.push("fits", Ok(&from(Some(2), &[typed(&2)])));
    needing(case("a decompression bomb", &request, &response), &["zstd"])
}

fn rejected_payloads() -> Vec<Value> {
    let of_version_2 = json!({"satchel": 2, "sheaf": []});
    let version = "the bundle has version 2, this side understands version 1";
    let incomplete = json!({"satchel": 1, "batches": []});
    let encoding = json!({"satchel": 1, "bundle": "b", "encoding": "lzma", "batches": []});
    let batch = json!({"satchel": 1, "bundle": "b", "batches": [{"attempt": "1"}]});
    let no_bundle = "the payload is not a bundle: ";
    [
        ("another version of the bundle", of_version_2, version),
        ("a bundle without a name", incomplete, no_bundle),
        ("an unknown encoding", encoding, no_bundle),
        ("a batch without a request", batch, no_bundle),
        (
            "neither a bundle nor an HTTP request",
            json!({"Records": []}),
            "the request is neither a bundle",
        ),
    ]
    .into_iter()
    .map(|(name, request, message)| {
        let error = json!({"errorType": "invalid_request", "errorMessage": message});
        json!({"name": name, "request": request, "function_error": error})
    })
    .collect()
}

fn http() -> Vec<Value> {
    let post = json!({"http": {"method": "POST"}});
    let plain = |to: &ToFunction| STANDARD.encode(to.encode_to_vec());
    let counts = plain(&to("a", Some(1), &["add 1"]));
    let counted = STANDARD.encode(from(Some(2), &[typed(&2)]).encode_to_vec());
    let answered = json!({
        "statusCode": 200,
        "headers": {"content-type": "application/octet-stream"},
        "from": counted,
    });
    let event = |context: &Value, body: &str| {
        json!({"version": "2.0", "requestContext": context, "body": body,
               "isBase64Encoded": true})
    };
    let error = |status: u16, headers: Value, body: &str| {
        let mut response = json!({"statusCode": status, "headers": headers});
        response["body"] = json!(body);
        response
    };
    let rejected = json!({"satchel-terminal-error": "422", "satchel-terminal-index": "0"});
    let get = json!({"http": {"method": "GET"}});
    [
        ("a Function URL", event(&post, &counts), answered.clone()),
        (
            "API Gateway, version 1",
            json!({"httpMethod": "POST", "requestContext": {"stage": "x"},
                   "body": counts, "isBase64Encoded": true}),
            answered,
        ),
        (
            "a failure over HTTP",
            event(&post, &plain(&to("a", Some(1), &["fail on request"]))),
            error(500, json!({}), "function: "),
        ),
        (
            "a rejection over HTTP",
            event(
                &post,
                &plain(&to("a", Some(1), &["reject 422 not like this"])),
            ),
            error(500, rejected, "not like this"),
        ),
        (
            "another method",
            event(&get, ""),
            error(405, json!({}), "GET is not served"),
        ),
        (
            "an empty body",
            event(&post, ""),
            error(400, json!({}), "invalid_request: the body is empty"),
        ),
        (
            "a body that is not base64",
            event(&post, "%"),
            error(400, json!({}), "invalid_request: the body is not base64"),
        ),
    ]
    .into_iter()
    .map(|(name, request, http)| {
        needing(
            json!({"name": name, "request": request, "http": http}),
            &["http"],
        )
    })
    .collect()
}
