//! A real handler process over HTTP.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use reqwest::{Client, Response, StatusCode};
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::{FromFunction, from_function};

use support::{Handler, batch, count, counted, misbehave, typed};

async fn post(client: &Client, address: &str, body: Vec<u8>) -> Response {
    client
        .post(format!("http://{address}/statefun"))
        .header("content-type", "application/octet-stream")
        .body(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn statefuns_protocol_is_served_on_both_versions_of_http() {
    let (_handler, address) = Handler::on_http();
    let clients = [
        Client::builder().http1_only().build().unwrap(),
        Client::builder().http2_prior_knowledge().build().unwrap(),
    ];
    for client in clients {
        let body = count(Some(5), &[1, 2]).encode_to_vec();
        let response = post(&client, &address, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()["content-type"],
            "application/octet-stream"
        );
        assert_eq!(
            FromFunction::decode(response.bytes().await.unwrap()).unwrap(),
            counted(&[6, 8], 8)
        );
    }
}

#[tokio::test]
async fn an_invalid_body_and_a_failed_batch_are_described_in_words() {
    let (_handler, address) = Handler::on_http();
    let client = Client::new();
    for (body, status, text) in [
        (
            vec![],
            StatusCode::BAD_REQUEST,
            "invalid_request: the body is empty: POST a ToFunction",
        ),
        (
            b"{}".to_vec(),
            StatusCode::BAD_REQUEST,
            "invalid_request: the body is not a ToFunction: ",
        ),
        (
            misbehave("panic at the disco").encode_to_vec(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "panic: at the disco",
        ),
        (
            misbehave("fail on request").encode_to_vec(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "function: on request",
        ),
    ] {
        let response = post(&client, &address, body).await;
        assert_eq!(response.status(), status);
        let answer = response.text().await.unwrap();
        assert!(answer.starts_with(text), "{answer}");
    }
    let response = client
        .get(format!("http://{address}/"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_rejected_message_has_its_status_in_a_header() {
    let (_handler, address) = Handler::on_http();
    let client = Client::new();
    let body = misbehave("reject no such thing").encode_to_vec();
    let response = post(&client, &address, body).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()["satchel-terminal-error"], "404");
    assert_eq!(response.headers()["satchel-terminal-index"], "0");
    assert_eq!(response.text().await.unwrap(), "no such thing");

    let unbound = batch(support::address("unbound", "1"), &[], &[typed(&7_i64)]);
    let response = post(&client, &address, unbound.encode_to_vec()).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()["satchel-terminal-error"], "404");
    let text = response.text().await.unwrap();
    assert_eq!(text, "there is no function test/unbound");

    let response = post(&client, &address, misbehave("fail").encode_to_vec()).await;
    assert!(!response.headers().contains_key("satchel-terminal-error"));
}

#[tokio::test]
async fn web_pages_call_no_function() {
    let (_handler, address) = Handler::on_http();
    for (name, value, status) in [
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "none", StatusCode::OK),
    ] {
        let request = Client::new()
            .post(format!("http://{address}/statefun"))
            .header(name, value)
            .body(count(None, &[1]).encode_to_vec());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_large_body_is_served() {
    let (_handler, address) = Handler::on_http();
    let messages = vec![1; 500_000];
    let body = count(None, &messages).encode_to_vec();
    assert!(body.len() > 20 << 20, "{}", body.len());
    let response = post(&Client::new(), &address, body).await;
    let answer = FromFunction::decode(response.bytes().await.unwrap()).unwrap();
    let Some(from_function::Response::InvocationResult(result)) = answer.response else {
        panic!("no result")
    };
    assert_eq!(result.outgoing_messages.len(), messages.len());
    assert_eq!(
        result.state_mutations[0].state_value,
        Some(support::typed(&500_000_i64))
    );
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_a_stop() {
    let (mut handler, address) = Handler::on_http();
    let client = Client::new();
    // A connection that stays open must not delay the stop.
    post(&client, &address, count(None, &[1]).encode_to_vec()).await;
    let peer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let command = format!("connect {}", peer.local_addr().unwrap());
    let running = tokio::spawn({
        let address = address.clone();
        async move {
            let body = misbehave(&command).encode_to_vec();
            post(&Client::new(), &address, body).await.status()
        }
    });
    let (in_flight, _) = peer.accept().await.unwrap();
    handler.terminate();
    // The stop has begun when the port refuses connections.
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(in_flight);
    assert_eq!(running.await.unwrap(), StatusCode::OK);
    let status = tokio::task::spawn_blocking(move || handler.exit_status())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
