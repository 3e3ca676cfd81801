//! Runs batches, each in its own task, so that one that panics or hangs fails alone.

use std::any::Any;
use std::sync::Arc;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function::Request};
use satchel_sdk::Functions;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tracing::Instrument as _;

/// Maximum number of batches that run at once.
///
/// Batches mostly wait for other services, so this is well above the number of cores. A bundle
/// holds at most 500 batches by default.
pub(crate) const CONCURRENT_BATCHES_MAX: usize = 128;

/// The functions, and the permits to run them.
#[derive(Clone)]
pub(crate) struct Batches {
    functions: Arc<Functions>,
    permits: Arc<Semaphore>,
}

/// Maximum length of an error text, so that it cannot displace the results beside it.
const ERROR_BYTES_MAX: usize = 8 << 10;

/// A started batch. Dropping it aborts the batch.
pub(crate) struct Running {
    address: String,
    task: JoinHandle<Result<FromFunction, BatchError>>,
}

impl Batches {
    pub(crate) fn new(functions: Functions) -> Self {
        Self {
            functions: Arc::new(functions),
            permits: Arc::new(Semaphore::new(CONCURRENT_BATCHES_MAX)),
        }
    }

    /// Starts a batch as soon as a permit is free.
    pub(crate) fn start(&self, request: ToFunction) -> Running {
        let functions = Arc::clone(&self.functions);
        let permits = Arc::clone(&self.permits);
        let address = address(&request);
        let span = tracing::info_span!("batch", address);
        let batch = async move {
            let _permit = permits
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
    /// Waits for the answer of the batch.
    ///
    /// The error has kind `panic` if the function panicked, and `timeout` if the batch is not done
    /// at `cutoff`.
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
            Err(_) => Err(BatchError::new(
                "timeout",
                "the batch was not done before the deadline of the Lambda request",
            )),
        };
        answer.map_err(|error| {
            let error = shortened(error);
            tracing::warn!(
                address = self.address,
                kind = error.kind,
                reason = error.message,
                "batch failed"
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
    let text = match error.try_into_panic() {
        Ok(payload) => panic_text(payload.as_ref()),
        Err(error) => error.to_string(),
    };
    BatchError::new("panic", text)
}

fn shortened(mut error: BatchError) -> BatchError {
    shorten(&mut error.message);
    if let Some(terminal) = &mut error.terminal {
        shorten(&mut terminal.message);
    }
    error
}

fn shorten(text: &mut String) {
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push('…');
    }
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
    use satchel_protocol::bundle::Terminal;

    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let long = "€".repeat(ERROR_BYTES_MAX);
        let error = shortened(BatchError {
            terminal: Some(Terminal {
                index: Some(0),
                code: 400,
                message: long.clone(),
            }),
            ..BatchError::new("panic", long)
        });
        let cut = format!("{}…", "€".repeat(ERROR_BYTES_MAX / 3));
        assert_eq!(error.message, cut);
        assert_eq!(error.terminal.unwrap().message, cut);
    }
}
