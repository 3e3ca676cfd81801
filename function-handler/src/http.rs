//! StateFun's request-reply protocol over HTTP/1.1 and HTTP/2 without TLS, one batch in a request.
//!
//! A request is a `POST` to any path with a `ToFunction` as its body. The response is one of
//!
//! | Status | Reason | Body |
//! |---|---|---|
//! | 200 | the batch succeeded | a `FromFunction`, `application/octet-stream` |
//! | 400 | the body is empty or not a `ToFunction` | the reason |
//! | 403 | a web page sent the request | the reason |
//! | 405 | the method is not `POST` | the reason |
//! | 408 | the body did not arrive within a minute, or nothing of it for 10 s | the reason |
//! | 413 | the body exceeds [`BODY_BYTES_MAX`] | the reason |
//! | 500 | the batch failed | the kind and text of the error |
//! | 503 | all bodies together exceed four times [`BODY_BYTES_MAX`] | the reason |
//! | 500 | a message was rejected for good | the text for the caller |
//!
//! The last row adds two headers: `satchel-terminal-error`, the status for the caller, and
//! `satchel-terminal-index`, the position of the message in the batch, from 0. See
//! [terminal errors](satchel_protocol::bundle#terminal-errors). A message that cannot be decoded is
//! rejected with 400, a message for a function that is not bound with 404.

mod bodies;
mod connections;
#[cfg(test)]
mod tests;

use std::future::Future;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use satchel_protocol::bundle::{BatchError, TERMINAL_ERROR_HEADER, TERMINAL_INDEX_HEADER};
use satchel_protocol::prost::Message as _;
use satchel_protocol::reqreply::ToFunction;
use satchel_sdk::Functions;
use tokio::net::TcpListener;
use tokio::time::Instant;

use self::bodies::Bodies;
use self::connections::Limits;
use crate::batches::Batches;

/// Maximum size of a request body in bytes. StateFun's own limit is half of it.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Content type of both directions.
pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

/// Serves the functions on `listener` until `stop` completes, then drains.
///
/// Draining finishes the requests in flight and takes at most 20 seconds. At most 1024 connections
/// are served at once; more wait. A connection without a request for 75 seconds is closed.
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
    let types = functions.function_types();
    let types: Vec<_> = types.iter().map(ToString::to_string).collect();
    tracing::info!(%address, functions = ?types, "serving over HTTP");
    let service = Service {
        batches: Batches::new(functions),
        bodies: Bodies::within(limits),
    };
    let router = Router::new().fallback(answer).with_state(service);
    connections::serve(listener, router, limits, stop).await;
    Ok(())
}

/// State shared by all requests.
#[derive(Clone)]
struct Service {
    batches: Batches,
    bodies: Bodies,
}

/// Completes at SIGTERM, Ctrl-C (SIGINT), SIGQUIT or SIGHUP.
///
/// SIGHUP is left alone if the process was started with it ignored, as `nohup` does.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut kinds = vec![
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
    ];
    if !ignores_hangup() {
        kinds.push(SignalKind::hangup());
    }
    let mut signals = Vec::new();
    for kind in kinds {
        match signal(kind) {
            Ok(signal) => signals.push(signal),
            Err(error) => {
                let signal = kind.as_raw_value();
                tracing::warn!(%error, signal, "cannot handle a signal; it ends the process");
            }
        }
    }
    let any = |context: &mut std::task::Context<'_>| {
        let come = signals
            .iter_mut()
            .any(|signal| signal.poll_recv(context).is_ready());
        if come {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    };
    std::future::poll_fn(any).await;
}

/// Returns true if the process was started with SIGHUP ignored, as far as the system tells.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit stands for signal 1, SIGHUP.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

/// Response to a plain request.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// Present if a message was rejected for good.
    pub(crate) terminal: Option<TerminalHeaders>,
    pub(crate) body: Vec<u8>,
}

/// Values of the headers of a terminal error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TerminalHeaders {
    pub(crate) code: u16,
    pub(crate) index: Option<u32>,
}

impl Answer {
    pub(crate) fn text(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            terminal: None,
            body: why.into().into_bytes(),
        }
    }

    pub(crate) fn error(error: &BatchError) -> Self {
        if let Some(terminal) = &error.terminal {
            let headers = TerminalHeaders {
                code: terminal.code,
                index: terminal.index,
            };
            return Self {
                terminal: Some(headers),
                ..Self::text(StatusCode::INTERNAL_SERVER_ERROR, terminal.message.as_str())
            };
        }
        let status = match error.kind.as_str() {
            "invalid_request" => StatusCode::BAD_REQUEST,
            "timeout" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::text(status, format!("{}: {}", error.kind, error.message))
    }
}

/// Serves one plain request, which arrived over HTTP or through Lambda.
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
            terminal: None,
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
    let (body, _share) = match service.bodies.read(request.into_body()).await {
        Ok(read) => read,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = answer_plain(&service.batches, method.as_str(), body, None).await;
    answer.into_response()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        let mut response = (self.status, content_type, self.body).into_response();
        if let Some(TerminalHeaders { code, index }) = self.terminal {
            let headers = response.headers_mut();
            headers.insert(TERMINAL_ERROR_HEADER, code.into());
            if let Some(index) = index {
                headers.insert(TERMINAL_INDEX_HEADER, index.into());
            }
        }
        response
    }
}

/// True if a web page of any site sent a request with these headers.
///
/// Browsers reach loopback ports on behalf of any page, and these headers show it. Programs do not
/// send them.
fn is_from_web_page(headers: &HeaderMap) -> bool {
    let sites = headers.get_all("sec-fetch-site");
    headers.contains_key(header::ORIGIN) || sites.iter().any(|site| site.as_bytes() != b"none")
}
