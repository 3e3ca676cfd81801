//! Changes of many dead letters: `POST /api/dead-letters/retry` and `/drop`.
//!
//! The query says which: `function`, `reason` and `since`, which must all hold, or `all=true`. One
//! request changes at most `limit` dead letters. `next` of its answer is the `cursor` of the next
//! request, and null at the end.

use std::fmt;
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
    let requests = &admin.requests;
    let place = query.cursor.as_deref();
    let place = place.map(|text| parse_cursor(text, requests.partitions()));
    let Place { partition, cursor } = place.transpose()?.unwrap_or_default();
    let asked = Administration::ChangeDeadLetters {
        change,
        filter,
        cursor,
        limit: page_limit(query.limit)?,
    };
    let asking = requests.administer_at(partition, asked);
    match wait.until(asking).await? {
        Answer::DeadLettersChanged(DeadLettersChanged {
            changed,
            skipped,
            cursor,
        }) => {
            let here = cursor.map(|cursor| Place {
                partition,
                cursor: Some(cursor),
            });
            let next = here.or_else(|| Place::beginning(partition + 1, requests.partitions()));
            let next = next.map(|place| place.to_string());
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

/// Progress of a change through the partitions: `next-end` in partition 0, `partition:next-end` in
/// another one, and `partition:` at its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    partition: u32,
    cursor: Option<DeadLetterCursor>,
}

impl Place {
    /// Beginning of a partition, if there is one of this number.
    fn beginning(partition: u32, partitions: u32) -> Option<Self> {
        (partition < partitions).then_some(Self {
            partition,
            cursor: None,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (partition, rest) = match text.split_once(':') {
            Some((partition, rest)) => (partition.parse().ok()?, rest),
            None => (0, text),
        };
        let cursor = match rest.split_once('-') {
            Some((next, end)) => Some(DeadLetterCursor {
                next: next.parse().ok()?,
                end: end.parse().ok()?,
            }),
            None if rest.is_empty() && !text.is_empty() => None,
            None => return None,
        };
        Some(Self { partition, cursor })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.partition > 0 || self.cursor.is_none() {
            write!(f, "{}:", self.partition)?;
        }
        match self.cursor {
            Some(cursor) => write!(f, "{}-{}", cursor.next, cursor.end),
            None => Ok(()),
        }
    }
}

fn parse_cursor(text: &str, partitions: u32) -> Result<Place, ApiError> {
    let place = Place::parse(text).filter(|place| place.partition < partitions);
    place.ok_or_else(|| {
        ApiError::bad_request(
            "invalid_query",
            format!("cursor={text:?} is not one: it is `next` of an earlier answer"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let cursor = Some(DeadLetterCursor { next: 7, end: 9 });
        for (place, text) in [
            (
                Place {
                    partition: 0,
                    cursor,
                },
                "7-9",
            ),
            (
                Place {
                    partition: 3,
                    cursor,
                },
                "3:7-9",
            ),
            (
                Place {
                    partition: 3,
                    cursor: None,
                },
                "3:",
            ),
        ] {
            assert_eq!(place.to_string(), text);
            assert_eq!(Place::parse(text), Some(place));
        }
        for text in ["", "7", "x:1-2", "1:2", "1-x", ":"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
        assert_eq!(Place::beginning(1, 1), None);
        assert_eq!(Place::beginning(1, 2).unwrap().to_string(), "1:");
    }
}
