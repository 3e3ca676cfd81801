//! Invoker of handler processes, in the same form as AWS Lambda.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use satchel_engine::invocation::{Bundle, BundleOutcome, Failure, FailureKind};
use satchel_engine::trace::TraceParent;

use super::{Call, InvokeError, LocalLambda};
use crate::invoker::LocalInvoker;
use crate::invoker::lambda_envelope::Envelope;

/// Sends bundles to a [`LocalLambda`].
#[derive(Debug)]
pub struct LocalLambdaInvoker {
    lambda: Arc<LocalLambda>,
    envelope: Envelope,
    timeout: Duration,
}

impl LocalLambdaInvoker {
    /// Creates an invoker of `lambda`. Its handler has `timeout` for each request, counted from
    /// when a process took the request.
    pub fn new(lambda: Arc<LocalLambda>, timeout: Duration) -> Self {
        Self {
            lambda,
            envelope: Envelope::new(),
            timeout,
        }
    }

    /// Sends `bundle` once.
    ///
    /// The timeout does not bound the wait for a free process. That wait ends when a process takes
    /// the request, or as [`FailureKind::Unavailable`] when no process starts.
    pub async fn invoke(&self, bundle: Bundle) -> BundleOutcome {
        let payload = match self.envelope.encode(&bundle) {
            Ok(payload) => payload,
            Err(failure) => return BundleOutcome::Failed(failure),
        };
        let call = Call {
            trace: bundle.trace().map(TraceParent::to_x_ray),
            ..Call::new(payload.into(), self.timeout)
        };
        match self.lambda.call(call).await {
            Ok(answer) => self.envelope.decode(&bundle, &answer),
            Err(InvokeError::Function(error)) => {
                BundleOutcome::Failed(Envelope::function_error(&error.payload))
            }
            Err(error @ InvokeError::Unreachable(_)) => {
                BundleOutcome::Failed(Failure::new(FailureKind::Unavailable, error.to_string()))
            }
            Err(error @ InvokeError::RequestTooLarge { .. }) => BundleOutcome::Failed(
                Failure::new(FailureKind::RequestTooLarge, error.to_string()),
            ),
        }
    }
}

impl LocalInvoker for LocalLambdaInvoker {
    fn invoke(&self, bundle: Bundle) -> BoxFuture<'_, BundleOutcome> {
        Box::pin(self.invoke(bundle))
    }
}
