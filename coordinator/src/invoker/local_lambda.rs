//! Invokes the handler processes of this machine in the form that AWS Lambda would be invoked in.

use std::sync::Arc;
use std::time::Duration;

use satchel_engine::invocation::{Bundle, BundleOutcome, Failure, FailureKind};

use super::lambda_envelope::Envelope;
use crate::dev::lambda::{InvokeError, LocalLambda};

/// Sends bundles to a [`LocalLambda`].
#[derive(Debug)]
pub struct LocalLambdaInvoker {
    lambda: Arc<LocalLambda>,
    envelope: Envelope,
    timeout: Duration,
}

impl LocalLambdaInvoker {
    /// Sends bundles to `lambda`, whose handler has `timeout` for each, counted from when a process took it.
    pub fn new(lambda: Arc<LocalLambda>, timeout: Duration) -> Self {
        Self {
            lambda,
            envelope: Envelope::new(),
            timeout,
        }
    }

    /// Sends `bundle` once.
    ///
    /// What is waiting for a free process is not bounded by the time-out: it ends when a process takes it, or as
    /// [`FailureKind::Unreachable`] when no process starts.
    pub async fn invoke(&self, bundle: Bundle) -> BundleOutcome {
        let payload = match self.envelope.encode(&bundle) {
            Ok(payload) => payload,
            Err(failure) => return BundleOutcome::Failed(failure),
        };
        match self.lambda.invoke(payload.into(), self.timeout).await {
            Ok(answer) => self.envelope.decode(&bundle, &answer),
            Err(InvokeError::Function(error)) => {
                BundleOutcome::Failed(Envelope::function_error(&error.payload))
            }
            Err(error @ InvokeError::Unreachable(_)) => {
                BundleOutcome::Failed(Failure::new(FailureKind::Unreachable, error.to_string()))
            }
            Err(error @ InvokeError::RequestTooLarge { .. }) => BundleOutcome::Failed(
                Failure::new(FailureKind::RequestTooLarge, error.to_string()),
            ),
        }
    }
}
