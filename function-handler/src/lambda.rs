//! Functions on Lambda. The payload of an invocation is a bundle or an HTTP request.
//!
//! - A **bundle** (an object with the field `satchel`) gets a bundle as its response, with one
//!   result for each batch. The result is an error if the batch fails, panics, or is not done
//!   shortly before the deadline of the request. The other batches are not affected.
//! - An **HTTP request** of API Gateway (both payload versions) or of a Function URL holds one
//!   batch in StateFun's plain form. The response is that of [`http`](crate::http), and 504 at the
//!   deadline.
//! - Any other payload fails the request with an error of type `invalid_request`.
//!
//! Errors of a batch have the types of [`Functions::handle`], and `panic`, `timeout` and
//! `response_too_large`. The error of a message that is rejected for good has the field `terminal`;
//! see [terminal errors](satchel_protocol::bundle#terminal-errors). Field names and limits are
//! those of the Lambda Invoke API and of API Gateway's Lambda proxy integration.

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

/// Maximum size in bytes of the response to a synchronous Lambda request.
pub const RESPONSE_BYTES_MAX: usize = 6 << 20;

/// Serves the functions on the Lambda Runtime API that the environment names.
///
/// # Errors
///
/// When the Runtime API is unreachable. The process has then no further use and should exit.
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
        .map_err(|error| format!("the Lambda Runtime API is unreachable: {error}").into())
}

/// Answers payloads of Lambda requests inside the caller's process, as [`run`] does for the Runtime
/// API. For tests and stand-ins of Lambda. Cheap to clone. Must be used within a tokio runtime.
#[derive(Clone)]
pub struct Handler {
    batches: Batches,
}

impl Handler {
    /// Creates a handler of the functions.
    pub fn new(functions: Functions) -> Self {
        Self {
            batches: Batches::new(functions),
        }
    }

    /// Answers one request whose deadline is `timeout` from now.
    ///
    /// # Errors
    ///
    /// The handler's error as JSON (`{"errorType":…,"errorMessage":…}`), which fails the whole
    /// request.
    pub async fn answer(
        &self,
        payload: &str,
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, Vec<u8>> {
        let cutoff = timeout.map(|timeout| Instant::now() + before_deadline(timeout));
        match answer(&self.batches, payload, cutoff).await {
            Ok(answer) => Ok(serde_json::to_vec(&answer).expect("an answer always serializes")),
            Err(error) => Err(serde_json::to_vec(&error).expect("an error always serializes")),
        }
    }
}

/// Response of one Lambda request.
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

/// Time at which the response is sent with the batches that are done.
///
/// It is a little before the deadline, at which Lambda would drop every result. A deadline in the
/// past is ignored, because some stand-ins for Lambda give a constant one.
fn cutoff(deadline_ms: u64) -> Option<Instant> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let left = Duration::from_millis(deadline_ms).checked_sub(now)?;
    Some(Instant::now() + before_deadline(left))
}

/// Time after which the response is sent, `left` before the deadline.
fn before_deadline(left: Duration) -> Duration {
    left - (left / 20).min(Duration::from_millis(500))
}

fn invalid_request(error: &EventError) -> Diagnostic {
    Diagnostic {
        error_type: "invalid_request".to_owned(),
        error_message: error.to_string(),
    }
}
