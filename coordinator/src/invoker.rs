//! Invokers: how a [`Bundle`] reaches its functions and what became of it.
//!
//! ```text
//!  dispatcher ──Bundle──► Invoker ──► Http         StateFun's protocol, one batch a request
//!                                 ├─► InProcess    functions linked into this binary
//!                                 ├─► AwsLambda    the bundle form, over the Invoke API of AWS
//!                                 └─► LocalLambda  the bundle form, to handler processes on this machine
//!  dispatcher ◄─BundleOutcome────┘
//! ```
//!
//! An invoker sends once. Whether, when and how something is tried again is the dispatcher's business, which reads it from the
//! [`FailureKind`](satchel_engine::invocation::FailureKind) of the outcome.

use satchel_engine::invocation::{Bundle, BundleOutcome};

pub mod aws_lambda;
pub mod http;
pub mod in_process;
pub mod lambda_envelope;
pub mod local_lambda;

/// The adapter of one endpoint.
#[derive(Debug)]
pub enum Invoker {
    /// A function on AWS Lambda.
    AwsLambda(aws_lambda::AwsLambdaInvoker),
    /// A function server that speaks StateFun's protocol.
    Http(http::HttpInvoker),
    /// Functions linked into this binary.
    InProcess(in_process::InProcessInvoker),
    /// A Lambda function whose handlers run as processes of this machine.
    LocalLambda(local_lambda::LocalLambdaInvoker),
}

impl Invoker {
    /// Sends `bundle` once and waits for its outcome, which every adapter bounds in time.
    ///
    /// Dropping the future gives the request up; the function may have been reached all the same.
    pub async fn invoke(&self, bundle: Bundle) -> BundleOutcome {
        match self {
            Self::AwsLambda(invoker) => Box::pin(invoker.invoke(bundle)).await,
            Self::Http(invoker) => invoker.invoke(bundle).await,
            Self::InProcess(invoker) => invoker.invoke(bundle).await,
            Self::LocalLambda(invoker) => invoker.invoke(bundle).await,
        }
    }
}
