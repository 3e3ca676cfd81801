//! Rules of the administration port, whose routes share an origin with the console.
//!
//! - Web pages other than the console's may not change anything.
//! - Each change leaves a line in the log.
//! - A browser shows no answer as anything else than it says, and only the console runs scripts.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

use super::guard;
use super::guest::Received;
use crate::status::one_line;

/// Policy of answers that are no page.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Puts the rules about changes before the routes of the port. Paths without a route change
/// nothing.
pub(super) fn audited(routes: Router) -> Router {
    routes.layer(from_fn(audit))
}

/// Restricts what a browser does with an answer.
pub(super) async fn restrict(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY);
    response
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
    // What was refused changed nothing, and anybody could fill the log with it.
    if status.is_success() || status.is_server_error() {
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
