//! Refusals with the error codes of Kinesis.

use axum::http::StatusCode;

use super::value::{Value, map};
use crate::StreamError;

/// Error response to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    /// Refusal with an error code of the service and status 400.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: message.into(),
        }
    }

    /// A member is missing or out of bounds.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// The body does not match its content type.
    pub(super) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// An argument does not fit the current state of the stream.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    /// The named resource does not exist.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    /// The named resource exists already or is busy.
    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    /// A maximum number of resources would be exceeded.
    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    /// The throughput of a shard is exceeded.
    pub(super) fn throughput(message: impl Into<String>) -> Self {
        Self::new("ProvisionedThroughputExceededException", message)
    }

    /// Body of the response.
    pub(super) fn body(&self) -> Value {
        map([
            ("__type", self.code.into()),
            ("message", self.message.as_str().into()),
        ])
    }
}

impl From<StreamError> for Refusal {
    fn from(error: StreamError) -> Self {
        let message = error.to_string();
        match error {
            StreamError::InvalidName(_) | StreamError::InvalidRecord(_) => {
                Self::validation(message)
            }
            StreamError::UnknownPosition { .. }
            | StreamError::Expired { .. }
            | StreamError::InvalidChange(_) => Self::argument(message),
            StreamError::Missing(_) | StreamError::UnknownShard(_) => Self::not_found(message),
            StreamError::Exists(_) | StreamError::InUse(_) => Self::in_use(message),
            StreamError::TooMany(_) => Self::limit(message),
            StreamError::Damaged { .. }
            | StreamError::Io { .. }
            | StreamError::Unsure { .. }
            | StreamError::OutOfOrder { .. }
            | StreamError::Stopped => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: "InternalFailure",
                message,
            },
        }
    }
}
