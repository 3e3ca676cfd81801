//! Behaviour that takes too long to be tested from outside: expired iterators, and records older
//! than the retention.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::token::ShardIterator;
use super::{Options, serve};
use crate::{NewRecord, Streams};

const HOUR_MS: u64 = 3_600_000;

struct Server {
    streams: Streams,
    url: String,
    client: reqwest::Client,
    _stop: watch::Sender<bool>,
}

impl Server {
    async fn start() -> Self {
        let (stop, stopping) = watch::channel(false);
        let streams = Streams::ephemeral();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(
            listener,
            streams.clone(),
            Options::default(),
            stopping,
        ));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            streams,
            url,
            client,
            _stop: stop,
        }
    }

    async fn call(&self, operation: &str, body: Value) -> (u16, Value) {
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/x-amz-json-1.1");
        let request = request.header("x-amz-target", format!("Kinesis_20131202.{operation}"));
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn iterator(&self, stream: &str, kind: &str) -> String {
        let wanted = json!({
            "StreamName": stream,
            "ShardId": "shardId-000000000000",
            "ShardIteratorType": kind,
        });
        let (status, got) = self.call("GetShardIterator", wanted).await;
        assert_eq!(status, 200, "{got}");
        got["ShardIterator"].as_str().unwrap().to_owned()
    }
}

fn record(data: &'static str, time_ms: u64) -> NewRecord {
    NewRecord {
        key: "key".to_owned(),
        explicit_hash_key: None,
        data: Bytes::from_static(data.as_bytes()),
        time_ms,
    }
}

#[tokio::test]
async fn an_iterator_expires_after_five_minutes() {
    let server = Server::start().await;
    server.streams.stream("names").await.unwrap();
    let iterator = server.iterator("names", "TRIM_HORIZON").await;
    for (age_ms, status) in [(290_000, 200), (310_000, 400)] {
        let mut old = ShardIterator::decode(&iterator).unwrap();
        old.issued_ms -= age_ms;
        let (answered, body) = server
            .call("GetRecords", json!({"ShardIterator": old.encode()}))
            .await;
        assert_eq!(answered, status, "{body}");
        if status == 400 {
            assert_eq!(body["__type"], "ExpiredIteratorException");
        }
    }
}

#[tokio::test]
async fn records_older_than_the_retention_are_not_returned() {
    let server = Server::start().await;
    let stream = server.streams.stream("names").await.unwrap();
    let now_ms = crate::now_ms();
    let old = stream
        .append(record("old", now_ms - 30 * HOUR_MS))
        .await
        .unwrap();
    stream
        .append(record("young", now_ms - 20 * HOUR_MS))
        .await
        .unwrap();
    let mut iterators = vec![server.iterator("names", "TRIM_HORIZON").await];
    for (kind, member, value) in [
        (
            "AT_SEQUENCE_NUMBER",
            "StartingSequenceNumber",
            json!(old.to_string()),
        ),
        (
            "AT_TIMESTAMP",
            "Timestamp",
            json!((now_ms - 40 * HOUR_MS) as f64 / 1_000.0),
        ),
    ] {
        let mut wanted = json!({
            "StreamName": "names",
            "ShardId": "shardId-000000000000",
            "ShardIteratorType": kind,
        });
        wanted[member] = value;
        let (_, got) = server.call("GetShardIterator", wanted).await;
        iterators.push(got["ShardIterator"].as_str().unwrap().to_owned());
    }
    for iterator in iterators {
        let (status, got) = server
            .call("GetRecords", json!({"ShardIterator": iterator}))
            .await;
        assert_eq!(status, 200, "{got}");
        let records = got["Records"].as_array().unwrap();
        assert_eq!(records.len(), 1, "{got}");
        assert_eq!(records[0]["Data"], "eW91bmc=");
        assert_eq!(got["MillisBehindLatest"], 0);
    }
    let longer = json!({"StreamName": "names", "RetentionPeriodHours": 48});
    assert_eq!(
        server.call("IncreaseStreamRetentionPeriod", longer).await.0,
        200
    );
    let iterator = server.iterator("names", "TRIM_HORIZON").await;
    let (_, got) = server
        .call("GetRecords", json!({"ShardIterator": iterator, "Limit": 1}))
        .await;
    assert_eq!(got["Records"][0]["Data"], "b2xk");
    let behind_ms = got["MillisBehindLatest"].as_u64().unwrap();
    assert!(behind_ms >= 20 * HOUR_MS, "{behind_ms}");
}

#[tokio::test]
async fn an_iterator_of_a_deleted_stream_does_not_read_its_namesake() {
    let server = Server::start().await;
    server.streams.stream("names").await.unwrap();
    let iterator = server.iterator("names", "LATEST").await;
    server.streams.delete("names").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    server.streams.stream("names").await.unwrap();
    let (status, body) = server
        .call("GetRecords", json!({"ShardIterator": iterator}))
        .await;
    assert_eq!(
        (status, &body["__type"]),
        (400, &json!("InvalidArgumentException"))
    );
}

#[tokio::test]
async fn web_pages_are_refused_before_any_effect() {
    let server = Server::start().await;
    let request = |method: reqwest::Method, header: (&'static str, &'static str)| {
        let request = server.client.request(method, &server.url);
        let request = request
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "Kinesis_20131202.CreateStream")
            .header(header.0, header.1);
        request.body(json!({"StreamName": "theirs"}).to_string())
    };
    for (method, header) in [
        (reqwest::Method::POST, ("origin", "https://evil.example")),
        (reqwest::Method::POST, ("origin", "null")),
        (reqwest::Method::POST, ("sec-fetch-site", "cross-site")),
        // A page on a name that was rebound to this machine is same-origin. Browsers do not mark
        // its GET requests.
        (reqwest::Method::GET, ("accept", "*/*")),
    ] {
        let answer = request(method, header).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 403, "{header:?}");
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(body["__type"], "AccessDeniedException", "{header:?}");
    }
    let (_, listed) = server.call("ListStreams", json!({})).await;
    assert_eq!(listed["StreamNames"], json!([]));
}

#[tokio::test]
async fn a_time_beyond_the_calendar_is_refused() {
    let server = Server::start().await;
    server.streams.stream("names").await.unwrap();
    for time in [
        json!(253_402_300_800_u64),
        json!(i64::MAX),
        json!(1e300),
        json!(-1),
    ] {
        let iterator = json!({
            "StreamName": "names",
            "ShardId": "shardId-000000000000",
            "ShardIteratorType": "AT_TIMESTAMP",
            "Timestamp": time,
        });
        let filter = json!({
            "StreamName": "names",
            "ShardFilter": {"Type": "AT_TIMESTAMP", "Timestamp": time},
        });
        for (operation, arguments) in [("GetShardIterator", iterator), ("ListShards", filter)] {
            let (status, got) = server.call(operation, arguments).await;
            assert_eq!(status, 400, "{operation} {time}: {got}");
            let message = got["message"].as_str().unwrap();
            assert!(message.contains("Timestamp"), "{message}");
        }
    }
}
