//! Bodies of requests, with limits for each and for all of them together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use bytes::BytesMut;
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::error::Refusal;

/// Maximum size of a request: 500 records of 10 MiB in total, in base64, and their member names.
const BODY_MAX_BYTES: usize = 16 << 20;
/// Maximum size of the bodies of all requests in progress.
const BODIES_MAX_BYTES: usize = 256 << 20;
/// Maximum time for a client to send a request.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Maximum time in which a client sends nothing of a request.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Bodies of the requests in progress.
pub(super) struct Bodies {
    /// One permit for each byte that may still be received.
    room: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(BODIES_MAX_BYTES)),
        }
    }
}

impl Bodies {
    /// Reads a body. The caller keeps the permits until the request is answered.
    pub(super) async fn read(
        &self,
        body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let due = Instant::now() + BODY_TIME_MAX;
        let mut stream = body.into_data_stream();
        let mut bytes = BytesMut::new();
        let mut permits: Option<OwnedSemaphorePermit> = None;
        loop {
            let silent = Instant::now() + SILENCE_MAX;
            let chunk = timeout_at(due.min(silent), stream.next()).await;
            let Some(chunk) = chunk.map_err(|_| too_slow())? else {
                return Ok((bytes.freeze(), permits));
            };
            let chunk = chunk.map_err(|error| too_large(&format!("was cut off: {error}")))?;
            if bytes.len() + chunk.len() > BODY_MAX_BYTES {
                return Err(too_large(&format!("is larger than {BODY_MAX_BYTES} bytes")));
            }
            let more = u32::try_from(chunk.len()).expect("a body has fewer bytes");
            let more = Arc::clone(&self.room).try_acquire_many_owned(more);
            let more = more.map_err(|_| no_room())?;
            match &mut permits {
                Some(permits) => permits.merge(more),
                None => permits = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
    }
}

fn too_slow() -> Refusal {
    Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        ..Refusal::new(
            "RequestTimeoutException",
            "the request did not arrive in time",
        )
    }
}

fn too_large(what: &str) -> Refusal {
    Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        ..Refusal::new(
            "RequestEntityTooLargeException",
            format!("the request {what}"),
        )
    }
}

fn no_room() -> Refusal {
    Refusal::limit(format!(
        "the requests in progress have {BODIES_MAX_BYTES} bytes together, which is the maximum"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_bodies_share_one_limit_and_return_what_they_took() {
        let bodies = Bodies::default();
        let whole = || Body::from(vec![0; BODY_MAX_BYTES]);
        let mut held = Vec::new();
        for _ in 0..BODIES_MAX_BYTES / BODY_MAX_BYTES {
            held.push(bodies.read(whole()).await.unwrap().1);
        }
        let refused = bodies.read(Body::from("a")).await.unwrap_err();
        assert_eq!(refused.code, "LimitExceededException");
        held.pop();
        assert!(bodies.read(whole()).await.is_ok());
        let refused = bodies.read(Body::from(vec![0; BODY_MAX_BYTES + 1])).await;
        assert_eq!(refused.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
