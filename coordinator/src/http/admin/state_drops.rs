//! Drops of a state that a function no longer declares:
//! `POST /api/functions/{namespace}/{name}/states/{state}/drop`.
//!
//! One request removes at most `limit` values. `next` of its answer is the `cursor` of the next
//! request, and null at the end.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use satchel_engine::input::Administration;
use satchel_engine::output::{Answer, StateDropped};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::pauses::function_type;
use super::{Shared, WAIT_DEFAULT, WAIT_MAX, json_response, page_limit};
use crate::http::error::ApiError;
use crate::http::target::{PathParams, query};
use crate::http::traffic::{Wait, WaitQuery};

/// Time after which a request begins no further bucket.
const BUCKETS_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropQuery {
    cursor: Option<String>,
    limit: Option<usize>,
    timeout: Option<String>,
}

/// Answer to one request.
#[derive(Serialize)]
struct Dropped {
    dropped: usize,
    next: Option<String>,
}

pub(super) async fn drop_state(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let function = function_type(&params)?;
    let state = params.get("state");
    let (parts, _) = request.into_parts();
    admin.allow_writing(&parts.headers)?;
    let query: DropQuery = query(&parts)?;
    let timeout = WaitQuery {
        timeout: query.timeout,
    };
    let wait = Wait::parse(timeout, WAIT_DEFAULT, WAIT_MAX)?;
    let limit = page_limit(query.limit)?;
    let mut bucket = query.cursor.as_deref().map_or(Ok(0), parse_cursor)?;
    let dropping = async {
        let end = Instant::now() + BUCKETS_TIME_MAX;
        let mut dropped = 0;
        loop {
            let asked = Administration::DropState {
                bucket,
                function: function.clone(),
                state: state.into(),
                limit: limit - dropped,
            };
            let step = match admin.requests.administer(asked).await {
                Answer::StateDropped(step) => step,
                other => return Err(ApiError::of_answer(other)),
            };
            dropped += step.dropped;
            let StateDropped { next, .. } = step;
            let Some(next) = next else {
                return Ok((dropped, None));
            };
            // The same bucket again: the limit is reached, or an attempt in flight is waited for.
            let stays = next == bucket;
            bucket = next;
            if stays || dropped == limit || Instant::now() >= end {
                return Ok((dropped, Some(bucket)));
            }
        }
    };
    let (dropped, next) = wait.until(dropping).await??;
    let next = next.map(|bucket| bucket.to_string());
    Ok(json_response(StatusCode::OK, &Dropped { dropped, next }))
}

fn parse_cursor(text: &str) -> Result<u16, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(
            "invalid_query",
            format!("cursor={text:?} is not one: it is `next` of an earlier answer"),
        )
    })
}
