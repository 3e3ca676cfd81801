//! The Kinesis API over local streams, with faults in `PutRecords` and `PutRecord`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn};
use satchel_local_streams::Streams;
use satchel_local_streams::kinesis::{Options, router};
use satchel_testkit::until_true;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Treatment of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fault.
    None,
    /// Rejected with 500 before it takes effect.
    Before,
    /// Takes effect, and is answered with 500.
    After,
    /// Takes effect, and the response is late.
    Late,
    /// Takes effect only later, whether the client still waits or not.
    Delayed,
    /// Takes effect, and the response is cut off.
    Cut,
    /// Every third record is throttled.
    Part,
    /// All records are throttled.
    Throttle,
}

/// A server that runs until it is dropped.
pub(crate) struct Faulty {
    pub(crate) endpoint: String,
    counts: Arc<Counts>,
    serving: JoinHandle<()>,
    _stopping: watch::Sender<bool>,
}

/// Counts of requests that put records.
#[derive(Debug, Default)]
struct Counts {
    /// Partition key and `SequenceNumberForOrdering` of each `PutRecord` request.
    singles: Mutex<Vec<(String, Option<String>)>>,
    delayed: AtomicUsize,
    landed: AtomicUsize,
    effects: AtomicUsize,
}

/// Delay of a request's effect. It is longer than the wait before the scan of an owner with a short
/// timeout, and shorter than that of one with a long timeout.
const DELAY: Duration = Duration::from_secs(14);

/// Delay of a late response, longer than any request timeout.
const LATE: Duration = Duration::from_secs(20);

impl Faulty {
    /// Serves new streams. The n-th request that puts records meets the n-th of `faults`.
    pub(crate) async fn start(faults: Vec<Fault>) -> Self {
        let (stopping, stopped) = watch::channel(false);
        let options = Options {
            limit_throughput: false,
            ..Options::default()
        };
        let faults = Arc::new(Mutex::new(faults.into_iter()));
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let api: Router = router(Streams::ephemeral(), options, stopped);
        let api = api.layer(from_fn(move |request: Request, next: Next| {
            let target = request.headers().get("x-amz-target");
            let target = target.map_or(&[][..], |target| target.as_bytes());
            let single = target.ends_with(b".PutRecord");
            let puts = single || target.ends_with(b".PutRecords");
            let fault = match puts {
                true => faults.lock().unwrap().next().unwrap_or(Fault::None),
                false => Fault::None,
            };
            let counted = puts.then(|| Arc::clone(&counted));
            async move {
                let request = match &counted {
                    Some(counts) if single => note_single(request, counts).await,
                    _ => request,
                };
                apply(fault, request, next, counted).await
            }
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, api).await.unwrap() });
        Self {
            endpoint,
            counts,
            serving,
            _stopping: stopping,
        }
    }

    /// Partition key and `SequenceNumberForOrdering` of each `PutRecord` request so far.
    pub(crate) fn singles(&self) -> Vec<(String, Option<String>)> {
        self.counts.singles.lock().unwrap().clone()
    }

    /// Waits until `count` delayed requests have arrived.
    pub(crate) async fn until_delayed(&self, count: usize) {
        until(&self.counts.delayed, count).await;
    }

    /// Waits until `count` delayed requests have taken effect.
    pub(crate) async fn until_landed(&self, count: usize) {
        until(&self.counts.landed, count).await;
    }

    /// Waits until `count` `PutRecords` requests have taken effect, answered or not.
    pub(crate) async fn until_effects(&self, count: usize) {
        until(&self.counts.effects, count).await;
    }
}

async fn until(counter: &AtomicUsize, count: usize) {
    until_true("the count is reached", async || {
        counter.load(Ordering::SeqCst) >= count
    })
    .await;
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Notes key and order of a `PutRecord` request.
async fn note_single(request: Request, counts: &Counts) -> Request {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let put: Value = serde_json::from_slice(&body).expect("the SDK for Rust speaks JSON");
    let text = |field: &str| put[field].as_str().map(str::to_owned);
    let key = text("PartitionKey").unwrap();
    let single = (key, text("SequenceNumberForOrdering"));
    counts.singles.lock().unwrap().push(single);
    Request::from_parts(head, Body::from(body))
}

async fn apply(
    fault: Fault,
    request: Request,
    next: Next,
    counts: Option<Arc<Counts>>,
) -> Response<Body> {
    let delayed = counts.clone();
    let run = async move |next: Next, request| {
        let answer = next.run(request).await;
        if let Some(counts) = counts {
            counts.effects.fetch_add(1, Ordering::SeqCst);
        }
        answer
    };
    match fault {
        Fault::None => run(next, request).await,
        Fault::Before => error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
        Fault::Throttle => {
            let code = "ProvisionedThroughputExceededException";
            error(StatusCode::BAD_REQUEST, code)
        }
        Fault::After => {
            run(next, request).await;
            error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure")
        }
        Fault::Late => {
            let answer = run(next, request).await;
            tokio::time::sleep(LATE).await;
            answer
        }
        Fault::Delayed => {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let request = Request::from_parts(head, Body::from(body));
            let delayed = delayed.unwrap();
            delayed.delayed.fetch_add(1, Ordering::SeqCst);
            let effect = tokio::spawn(async move {
                tokio::time::sleep(DELAY).await;
                let answer = run(next, request).await;
                delayed.landed.fetch_add(1, Ordering::SeqCst);
                answer
            });
            effect.await.unwrap()
        }
        Fault::Cut => {
            let answer = run(next, request).await;
            let (head, body) = answer.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let half = body.slice(..body.len() / 2);
            let mut answer = Response::new(Body::from(half));
            *answer.status_mut() = head.status;
            answer
        }
        Fault::Part => part(request, next).await,
    }
}

/// Passes on two of three records, and reports the others as throttled.
async fn part(request: Request, next: Next) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut put: Value = serde_json::from_slice(&body).expect("the SDK for Rust speaks JSON");
    let records = put["Records"].as_array().unwrap().clone();
    let fails = |index: &usize| index.is_multiple_of(3);
    let passed: Vec<Value> = (0..records.len())
        .filter(|index| !fails(index))
        .map(|index| records[index].clone())
        .collect();
    let mut results = Vec::new().into_iter();
    if !passed.is_empty() {
        put["Records"] = Value::from(passed);
        let mut head = head;
        head.headers.remove("content-length");
        let request = Request::from_parts(head, Body::from(put.to_string()));
        let answer = next.run(request).await;
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        results = answer["Records"].as_array().unwrap().clone().into_iter();
    }
    let throttled = json!({
        "ErrorCode": "ProvisionedThroughputExceededException",
        "ErrorMessage": "Rate exceeded for shard",
    });
    let merged: Vec<Value> = (0..records.len())
        .map(|index| match fails(&index) {
            true => throttled.clone(),
            false => results.next().unwrap(),
        })
        .collect();
    let failed = merged.iter().filter(|one| one.get("ErrorCode").is_some());
    let answer = json!({"FailedRecordCount": failed.count(), "Records": merged});
    let mut response = Response::new(Body::from(answer.to_string()));
    let json = "application/x-amz-json-1.1".parse().unwrap();
    response.headers_mut().insert("content-type", json);
    response
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    let body = json!({"__type": code, "message": "fault of the test"}).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}
