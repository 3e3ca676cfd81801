//! Bodies of requests, with limits for each. The port's budget limits all of them together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Extensions, StatusCode};
use http_body_util::LengthLimitError;

use super::error::ApiError;
use super::guest::{BodyProblem, Received, no_room};

/// Limits of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Maximum size of a body in bytes. A larger one is answered with 413.
    pub bytes_max: usize,
    /// Maximum time that a client may take to send a body. A slower one is answered with 408.
    pub time_max: Duration,
}

impl Default for BodyLimits {
    /// 6 MiB, about the limit of a Lambda request, in 30 s.
    fn default() -> Self {
        Self {
            bytes_max: 6 << 20,
            time_max: Duration::from_secs(30),
        }
    }
}

/// Bytes of a body in the budget of its port, returned when this is dropped.
#[derive(Debug)]
pub(crate) struct BodyShare(Option<Arc<Received>>);

impl Drop for BodyShare {
    fn drop(&mut self) {
        if let Some(received) = &self.0 {
            received.hand_over();
        }
    }
}

impl BodyLimits {
    /// Reads the body of the request with these parts. The caller keeps the share as long as it
    /// holds the bytes.
    ///
    /// # Errors
    ///
    /// 503 if there is no room, 408 and 413 beyond the limits, 400 for an incomplete body.
    pub(crate) async fn read(
        self,
        extensions: &Extensions,
        body: Body,
    ) -> Result<(Bytes, BodyShare), ApiError> {
        // Requests of tests need no connection.
        let share = BodyShare(extensions.get().cloned());
        let reading = axum::body::to_bytes(body, self.bytes_max);
        match tokio::time::timeout(self.time_max, reading).await {
            Ok(Ok(bytes)) => Ok((bytes, share)),
            Ok(Err(error)) => Err(self.unread(&error)),
            Err(_) => Err(too_slow(&format!(
                "the body did not arrive within {:?}",
                self.time_max
            ))),
        }
    }

    fn unread(self, error: &axum::Error) -> ApiError {
        if is_length_limit(error) {
            return ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!(
                    "the body is larger than the limit of {} bytes",
                    self.bytes_max
                ),
            );
        }
        match problem_of(error) {
            Some(BodyProblem::NoRoom(exceeded)) => no_room(*exceeded),
            Some(stalled @ BodyProblem::Stalled(_)) => too_slow(&stalled.to_string()),
            Some(BodyProblem::Connection(_)) | None => ApiError::bad_request(
                "body_unreadable",
                format!("the body could not be read: {error}"),
            ),
        }
    }
}

fn too_slow(what: &str) -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", what)
}

fn problem_of(error: &axum::Error) -> Option<&BodyProblem> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(problem) = cause.downcast_ref() {
            return Some(problem);
        }
        source = cause.source();
    }
    None
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}
