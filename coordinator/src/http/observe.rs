//! Counts the requests of a port, and keeps a panic in one of them from being more than its own error.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use super::Port;
use super::error::ApiError;
use crate::metrics::Metrics;

/// Whose requests are counted where.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    pub(crate) port: Port,
    pub(crate) metrics: Metrics,
}

/// The status under which a request is counted whose client went away before the answer, as nginx does.
const CLIENT_GONE: u16 = 499;

/// Counts a request when it is answered, or when its client goes away.
pub(crate) async fn observe(
    State(observer): State<Observer>,
    request: Request,
    next: Next,
) -> Response {
    let mut observation = Observation {
        verb: verb(request.extensions().get::<MatchedPath>()),
        code: CLIENT_GONE,
        started: Instant::now(),
        observer,
    };
    // What a handler shares with others are channels and counters, none of which a panic leaves half changed.
    let served = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = served.unwrap_or_else(|_| {
        observation.observer.metrics.observe_http_panic();
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "serving this request panicked: this is a defect of Satchel, and its log says where",
        )
        .into_response()
    });
    observation.code = response.status().as_u16();
    response
}

struct Observation {
    verb: &'static str,
    code: u16,
    started: Instant,
    observer: Observer,
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.observer.metrics.observe_http_request(
            self.observer.port.as_str(),
            self.verb,
            self.code,
            self.started.elapsed(),
        );
    }
}

/// What the matched route is about: never anything that the client made up, which would be a label value of its own.
fn verb(route: Option<&MatchedPath>) -> &'static str {
    const VERBS: [&str; 9] = [
        "call",
        "send",
        "streams",
        "healthz",
        "readyz",
        "metrics",
        "dead-letters",
        "addresses",
        "timers",
    ];
    let route = route.map_or("", MatchedPath::as_str);
    let first = route.trim_start_matches("/api").trim_start_matches('/');
    let first = first.split('/').next().unwrap_or_default();
    VERBS
        .into_iter()
        .find(|verb| *verb == first)
        .unwrap_or("other")
}
