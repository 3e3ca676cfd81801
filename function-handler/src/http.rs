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
//! | 408 | for a body that does not come within a minute |
//! | 413 | for a body over [`BODY_BYTES_MAX`] |
//! | 500 | the kind and text of the error with which the batch failed |

mod connections;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use satchel_protocol::bundle::BatchError;
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::ToFunction;
use satchel_sdk::Functions;
use tokio::net::TcpListener;
use tokio::time::Instant;

use self::connections::Limits;
use crate::batches::Batches;

/// A request is at most this large; StateFun's own limit is half of it.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// The content type of both directions.
pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

/// Serves the functions on `listener` until `stop` is done, then finishes what is under way, for 20 seconds at most. Connections over 1024
/// wait until others end; one over which no request comes for 75 seconds ends.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    functions: Functions,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve_within(listener, functions, Limits::default(), stop).await
}

async fn serve_within(
    listener: TcpListener,
    functions: Functions,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, functions = ?functions.function_types().iter().map(ToString::to_string).collect::<Vec<_>>(), "serving over HTTP");
    let service = Service {
        batches: Batches::new(functions),
        body_time_max: limits.body_time_max,
    };
    let router = Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service);
    connections::serve(listener, router, limits, stop).await;
    Ok(())
}

/// What each request is served with.
#[derive(Clone)]
struct Service {
    batches: Batches,
    body_time_max: Duration,
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

async fn answer(State(service): State<Service>, request: Request) -> Response {
    let method = request.method().clone();
    if is_from_web_page(request.headers()) {
        let why = "a web page sent this request; only programs may call this port";
        return Answer::text(StatusCode::FORBIDDEN, why).into_response();
    }
    let reading = Bytes::from_request(request, &());
    let body = match tokio::time::timeout(service.body_time_max, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return refusal.into_response(),
        Err(_) => {
            let why = format!("the body did not come within {:?}", service.body_time_max);
            return Answer::text(StatusCode::REQUEST_TIMEOUT, why).into_response();
        }
    };
    let answer = answer_plain(&service.batches, method.as_str(), body, None).await;
    answer.into_response()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        (self.status, content_type, self.body).into_response()
    }
}

/// Whether a web page sent a request with these headers, of whatever site: browsers reach loopback ports on behalf of any page, and say so;
/// programs do not.
fn is_from_web_page(headers: &HeaderMap) -> bool {
    let sites = headers.get_all("sec-fetch-site");
    headers.contains_key(header::ORIGIN) || sites.iter().any(|site| site.as_bytes() != b"none")
}
