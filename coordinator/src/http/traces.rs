//! Stories of messages: `GET /api/traces` and `GET /api/traces/{id}`.
//!
//! Both are observations of this process: they answer at once, also while nothing becomes durable.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use satchel_engine::message::MessageId;
use serde::{Deserialize, Serialize};

use super::admin::{Admin, Shared, function_filter, json_response, page_limit};
use super::error::ApiError;
use super::target::{PathParams, query};
use crate::stories::{SummaryBody, TraceFilter};

/// Routes of the stories.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/traces", get(list))
        .route("/api/traces/{id}", get(show))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    function: Option<String>,
    address: Option<String>,
    #[serde(default)]
    failed: bool,
    limit: Option<usize>,
}

/// Newest traces.
#[derive(Serialize)]
struct Traces {
    traces: Vec<SummaryBody>,
    /// True if the process keeps stories.
    tracing: bool,
}

async fn list(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    admin.allow_reading(request.headers())?;
    let (parts, _) = request.into_parts();
    let ListQuery {
        function,
        address,
        failed,
        limit,
    } = query(&parts)?;
    let filter = TraceFilter {
        function: function_filter(function)?,
        address,
        failed,
    };
    let limit = page_limit(limit)?;
    let stories = admin.stories.as_ref();
    let body = Traces {
        traces: stories.map_or_else(Vec::new, |stories| stories.list(&filter, limit)),
        tracing: stories.is_some(),
    };
    Ok(json_response(StatusCode::OK, &body))
}

async fn show(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    admin.allow_reading(request.headers())?;
    let text = params.get("id");
    let not_found = |message| ApiError::new(StatusCode::NOT_FOUND, "not_found", message);
    let Some(MessageId(id)) = MessageId::parse(text) else {
        return Err(not_found(format!(
            "there is no trace {text:?}: ids of traces, messages, dead letters and requests are 32 \
             hexadecimal digits"
        )));
    };
    let Some(stories) = &admin.stories else {
        let message = "no stories of messages are kept: start the process with --trace-messages";
        return Err(not_found(message.to_owned()));
    };
    let Some(trace) = stories.find(id) else {
        return Err(not_found(format!(
            "there is no story of {text}: its trace is not sampled, it was forgotten for newer \
             ones, or it ended before the process that knew it"
        )));
    };
    Ok(json_response(StatusCode::OK, &trace))
}
