//! Invoker of functions on AWS Lambda.

use satchel_aws::lambda::{LambdaFunction, Refusal};
use satchel_engine::invocation::{Bundle, BundleOutcome};

use super::lambda_envelope::Envelope;

/// Minimum size of a compressed request, in bytes. Below it, zstd saves less than it costs.
/// Requests are compressed once the handler has shown that it can read them.
const COMPRESS_FROM_BYTES: usize = 16 << 10;

/// Sends bundles to a [`LambdaFunction`].
#[derive(Debug)]
pub struct AwsLambdaInvoker {
    function: LambdaFunction,
    envelope: Envelope,
}

impl AwsLambdaInvoker {
    /// Creates an invoker of `function`.
    pub fn new(function: LambdaFunction) -> Self {
        Self {
            function,
            envelope: Envelope::compressing_from(COMPRESS_FROM_BYTES),
        }
    }

    /// Sends `bundle` once.
    pub async fn invoke(&self, bundle: Bundle) -> BundleOutcome {
        let payload = match self.envelope.encode(&bundle) {
            Ok(payload) => payload,
            Err(failure) => return BundleOutcome::Failed(failure),
        };
        match self.function.invoke(payload, bundle.trace()).await {
            Ok(answer) => self.envelope.decode(&bundle, &answer),
            Err(Refusal::Function(payload)) => {
                BundleOutcome::Failed(Envelope::function_error(&payload))
            }
            Err(Refusal::Service(failure)) => BundleOutcome::Failed(failure),
        }
    }
}
