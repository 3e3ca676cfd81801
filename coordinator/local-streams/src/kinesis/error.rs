//! Refusals, with the codes of Kinesis.

use axum::http::StatusCode;

use super::value::{Value, map};
use crate::StreamError;

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    /// A refusal with a code of the service, status 400.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: message.into(),
        }
    }

    /// A member that is missing or not within its bounds.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// A body that is not what it says.
    pub(super) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// An argument that does not fit the stream as it is.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    /// Something that is not there.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    /// Something that is there or busy.
    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    /// A limit on how many there may be.
    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    /// The throughput of a shard.
    pub(super) fn throughput(message: impl Into<String>) -> Self {
        Self::new("ProvisionedThroughputExceededException", message)
    }

    /// The body of the answer.
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
