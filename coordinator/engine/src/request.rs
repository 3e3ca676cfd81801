//! Requests from outside: calls and sends, and the ids that name them.

use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use crate::address::Address;
use crate::placement::KeyGroup;
use crate::trace::TraceParent;

/// Names a request from outside within one process. The adapter assigns the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Names a call across all processes: 128 random bits, drawn by the adapter. The partition replaces
/// the first 16 bits by the key group of the call's target, where the placement has key groups of
/// ids. So every process knows which partition knows the call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId(pub [u8; 16]);

impl CallId {
    /// Returns the id with the key group of the call's target in its first two bytes, so that the
    /// partition of the target is known of its replies. 112 random bits are left.
    #[must_use]
    pub fn of_key_group(mut self, key_group: KeyGroup) -> Self {
        self.0[..2].copy_from_slice(&key_group.0.to_be_bytes());
        self
    }
}

/// Kind of request from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Asks for the reply of the function.
    Call,
    /// Asks for confirmation that the message is durable.
    Send,
}

impl Verb {
    /// Name of the verb in HTTP paths and in the derivation of message ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Send => "send",
        }
    }
}

/// A call or a send from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Names the request.
    pub request: RequestId,
    /// Names the call; random.
    pub id: CallId,
    /// Kind of request.
    pub verb: Verb,
    /// Address that receives the message.
    pub target: Address,
    /// The message.
    pub argument: TypedValue,
    /// Idempotency key given by the caller.
    pub idempotency_key: Option<Arc<str>>,
    /// Trace context of the request.
    pub trace: Option<TraceParent>,
}

/// Change of many dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterChange {
    /// Send each message again, as a new message.
    Retry,
    /// Delete each dead letter.
    Drop,
}

/// Selection of dead letters. Every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// The dead letter is of this function, `namespace/name`.
    pub function: Option<Arc<str>>,
    /// The reason contains this text.
    pub reason: Option<Arc<str>>,
    /// The message failed at this time or later, in ms since the epoch.
    pub since_ms: Option<u64>,
}

/// Progress of a change of many dead letters, which takes several requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterCursor {
    /// Number of the first dead letter to be considered.
    pub next: u64,
    /// First number that was not assigned when the change began. A retried message that becomes a
    /// dead letter again has a larger number, so the change ends.
    pub end: u64,
}
