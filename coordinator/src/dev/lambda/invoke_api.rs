//! The Invoke API of AWS Lambda over the functions of `satchel dev`, for clients such as AWS SDKs.
//! Signatures are neither checked nor logged. Requests of web pages are rejected.
//!
//! | AWS's own semantics | |
//! |---|---|
//! | answer, error of the handler | 200; with an error also `X-Amz-Function-Error: Unhandled` |
//! | `InvocationType` `Event` | 202 at once; runs later, with up to two retries |
//! | `InvocationType` `DryRun` | 204; runs nothing |
//! | payload over 6 MB (`Event`: 1 MB) | 413 `RequestTooLargeException` |
//! | more concurrent requests, or more bytes of unfinished `Event`s, than allowed | 429 |
//! | no such function, version or alias | 404 `ResourceNotFoundException` |
//! | not JSON | 400 `InvalidRequestContentException` |
//!
//! Differences from AWS: an asynchronous invocation is retried after seconds instead of minutes,
//! and lost when the process ends. The tail of the log is not returned. Source: API reference of
//! AWS Lambda, "Invoke".

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{Call, FunctionError, InvokeError, LocalLambda, REQUEST_BYTES_MAX};
use crate::http::{Port, ServeLimits, for_programs, serve};
use crate::metrics::Metrics;

/// Maximum payload of an asynchronous request, in bytes (AWS Lambda's limit).
const EVENT_BYTES_MAX: usize = 1_048_576;

/// Maximum size of all asynchronous invocations that are not finished, in bytes. Each counts
/// [`EVENT_OVERHEAD_BYTES`] more than its payload.
const EVENTS_BYTES_MAX: usize = 64 << 20;

/// Size of an asynchronous invocation besides its payload, in bytes.
const EVENT_OVERHEAD_BYTES: usize = 64 << 10;

/// Delays before the first and the second retry of an asynchronous invocation.
const EVENT_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Default version.
const LATEST: &str = "$LATEST";

/// Function that can be invoked.
#[derive(Debug)]
pub struct Served {
    /// Name of the function.
    pub name: String,
    /// Handlers of the function.
    pub lambda: Arc<LocalLambda>,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Versions and aliases, which are all the same here. `$LATEST` always exists.
    pub qualifiers: Vec<String>,
    /// Maximum number of concurrent requests. Further ones are rejected.
    pub concurrency_max: Option<usize>,
}

/// Functions that can be invoked, with a count of requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InvokeApi(Arc<Functions>);

#[derive(Debug)]
struct Functions {
    by_name: HashMap<String, Function>,
    requests: AtomicU64,
    /// One permit for each byte that asynchronous invocations may still take.
    events: Arc<Semaphore>,
}

#[derive(Debug)]
struct Function {
    served: Served,
    permits: Option<Arc<Semaphore>>,
}

impl InvokeApi {
    /// Creates the API of these functions.
    pub fn of(functions: Vec<Served>) -> Self {
        let functions = functions.into_iter().map(|served| {
            let permits = served.concurrency_max;
            let function = Function {
                permits: permits.map(|permits| Arc::new(Semaphore::new(permits))),
                served,
            };
            (function.served.name.clone(), function)
        });
        Self(Arc::new(Functions {
            by_name: functions.collect(),
            requests: AtomicU64::new(0),
            events: Arc::new(Semaphore::new(EVENTS_BYTES_MAX)),
        }))
    }

    /// Number of requests to the functions, including rejected ones.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Serves on `listener` until `stopped`, within the limits of every port.
    ///
    /// # Errors
    ///
    /// The listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        metrics: Metrics,
        stopped: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let bound = listener.local_addr()?;
        let router = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .fallback(async || {
                Refusal::not_found("this server knows no operation of Lambda but Invoke")
            })
            .with_state(self);
        let router = for_programs(router, bound);
        let limits = ServeLimits::default();
        serve(listener, router, Port::Lambda, limits, metrics, stopped).await;
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameters {
    qualifier: Option<String>,
}

async fn invoke(
    State(api): State<InvokeApi>,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    api.0.requests.fetch_add(1, Ordering::Relaxed);
    let named = Named::parse(&name, parameters.qualifier);
    let function = api.find(&named)?;
    let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
    let asynchronous = match text("x-amz-invocation-type") {
        None | Some("RequestResponse") => false,
        Some("Event") => true,
        Some("DryRun") => return Ok(StatusCode::NO_CONTENT.into_response()),
        Some(other) => return Err(Refusal::invalid_type(other)),
    };
    let limit = if asynchronous {
        EVENT_BYTES_MAX
    } else {
        REQUEST_BYTES_MAX
    };
    let call = Call {
        request: Uuid::new_v4(),
        payload: event(read(body, limit).await?)?,
        timeout: function.served.timeout,
        trace: text("x-amzn-trace-id").map(str::to_owned),
        client_context: text("x-amz-client-context").map(str::to_owned),
    };
    let permit = function.permit()?;
    let request = call.request.to_string();
    let lambda = Arc::clone(&function.served.lambda);
    if asynchronous {
        let room = api.room_for_event(call.payload.len())?;
        tokio::spawn(run_later(lambda, call, (permit, room)));
        let headers = [("x-amzn-requestid", request)];
        return Ok((StatusCode::ACCEPTED, headers).into_response());
    }
    let trace = call.trace.clone();
    let answer = lambda.call(call).await;
    drop(permit);
    let version = named.qualifier.as_deref().unwrap_or(LATEST);
    answered(answer, &request, version, trace)
}

/// Runs an asynchronous invocation, with up to two retries, as AWS does by default.
async fn run_later(
    lambda: Arc<LocalLambda>,
    call: Call,
    permits: (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit),
) {
    let _permits = permits;
    for again in EVENT_AGAIN.into_iter().map(Some).chain([None]) {
        let Err(error) = lambda.call(call.clone()).await else {
            return;
        };
        let Some(wait) = again else {
            let request = call.request;
            tracing::warn!(%request, %error, "asynchronous invocation failed three times; dropped");
            return;
        };
        tokio::time::sleep(wait).await;
    }
}

fn answered(
    answer: Result<Bytes, InvokeError>,
    request: &str,
    version: &str,
    trace: Option<String>,
) -> Result<Response, Refusal> {
    let (payload, failed) = match answer {
        Ok(payload) => (payload, false),
        Err(InvokeError::Function(error)) => (error.payload, true),
        // Callers see a handler that does not start as an error of the function.
        Err(InvokeError::Unreachable(why)) => {
            (FunctionError::new("Runtime.ExitError", &why).payload, true)
        }
        Err(InvokeError::RequestTooLarge { bytes }) => {
            return Err(Refusal::too_large(bytes, REQUEST_BYTES_MAX));
        }
    };
    let mut response = (
        [
            ("content-type", "application/json"),
            ("x-amzn-requestid", request),
            ("x-amz-executed-version", version),
        ],
        payload,
    )
        .into_response();
    let headers = response.headers_mut();
    if failed {
        headers.insert("x-amz-function-error", "Unhandled".parse().expect("ASCII"));
    }
    if let Some(trace) = trace.and_then(|trace| trace.parse().ok()) {
        headers.insert("x-amzn-trace-id", trace);
    }
    Ok(response)
}

/// Function named by a name, a partial ARN or an ARN, each with or without `:qualifier`, and by the
/// parameter `Qualifier`.
struct Named {
    name: String,
    qualifier: Option<String>,
}

impl Named {
    fn parse(text: &str, parameter: Option<String>) -> Self {
        let last = text
            .rsplit_once(":function:")
            .map_or(text, |(_, last)| last);
        let (name, qualifier) = match last.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier.to_owned())),
            None => (last, None),
        };
        Self {
            name: name.to_owned(),
            qualifier: parameter.or(qualifier),
        }
    }
}

impl InvokeApi {
    /// Takes the place of an asynchronous invocation among those that are not finished.
    fn room_for_event(&self, payload_bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let bytes = u32::try_from(payload_bytes + EVENT_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.events).try_acquire_many_owned(bytes);
        room.map_err(|_| Refusal::too_many_events())
    }

    fn find(&self, named: &Named) -> Result<&Function, Refusal> {
        let function =
            self.0.by_name.get(&named.name).ok_or_else(|| {
                Refusal::not_found(&format!("Function not found: {}", named.name))
            })?;
        match &named.qualifier {
            Some(wanted) if wanted != LATEST && !function.served.qualifiers.contains(wanted) => {
                Err(Refusal::not_found(&format!(
                    "Function not found: {}:{wanted}",
                    named.name
                )))
            }
            _ => Ok(function),
        }
    }
}

impl Function {
    fn permit(&self) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let permit = self.permits.as_ref().map(|permits| {
            Arc::clone(permits)
                .try_acquire_owned()
                .map_err(|_| Refusal::throttled())
        });
        permit.transpose()
    }
}

/// Reads a body to its end. One that is too large is read without keeping it: a client that is cut
/// off while it sends would not read the error.
async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut stream = body.into_data_stream();
    let mut kept = BytesMut::new();
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::not_json("the body is incomplete"))?;
        bytes += chunk.len();
        if bytes <= limit {
            kept.extend_from_slice(&chunk);
        }
    }
    if bytes > limit {
        return Err(Refusal::too_large(bytes, limit));
    }
    Ok(kept.freeze())
}

/// Returns the payload; none becomes an empty object.
fn event(payload: Bytes) -> Result<Bytes, Refusal> {
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        Ok(_) => Ok(payload),
        Err(error) => Err(Refusal::not_json(&error.to_string())),
    }
}

/// Error of the service, in the form of AWS.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    body: serde_json::Value,
}

impl Refusal {
    fn not_found(message: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            kind: "ResourceNotFoundException",
            body: json!({"Type": "User", "Message": message}),
        }
    }

    fn too_large(bytes: usize, limit: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            kind: "RequestTooLargeException",
            body: json!({
                "Type": "User",
                "message": format!(
                    "{bytes} byte payload is too large for the invocation type \
                     (limit {limit} bytes)"
                ),
            }),
        }
    }

    fn not_json(why: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "InvalidRequestContentException",
            body: json!({
                "Type": "User",
                "message": format!("Could not parse request body into json: {why}"),
            }),
        }
    }

    fn invalid_type(found: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "InvalidParameterValueException",
            body: json!({
                "Type": "User",
                "message": format!("Unsupported invocation type {found}"),
            }),
        }
    }

    fn too_many_events() -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "TooManyRequestsException",
            body: json!({
                "Reason": "FunctionInvocationRateLimitExceeded",
                "Type": "User",
                "message": format!(
                    "the asynchronous invocations that are not finished have more than \
                     {EVENTS_BYTES_MAX} bytes; retry later"
                ),
            }),
        }
    }

    fn throttled() -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "TooManyRequestsException",
            body: json!({
                "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
                "Type": "User",
                "message": "Rate Exceeded.",
            }),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = [
            ("content-type", "application/json"),
            ("x-amzn-errortype", self.kind),
        ];
        (self.status, headers, self.body.to_string()).into_response()
    }
}
