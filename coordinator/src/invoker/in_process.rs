//! Functions linked into this binary: for embedding and for tests.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use satchel_engine::invocation::{
    Batch, BatchOutcome, Bundle, BundleOutcome, Failure, FailureKind,
};
use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::{FromFunction, ToFunction};
use tokio::task::{JoinError, JoinSet};

/// Functions that are called directly.
pub trait InProcess: Send + Sync + 'static {
    /// Processes one batch. A panic, here or in the future, fails this batch only.
    fn handle(&self, request: ToFunction) -> BoxFuture<'_, Result<FromFunction, BatchError>>;
}

/// Calls linked functions, each batch in a task of its own.
#[derive(Clone)]
pub struct InProcessInvoker {
    functions: Arc<dyn InProcess>,
    timeout: Duration,
}

impl InProcessInvoker {
    /// Calls `functions`, and gives a batch up after `timeout`.
    pub fn new(functions: Arc<dyn InProcess>, timeout: Duration) -> Self {
        Self { functions, timeout }
    }

    /// Processes the batches of `bundle` side by side. Must be called within a tokio runtime.
    pub async fn invoke(&self, bundle: Bundle) -> BundleOutcome {
        let results = bundle.batches.iter().map(|batch| async {
            let outcome = self.invoke_batch(batch).await;
            (batch.attempt, outcome)
        });
        BundleOutcome::Answered(join_all(results).await)
    }

    async fn invoke_batch(&self, batch: &Batch) -> BatchOutcome {
        let functions = Arc::clone(&self.functions);
        let request = batch.to_wire();
        // A set of one task: dropping it, at the time-out or when the caller gives up, aborts the task.
        let mut task = JoinSet::new();
        task.spawn(async move { functions.handle(request).await });
        match tokio::time::timeout(self.timeout, task.join_next()).await {
            Ok(Some(Ok(Ok(answer)))) => Ok(answer),
            Ok(Some(Ok(Err(error)))) => Err(Failure::new(
                FailureKind::Function,
                format!("{}: {}", error.kind, error.message),
            )),
            Ok(Some(Err(error))) => Err(Failure::new(FailureKind::Function, describe(error))),
            Ok(None) => unreachable!("the set holds the task until it is joined"),
            Err(_) => Err(Failure::new(
                FailureKind::Function,
                format!("timed out after {:?}", self.timeout),
            )),
        }
    }
}

impl fmt::Debug for InProcessInvoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessInvoker")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn describe(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("panic: {}", panic_text(panic.as_ref())),
        Err(error) => error.to_string(),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a payload that is not text")
}
