//! Bodies of requests, each within limits and all of them together too.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use http_body_util::LengthLimitError;
use satchel_engine::output::Answer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Limits of what is read from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// The largest body in bytes; a larger one is answered with 413.
    pub bytes_max: usize,
    /// How long a client may take to send a body; slower ones are answered with 408.
    pub time_max: Duration,
    /// How many bytes the bodies of a port have together, from the moment that one is announced until its partition has taken it; one
    /// that would be too much is answered with 503. One body of the largest size always fits.
    pub all_bytes_max: usize,
}

impl Default for BodyLimits {
    /// 6 MiB, about what one Lambda request takes, in 30 s, and 256 MiB together.
    fn default() -> Self {
        Self {
            bytes_max: 6 << 20,
            time_max: Duration::from_secs(30),
            all_bytes_max: 256 << 20,
        }
    }
}

/// The bodies that come in over one port.
#[derive(Debug)]
pub(crate) struct Bodies {
    limits: BodyLimits,
    /// A permit for each byte that may still be announced.
    room: Arc<Semaphore>,
}

/// A body's share of the room that all have together, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct BodyShare {
    _bytes: OwnedSemaphorePermit,
}

impl Bodies {
    /// None so far.
    pub(crate) fn within(limits: BodyLimits) -> Self {
        let room = limits.all_bytes_max.max(limits.bytes_max);
        Self {
            limits,
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Reads a body if there is room for all of it. The share is for the caller to keep until the bytes are somebody else's.
    ///
    /// # Errors
    ///
    /// 503 if there is no room, 408 and 413 for what is over the limits, 400 for a body that breaks off.
    pub(crate) async fn read(&self, body: Body) -> Result<(Bytes, BodyShare), ApiError> {
        let share = self.share(&body)?;
        let limits = self.limits;
        let reading = axum::body::to_bytes(body, limits.bytes_max);
        match tokio::time::timeout(limits.time_max, reading).await {
            Ok(Ok(bytes)) => Ok((bytes, share)),
            Ok(Err(error)) if is_length_limit(&error) => Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!(
                    "the body is larger than the limit of {} bytes",
                    limits.bytes_max
                ),
            )),
            Ok(Err(error)) => Err(ApiError::bad_request(
                "body_unreadable",
                format!("the body could not be read: {error}"),
            )),
            Err(_) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_too_slow",
                format!("the body did not come within {:?}", limits.time_max),
            )),
        }
    }

    /// Room for as much as the client announces; for as much as is read at most if it announces more, or nothing.
    fn share(&self, body: &Body) -> Result<BodyShare, ApiError> {
        let bytes_max = self.limits.bytes_max;
        let announced = body.size_hint().exact();
        let announced = announced.and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = announced.map_or(bytes_max, |bytes| bytes.min(bytes_max));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            Ok(bytes) => Ok(BodyShare { _bytes: bytes }),
            Err(_) => Err(ApiError::of_answer(Answer::Overloaded)),
        }
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}
