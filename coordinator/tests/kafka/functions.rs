//! A function server in the process of the test.

use std::future::IntoFuture as _;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use prost::Message as _;
use satchel_protocol::egress::{KAFKA_RECORD_TYPENAME, KafkaProducerRecord};
use satchel_protocol::reqreply::from_function::persisted_value_mutation::MutationType;
use satchel_protocol::reqreply::from_function::{
    self, EgressMessage, IncompleteInvocationContext, InvocationResponse, PersistedValueMutation,
    PersistedValueSpec,
};
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function};
use satchel_protocol::types::typed_value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The function `example/greeter`, which counts the messages of each id and emits a record for
/// each: to the topic `greetings`, with the id as the key and `MESSAGE #COUNT` as the value.
///
/// A message `to TOPIC` goes to that topic, and `large N` becomes a record of N bytes. A message
/// without a value counts as `nothing`. A trace context and headers are appended to the value.
pub(crate) struct Functions {
    pub(crate) url: String,
    server: JoinHandle<()>,
}

impl Functions {
    pub(crate) async fn start() -> Self {
        let router = Router::new().fallback(answer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = axum::serve(listener, router).into_future();
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { url, server }
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(body: Bytes) -> Response {
    let Ok(request) = ToFunction::decode(body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let answer = FromFunction {
        response: Some(greet(request)),
    };
    let content = [("content-type", "application/octet-stream")];
    (content, answer.encode_to_vec()).into_response()
}

fn greet(request: ToFunction) -> from_function::Response {
    let Some(to_function::Request::Invocation(batch)) = request.request else {
        panic!("not an invocation: {request:?}");
    };
    if batch.state.is_empty() {
        let seen = PersistedValueSpec {
            state_name: "seen".into(),
            type_typename: "test/seen".into(),
            ..Default::default()
        };
        return from_function::Response::IncompleteInvocationContext(IncompleteInvocationContext {
            missing_values: vec![seen],
            ..Default::default()
        });
    }
    let id = batch.target.unwrap().id;
    let before = batch.state[0].state_value.as_ref();
    let mut seen: u64 = before.map_or(0, |seen| {
        std::str::from_utf8(&seen.value).unwrap().parse().unwrap()
    });
    let mut outgoing = Vec::new();
    for (cause, invocation) in (1..).zip(batch.invocations) {
        seen += 1;
        let argument = invocation.argument.unwrap();
        let text = match argument.has_value {
            true => String::from_utf8(argument.value.to_vec()).unwrap(),
            false => "nothing".to_owned(),
        };
        let headers = invocation.headers.iter().map(|header| {
            let value = String::from_utf8(header.value.to_vec()).unwrap();
            format!(" {}={value}", header.name)
        });
        let headers: String = headers.collect();
        let mut value = format!("{text} #{seen}{}{headers}", invocation.traceparent).into_bytes();
        let mut topic = "greetings";
        match text.split_once(' ') {
            Some(("to", name)) => topic = name,
            Some(("large", size)) => value.resize(size.parse().unwrap(), b'.'),
            _ => {}
        }
        let record = KafkaProducerRecord {
            key: id.clone(),
            value_bytes: value.into(),
            topic: topic.to_owned(),
        };
        outgoing.push(EgressMessage {
            egress_namespace: "example".to_owned(),
            egress_type: "greetings".to_owned(),
            argument: Some(typed_value(KAFKA_RECORD_TYPENAME, record.encode_to_vec())),
            cause,
        });
    }
    from_function::Response::InvocationResult(InvocationResponse {
        state_mutations: vec![PersistedValueMutation {
            mutation_type: MutationType::Modify.into(),
            state_name: "seen".into(),
            state_value: Some(typed_value("test/seen", seen.to_string().into_bytes())),
        }],
        outgoing_egresses: outgoing,
        ..Default::default()
    })
}
