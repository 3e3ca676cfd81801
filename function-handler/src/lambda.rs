//! Functions on Lambda: what arrives by `Invoke` is either a bundle or an HTTP request.
//!
//! - A **bundle** (the object has a field `satchel`) is answered by a bundle, one result for each batch. A batch that fails, panics, or is not done shortly
//!   before the request's deadline has an error as its result, and the others theirs.
//! - An **HTTP request**, as API Gateway (both payload versions) and Function URLs hand it over, holds one batch in StateFun's plain form and is answered as
//!   [`http`](crate::http) answers, besides 504 at the deadline.
//! - Anything else fails the request with an error of type `invalid_request`.
//!
//! Errors of a batch have the types of [`Functions::handle`] and `panic`, `timeout`, `response_too_large`.
//! Field names and limits are those of the Lambda Invoke API and of API Gateway's Lambda proxy integration.

mod bundle;
mod event;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use satchel_protocol::bundle::BundleResponse;
use satchel_sdk::Functions;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::batches::Batches;
use event::{Event, EventError, HttpResponse};

/// The most that Lambda takes as the response of a synchronous request.
pub const RESPONSE_BYTES_MAX: usize = 6 << 20;

/// Serves the functions on Lambda's Runtime API, named by the environment, until it is gone.
///
/// # Errors
///
/// When the Runtime API cannot be reached any more. The process is then of no use and should exit.
pub async fn run(functions: Functions) -> Result<(), satchel_sdk::Error> {
    let batches = Batches::new(functions);
    let handler = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let batches = batches.clone();
        async move {
            let cutoff = cutoff(event.context.deadline);
            answer(&batches, event.payload.get(), cutoff).await
        }
    });
    lambda_runtime::run(handler)
        .await
        .map_err(|error| format!("the Lambda Runtime API is gone: {error}").into())
}

/// The response of one Lambda request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Bundle(BundleResponse),
    Http(HttpResponse),
}

async fn answer(
    batches: &Batches,
    payload: &str,
    cutoff: Option<Instant>,
) -> Result<Answer, Diagnostic> {
    match Event::read(payload).map_err(|error| invalid_request(&error))? {
        Event::Bundle(request) => bundle::answer(batches, request, cutoff)
            .await
            .map(Answer::Bundle),
        Event::Http(request) => Ok(Answer::Http(request.answer(batches, cutoff).await)),
    }
}

/// When to answer with what is done: a little before Lambda gives the request up, which would lose every result.
///
/// A deadline in the past is none: there are stand-ins for Lambda that give a constant one.
fn cutoff(deadline_ms: u64) -> Option<Instant> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let left = Duration::from_millis(deadline_ms).checked_sub(now)?;
    let margin = (left / 20).min(Duration::from_millis(500));
    Some(Instant::now() + (left - margin))
}

fn invalid_request(error: &EventError) -> Diagnostic {
    Diagnostic {
        error_type: "invalid_request".to_owned(),
        error_message: error.to_string(),
    }
}
