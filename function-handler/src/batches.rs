//! Runs batches, each in a task of its own, so that one that panics or hangs fails alone.

use std::any::Any;
use std::sync::Arc;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function::Request};
use satchel_sdk::Functions;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
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

/// A batch on its way; dropping it gives the batch up.
pub(crate) struct Running(JoinHandle<Result<FromFunction, BatchError>>);

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
        let span = tracing::info_span!("batch", address = address(&request));
        let batch = async move {
            let _permit = room
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            functions.handle(request).await
        };
        Running(tokio::spawn(batch.instrument(span)))
    }
}

impl Running {
    /// The answer of the batch; an error of kind `panic` if its function panicked.
    pub(crate) async fn answer(&mut self) -> Result<FromFunction, BatchError> {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(error) => Err(BatchError {
                kind: "panic".to_owned(),
                message: match error.try_into_panic() {
                    Ok(payload) => panic_text(payload.as_ref()),
                    Err(error) => error.to_string(),
                },
            }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
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
