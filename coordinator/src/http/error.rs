//! Errors of the HTTP API: `{"error":{"code","message"}}`.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use satchel_engine::output::Answer;
use serde::Serialize;

use crate::readiness::Readiness;

/// Code of an error that the function itself answers.
const REJECTED: &str = "rejected";

/// Code of an answer that does not say whether the request took effect.
pub(crate) const UNKNOWN: &str = "unknown";

/// Code of an answer that says that the process is stopping, and that the request had no effect.
pub(crate) const NOT_TAKEN: &str = "stopping";

/// Code of an answer that says that this process does not have the partition, and that the request
/// had no effect.
pub(crate) const NOT_HERE: &str = "not_here";

/// Code of an error, as an extension of its response.
#[cfg(feature = "aws")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

/// Error of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    /// Identifier for programs.
    code: &'static str,
    /// Sentence for people.
    message: String,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// HTTP status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Creates an error without `Retry-After`.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after_s: None,
        }
    }

    /// 400: the request is invalid.
    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 503: the client should retry after `retry_after_s` seconds.
    pub(crate) fn unavailable(
        code: &'static str,
        retry_after_s: u64,
        message: impl Into<String>,
    ) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// Adds advice to the message.
    pub(super) fn with_hint(mut self, hint: &str) -> Self {
        self.message = format!("{}; {hint}", self.message);
        self
    }

    /// Returns the error of a process that is not serving.
    pub(crate) fn not_serving(readiness: Readiness) -> Result<(), Self> {
        let (code, retry_after_s, message) = match readiness {
            Readiness::Serving | Readiness::Held | Readiness::Loading { .. } => return Ok(()),
            Readiness::Starting { .. } => ("starting", 1, "the process is still starting"),
            Readiness::Standby => (
                "standby",
                5,
                "this process is on standby; another one serves the application",
            ),
            Readiness::Stopping => ("stopping", 1, "the process is stopping"),
        };
        Err(Self::unavailable(
            code,
            retry_after_s,
            format!("{message}; the request had no effect, retry it"),
        ))
    }

    /// Converts a partition's answer to an error. The caller has handled answers that are none.
    pub(crate) fn of_answer(answer: Answer) -> Self {
        match answer {
            Answer::Failed {
                dead_letter,
                reason,
            } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "dead_letter",
                format!("the message failed and is kept as dead letter {dead_letter}: {reason}"),
            ),
            Answer::Rejected { code, message } => Self::new(
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                REJECTED,
                message,
            ),
            Answer::UnknownFunction(function) => Self::unknown_function(&function.to_string()),
            Answer::TooLarge { bytes_max } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!(
                    "the endpoint of this function accepts at most {bytes_max} bytes per message"
                ),
            ),
            Answer::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used with another body; a new message needs a new key",
            ),
            Answer::Elsewhere { partition } => Self::unavailable(
                NOT_HERE,
                1,
                format!(
                    "partition {partition} owns this address; \
                     the request had no effect, retry it"
                ),
            ),
            Answer::Overloaded => Self::unavailable(
                "overloaded",
                1,
                "more messages are queued than --pending-limit allows; \
                 the request had no effect, retry it",
            ),
            Answer::TooManyDeadLetters { bytes_max } => Self::unavailable(
                "too_many_dead_letters",
                1,
                format!(
                    "the dead letters have more than {bytes_max} bytes (--dead-letter-limit), \
                     until an operator retries or drops some; \
                     the request had no effect, retry it later"
                ),
            ),
            Answer::Paused(why) => Self::unavailable(
                "function_paused",
                5,
                format!("{why}; the request had no effect, retry it when the function is resumed"),
            ),
            Answer::Stopping => Self::unavailable(
                UNKNOWN,
                1,
                "the process is stopping and the outcome is unknown; \
                 retry with the same Idempotency-Key, which makes a repeat harmless",
            ),
            Answer::NotTaken => Self::unavailable(
                NOT_TAKEN,
                1,
                "the process is stopping; the request had no effect, retry it",
            ),
            Answer::NotFound(what) => Self::new(StatusCode::NOT_FOUND, "not_found", what),
            Answer::Refused(why) => Self::new(StatusCode::CONFLICT, "refused", why),
            other => {
                tracing::error!(answer = ?other, "unexpected answer of the partition");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "the partition gave an unexpected answer: this is a bug of Satchel",
                )
            }
        }
    }

    /// 404: no endpoint serves this function.
    pub(crate) fn unknown_function(function: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_function",
            format!("no endpoint serves the function {function}"),
        )
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: &'a str,
    message: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Body {
            error: Detail {
                code: self.code,
                message: &self.message,
            },
        };
        let mut response = (self.status, json(&body)).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        #[cfg(feature = "aws")]
        response.extensions_mut().insert(ErrorCode(self.code));
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // A function that answers 401 asks for credentials of its own, not for this port's token.
        if self.status == StatusCode::UNAUTHORIZED && self.code != REJECTED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Encodes `body` as JSON.
pub(crate) fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("bodies have text keys only, and serializable values")
}
