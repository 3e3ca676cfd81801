use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Streams, http};

/// A server on a free port.
struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    client: reqwest::Client,
}

impl Server {
    async fn start() -> Self {
        let (stop, stopping) = watch::channel(false);
        let router = http::router(Streams::ephemeral(), stopping.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut stopped = stopping;
        let serving = tokio::spawn(async move {
            let until = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            let server = axum::serve(listener, router).with_graceful_shutdown(until);
            server.await.unwrap();
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            address,
            stop,
            serving,
            client,
        }
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}/streams/{rest}", self.address)
    }

    async fn put(&self, stream: &str, key: &str, data: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self
            .client
            .post(self.url(stream))
            .header("satchel-key", key);
        answer(request.body(data).send().await.unwrap()).await
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Parses lines and removes their times, which must be recent.
fn records(text: &str) -> Vec<Value> {
    let strip = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let time = record.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_u64().unwrap() > 1_600_000_000_000, "{time}");
        record
    };
    text.lines().map(strip).collect()
}

#[tokio::test]
async fn put_records_are_returned_as_lines() {
    let server = Server::start().await;
    let (status, first) = server.put("names", "bob", "{\"name\":\"Bob\"}").await;
    assert_eq!(status, 200, "{first}");
    let (status, second) = server.put("names", "ürsel", vec![0xff, 0x00]).await;
    assert_eq!(status, 200, "{second}");
    let [first, second] = [first, second].map(|put| put["sequence_number"].clone());
    let from_second = format!("?from={}", second.as_str().unwrap());
    let expected = [
        json!({"sequence_number": first, "key": "bob", "data": "{\"name\":\"Bob\"}"}),
        json!({"sequence_number": second, "key": "ürsel", "base64": "/wA="}),
    ];
    for (query, skipped) in [
        ("", 0),
        ("?from=earliest", 0),
        (&from_second, 1),
        ("?from=latest", 2),
    ] {
        let got = server
            .client
            .get(server.url(&format!("names{query}")))
            .send()
            .await
            .unwrap();
        assert_eq!(got.status(), 200);
        assert_eq!(got.headers()["content-type"], "application/x-ndjson");
        let text = String::from_utf8(got.bytes().await.unwrap().to_vec()).unwrap();
        assert_eq!(records(&text), expected[skipped..], "{query}");
    }
}

#[tokio::test]
async fn following_continues_with_new_records_until_the_server_stops() {
    let server = Server::start().await;
    server.put("names", "a", "1").await;
    let url = server.url("names?from=earliest&follow=true");
    let mut following = server.client.get(url).send().await.unwrap();
    let mut text = String::new();
    for put in ["2", "3"] {
        let lines = text.lines().count();
        while text.lines().count() == lines {
            let chunk = following.chunk().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        server.put("names", "a", put).await;
    }
    while text.lines().count() < 3 {
        let chunk = following.chunk().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let data: Vec<Value> = records(&text)
        .iter()
        .map(|record| record["data"].clone())
        .collect();
    assert_eq!(data, ["1", "2", "3"]);
    server.stop.send(true).unwrap();
    assert_eq!(following.chunk().await.unwrap(), None);
    server.serving.await.unwrap();
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_code_and_a_message() {
    let server = Server::start().await;
    let without_key = server
        .client
        .post(server.url("names"))
        .body("x")
        .send()
        .await
        .unwrap();
    let (status, body) = answer(without_key).await;
    assert_eq!(status, 400);
    let message = "the header `satchel-key` is missing; it carries the record's key";
    assert_eq!(
        body,
        json!({"error": {"code": "invalid_request", "message": message}})
    );
    let wrong = [
        (
            "bad%20name",
            400,
            "invalid_request",
            "`bad name` is not the name of a stream",
        ),
        (
            "..%2Fx",
            400,
            "invalid_request",
            "`../x` is not the name of a stream",
        ),
        (
            "names?from=soon",
            400,
            "invalid_request",
            "from: `soon` is neither",
        ),
        (
            "names?from=9",
            400,
            "unknown_sequence_number",
            "never assigned the sequence number 9",
        ),
        (
            "names?form=1",
            400,
            "invalid_request",
            "unknown field `form`",
        ),
    ];
    for (rest, status, code, message) in wrong {
        let response = server.client.get(server.url(rest)).send().await.unwrap();
        let (got, body) = answer(response).await;
        assert_eq!(
            (got, &body["error"]["code"]),
            (status, &json!(code)),
            "{rest}"
        );
        let text = body["error"]["message"].as_str().unwrap();
        assert!(text.contains(message), "{rest}: {text}");
    }
    let (status, body) = server.put("names", "k", vec![0; (10 << 20) + 1]).await;
    assert_eq!((status, &body["error"]["code"]), (413, &json!("too_large")));
    let long = "k".repeat(crate::KEY_MAX_BYTES + 1);
    let (status, body) = server.put("names", &long, "x").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("invalid_request"))
    );
}

#[tokio::test]
async fn requests_for_unknown_streams_create_no_more_than_a_process_may_open() {
    let streams = Streams::ephemeral();
    for number in 0..crate::STREAMS_MAX {
        streams.stream(&format!("s{number}")).await.unwrap();
    }
    let error = streams.stream("one-more").await.unwrap_err().to_string();
    assert!(
        error.contains("1000 streams are open, which is the maximum"),
        "{error}"
    );
    assert!(streams.stream("s0").await.is_ok(), "known ones go on");
    streams.delete("s0").await.unwrap();
    assert!(streams.stream("one-more").await.is_ok());
}
