//! What is sent to a function and what comes back: batches, bundles, their outcomes.
//!
//! A [`Batch`] is made by the partition, gathered with others into a [`Bundle`] by the dispatcher, and sent by an adapter (Lambda,
//! HTTP, in-process), which answers with a [`BundleOutcome`]. Nothing here is encoded yet: adapters encode, off the partition's core.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::{
    FromFunction, ToFunction, TypedValue,
    to_function::{self, Invocation, InvocationBatchRequest},
};

use crate::address::Address;

/// Names one attempt to process one batch, over all owners of the partition: an answer counts only if it names the attempt in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId {
    /// The partition that made the batch.
    pub partition: u32,
    /// The ownership period that made it.
    pub epoch: u64,
    /// Counts the attempts of that period.
    pub number: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.partition, self.epoch, self.number)
    }
}

/// The pending messages of one address, in order, with its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Names this attempt.
    pub attempt: AttemptId,
    /// The address whose turn it is.
    pub target: Address,
    /// Every registered state of the function, with its value if it has one.
    pub state: Vec<BatchState>,
    /// The messages, oldest first.
    pub messages: Vec<BatchMessage>,
    /// About how many bytes the batch takes on the wire, before base64.
    pub bytes: usize,
}

/// One registered state of a [`Batch`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchState {
    /// The name of the state.
    pub name: Arc<str>,
    /// Its typename and value, if it has a value.
    pub value: Option<(Arc<str>, Bytes)>,
}

/// One message of a [`Batch`].
#[derive(Debug, Clone, PartialEq)]
pub struct BatchMessage {
    /// Who sent it; a record of an ingress has no caller.
    pub caller: Option<Address>,
    /// What was sent.
    pub argument: TypedValue,
    /// The id shown to the function: the same at every attempt.
    pub id: Arc<str>,
    /// How many attempts failed before this one.
    pub failed_attempts: u32,
}

impl Batch {
    /// The wire form.
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
                traceparent: String::new(),
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

/// Names one request of one process; never used again by that process.
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
    /// Where to send it.
    pub endpoint: EndpointIndex,
    /// At least one; exactly one where the endpoint's protocol knows no bundles.
    pub batches: Vec<Arc<Batch>>,
}

/// What became of a [`Bundle`].
#[derive(Debug, Clone, PartialEq)]
pub enum BundleOutcome {
    /// The endpoint answered in the protocol's form. A batch without a result, a result without a batch, and a second result are handled
    /// by the dispatcher; adapters pass on what came.
    Answered(Vec<(AttemptId, BatchOutcome)>),
    /// The request failed as a whole.
    Failed(Failure),
}

/// What became of one batch.
pub type BatchOutcome = Result<FromFunction, Failure>;

/// Why a request or a batch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means for retries.
    pub kind: FailureKind,
    /// What happened, for the operator: no secrets.
    pub message: String,
}

/// What a failure means for retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The service asked to slow down (`TooManyRequests`, 429, 503): tried again later with less concurrency, not counted as an attempt.
    Throttled,
    /// The function was surely not reached (connection refused, no process yet, no permission): tried again later, not counted as an attempt.
    Unreachable,
    /// The function was, or may have been, reached and did not answer well: an error, a panic, garbage, a time-out, an exit. Counts as an attempt.
    Function,
    /// The request is larger than the endpoint takes; sending the same again is of no use.
    RequestTooLarge,
}

impl Failure {
    /// A failure of `kind`, told in `message`.
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
