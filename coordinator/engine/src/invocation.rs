//! Requests to functions and their results: batches, bundles, outcomes.
//!
//! The partition makes a [`Batch`]. The dispatcher gathers batches into a [`Bundle`]. An adapter
//! (Lambda, HTTP, in-process) sends the bundle and returns a [`BundleOutcome`]. Nothing here is
//! encoded: adapters encode outside the partition's core.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::{
    FromFunction, ToFunction, TypedValue,
    to_function::{self, Invocation, InvocationBatchRequest},
};

use crate::address::Address;
use crate::message::{Header, Headers};
use crate::trace::TraceParent;

/// Names one attempt to process one batch, over all owners of the partition. An answer counts only
/// if it names the attempt in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId {
    /// Partition that made the batch.
    pub partition: u32,
    /// Ownership period that made the batch.
    pub epoch: u64,
    /// Number of the attempt within that period.
    pub number: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.partition, self.epoch, self.number)
    }
}

/// Size that a batch counts for itself, and for each of its messages besides its own bytes.
pub(crate) const BATCH_OVERHEAD_BYTES: usize = 96;

/// Pending messages of one address, in order, with its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Names this attempt.
    pub attempt: AttemptId,
    /// Address that processes the messages.
    pub target: Address,
    /// Every state that the function declares, with its value if there is one.
    pub state: Vec<BatchState>,
    /// The messages, oldest first.
    pub messages: Vec<BatchMessage>,
    /// Fingerprints of the known declarations of the function (see
    /// [`satchel_protocol::declaration`]).
    pub declarations: Arc<[u64]>,
    /// Approximate size of the batch on the wire in bytes, before base64.
    pub bytes: usize,
}

/// One registered state of a [`Batch`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchState {
    /// Name of the state.
    pub name: Arc<str>,
    /// Typename and value, if the state has a value.
    pub value: Option<(Arc<str>, Bytes)>,
}

/// One message of a [`Batch`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchMessage {
    /// Sender of the message; a record of an ingress has none.
    pub caller: Option<Address>,
    /// Value of the message.
    pub argument: TypedValue,
    /// Id shown to the function: the same at every attempt.
    pub id: Arc<str>,
    /// Number of failed attempts before this one.
    pub failed_attempts: u32,
    /// Trace context of the message.
    pub trace: Option<TraceParent>,
    /// Headers of the record that became the message.
    pub headers: Headers,
}

impl Batch {
    /// Returns the sampled trace context that all messages share but for their spans: that of the
    /// first message.
    pub fn trace(&self) -> Option<TraceParent> {
        shared(self.messages.iter().map(|message| message.trace))
    }

    /// Converts the batch to its wire form.
    pub fn to_wire(&self) -> ToFunction {
        let state = self
            .state
            .iter()
            .map(|state| to_function::PersistedValue {
                state_name: state.name.as_ref().to_owned(),
                state_value: state.value.as_ref().map(|(typename, value)| TypedValue {
                    typename: typename.as_ref().to_owned(),
                    has_value: true,
                    value: value.clone(),
                }),
            })
            .collect();
        let invocations = self
            .messages
            .iter()
            .map(|message| Invocation {
                caller: message.caller.as_ref().map(Address::to_wire),
                argument: Some(message.argument.clone()),
                message_id: message.id.as_ref().to_owned(),
                failed_attempts: message.failed_attempts,
                traceparent: message
                    .trace
                    .map_or_else(String::new, |trace| trace.to_string()),
                headers: message
                    .headers
                    .as_deref()
                    .map_or_else(Vec::new, wire_headers),
            })
            .collect();
        ToFunction {
            request: Some(to_function::Request::Invocation(InvocationBatchRequest {
                target: Some(self.target.to_wire()),
                state,
                invocations,
                declarations: self.declarations.to_vec(),
            })),
        }
    }
}

/// Returns the first of these contexts if all are sampled and of one trace.
fn shared(mut traces: impl Iterator<Item = Option<TraceParent>>) -> Option<TraceParent> {
    let first = traces.next()??;
    let is_shared = first.is_sampled()
        && traces.all(|trace| trace.is_some_and(|trace| trace.trace_id == first.trace_id));
    is_shared.then_some(first)
}

fn wire_headers(headers: &[Header]) -> Vec<to_function::Header> {
    let headers = headers.iter().map(|header| to_function::Header {
        name: header.name.as_ref().to_owned(),
        value: header.value.clone(),
    });
    headers.collect()
}

/// Index of an endpoint in the application's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointIndex(pub u32);

/// Names one request of one process. A process never reuses an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleId(pub u64);

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// Several batches for different addresses, sent in one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Names the request.
    pub id: BundleId,
    /// Endpoint that receives the request.
    pub endpoint: EndpointIndex,
    /// Batches of the request: at least one; exactly one if the endpoint's protocol has no bundles.
    pub batches: Vec<Arc<Batch>>,
    /// True if the request needs a connection that was not used before, because the last request
    /// with these batches lost its own. Adapters without connections of their own ignore it.
    pub new_connection: bool,
}

impl Bundle {
    /// Returns the sampled trace context that all batches share but for their spans: that of the
    /// first one. It is the context of the request.
    pub fn trace(&self) -> Option<TraceParent> {
        shared(self.batches.iter().map(|batch| batch.trace()))
    }
}

/// Result of a [`Bundle`].
#[derive(Debug, Clone, PartialEq)]
pub enum BundleOutcome {
    /// The endpoint answered in the form of the protocol. Adapters pass on all results: the
    /// dispatcher handles missing, unknown and duplicate results.
    Answered(Vec<(AttemptId, BatchOutcome)>),
    /// The request failed as a whole.
    Failed(Failure),
}

/// Result of one batch.
pub type BatchOutcome = Result<FromFunction, Failure>;

/// Failure of a request or a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Consequence for retries.
    pub kind: FailureKind,
    /// Description for the operator, without secrets.
    pub message: String,
    /// Verdict on one message of the batch. Present exactly if the kind is
    /// [`FailureKind::Terminal`].
    pub rejection: Option<Rejection>,
    /// Time that the endpoint asks to wait before the next request, in ms. Of a throttled request
    /// only.
    pub retry_after_ms: Option<u64>,
}

/// Verdict that one message of a batch is rejected for good; see the rule in
/// [`satchel_protocol::bundle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Position of the message in its batch, from 0. `None` if it is unknown.
    pub index: Option<u32>,
    /// HTTP status for a caller that waits: 400 to 499, or 500.
    pub code: u16,
    /// Text for that caller.
    pub message: String,
}

/// Consequence of a failure for retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The service asked to slow down (`TooManyRequests`, 429, 503). Retried later with less
    /// concurrency, after [`Failure::retry_after_ms`] if it is given; does not count as an attempt.
    Throttled,
    /// The endpoint failed and not the function: name resolution, TLS, connecting, permissions, the
    /// answer of a gateway. Retried until the endpoint answers; does not count as an attempt.
    Unavailable,
    /// The connection ended after the request was sent and before the first byte of the answer, as
    /// when the server closes an idle connection. Sent again at once on a new connection; the
    /// second time it is as [`Ambiguous`](Self::Ambiguous).
    ConnectionLost,
    /// No answer came in time. As [`Ambiguous`](Self::Ambiguous); the request may still run.
    TimedOut,
    /// Either the message or the endpoint failed: an error of the whole request (a function error
    /// of Lambda, the status 400 or 500), an answer that ended early or is not of the protocol.
    /// Counts as an attempt unless the dispatcher sees an outage of the endpoint.
    Ambiguous,
    /// The function judged this batch and failed: an error result. Counts as an attempt.
    Function,
    /// The request exceeds the size limit of the endpoint. Sending the same request again is
    /// useless.
    RequestTooLarge,
    /// One message of the batch is rejected for good, as [`Failure::rejection`] says. Never retried
    /// with that message; does not count as an attempt of any other.
    Terminal,
    /// The endpoint answered in a version of the protocol that is not known. The function type is
    /// suspended until it answers in a known one; does not count as an attempt.
    Incompatible,
}

impl FailureKind {
    /// Returns true if the function may have caused the failure, and a retry may succeed.
    pub fn may_be_of_function(self) -> bool {
        matches!(
            self,
            Self::Function | Self::Ambiguous | Self::TimedOut | Self::ConnectionLost
        )
    }

    /// Returns true if the failure is one of the batch, and the endpoint answered.
    pub fn is_of_batch(self) -> bool {
        matches!(
            self,
            Self::Function | Self::Terminal | Self::Incompatible | Self::RequestTooLarge
        )
    }
}

impl Failure {
    /// Creates a failure of `kind`, described by `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            rejection: None,
            retry_after_ms: None,
        }
    }

    /// Returns the same failure with the time that the endpoint asks to wait.
    #[must_use]
    pub fn retry_after(self, retry_after_ms: Option<u64>) -> Self {
        Self {
            retry_after_ms,
            ..self
        }
    }

    /// Creates the failure of a batch that holds a rejected message. `message` is for the operator.
    pub fn terminal(message: impl Into<String>, rejection: Rejection) -> Self {
        Self {
            kind: FailureKind::Terminal,
            message: message.into(),
            rejection: Some(rejection),
            retry_after_ms: None,
        }
    }
}

impl Rejection {
    /// Code of a rejection whose origin gives none: the mistake is not the caller's.
    pub const CODE_DEFAULT: u16 = 500;

    /// Creates a rejection. A code other than 400 to 499 and 500 counts as
    /// [`Self::CODE_DEFAULT`], so that no handler can answer a caller with success.
    pub fn new(index: Option<u32>, code: u16, message: impl Into<String>) -> Self {
        let code = match code {
            400..=500 => code,
            _ => Self::CODE_DEFAULT,
        };
        Self {
            index,
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
