//! StateFun's request-reply protocol over HTTP/1.1 and HTTP/2 without TLS: one batch a request.
//!
//! `POST` to any path, body a `ToFunction`; answered with
//!
//! | Status | Body |
//! |---|---|
//! | 200 | a `FromFunction`, `application/octet-stream` |
//! | 400 | why the body is not a batch; an empty body is none |
//! | 403 | that web pages may not call functions, for a request that a browser sent for one |
//! | 404 | that there is no such function |
//! | 405 | for anything but `POST` |
//! | 413 | for a body over [`BODY_BYTES_MAX`] |
//! | 500 | the kind and text of the error with which the batch failed |

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use satchel_protocol::bundle::BatchError;
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::ToFunction;
use satchel_sdk::Functions;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batches::Batches;

/// A request is at most this large; StateFun's own limit is half of it.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// How long a stop waits for requests under way.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The content type of both directions.
pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

/// Serves the functions on `listener` until `stop` is done, then finishes what is under way, for 20 seconds at most.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    functions: Functions,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, functions = ?functions.function_types().iter().map(ToString::to_string).collect::<Vec<_>>(), "serving over HTTP");
    let router = Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Batches::new(functions));
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::warn!(%error, "a connection without TCP_NODELAY");
        }
    });
    let stopping = Arc::new(Notify::new());
    let stopped = Arc::clone(&stopping);
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        stopping.notify_one();
    });
    tokio::select! {
        served = serving => served,
        () = async {
            stopped.notified().await;
            tokio::time::sleep(STOP_WITHIN).await;
        } => {
            tracing::warn!("requests still under way are given up");
            Ok(())
        }
    }
}

/// Done when the process is told to stop, by SIGTERM or by Ctrl-C.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM stops the process at once");
            std::future::pending::<()>().await;
        }
    }
}

/// What a plain request is answered with.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: why.into().into_bytes(),
        }
    }

    pub(crate) fn error(error: &BatchError) -> Self {
        let status = match error.kind.as_str() {
            "invalid_request" => StatusCode::BAD_REQUEST,
            "unknown_function" => StatusCode::NOT_FOUND,
            "timeout" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::text(status, format!("{}: {}", error.kind, error.message))
    }
}

/// Serves one plain request, however it came.
pub(crate) async fn answer_plain(
    batches: &Batches,
    method: &str,
    body: Bytes,
    cutoff: Option<Instant>,
) -> Answer {
    if method != Method::POST.as_str() {
        return Answer::text(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not served: POST a ToFunction"),
        );
    }
    if body.is_empty() {
        return Answer::text(
            StatusCode::BAD_REQUEST,
            "invalid_request: the body is empty: POST a ToFunction",
        );
    }
    let request = match ToFunction::decode(body) {
        Ok(request) => request,
        Err(error) => {
            return Answer::text(
                StatusCode::BAD_REQUEST,
                format!("invalid_request: the body is not a ToFunction: {error}"),
            );
        }
    };
    match batches.start(request).answer(cutoff).await {
        Ok(from) => Answer {
            status: StatusCode::OK,
            content_type: CONTENT_TYPE,
            body: from.encode_to_vec(),
        },
        Err(error) => Answer::error(&error),
    }
}

async fn answer(
    State(batches): State<Batches>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = if sent_by_a_page(&headers) {
        Answer::text(
            StatusCode::FORBIDDEN,
            "a web page sent this request; only programs may call this port",
        )
    } else {
        answer_plain(&batches, method.as_str(), body, None).await
    };
    (
        answer.status,
        [(header::CONTENT_TYPE, answer.content_type)],
        answer.body,
    )
        .into_response()
}

/// Whether a web page sent a request with these headers, of whatever site: browsers reach loopback ports on behalf of any page, and say so;
/// programs do not.
fn sent_by_a_page(headers: &HeaderMap) -> bool {
    let sites = headers.get_all("sec-fetch-site");
    headers.contains_key(header::ORIGIN) || sites.iter().any(|site| site.as_bytes() != b"none")
}
