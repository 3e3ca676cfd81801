//! Bodies of requests, with limits for each and for all of them together.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connections::Limits;
use super::{Answer, BODY_BYTES_MAX};

/// Bodies of the requests in progress.
#[derive(Clone)]
pub(super) struct Bodies {
    limits: Limits,
    /// One permit for each byte that may still be received.
    room: Arc<Semaphore>,
}

/// Bytes of a body in the total size, returned when this is dropped.
pub(super) struct BodyShare {
    _permits: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(super) fn within(limits: Limits) -> Self {
        Self {
            limits,
            room: Arc::new(Semaphore::new(limits.body_bytes_max)),
        }
    }

    /// Reads a body. The caller keeps the share until the request is answered.
    pub(super) async fn read(&self, mut body: Body) -> Result<(Bytes, BodyShare), Answer> {
        let limits = self.limits;
        let due = Instant::now() + limits.body_time_max;
        let mut bytes = BytesMut::new();
        let mut permits: Option<OwnedSemaphorePermit> = None;
        loop {
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let silent = Instant::now() + limits.progress_time_max;
            let frame = timeout_at(due.min(silent), frame)
                .await
                .map_err(|_| too_slow(due <= silent, limits))?;
            let Some(frame) = frame else {
                return Ok((bytes.freeze(), BodyShare { _permits: permits }));
            };
            let frame = frame.map_err(|error| {
                let why = format!("the body cannot be read: {error}");
                Answer::text(StatusCode::BAD_REQUEST, why)
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                let why = format!("the body exceeds {BODY_BYTES_MAX} bytes");
                return Err(Answer::text(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            let more = u32::try_from(data.len()).expect("a body has fewer bytes");
            let more = Arc::clone(&self.room).try_acquire_many_owned(more);
            let more = more.map_err(|_| no_room(limits))?;
            match &mut permits {
                Some(permits) => permits.merge(more),
                None => permits = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
    }
}

fn too_slow(in_all: bool, limits: Limits) -> Answer {
    let within = |what: &str, time: Duration| format!("{what} did not arrive within {time:?}");
    let why = if in_all {
        within("the body", limits.body_time_max)
    } else {
        within("a part of the body", limits.progress_time_max)
    };
    Answer::text(StatusCode::REQUEST_TIMEOUT, why)
}

fn no_room(limits: Limits) -> Answer {
    let why = format!(
        "the bodies of all requests in progress may have {} bytes together; retry later",
        limits.body_bytes_max
    );
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, why)
}
