//! The Kinesis API of local streams, counted and delayed.
//!
//! Subscriptions (`SubscribeToShard`) are refused: their answers have no end to count.

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use satchel_local_streams::Streams;
use satchel_local_streams::kinesis::{Options, router};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::bill::Usage;
use super::server::{Answer, Ask, Service, Timing, infallible};

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// Size of a payload unit in bytes.
const PAYLOAD_UNIT_BYTES: usize = 25_000;

pub(super) struct Kinesis {
    router: TowerToHyperService<Router>,
    /// Streams end with it.
    _running: watch::Sender<bool>,
}

impl Kinesis {
    /// Must be called within the runtime that serves.
    pub(super) fn new(streams: Streams, limit_throughput: bool) -> Self {
        let (running, stopping) = watch::channel(false);
        let options = Options {
            limit_throughput,
            ..Options::default()
        };
        let router = router(streams, options, stopping);
        Self {
            router: TowerToHyperService::new(router),
            _running: running,
        }
    }

    async fn pass(&self, ask: &Ask) -> Answer {
        let mut request = Request::post("/").body(Body::from(ask.body.clone()));
        if let Ok(request) = &mut request {
            request.headers_mut().clone_from(&ask.headers);
        }
        let request = request.expect("the path is valid");
        let answer = infallible(self.router.call(request).await);
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let kind = head.headers.get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let mut answer = Answer::new(head.status.as_u16())
            .body(kind.unwrap_or(CONTENT_TYPE), body.unwrap_or_default());
        if let Some(error) = head.headers.get("x-amzn-errortype") {
            let error = String::from_utf8_lossy(error.as_bytes()).into_owned();
            answer = answer.header("x-amzn-errortype", error);
        }
        answer
    }
}

impl Service for Kinesis {
    fn operation(&self, ask: &Ask) -> Result<String, Answer> {
        match ask.target() {
            Some("SubscribeToShard") | None => {
                let text = "the stand-in knows neither subscriptions nor requests without a target";
                Err(refusal("InvalidArgumentException", text))
            }
            Some(operation) => Ok(operation.to_owned()),
        }
    }

    fn throttled(&self) -> Answer {
        let code = "ProvisionedThroughputExceededException";
        refusal(code, "Rate exceeded for the stream")
    }

    async fn perform(&self, operation: &str, ask: Ask, timing: Timing<'_>) -> Answer {
        timing.effect().await;
        let answer = self.pass(&ask).await;
        timing.answer().await;
        let usage = match operation {
            _ if answer.status != 200 => Usage::default(),
            "PutRecord" => serde_json::from_slice(&ask.body)
                .map_or_else(|_| Usage::default(), |record| written(&[record])),
            "PutRecords" => written(&records(&ask.body)),
            "GetRecords" => {
                let records = records(&answer.body);
                Usage {
                    records: records.len() as u64,
                    record_bytes: records.iter().map(data_bytes).sum::<usize>() as u64,
                    ..Usage::default()
                }
            }
            _ => Usage::default(),
        };
        answer.usage(usage)
    }
}

fn records(body: &[u8]) -> Vec<Value> {
    let body = serde_json::from_slice::<Value>(body);
    let records = body.ok().and_then(|mut body| match body["Records"].take() {
        Value::Array(records) => Some(records),
        _ => None,
    });
    records.unwrap_or_default()
}

fn written(records: &[Value]) -> Usage {
    let sizes = records.iter().map(|record| {
        let key = record["PartitionKey"].as_str().unwrap_or_default();
        key.len() + data_bytes(record)
    });
    let mut usage = Usage::default();
    for bytes in sizes {
        usage.records += 1;
        usage.record_bytes += bytes.div_ceil(1024).max(1) as u64 * 1024;
        usage.payload_units += bytes.div_ceil(PAYLOAD_UNIT_BYTES).max(1) as u64;
    }
    usage
}

fn data_bytes(record: &Value) -> usize {
    let data = record["Data"].as_str().unwrap_or_default();
    STANDARD.decode(data).map_or(0, |data| data.len())
}

fn refusal(code: &str, message: &str) -> Answer {
    let body = json!({"__type": code, "message": message}).to_string();
    Answer::new(400)
        .body(CONTENT_TYPE, body)
        .header("x-amzn-errortype", code)
}
