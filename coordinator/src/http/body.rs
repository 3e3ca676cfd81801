//! Bodies of requests, with limits for each and for all of them together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use http_body_util::LengthLimitError;
use satchel_engine::output::Answer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Limits of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Maximum size of a body in bytes. A larger one is answered with 413.
    pub bytes_max: usize,
    /// Maximum time that a client may take to send a body. A slower one is answered with 408.
    pub time_max: Duration,
    /// Maximum total size, in bytes, of the bodies of a port. A body counts from its announcement
    /// until the partition has taken it. One beyond the limit is answered with 503. A single body
    /// of the maximum size always fits.
    pub all_bytes_max: usize,
}

impl Default for BodyLimits {
    /// 6 MiB, about the limit of a Lambda request, in 30 s, and 256 MiB in total.
    fn default() -> Self {
        Self {
            bytes_max: 6 << 20,
            time_max: Duration::from_secs(30),
            all_bytes_max: 256 << 20,
        }
    }
}

/// Incoming bodies of one port.
#[derive(Debug)]
pub(crate) struct Bodies {
    limits: BodyLimits,
    /// One permit for each byte that may still be announced.
    room: Arc<Semaphore>,
}

/// Share of a body in the total size, returned when this is dropped.
#[derive(Debug)]
pub(crate) struct BodyShare {
    _bytes: OwnedSemaphorePermit,
}

impl Bodies {
    /// Creates the set, without bodies.
    pub(crate) fn within(limits: BodyLimits) -> Self {
        let room = limits.all_bytes_max.max(limits.bytes_max);
        Self {
            limits,
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Reads a body if there is room for all of it. The caller keeps the share as long as it holds
    /// the bytes.
    ///
    /// # Errors
    ///
    /// 503 if there is no room, 408 and 413 beyond the limits, 400 for an incomplete body.
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
                format!("the body did not arrive within {:?}", limits.time_max),
            )),
        }
    }

    /// Reserves the size that the client announces. Without an announcement, or above the maximum,
    /// reserves the maximum.
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
