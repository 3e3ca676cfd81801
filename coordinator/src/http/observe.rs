//! Metrics of a port's requests, and isolation of panics: a panic fails only its own request.

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

/// Port whose requests are counted.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    pub(crate) port: Port,
    pub(crate) metrics: Metrics,
}

/// Status of a request whose client disconnected before the answer, as nginx counts it.
const CLIENT_GONE: u16 = 499;

/// Counts a request when it is answered, or when its client disconnects.
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
    // Handlers share only channels and counters, which a panic leaves consistent.
    let served = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = served.unwrap_or_else(|_| {
        observation.observer.metrics.observe_http_panic();
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "a panic occurred in this request: this is a bug of Satchel, and its log shows where",
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

/// Returns the subject of the matched route. It never contains text of the client, which would make
/// a label value of its own.
fn verb(route: Option<&MatchedPath>) -> &'static str {
    const VERBS: [&str; 11] = [
        "call",
        "send",
        "streams",
        "healthz",
        "readyz",
        "metrics",
        "dead-letters",
        "addresses",
        "ingresses",
        "timers",
        "functions",
    ];
    let route = route.map_or("", MatchedPath::as_str);
    // The peer port has the routes of the other ports below these paths.
    let route = route.trim_start_matches("/traffic");
    let route = route.trim_start_matches("/admin");
    let first = route.trim_start_matches("/api").trim_start_matches('/');
    let first = first.split('/').next().unwrap_or_default();
    VERBS
        .into_iter()
        .find(|verb| *verb == first)
        .unwrap_or("other")
}
