//! Changes of many dead letters: `POST /api/dead-letters/retry` and `/drop`.
//!
//! The query says which: `function`, `reason` and `since`, which must all hold, or `all=true`. One
//! request changes at most `limit` dead letters. `next` of its answer is the `cursor` of the next
//! request, and null at the end.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use satchel_engine::input::{Administration, DeadLetterChange, DeadLetterCursor, DeadLetterFilter};
use satchel_engine::output::{Answer, DeadLettersChanged};
use serde::{Deserialize, Serialize};

use super::{Shared, WAIT_DEFAULT, WAIT_MAX, function_filter, json_response, page_limit};
use crate::http::error::ApiError;
use crate::http::target::query;
use crate::http::traffic::{Wait, WaitQuery};
use crate::module::parse_rfc3339;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BulkQuery {
    all: Option<bool>,
    function: Option<String>,
    reason: Option<String>,
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
    timeout: Option<String>,
}

/// Answer to one request.
#[derive(Serialize)]
struct Changed {
    changed: usize,
    skipped: usize,
    next: Option<String>,
}

pub(super) async fn retry_many(admin: Shared, request: Request) -> Result<Response, ApiError> {
    change(admin, request, DeadLetterChange::Retry).await
}

pub(super) async fn drop_many(admin: Shared, request: Request) -> Result<Response, ApiError> {
    change(admin, request, DeadLetterChange::Drop).await
}

async fn change(
    axum::extract::State(admin): Shared,
    request: Request,
    change: DeadLetterChange,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_writing(&parts.headers)?;
    let query: BulkQuery = query(&parts)?;
    let timeout = WaitQuery {
        timeout: query.timeout,
    };
    let wait = Wait::parse(timeout, WAIT_DEFAULT, WAIT_MAX)?;
    let filter = filter(query.function, query.reason, query.since.as_deref())?;
    check_selection(query.all.unwrap_or(false), &filter)?;
    let asked = Administration::ChangeDeadLetters {
        change,
        filter,
        cursor: query.cursor.as_deref().map(parse_cursor).transpose()?,
        limit: page_limit(query.limit)?,
    };
    match wait.until(admin.requests.administer(asked)).await? {
        Answer::DeadLettersChanged(DeadLettersChanged {
            changed,
            skipped,
            cursor,
        }) => {
            let next = cursor.map(|cursor| format!("{}-{}", cursor.next, cursor.end));
            let body = Changed {
                changed,
                skipped,
                next,
            };
            Ok(json_response(StatusCode::OK, &body))
        }
        other => Err(ApiError::of_answer(other)),
    }
}

/// Creates the filter of these parameters.
pub(super) fn filter(
    function: Option<String>,
    reason: Option<String>,
    since: Option<&str>,
) -> Result<DeadLetterFilter, ApiError> {
    let since_ms = since.map(|since| {
        parse_rfc3339(since).ok_or_else(|| {
            ApiError::bad_request(
                "invalid_query",
                format!("since={since:?} is no time: write it as 2026-02-01T04:15:00Z (RFC 3339)"),
            )
        })
    });
    if reason.as_deref() == Some("") {
        return Err(ApiError::bad_request(
            "invalid_query",
            "reason= is empty: it is a text that the reason contains",
        ));
    }
    Ok(DeadLetterFilter {
        function: function_filter(function)?,
        reason: reason.map(Arc::from),
        since_ms: since_ms.transpose()?,
    })
}

/// Rejects a change of all dead letters that was not asked for by name.
fn check_selection(all: bool, filter: &DeadLetterFilter) -> Result<(), ApiError> {
    let everything = *filter == DeadLetterFilter::default();
    let problem = match (all, everything) {
        (true, true) | (false, false) => return Ok(()),
        (false, true) => {
            "the query selects nothing: give function=, reason= or since=, or all=true"
        }
        (true, false) => "all=true goes with no other condition",
    };
    Err(ApiError::bad_request("invalid_query", problem))
}

fn parse_cursor(text: &str) -> Result<DeadLetterCursor, ApiError> {
    let numbers = text.split_once('-');
    let parsed = numbers.and_then(|(next, end)| {
        Some(DeadLetterCursor {
            next: next.parse().ok()?,
            end: end.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| {
        ApiError::bad_request(
            "invalid_query",
            format!("cursor={text:?} is not one: it is `next` of an earlier answer"),
        )
    })
}
