//! Lambda functions over the Invoke API. One call is one request: only the dispatcher repeats.
//!
//! ```text
//!  200 ──────────────────────────────► the answer
//!  200 + X-Amz-Function-Error ───────► FailureKind::Function      the handler failed, ran out of time or memory
//!  413 ──────────────────────────────► FailureKind::RequestTooLarge
//!  429, 503, EC2 throttled, ENI and address limits, not ready yet ► FailureKind::Throttled
//!  other refusals of the service, no connection, no credentials ──► FailureKind::Unreachable
//!  no answer after the request was sent ─────────────────────────► FailureKind::Function
//! ```
//!
//! Source: the API reference of AWS Lambda, "Invoke". An error of the service itself is never counted against a message: an outage of Lambda must
//! not make dead letters, however long it lasts.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_lambda::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::RequestId;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use bytes::Bytes;
use satchel_engine::invocation::{Failure, FailureKind};

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How much longer than the function an answer may take: queueing in the service, a cold start, which AWS does not count as the function's time,
/// and the way.
const MARGIN: Duration = Duration::from_secs(20);

/// How much of an error's text is passed on, in characters.
const ERROR_TEXT_CHARS_MAX: usize = 1_000;

/// The header that AWS X-Ray follows a request by.
const TRACE_HEADER: &str = "x-amzn-trace-id";

/// A function, and one version or alias of it if that was asked for. Cheap to clone. Must be used within a tokio runtime.
#[derive(Clone)]
pub struct LambdaFunction {
    client: Client,
    name: String,
    qualifier: Option<String>,
    limit: Duration,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The handler was reached and failed: what it said, JSON (`{"errorType":…,"errorMessage":…}`).
    Function(Bytes),
    /// Anything else.
    Service(Failure),
}

impl LambdaFunction {
    /// The function `name`, a name or an ARN, whose handler has `timeout` for a request. The SDK's retries are off; connections are kept, as
    /// many as were ever used at once.
    #[must_use]
    pub fn new(
        sdk: &SdkConfig,
        name: impl Into<String>,
        qualifier: Option<String>,
        timeout: Duration,
    ) -> Self {
        let limit = timeout + MARGIN;
        let mut config = Builder::from(sdk)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_MAX)
                    .operation_timeout(limit)
                    .build(),
            )
            // The answer begins when the function has ended, which may be minutes after the request.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if sdk.region().is_none() {
            // Only a stand-in can be meant: AWS's own address needs a region.
            config = config.region(Region::from_static("us-east-1"));
        }
        Self {
            client: Client::from_conf(config.build()),
            name: name.into(),
            qualifier,
            limit,
        }
    }

    /// Sends `payload`, JSON, and waits for the answer.
    ///
    /// # Errors
    /// Everything that [`Refusal`] names.
    pub async fn invoke(&self, payload: Vec<u8>) -> Result<Bytes, Refusal> {
        let trace = new_trace();
        let header = trace.clone();
        let request = self
            .client
            .invoke()
            .function_name(&self.name)
            .set_qualifier(self.qualifier.clone())
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(payload))
            .customize()
            .mutate_request(move |request| {
                request.headers_mut().insert(TRACE_HEADER, header.clone());
            });
        match Box::pin(request.send()).await {
            Ok(answer) => {
                let failed = answer.function_error().is_some();
                if failed {
                    tracing::debug!(
                        function = self.name,
                        request = answer.request_id(),
                        trace,
                        "the handler failed"
                    );
                }
                let payload = answer.payload.map_or_else(Vec::new, Blob::into_inner);
                if failed {
                    Err(Refusal::Function(payload.into()))
                } else {
                    Ok(payload.into())
                }
            }
            Err(error) => Err(Refusal::Service(self.failure(&error))),
        }
    }

    /// Asks whether the function could be invoked (`InvocationType: DryRun`): whether it is there, and whether this process may.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), Failure> {
        let request = self
            .client
            .invoke()
            .function_name(&self.name)
            .set_qualifier(self.qualifier.clone())
            .invocation_type(InvocationType::DryRun);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn failure(&self, error: &SdkError<InvokeError>) -> Failure {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let kind = match error {
            SdkError::ConstructionFailure(_) => FailureKind::Unreachable,
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)
                if is_before_sending(error) =>
            {
                FailureKind::Unreachable
            }
            SdkError::ServiceError(refusal) => kind_of(refusal.err().code(), status),
            // An answer that cannot be read says at least what it is by its status.
            SdkError::ResponseError(_) if status.is_some_and(|status| status >= 400) => {
                kind_of(None, status)
            }
            _ => FailureKind::Function,
        };
        let what = match error {
            SdkError::TimeoutError(_) if kind == FailureKind::Function => {
                format!("no answer within {:?}", self.limit)
            }
            SdkError::ServiceError(refusal) => {
                let code = refusal.err().code().unwrap_or("an error without a code");
                match refusal.err().message() {
                    Some(message) => format!("{code}: {message}"),
                    None => code.to_owned(),
                }
            }
            other => DisplayErrorContext(other).to_string(),
        };
        let request = error
            .request_id()
            .map_or_else(String::new, |request| format!(" (request {request})"));
        let what: String = what.chars().take(ERROR_TEXT_CHARS_MAX).collect();
        Failure::new(kind, format!("Lambda {}: {what}{request}", self.shown()))
    }

    /// The function as a person names it.
    pub fn shown(&self) -> String {
        match &self.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.name),
            None => self.name.clone(),
        }
    }
}

impl fmt::Debug for LambdaFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LambdaFunction")
            .field("name", &self.name)
            .field("qualifier", &self.qualifier)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Whether the request surely did not leave: there was no connection. The kinds of the SDK do not tell, its causes do.
fn is_before_sending(error: &dyn std::error::Error) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| {
        let text = cause.to_string();
        text.contains("(Connect)") || text.contains("HTTP connect timeout")
    })
}

/// What an error of the service means, by its code, or else by the HTTP status.
fn kind_of(code: Option<&str>, status: Option<u16>) -> FailureKind {
    match code {
        Some("RequestTooLargeException" | "RequestEntityTooLargeException") => {
            return FailureKind::RequestTooLarge;
        }
        Some(
            "TooManyRequestsException"
            | "ThrottlingException"
            | "Throttling"
            | "EC2ThrottledException"
            | "ENILimitReachedException"
            | "SubnetIPAddressLimitReachedException"
            | "ServiceQuotaExceededException"
            // The function is being changed, or its network or snapshot made: it will be there soon.
            | "ENINotReadyException"
            | "ResourceConflictException"
            | "ResourceNotReadyException"
            | "SnapStartNotReadyException",
        ) => return FailureKind::Throttled,
        _ => {}
    }
    match status {
        Some(429 | 503) => FailureKind::Throttled,
        Some(413) => FailureKind::RequestTooLarge,
        _ => FailureKind::Unreachable,
    }
}

/// A root of a trace in the form of AWS X-Ray. It says nothing about sampling, which stays with the function's own settings.
fn new_trace() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut random = [0_u8; 12];
    // Without randomness the trace is one that others may have too, which costs a person's time at most.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("Root=1-{seconds:08x}-{random}")
}
