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

/// Pending messages of one address, in order, with its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Names this attempt.
    pub attempt: AttemptId,
    /// Address that processes the messages.
    pub target: Address,
    /// Every registered state of the function, with its value if there is one.
    pub state: Vec<BatchState>,
    /// The messages, oldest first.
    pub messages: Vec<BatchMessage>,
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
}

impl Batch {
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
            })
            .collect();
        ToFunction {
            request: Some(to_function::Request::Invocation(InvocationBatchRequest {
                target: Some(self.target.to_wire()),
                state,
                invocations,
            })),
        }
    }
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
}

/// Consequence of a failure for retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The service asked to slow down (`TooManyRequests`, 429, 503). Retried later with less
    /// concurrency; does not count as an attempt.
    Throttled,
    /// The function was certainly not reached (connection refused, no process yet, no permission).
    /// Retried later; does not count as an attempt.
    Unreachable,
    /// The function was, or may have been, reached and failed: error, panic, invalid response,
    /// timeout, exit. Counts as an attempt.
    Function,
    /// The request exceeds the size limit of the endpoint. Sending the same request again is
    /// useless.
    RequestTooLarge,
}

impl Failure {
    /// Creates a failure of `kind`, described by `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
