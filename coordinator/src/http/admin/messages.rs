//! Messages from people: `POST /api/addresses/{namespace}/{name}/{id}/{call,send}`.
//!
//! These do what the same verbs of the traffic port do, with the right to change something. A page
//! of the administration port can reach no other port.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use satchel_engine::input::Verb;
use satchel_engine::output::Answer;

use super::{Admin, Shared};
use crate::http::error::ApiError;
use crate::http::target::Target;
use crate::http::traffic::{self, Traffic, TrafficLimits};
use crate::http::value::{read_value, value_response};

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
    match admin.deliver(Verb::Call, target, request).await? {
        Answer::Replied(value) => Ok(value_response(value)),
        other => Err(ApiError::of_answer(other)),
    }
}

async fn send(
    State(admin): Shared,
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    match admin.deliver(Verb::Send, target, request).await? {
        Answer::Accepted => Ok(StatusCode::ACCEPTED.into_response()),
        other => Err(ApiError::of_answer(other)),
    }
}

impl Admin {
    async fn deliver(
        &self,
        verb: Verb,
        target: Target,
        request: Request,
    ) -> Result<Answer, ApiError> {
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
