//! Changes over the administration port: web pages other than the console's may not ask for them,
//! and each that was allowed leaves a line in the log.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

use super::guard;
use super::guest::Received;
use crate::status::one_line;

/// Puts the check of the page, and the line in the log, before the routes of a port.
pub(crate) fn audited(routes: Router) -> Router {
    routes.layer(from_fn(audit))
}

async fn audit(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    if let Err(refusal) = guard::check_same_origin(request.uri(), request.headers()) {
        return refusal.into_response();
    }
    let method = request.method().clone();
    let path = one_line(request.uri().path());
    let received = request.extensions().get::<Arc<Received>>();
    let client = received.map(|received| received.client().to_string());
    let response = next.run(request).await;
    let status = response.status();
    // Attempts without the right change nothing, and anybody could fill the log with them.
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        tracing::info!(
            %method,
            path,
            client = client.as_deref().unwrap_or("unknown"),
            status = status.as_u16(),
            "administration request"
        );
    }
    response
}
