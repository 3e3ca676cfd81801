//! Invokers: delivery of a [`Bundle`] to its functions.
//!
//! ```text
//!  dispatcher ──Bundle──► Invoker ──► Http       StateFun's protocol, one batch per request
//!                                 ├─► AwsLambda  bundle form, over the Invoke API of AWS
//!                                 └─► Local      bundle form, to processes of this machine
//!  dispatcher ◄─BundleOutcome────┘
//! ```
//!
//! An invoker sends a bundle once. The dispatcher decides about retries, from the
//! [`FailureKind`](satchel_engine::invocation::FailureKind) of the outcome.

use std::fmt;

use futures::future::BoxFuture;
use satchel_engine::invocation::{Bundle, BundleOutcome};

#[cfg(feature = "aws")]
pub mod aws_lambda;
pub mod http;
pub mod lambda_envelope;

/// Adapter of one endpoint.
#[derive(Debug)]
pub enum Invoker {
    /// Function on AWS Lambda.
    #[cfg(feature = "aws")]
    AwsLambda(aws_lambda::AwsLambdaInvoker),
    /// Function server that speaks StateFun's protocol.
    Http(http::HttpInvoker),
    /// Function that runs on this machine.
    Local(Box<dyn LocalInvoker>),
}

/// Function that runs on this machine, without a service in between.
pub trait LocalInvoker: fmt::Debug + Send + Sync {
    /// Sends `bundle` once, as [`Invoker::invoke`].
    fn invoke(&self, bundle: Bundle) -> BoxFuture<'_, BundleOutcome>;
}

impl Invoker {
    /// Sends `bundle` once and waits for its outcome. Every adapter bounds the wait.
    ///
    /// Dropping the future abandons the request. The function may have received it.
    pub async fn invoke(&self, bundle: Bundle) -> BundleOutcome {
        match self {
            #[cfg(feature = "aws")]
            Self::AwsLambda(invoker) => Box::pin(invoker.invoke(bundle)).await,
            Self::Http(invoker) => invoker.invoke(bundle).await,
            Self::Local(invoker) => invoker.invoke(bundle).await,
        }
    }
}
