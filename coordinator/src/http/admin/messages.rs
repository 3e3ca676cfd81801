//! Messages from people: `POST /api/addresses/{namespace}/{name}/{id}/{call,send}`.
//!
//! These do what the same verbs of the traffic port do, with the right to change something. A page
//! of the administration port can reach no other port.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use satchel_engine::input::Verb;

use super::{Admin, Shared};
use crate::http::error::ApiError;
use crate::http::target::Target;
use crate::http::traffic::{self, Asked, Traffic, TrafficLimits, answered_call, answered_send};
use crate::http::value::read_value;

/// Routes that call and send.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/addresses/{namespace}/{name}/{id}/call", post(call))
        .route("/api/addresses/{namespace}/{name}/{id}/send", post(send))
}

async fn call(
    State(admin): Shared,
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    answered_call(admin.deliver(Verb::Call, target, request).await)
}

async fn send(
    State(admin): Shared,
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    answered_send(admin.deliver(Verb::Send, target, request).await)
}

impl Admin {
    async fn deliver(
        &self,
        verb: Verb,
        target: Target,
        request: Request,
    ) -> Result<Asked, ApiError> {
        self.allow_writing(request.headers())?;
        let traffic = Traffic {
            requests: self.requests.clone(),
            readiness: self.readiness.clone(),
            limits: TrafficLimits {
                body: self.limits,
                ..TrafficLimits::default()
            },
        };
        traffic::ask(&traffic, verb, target, request, read_value).await
    }
}
