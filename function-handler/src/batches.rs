//! Runs batches, each in a task of its own, so that one that panics or hangs fails alone.

use std::any::Any;
use std::sync::Arc;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function::Request};
use satchel_sdk::Functions;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tracing::Instrument as _;

/// How many batches run at once. What the rest waits for is mostly the outside world, so this is well above the number of cores; a
/// bundle holds at most 500 by default.
pub(crate) const CONCURRENT_BATCHES_MAX: usize = 128;

/// The functions, and the room to run them.
#[derive(Clone)]
pub(crate) struct Batches {
    functions: Arc<Functions>,
    room: Arc<Semaphore>,
}

/// An error's text is cut here: enough for a person, and no danger to the results beside it.
const ERROR_BYTES_MAX: usize = 8 << 10;

/// A batch on its way; dropping it gives the batch up.
pub(crate) struct Running {
    address: String,
    task: JoinHandle<Result<FromFunction, BatchError>>,
}

impl Batches {
    pub(crate) fn new(functions: Functions) -> Self {
        Self {
            functions: Arc::new(functions),
            room: Arc::new(Semaphore::new(CONCURRENT_BATCHES_MAX)),
        }
    }

    /// Starts a batch as soon as there is room.
    pub(crate) fn start(&self, request: ToFunction) -> Running {
        let functions = Arc::clone(&self.functions);
        let room = Arc::clone(&self.room);
        let address = address(&request);
        let span = tracing::info_span!("batch", address);
        let batch = async move {
            let _permit = room
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            functions.handle(request).await
        };
        Running {
            address,
            task: tokio::spawn(batch.instrument(span)),
        }
    }
}

impl Running {
    /// The answer of the batch; an error of kind `panic` if its function panicked, and of kind `timeout` if it is not done at `cutoff`.
    pub(crate) async fn answer(
        mut self,
        cutoff: Option<Instant>,
    ) -> Result<FromFunction, BatchError> {
        let joined = match cutoff {
            Some(cutoff) => tokio::time::timeout_at(cutoff, &mut self.task).await,
            None => Ok((&mut self.task).await),
        };
        let answer = match joined {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(panicked(error)),
            Err(_) => Err(BatchError {
                kind: "timeout".to_owned(),
                message: "the batch was not done before the deadline of the Lambda request"
                    .to_owned(),
            }),
        };
        answer.map_err(|error| {
            let error = shortened(error);
            let BatchError { kind, message } = &error;
            tracing::warn!(
                address = self.address,
                kind,
                reason = message,
                "a batch failed"
            );
            error
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn panicked(error: JoinError) -> BatchError {
    BatchError {
        kind: "panic".to_owned(),
        message: match error.try_into_panic() {
            Ok(payload) => panic_text(payload.as_ref()),
            Err(error) => error.to_string(),
        },
    }
}

fn shortened(mut error: BatchError) -> BatchError {
    if error.message.len() > ERROR_BYTES_MAX {
        let end = error.message.floor_char_boundary(ERROR_BYTES_MAX);
        error.message.truncate(end);
        error.message.push('…');
    }
    error
}

fn address(request: &ToFunction) -> String {
    match &request.request {
        Some(Request::Invocation(batch)) => batch
            .target
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        None => String::new(),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "the function panicked with a value that is not text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let error = shortened(BatchError {
            kind: "panic".to_owned(),
            message: "€".repeat(ERROR_BYTES_MAX),
        });
        assert_eq!(
            error.message,
            format!("{}…", "€".repeat(ERROR_BYTES_MAX / 3))
        );
    }
}
