//! Requests from outside: calls and sends, and the ids that name them.

use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use crate::address::Address;
use crate::trace::TraceParent;

/// Names a request from outside within one process. The adapter assigns the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Names a call across all processes: 128 random bits, drawn by the adapter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId(pub [u8; 16]);

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
