//! The AWS Lambda Runtime API and Extensions API, on one listener per handler process.
//!
//! With one listener per process, every call identifies its process, and `AWS_LAMBDA_RUNTIME_API`
//! is a plain `host:port`, the only form that the runtimes of some languages accept. Requests of
//! web pages, and those that name another host than `AWS_LAMBDA_RUNTIME_API`, are rejected. Source:
//! "Using the Lambda runtime API" and "Lambda Extensions API" of the AWS Lambda documentation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use self::extensions::Extensions;
use super::function::Function;
use super::pool::{Delivery, Next, ProcessId};
use super::{FunctionError, RESPONSE_BYTES_MAX};
use crate::http::for_one_program;

mod extensions;

/// Server of one process.
pub(super) struct RuntimeApi {
    session: Arc<Session>,
    finish: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// State shared by the calls of one process.
struct Session {
    function: Arc<Function>,
    process: ProcessId,
    region: String,
    extensions: Extensions,
}

type Shared = State<Arc<Session>>;

impl RuntimeApi {
    /// Serves `process` on `listener`, which is bound to `address`.
    pub(super) fn serve(
        (listener, address): (TcpListener, SocketAddr),
        function: Arc<Function>,
        process: ProcessId,
    ) -> Self {
        let session = Arc::new(Session {
            function,
            process,
            region: Function::region(),
            extensions: Extensions::default(),
        });
        let router = for_one_program(router(Arc::clone(&session)), address);
        let listener = listener.tap_io(|connection| {
            // Otherwise small answers would wait for acknowledgements.
            let _ = connection.set_nodelay(true);
        });
        let (finish, finished) = oneshot::channel();
        let server = tokio::spawn(async move {
            let serve = axum::serve(listener, router).with_graceful_shutdown(async {
                let _ = finished.await;
            });
            if let Err(error) = serve.await {
                tracing::error!(%error, "Runtime API of a handler failed");
            }
        });
        Self {
            session,
            finish,
            server,
        }
    }

    /// Announces to subscribed extensions that the process will be killed in `grace`.
    pub(super) fn announce_shutdown(&self, grace: Duration) {
        self.session.extensions.announce_shutdown(grace);
    }

    /// Handles the requests that the process sent before it ended, for at most `max`.
    pub(super) async fn finish(mut self, max: Duration) {
        let _ = self.finish.send(());
        if timeout(max, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

fn router(session: Arc<Session>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route(
            "/2018-06-01/runtime/invocation/{id}/response",
            post(response),
        )
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .route("/2020-01-01/extension/register", post(extensions::register))
        .route("/2020-01-01/extension/event/next", get(extensions::next))
        .route(
            "/2020-01-01/extension/init/error",
            post(extensions::init_error),
        )
        .route(
            "/2020-01-01/extension/exit/error",
            post(extensions::exit_error),
        )
        .fallback(async || {
            refusal(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                "the Runtime API has no such path",
            )
        })
        .with_state(session)
}

/// Waits for a request for this process.
async fn next(State(session): Shared) -> Response {
    let delivery = match session.function.next(session.process) {
        Next::Deliver(delivery) => delivery,
        Next::Wait(delivery) => match delivery.await {
            Ok(delivery) => delivery,
            // A newer call replaced this one, or the process must end. No request comes here.
            Err(_) => std::future::pending().await,
        },
        Next::HoldsOne => {
            return refusal(
                StatusCode::FORBIDDEN,
                "InvalidStateTransition",
                "this process has not answered the request that it holds",
            );
        }
        Next::Ending => std::future::pending().await,
    };
    session
        .function
        .pool()
        .received(session.process, delivery.call.request);
    session.deliver(delivery)
}

async fn response(State(session): Shared, Path(id): Path<String>, body: Body) -> Response {
    let (answer, accepted) = match read(body).await {
        ReadBody::Whole(payload) => (Ok(payload), accepted()),
        ReadBody::TooLarge { bytes } => {
            let message = format!(
                "Response payload size ({bytes} bytes) exceeded maximum allowed payload size \
                 ({RESPONSE_BYTES_MAX} bytes)."
            );
            let too_large = refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                &message,
            );
            let error = FunctionError::new("Function.ResponseSizeTooLarge", &message);
            (Err(error), too_large)
        }
        ReadBody::Broken => return broken(),
    };
    session.finish(&id, answer, accepted)
}

async fn error(
    State(session): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let ReadBody::Whole(body) = read(body).await else {
        return broken();
    };
    let error = function_error(&headers, body, "Unhandled");
    session.finish(&id, Err(error), accepted())
}

async fn init_error(State(session): Shared, headers: HeaderMap, body: Body) -> Response {
    let ReadBody::Whole(body) = read(body).await else {
        return broken();
    };
    let error = function_error(&headers, body, "Runtime.InitError");
    session.init_failed(error.to_string());
    accepted()
}

impl Session {
    fn init_failed(&self, why: String) {
        self.function.pool().init_failed(self.process, why);
    }

    fn deliver(&self, delivery: Delivery) -> Response {
        let deadline = epoch_ms(delivery.deadline).to_string();
        let arn = format!(
            "arn:aws:lambda:{}:000000000000:function:{}",
            self.region,
            self.function.name()
        );
        let call = delivery.call;
        let trace = call.trace.unwrap_or_else(|| trace_id(call.request));
        let id = call.request.to_string();
        self.extensions
            .announce_invoke(&id, &deadline, &arn, &trace);
        let headers = [
            ("content-type", "application/json"),
            ("lambda-runtime-aws-request-id", id.as_str()),
            ("lambda-runtime-deadline-ms", deadline.as_str()),
            ("lambda-runtime-invoked-function-arn", arn.as_str()),
            ("lambda-runtime-trace-id", trace.as_str()),
        ];
        let mut response = (headers, call.payload).into_response();
        let context = call.client_context.and_then(|text| text.parse().ok());
        if let Some(context) = context {
            let name = "lambda-runtime-client-context";
            response.headers_mut().insert(name, context);
        }
        response
    }

    /// Records the answer to the request `id` and returns `done`. If the process does not hold that
    /// request, drops the answer and returns an error.
    fn finish(&self, id: &str, answer: Result<Bytes, FunctionError>, done: Response) -> Response {
        let held = match id.parse::<Uuid>() {
            Ok(request) => self.function.pool().finish(self.process, request, answer),
            Err(_) => {
                self.function.pool().foreign_answer();
                false
            }
        };
        if held {
            return done;
        }
        tracing::warn!(
            function = self.function.name(),
            "answer to a request that the handler does not hold dropped"
        );
        refusal(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "this process does not hold a request of this id",
        )
    }
}

/// Returns the error in the body, or that in the header if the body is not JSON.
fn function_error(headers: &HeaderMap, body: Bytes, kind: &str) -> FunctionError {
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body).is_ok() {
        return FunctionError { payload: body };
    }
    let kind = headers
        .get("lambda-runtime-function-error-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or(kind);
    let text: String = String::from_utf8_lossy(&body).chars().take(2_000).collect();
    FunctionError::new(kind, &text)
}

enum ReadBody {
    Whole(Bytes),
    TooLarge { bytes: usize },
    Broken,
}

/// Reads a body to its end. One that is too large is read without keeping it: a handler that is cut
/// off while it sends would not read the error.
async fn read(body: Body) -> ReadBody {
    let mut stream = body.into_data_stream();
    let mut kept = BytesMut::new();
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else {
            return ReadBody::Broken;
        };
        bytes += chunk.len();
        if bytes <= RESPONSE_BYTES_MAX {
            kept.extend_from_slice(&chunk);
        }
    }
    if bytes > RESPONSE_BYTES_MAX {
        ReadBody::TooLarge { bytes }
    } else {
        ReadBody::Whole(kept.freeze())
    }
}

fn accepted() -> Response {
    answer(StatusCode::ACCEPTED, &json!({"status": "OK"}))
}

fn broken() -> Response {
    refusal(
        StatusCode::BAD_REQUEST,
        "InvalidRequest",
        "the body is incomplete or too large",
    )
}

fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    answer(status, &json!({"errorType": kind, "errorMessage": message}))
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [("content-type", "application/json")];
    (status, headers, body.to_string()).into_response()
}

/// Converts a time of the monotonic clock to milliseconds since 1970.
fn epoch_ms(moment: Instant) -> u128 {
    let left = moment.saturating_duration_since(Instant::now());
    let moment = SystemTime::now() + left;
    moment
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}

/// Makes a trace header in the form of AWS X-Ray, not sampled.
fn trace_id(request: Uuid) -> String {
    let seconds = epoch_ms(Instant::now()) / 1000;
    let random = request.simple().to_string();
    format!(
        "Root=1-{seconds:08x}-{};Parent={};Sampled=0",
        &random[..24],
        &random[16..]
    )
}
