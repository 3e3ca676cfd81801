//! Counts the requests of a port.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Port;
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
    let response = next.run(request).await;
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
