//! The HTTP server of one service: counts, throttles, delays, answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::bill::{Bill, PricedService, Usage};
use super::latency::{Bucket, Latency, Random, Throttle};

/// A request to a service.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Decoded path, without the slash at its beginning.
    pub(super) path: String,
    /// Decoded parameters of the query. One without a value has an empty one.
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Ask {
    /// Value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Operation of an AWS JSON protocol: `PutItem` of `DynamoDB_20120810.PutItem`.
    pub(super) fn target(&self) -> Option<&str> {
        let (_, operation) = self.header("x-amz-target")?.split_once('.')?;
        Some(operation)
    }
}

/// The answer of a service.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// Use besides requests and bytes.
    pub(super) usage: Box<Usage>,
    /// Table of the request.
    pub(super) table: Option<String>,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn usage(mut self, usage: Usage) -> Self {
        *self.usage = usage;
        self
    }

    pub(super) fn of_table(self, table: Option<String>) -> Self {
        Self { table, ..self }
    }
}

/// Latency and throttling of a service.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub(super) latency: Latency,
    /// Operations with a latency of their own.
    pub(super) latencies: BTreeMap<String, Latency>,
    pub(super) throttle: Throttle,
}

impl Conditions {
    pub(super) fn latency_of(&self, operation: &str) -> Latency {
        let own = self.latencies.get(operation);
        own.copied().unwrap_or(self.latency)
    }
}

/// A service behind a port.
pub(super) trait Service: Send + Sync + 'static {
    /// Name of the requested operation, or the answer to a request for an unknown one.
    fn operation(&self, ask: &Ask) -> Result<String, Answer>;

    /// Answer to a request that is throttled.
    fn throttled(&self) -> Answer;

    /// Performs a request. `timing` says how long it takes.
    fn perform(
        &self,
        operation: &str,
        ask: Ask,
        timing: Timing<'_>,
    ) -> impl Future<Output = Answer> + Send;
}

/// Time that a request takes.
pub(super) struct Timing<'p> {
    pub(super) begun: Instant,
    pub(super) latency: Duration,
    pub(super) port: &'p Port,
}

impl Timing<'_> {
    /// Waits for the first half, after which the request takes effect.
    pub(super) async fn effect(&self) {
        self.until(self.latency / 2).await;
    }

    /// Waits until the answer is due.
    pub(super) async fn answer(&self) {
        self.until(self.latency).await;
    }

    async fn until(&self, offset: Duration) {
        if !self.latency.is_zero() {
            tokio::time::sleep_until(self.begun + offset).await;
        }
    }
}

/// Everything that the requests of one service share besides the service itself.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) random: Arc<Random>,
    conditions: Mutex<Conditions>,
    bucket: Mutex<Bucket>,
    usage: Mutex<BTreeMap<String, Usage>>,
    /// The same use by table and operation.
    tables: Mutex<BTreeMap<(String, String), Usage>>,
}

impl Port {
    pub(super) fn new(random: Arc<Random>, conditions: Conditions) -> Self {
        Self {
            random,
            conditions: Mutex::new(conditions),
            bucket: Mutex::new(Bucket::new()),
            usage: Mutex::default(),
            tables: Mutex::default(),
        }
    }

    pub(super) fn conditions(&self) -> MutexGuard<'_, Conditions> {
        lock(&self.conditions)
    }

    /// Adds what was used so far to a bill.
    pub(super) fn add_to(&self, bill: &mut Bill, service: PricedService) {
        for (operation, usage) in &*lock(&self.usage) {
            let sum = bill.operations.entry((service, operation.clone()));
            *sum.or_default() += *usage;
        }
        for (of, usage) in &*lock(&self.tables) {
            *bill.tables.entry(of.clone()).or_default() += *usage;
        }
    }

    /// Draws whether a part of a request is throttled, by the share alone.
    pub(super) fn is_part_throttled(&self) -> bool {
        let share = self.conditions().throttle.share;
        self.random.chance(share)
    }

    fn is_throttled(&self) -> bool {
        let throttle = self.conditions().throttle;
        let over = |rate| !lock(&self.bucket).take(rate);
        throttle.per_second.is_some_and(over) || self.random.chance(throttle.share)
    }

    fn record(&self, operation: &str, usage: Usage) {
        let mut all = lock(&self.usage);
        match all.get_mut(operation) {
            Some(sum) => *sum += usage,
            None => {
                all.insert(operation.to_owned(), usage);
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the task is dropped.
pub(super) async fn serve<S: Service>(listener: TcpListener, port: Arc<Port>, service: Arc<S>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (port, service) = (Arc::clone(&port), Arc::clone(&service));
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, &port, &*service));
            // A client that goes away is not the server's concern.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer<S: Service>(
    request: Request<Incoming>,
    port: &Port,
    service: &S,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let bytes_in = body.len() as u64;
    let ask = Ask {
        path: decoded(head.uri.path().trim_start_matches('/')),
        query: parameters(head.uri.query().unwrap_or_default()),
        method: head.method,
        headers: head.headers,
        body,
    };
    let (operation, answer) = match service.operation(&ask) {
        Err(refusal) => ("(unknown)".to_owned(), refusal),
        Ok(operation) if port.is_throttled() => {
            let throttled = Usage {
                throttled: 1,
                ..Usage::default()
            };
            port.record(&operation, throttled);
            return Ok(respond(service.throttled()));
        }
        Ok(operation) => {
            let latency = port.conditions().latency_of(&operation);
            let timing = Timing {
                begun,
                latency: port.random.latency(latency),
                port,
            };
            let answer = service.perform(&operation, ask, timing).await;
            (operation, answer)
        }
    };
    let mut usage = *answer.usage;
    if usage.throttled == 0 {
        usage.requests += 1;
        usage.refused += u64::from(answer.status >= 400);
        usage.bytes_in += bytes_in;
        usage.bytes_out += answer.body.len() as u64;
    }
    port.record(&operation, usage);
    if let Some(table) = answer.table.clone() {
        *lock(&port.tables).entry((table, operation)).or_default() += usage;
    }
    Ok(respond(answer))
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a status");
    for (name, value) in answer.headers {
        let value = HeaderValue::from_str(&value).expect("a header's value");
        let name = HeaderName::from_static(name);
        response.headers_mut().append(name, value);
    }
    let id = HeaderValue::from_static("STANDIN0000000000");
    response.headers_mut().insert("x-amz-request-id", id);
    response
        .headers_mut()
        .insert(header::SERVER, HeaderValue::from_static("stand-in"));
    response
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(&value.replace('+', " ")))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Turns a value that cannot be an error into that value.
pub(super) fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
