//! Lambda functions over the Invoke API. One call is one request; only the dispatcher retries.
//!
//! ```text
//!  200 ──────────────────────────────► the response
//!  200 + X-Amz-Function-Error ───────► FailureKind::Ambiguous (error, timeout, memory)
//!  413 ──────────────────────────────► FailureKind::RequestTooLarge
//!  429, 503, EC2 throttled, ENI and address limits, not ready ─► FailureKind::Throttled
//!  other service errors, no connection, no credentials ────────► FailureKind::Unavailable
//!  no response in time ────────────────────────────────────────► FailureKind::TimedOut
//!  connection lost after the request was sent ─────────────────► FailureKind::ConnectionLost
//!  response that cannot be read ───────────────────────────────► FailureKind::Ambiguous
//! ```
//!
//! Source: the API reference of AWS Lambda, "Invoke". An error of the service itself never counts
//! against a message. An outage of Lambda must not create dead letters, however long it lasts.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::RequestId;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{pool, tls};
use bytes::Bytes;
use satchel_clock::retry_after_ms;
use satchel_engine::hex::Hex;
use satchel_engine::invocation::{Failure, FailureKind};
use satchel_engine::trace::TraceParent;

use crate::error_text::chain;

/// Maximum time to establish a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Maximum time of a response beyond the function's own timeout. It covers queueing in the service,
/// a cold start, which AWS does not count as the function's time, and the network.
const MARGIN: Duration = Duration::from_secs(20);

/// Idle time after which TCP probes a connection. NAT gateways of AWS forget in silence a
/// connection without traffic for 350 s, and a function runs for up to 900 s.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Maximum number of characters of an error text that is passed on.
const ERROR_TEXT_CHARS_MAX: usize = 1_000;

/// Parts of the texts of errors of connecting: of the SDK, of hyper's connector and of TLS.
const CONNECT_ERRORS: [&str; 6] = [
    "HTTP connect timeout",
    "tcp connect error",
    "tcp open error",
    "dns error",
    "peer certificate",
    "fatal alert",
];

/// Header by which AWS X-Ray traces a request.
const TRACE_HEADER: &str = "x-amzn-trace-id";

/// A function, or one version or alias of it. Cheap to clone. Must be used within a tokio runtime.
#[derive(Clone)]
pub struct LambdaFunction {
    client: Client,
    name: String,
    qualifier: Option<String>,
    limit: Duration,
}

/// Reason why an invocation has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The handler was reached and failed. Holds its JSON error
    /// (`{"errorType":…,"errorMessage":…}`).
    Function(Bytes),
    /// Any other failure.
    Service(Failure),
}

impl LambdaFunction {
    /// The function `name`, a name or an ARN, whose handler has `timeout` per request. The SDK's
    /// retries are off. Connections are kept, up to the largest number that was in use at once.
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
            .http_client(http_client())
            // The response starts when the function has ended, possibly minutes after the request.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if sdk.region().is_none() {
            // This must be a stand-in: the endpoint of AWS needs a region.
            config = config.region(Region::from_static("us-east-1"));
        }
        Self {
            client: Client::from_conf(config.build()),
            name: name.into(),
            qualifier,
            limit,
        }
    }

    /// Sends `payload` (JSON) and waits for the response. X-Ray traces the request in the trace
    /// context, if there is one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn invoke(
        &self,
        payload: Vec<u8>,
        trace: Option<TraceParent>,
    ) -> Result<Bytes, Refusal> {
        let trace = trace.map_or_else(new_trace, TraceParent::to_x_ray);
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
                        "handler failed"
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

    /// Checks that the function exists and that this process may invoke it (`InvocationType:
    /// DryRun`).
    ///
    /// # Errors
    /// The failure of the request.
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
            SdkError::ConstructionFailure(_) => FailureKind::Unavailable,
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)
                if is_before_sending(error) =>
            {
                FailureKind::Unavailable
            }
            SdkError::TimeoutError(_) => FailureKind::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => FailureKind::TimedOut,
            SdkError::DispatchFailure(_) => FailureKind::ConnectionLost,
            SdkError::ServiceError(refusal) => kind_of(refusal.err().code(), status),
            // The status classifies a response that cannot be read.
            SdkError::ResponseError(_) if status.is_some_and(|status| status >= 400) => {
                kind_of(None, status)
            }
            _ => FailureKind::Ambiguous,
        };
        let what = match error {
            SdkError::TimeoutError(_) if kind == FailureKind::TimedOut => {
                format!("no answer within {:?}", self.limit)
            }
            SdkError::ServiceError(refusal) => {
                let code = refusal.err().code().unwrap_or("an error without a code");
                match refusal.err().message() {
                    Some(message) => format!("{code}: {message}"),
                    None => code.to_owned(),
                }
            }
            other => chain(other),
        };
        let request = error
            .request_id()
            .map_or_else(String::new, |request| format!(" (request {request})"));
        let what: String = what.chars().take(ERROR_TEXT_CHARS_MAX).collect();
        let asked_ms = error.raw_response().and_then(|raw| {
            let headers = raw.headers();
            retry_after_ms(headers.get("retry-after")?, headers.get("date"))
        });
        let message = format!("Lambda {}: {what}{request}", self.display_name());
        let throttled = kind == FailureKind::Throttled;
        Failure::new(kind, message).retry_after(asked_ms.filter(|_| throttled))
    }

    /// Name of the function, with its qualifier.
    pub fn display_name(&self) -> String {
        match &self.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The client of the SDK's defaults, with keepalive.
fn http_client() -> pool::Client {
    let partition = pool::PartitionId::from_index(0);
    let spawner = pool::DriverSpawner::from_fn(|connection| {
        tokio::spawn(connection);
    });
    let pool = pool::ConnectionPool::builder()
        .partitions([pool::Partition::new(partition, spawner)])
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::AwsLc,
        ))
        .tcp_keepalive(KEEPALIVE)
        .proxy_config(ProxyConfig::from_env())
        .build_https()
        .expect("without network interfaces of its own, a pool has no invalid setting");
    pool::Client::from_partition(&pool, partition).expect("the pool has this partition")
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

/// True if the request was certainly not sent, because there was no connection. The error kinds of
/// the SDK do not say so, but their causes do.
fn is_before_sending(error: &dyn std::error::Error) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| {
        let text = cause.to_string();
        CONNECT_ERRORS.iter().any(|known| text.contains(known))
    })
}

/// Kind of a service error, by its code or else by the HTTP status.
fn kind_of(code: Option<&str>, status: Option<u16>) -> FailureKind {
    match code {
        Some(
            "RequestTooLargeException"
            | "RequestEntityTooLargeException"
            | "SerializedRequestEntityTooLargeException",
        ) => return FailureKind::RequestTooLarge,
        Some(
            "TooManyRequestsException"
            | "ThrottlingException"
            | "Throttling"
            | "EC2ThrottledException"
            | "ENILimitReachedException"
            | "SubnetIPAddressLimitReachedException"
            | "ServiceQuotaExceededException"
            // The function, its network or its snapshot is being changed, and will be available
            // soon.
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
        _ => FailureKind::Unavailable,
    }
}

/// Creates a trace root for AWS X-Ray. It says nothing about sampling, which is configured in the
/// function.
fn new_trace() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut random = [0_u8; 12];
    // Without randomness, the id may not be unique. That costs a person's time at most.
    let _ = getrandom::fill(&mut random);
    let random = Hex(&random);
    format!("Root=1-{seconds:08x}-{random}")
}
