//! The past of an address: `GET /api/addresses/{namespace}/{name}/{id}/states?at=TIME`.
//!
//! A read visits all images of a partition, so a process does one at a time. Any process that has
//! opened the root can do it: the owner need not be asked.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::clock::now_ms;
use crate::http::admin::json_response;
use crate::http::error::ApiError;
use crate::http::render::StateBody;
use crate::http::target::{Target, query};
use crate::http::traffic::Wait;
use crate::module::{format_rfc3339, parse_rfc3339};
use crate::offline::PastProblem;

/// Maximum time of a read.
const TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PastQuery {
    at: String,
}

/// States that an address had at a moment.
#[derive(Serialize)]
struct PastBody<'a> {
    at: String,
    state: Vec<StateBody>,
    /// Place of the root as `--restore` takes it; null for state in memory.
    root: Option<&'a str>,
}

pub(super) async fn show(
    State(served): Shared,
    Target(address): Target,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    served.may_read(&parts.headers)?;
    let PastQuery { at } = query(&parts)?;
    let at_ms = parse_rfc3339(&at).filter(|at_ms| *at_ms <= now_ms());
    let at_ms = at_ms.ok_or_else(|| {
        let message =
            format!("at={at:?} is not a time from 1970 until now, such as 2026-02-01T04:15:00Z");
        ApiError::bad_request("invalid_query", message)
    })?;
    let Ok(_turn) = served.past_turn.try_acquire() else {
        let message = "another moment is being read by this process; retry it";
        return Err(ApiError::unavailable("busy", 1, message));
    };
    let past = &served.console.past;
    let partition = served.console.requests.owner_of(&address);
    let reading = past.states(partition, address, at_ms);
    let views = Wait::of(TIME_MAX).until(reading).await?;
    let views = views.map_err(|problem| refusal(&problem))?;
    let body = PastBody {
        at: format_rfc3339(at_ms),
        state: views.iter().map(StateBody::of).collect(),
        root: past.place(),
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// Reach of the history.
#[derive(Serialize)]
struct ReachBody<'a> {
    /// Earliest moment that can be read; null for the beginning of the application, or if no moment
    /// of the past can be read yet.
    from: Option<String>,
    /// False if no moment of the past can be read yet.
    readable: bool,
    /// Place of the root as `--restore` takes it; null for state in memory.
    root: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

pub(super) async fn show_reach(
    State(served): Shared,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    served.may_read(&parts.headers)?;
    let NoQuery {} = query(&parts)?;
    let Ok(_turn) = served.past_turn.try_acquire() else {
        let message = "a moment is being read by this process; retry it";
        return Err(ApiError::unavailable("busy", 1, message));
    };
    let past = &served.console.past;
    let reaching = past.reaches_back_to(served.console.requests.partitions());
    let reach = Wait::of(TIME_MAX).until(reaching).await?;
    let from_ms = reach.map_err(|problem| refusal(&problem))?;
    let readable = from_ms != Some(u64::MAX);
    let body = ReachBody {
        from: from_ms.filter(|_| readable).map(format_rfc3339),
        readable,
        root: past.place(),
    };
    Ok(json_response(StatusCode::OK, &body))
}

fn refusal(problem: &PastProblem) -> ApiError {
    match problem {
        PastProblem::NotOpen => ApiError::unavailable("starting", 1, problem.to_string()),
        PastProblem::Collected {
            reaches_back_to_ms: u64::MAX,
        } => ApiError::new(
            StatusCode::GONE,
            "history_collected",
            "no moment of the past can be read yet; --retention keeps history",
        ),
        PastProblem::Collected { reaches_back_to_ms } => ApiError::new(
            StatusCode::GONE,
            "history_collected",
            format!(
                "{problem}, only to {}; --retention keeps more",
                format_rfc3339(*reaches_back_to_ms)
            ),
        ),
        PastProblem::Unreadable(_) => {
            tracing::warn!(error = %problem, "moment not read");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            ApiError::new(
                status,
                "unreadable",
                "the durable state cannot be read; see the log",
            )
        }
    }
}
