//! The durable form of a partition's state: facts under keys, absolute values.
//!
//! A delta is a list of [`Change`]s, and so is the image of a bucket. The state of a partition is
//! exactly the fold of both. Applying a change twice is harmless. Each key belongs to one bucket:
//! that of its address, or the partition-wide bucket (one past the last). A partition-wide fact
//! about addresses names a key group, so that it can be given to the partition of that key group.
//!
//! ```text
//! key   = tag (1 byte), then the fields of the key
//! value = version (1 byte), then the fields of the value; version 2 of a message, a timer and a
//!         record of the outbox ends with a trace context (25 bytes); version 3 of a record of the
//!         outbox and of a dead letter ends with an optional trace context and a key group
//! text  = length (varint), then UTF-8; bytes likewise; numbers are varints;
//!         optional = 0, or 1 and the value
//! ```
//!
//! | tag | key | value |
//! |---|---|---|
//! | 1 | state: address, name | typename, expiry, value |
//! | 2 | message: address, number | id, caller, argument, correction |
//! | 3 | timer: owner, number | due, token, target, message |
//! | 4 | suspension: address | reason, since |
//! | 5 | failure record: address | attempts and crashes of the messages at its head |
//! | 6 | idempotency: address, verb, key | fingerprint, call, outcome, expiry |
//! | 7 | dead letter: address, number | id, source, message, attempts, reason, time |
//! | 8 | registration: function | state specs |
//! | 9 | shard: ingress, stream, shard | position |
//! | 10 | outbox: number | id, egress, value |
//! | 11 | counter | the next number |
//! | 12 | hold | origin, since, filling |
//! | 13 | egress mark: egress, name | bytes |
//! | 14 | received: ingress, id (16 bytes) | expiry; version 2: and key group |
//! | 15 | pause of a function: function | reason, since |
//! | 16 | pause of an ingress: ingress | reason, since |
//! | 32 | out: partition, number | sender's key group, target, message, trace context, headers |
//! | 33 | assigned: partition | number of the last message to it |
//! | 34 | acknowledged: partition | number, epoch; removes all `out` up to the number |
//! | 35 | taken: partition | number of the last message from it |
//! | 36 | lead | ms by which the delta's time is ahead of the partition's own time |

mod codec;
pub mod frames;
mod key;
mod links;
pub(crate) mod peek;
mod shards;
pub(crate) mod state;
mod value;

use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;

use crate::address::{Address, FunctionType};
use crate::message::{Message, MessageId, PeerMessage};
use crate::placement::{CachedPlacement, KeyGroup, Placement};
use crate::position::{ShardId, ShardPosition};
use crate::queue::QueuedId;
use crate::request::{CallId, Verb};
use crate::trace::TraceParent;

pub use codec::Malformed;
pub(crate) use shards::{decode_shard, encode_shard};

/// One fact, set or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Key of the fact.
    pub key: Key,
    /// New value; `None` removes the fact.
    pub value: Option<Value>,
}

/// Key of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// Value of a state.
    State {
        /// Address that owns the state.
        address: Address,
        /// Name of the state.
        name: Arc<str>,
    },
    /// A message in a mailbox.
    Message {
        /// Address that owns the mailbox.
        address: Address,
        /// Position in the order of the partition.
        number: u64,
    },
    /// A pending timer.
    Timer {
        /// Address that set the timer.
        owner: Address,
        /// Number that names the timer; grows.
        number: u64,
    },
    /// Suspension of an address.
    Suspension {
        /// The suspended address.
        address: Address,
    },
    /// Failures of the messages at the head of an address's mailbox.
    FailureRecord {
        /// The address.
        address: Address,
    },
    /// A request with an idempotency key.
    Idempotency {
        /// Address that received the request.
        address: Address,
        /// Kind of request.
        verb: Verb,
        /// The idempotency key.
        key: Arc<str>,
    },
    /// A message that was given up.
    DeadLetter {
        /// Address that the message was for; none for an unroutable record and for an egress
        /// record.
        address: Option<Address>,
        /// Position in the order of the dead letters.
        number: u64,
    },
    /// States declared by a function.
    Registration {
        /// The function.
        function: FunctionType,
    },
    /// Applied position of a shard.
    Shard(ShardId),
    /// An egress record that was not delivered yet.
    Outbox {
        /// Number of the record.
        number: u64,
    },
    /// Next number for a message, timer, dead letter or outbox entry.
    Counter,
    /// A mark stored by an egress.
    EgressMark {
        /// The egress, `namespace/type`.
        egress: Arc<str>,
        /// Name of the mark, unique within the egress.
        name: Arc<str>,
    },
    /// Hold of a fork: its ingress, timers and outbox are held.
    Hold,
    /// Id of a message that was taken from a queue.
    Received {
        /// Ingress that received the message.
        ingress: Arc<str>,
        /// Id of the message.
        id: QueuedId,
    },
    /// Pause of a function type by a person.
    FunctionPause {
        /// The paused function.
        function: FunctionType,
    },
    /// Pause of an ingress by a person.
    IngressPause {
        /// Id of the paused ingress.
        ingress: Arc<str>,
    },
    /// A message to another partition that was not acknowledged yet.
    Out {
        /// Number of the receiving partition.
        peer: u32,
        /// Number of the message within the pair, from 1.
        number: u64,
    },
    /// Number of the last message to another partition.
    Assigned {
        /// Number of the receiving partition.
        peer: u32,
    },
    /// Last message that another partition has acknowledged. Setting it removes each
    /// [`Key::Out`] up to that number, without a removal of its own.
    Acknowledged {
        /// Number of the receiving partition.
        peer: u32,
    },
    /// Number of the last message taken from another partition.
    Taken {
        /// Number of the sending partition.
        peer: u32,
    },
    /// Lead of the time of the last delta over the partition's own time, if there is one.
    Lead,
}

/// Value of a fact.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Value of [`Key::State`].
    State(StoredState),
    /// Value of [`Key::Message`].
    Message(Message),
    /// Value of [`Key::Timer`].
    Timer(Timer),
    /// Value of [`Key::Suspension`].
    Suspension(Suspension),
    /// Value of [`Key::FailureRecord`].
    FailureRecord(FailureRecord),
    /// Value of [`Key::Idempotency`].
    Idempotency(Idempotency),
    /// Value of [`Key::DeadLetter`].
    DeadLetter(DeadLetter),
    /// Value of [`Key::Registration`].
    Registration(Vec<StateSpec>),
    /// Value of [`Key::Shard`].
    Shard(ShardPosition),
    /// Value of [`Key::Outbox`].
    Outbox(OutboxEntry),
    /// Value of [`Key::Counter`].
    Counter(u64),
    /// Value of [`Key::EgressMark`], which only the egress interprets.
    EgressMark(Bytes),
    /// Value of [`Key::Hold`].
    Hold(Hold),
    /// Value of [`Key::Received`].
    Received(ReceivedId),
    /// Value of [`Key::FunctionPause`] and [`Key::IngressPause`].
    Pause(Pause),
    /// Value of [`Key::Out`].
    Out(Box<PeerMessage>),
    /// Value of [`Key::Assigned`] and [`Key::Taken`].
    LinkNumber(u64),
    /// Value of [`Key::Acknowledged`].
    Acknowledged(Acknowledged),
    /// Value of [`Key::Lead`], in ms.
    Lead(u64),
}

/// Acknowledgement of the messages to another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acknowledged {
    /// Number of the last message that is durable at the receiver.
    pub upto: u64,
    /// Epoch of the receiver's owner that said so.
    pub epoch: u64,
}

/// Hold of a fork: its ingress, timers and outbox are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Origin of the fork, for operators.
    pub origin: Arc<str>,
    /// Time at which the fork was made, in ms since the epoch.
    pub since_ms: u64,
    /// True if the fork is incomplete: its maker is still at work, or died before finishing. An
    /// incomplete fork must not be served.
    pub filling: bool,
}

/// Value of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Typename of the value.
    pub typename: Arc<str>,
    /// Expiry of the value, in ms since the epoch.
    pub expires_at_ms: Option<u64>,
    /// The value.
    pub value: Bytes,
}

/// A message to be sent at a given time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timer {
    /// Due time, in ms since the epoch.
    pub due_ms: u64,
    /// Token by which the owner can cancel the timer.
    pub token: Option<Arc<str>>,
    /// Address that receives the message.
    pub target: Address,
    /// The message.
    pub message: Message,
}

/// Suspension of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Failure of the message at the head.
    pub reason: String,
    /// Start of the suspension, in ms since the epoch.
    pub since_ms: u64,
}

/// Id of a message that was taken from a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedId {
    /// Expiry of the id, in ms since the epoch.
    pub expires_at_ms: u64,
    /// Key group of the first address that the message was for, or of the ingress if there was
    /// none; `None` in roots whose placement has no key groups of ids.
    pub key_group: Option<KeyGroup>,
}

/// Pause of a function type or of an ingress by a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Reason that the person gave; may be empty.
    pub reason: Arc<str>,
    /// Start of the pause, in ms since the epoch.
    pub since_ms: u64,
}

/// Failures of the messages at the head of an address's mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureRecord {
    /// Number of the message that `attempts` counts.
    pub message: u64,
    /// Number of failed attempts with the message alone in its batch.
    pub attempts: u32,
    /// Reason of the last failure.
    pub reason: String,
    /// Number of consecutive crashes of the process while messages up to `crashes_through` were
    /// pending.
    pub crashes: u32,
    /// Number of the last message that may have caused these crashes.
    pub crashes_through: u64,
}

/// A request with an idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct Idempotency {
    /// Hash of typename and body.
    pub fingerprint: [u8; 16],
    /// Call by which the function knows its caller.
    pub call: CallId,
    /// Outcome, if there is one yet.
    pub outcome: Option<Outcome>,
    /// Expiry of the record, in ms since the epoch; counted from the outcome, or from the end of
    /// processing if there was none.
    pub expires_at_ms: Option<u64>,
}

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The message is durable (outcome of a send).
    Accepted,
    /// The function replied (outcome of a call).
    Replied(TypedValue),
    /// The message became a dead letter.
    Failed {
        /// Id of the dead letter.
        dead_letter: MessageId,
        /// Reason of the failure.
        reason: String,
    },
    /// The message was rejected for good.
    Rejected {
        /// HTTP status for the caller: 400 to 499, or 500.
        code: u16,
        /// Reason of the rejection.
        message: String,
    },
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Id, equal to that of the message.
    pub id: MessageId,
    /// Origin of the message, for operators.
    pub source: String,
    /// Sender of the message.
    pub caller: Option<Address>,
    /// The message.
    pub argument: TypedValue,
    /// Number of attempts made.
    pub attempts: u32,
    /// Reason why the message was given up.
    pub reason: String,
    /// Time of the failure, in ms since the epoch.
    pub failed_at_ms: u64,
    /// Egress of the record, if it was an egress record.
    pub egress: Option<Arc<str>>,
    /// Key group of the sender, if it was an egress record that has one
    /// ([`OutboxEntry::key_group`]), or a message that could not go to another partition.
    pub key_group: Option<KeyGroup>,
    /// Trace context of the message.
    pub trace: Option<TraceParent>,
}

/// One state declared by a function, after StateFun's `PersistedValueSpec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// Name of the state.
    pub name: Arc<str>,
    /// Typename of its values.
    pub typename: Arc<str>,
    /// Expiration of its values.
    pub expiration: Expiration,
    /// True if the function no longer declares the state. Its values are kept and do not travel in
    /// requests.
    pub retired: bool,
}

/// Expiration of a value, in processing time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// The value never expires.
    Never,
    /// The value expires this many ms after it was written.
    AfterWrite(u64),
    /// The value expires this many ms after its address was last invoked.
    AfterInvoke(u64),
}

/// An egress record that was not delivered yet.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// Id of the record, derived like that of a message.
    pub id: MessageId,
    /// The egress, `namespace/type`.
    pub egress: Arc<str>,
    /// Value to deliver.
    pub value: TypedValue,
    /// Key group of the address that sent the record; `None` in roots whose placement has no key
    /// groups of ids.
    pub key_group: Option<KeyGroup>,
    /// Trace context of the message that caused the record.
    pub trace: Option<TraceParent>,
}

/// Facts that must be known about a bucket while it is not in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketSummary {
    /// Time at which something in the bucket is due, in ms since the epoch: its earliest timer, or
    /// its first expiry plus a slack, because removing an expired value is not urgent.
    pub earliest_due_ms: Option<u64>,
    /// True if the bucket must be in memory, because it holds messages, requests with an open
    /// outcome, or dead letters.
    pub pending: bool,
}

impl Key {
    /// Returns the bucket of the fact: that of its address, or the number after the last bucket for
    /// partition-wide facts.
    pub fn bucket(&self, placement: &Placement) -> u16 {
        match self.address() {
            Some(address) => placement.key_group(address).0,
            None => placement.buckets(),
        }
    }

    /// Returns the bucket of the fact, as [`Key::bucket`].
    pub fn bucket_cached(&self, placement: &mut CachedPlacement) -> u16 {
        match self.address() {
            Some(address) => placement.key_group(address).0,
            None => placement.placement().buckets(),
        }
    }

    /// Returns the address to which the fact belongs.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::State { address, .. }
            | Self::Message { address, .. }
            | Self::Timer { owner: address, .. }
            | Self::Suspension { address }
            | Self::FailureRecord { address }
            | Self::Idempotency { address, .. } => Some(address),
            Self::DeadLetter { address, .. } => address.as_ref(),
            Self::Registration { .. }
            | Self::Shard(_)
            | Self::Outbox { .. }
            | Self::Counter
            | Self::EgressMark { .. }
            | Self::Hold
            | Self::Received { .. }
            | Self::FunctionPause { .. }
            | Self::IngressPause { .. }
            | Self::Out { .. }
            | Self::Assigned { .. }
            | Self::Acknowledged { .. }
            | Self::Taken { .. }
            | Self::Lead => None,
        }
    }
}

impl Change {
    /// Appends the durable form of the key to `out`.
    pub fn encode_key(&self, out: &mut Vec<u8>) {
        key::encode(&self.key, out);
    }

    /// Appends the durable form of the value to `out`, if there is a value. Returns whether there
    /// is one.
    pub fn encode_value(&self, out: &mut Vec<u8>) -> bool {
        self.value
            .as_ref()
            .map(|value| value::encode(value, out))
            .is_some()
    }

    /// Decodes the durable form.
    ///
    /// # Errors
    ///
    /// Returns [`Malformed`] if the bytes are not a fact of a version that this software knows.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, Malformed> {
        let key = key::decode(key)?;
        let value = value.map(|bytes| value::decode(&key, bytes)).transpose()?;
        Ok(Self { key, value })
    }
}

#[cfg(test)]
mod tests;
