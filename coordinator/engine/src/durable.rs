//! The durable form of what a partition knows: facts under keys, absolute values.
//!
//! A delta is a list of [`Change`]s, a bucket image is one too, and a partition's state is exactly the fold of both. Applying a change
//! twice is harmless. Each key lies in one bucket: that of its address, or the partition-wide bucket (one past the last).
//!
//! ```text
//! key   = tag (1 byte), then the fields of the key
//! value = version (1 byte), then the fields of the value
//! text  = length (varint), then UTF-8; bytes likewise; numbers are varints; optional = 0 or 1, then the value
//! ```
//!
//! | tag | key | value |
//! |---|---|---|
//! | 1 | state: address, name | typename, expiry, value |
//! | 2 | message: address, number | id, caller, argument, correction |
//! | 3 | timer: owner, number | due, token, target, message |
//! | 4 | suspension: address | reason, since |
//! | 5 | trouble: address | attempts and deaths of the messages at its head |
//! | 6 | idempotency: address, verb, key | fingerprint, call, outcome, expiry |
//! | 7 | dead letter: address, number | id, source, message, attempts, reason, time |
//! | 8 | registration: function | state specs |
//! | 9 | shard: ingress, stream, shard | position |
//! | 10 | outbox: number | id, egress, value |
//! | 11 | counter | the next number |
//! | 12 | hold | origin, since, filling |
//! | 13 | egress mark: egress, name | bytes |
//! | 14 | received: ingress, id (16 bytes) | when it is forgotten |

mod codec;
mod key;
pub(crate) mod peek;
pub(crate) mod state;
mod value;

use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;

use crate::address::{Address, FunctionType};
use crate::input::{CallId, Verb};
use crate::message::{Message, MessageId};
use crate::position::{ShardId, ShardPosition};
use crate::queue::QueuedId;

pub use codec::Malformed;

/// One fact set, or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which fact.
    pub key: Key,
    /// Its value from now on; `None` removes it.
    pub value: Option<Value>,
}

/// Which fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The value of a state.
    State {
        /// Whose.
        address: Address,
        /// The state's name.
        name: Arc<str>,
    },
    /// A message in a mailbox.
    Message {
        /// Whose mailbox.
        address: Address,
        /// Its place in the order of the partition.
        number: u64,
    },
    /// A pending timer.
    Timer {
        /// Who set it.
        owner: Address,
        /// Names it; grows.
        number: u64,
    },
    /// That an address is suspended.
    Suspension {
        /// Which one.
        address: Address,
    },
    /// How the messages at an address's head are failing.
    Trouble {
        /// Which one.
        address: Address,
    },
    /// What became of a request with an idempotency key.
    Idempotency {
        /// Whom it asked.
        address: Address,
        /// What it asked.
        verb: Verb,
        /// Its key.
        key: Arc<str>,
    },
    /// A message that was given up on.
    DeadLetter {
        /// For whom it was; none for a record that could not be routed and for an egress record.
        address: Option<Address>,
        /// Its place in the order of the dead letters.
        number: u64,
    },
    /// The states that a function declared.
    Registration {
        /// Which function.
        function: FunctionType,
    },
    /// How far a shard is applied.
    Shard(ShardId),
    /// An egress record that has not arrived yet.
    Outbox {
        /// Its number.
        number: u64,
    },
    /// The next number to give to a message, timer, dead letter or outbox entry.
    Counter,
    /// What an egress noted.
    EgressMark {
        /// The egress, `namespace/type`.
        egress: Arc<str>,
        /// The mark's name, within the egress.
        name: Arc<str>,
    },
    /// That the partition is a fork whose ingress, timers and outbox are held.
    Hold,
    /// That a message of a queue was taken.
    Received {
        /// The ingress that received it.
        ingress: Arc<str>,
        /// The message's id.
        id: QueuedId,
    },
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Key::State`].
    State(StoredState),
    /// Of [`Key::Message`].
    Message(Message),
    /// Of [`Key::Timer`].
    Timer(Timer),
    /// Of [`Key::Suspension`].
    Suspension(Suspension),
    /// Of [`Key::Trouble`].
    Trouble(Trouble),
    /// Of [`Key::Idempotency`].
    Idempotency(Idempotency),
    /// Of [`Key::DeadLetter`].
    DeadLetter(DeadLetter),
    /// Of [`Key::Registration`].
    Registration(Vec<StateSpec>),
    /// Of [`Key::Shard`].
    Shard(ShardPosition),
    /// Of [`Key::Outbox`].
    Outbox(OutboxEntry),
    /// Of [`Key::Counter`].
    Counter(u64),
    /// Of [`Key::EgressMark`]: what the egress made of it.
    EgressMark(Bytes),
    /// Of [`Key::Hold`].
    Hold(Hold),
    /// Of [`Key::Received`]: when it is forgotten, in ms since the epoch.
    Received(u64),
}

/// That a partition is a fork whose ingress, timers and outbox are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What it was made of, for people.
    pub origin: Arc<str>,
    /// When, in ms since the epoch.
    pub since_ms: u64,
    /// It is not whole yet: whoever makes it is at work, or died over it. Nobody may serve it.
    pub filling: bool,
}

/// The value of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// The value's typename.
    pub typename: Arc<str>,
    /// When it expires, in ms since the epoch.
    pub expires_at_ms: Option<u64>,
    /// The value.
    pub value: Bytes,
}

/// A message that is sent at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timer {
    /// When, in ms since the epoch.
    pub due_ms: u64,
    /// By what its owner can cancel it.
    pub token: Option<Arc<str>>,
    /// To whom.
    pub target: Address,
    /// What.
    pub message: Message,
}

/// Why an address is suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// What the message at its head failed with.
    pub reason: String,
    /// Since when, in ms since the epoch.
    pub since_ms: u64,
}

/// How the messages at an address's head are failing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// The number of the message that `attempts` counts.
    pub message: u64,
    /// How many attempts failed while it was alone in its batch.
    pub attempts: u32,
    /// Why the last one did.
    pub reason: String,
    /// How many times in a row the process died while messages up to `deaths_through` were pending.
    pub deaths: u32,
    /// The last message that may have caused these deaths.
    pub deaths_through: u64,
}

/// What became of a request with an idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct Idempotency {
    /// A hash of the typename and body.
    pub fingerprint: [u8; 16],
    /// The call by which the function knows its caller.
    pub call: CallId,
    /// The outcome, if there is one yet.
    pub outcome: Option<Outcome>,
    /// When it is forgotten, in ms since the epoch; counted from the outcome.
    pub expires_at_ms: Option<u64>,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The message is durable (of a send).
    Accepted,
    /// The function's reply (of a call).
    Replied(TypedValue),
    /// The message became this dead letter.
    Failed {
        /// Its id.
        dead_letter: MessageId,
        /// Why.
        reason: String,
    },
}

/// A message that was given up on.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its id: that of the message.
    pub id: MessageId,
    /// Where it came from, for people.
    pub source: String,
    /// Who sent it.
    pub caller: Option<Address>,
    /// The message.
    pub argument: TypedValue,
    /// How many attempts it was given.
    pub attempts: u32,
    /// Why it was given up on.
    pub reason: String,
    /// When, in ms since the epoch.
    pub failed_at_ms: u64,
    /// The egress that it was for, if it was an egress record.
    pub egress: Option<Arc<str>>,
}

/// One state that a function declared, after StateFun's `PersistedValueSpec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// Its name.
    pub name: Arc<str>,
    /// The typename of its values.
    pub typename: Arc<str>,
    /// When its values expire.
    pub expiration: Expiration,
}

/// When a value expires, in processing time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// Never.
    Never,
    /// So many ms after it was written.
    AfterWrite(u64),
    /// So many ms after its address was last invoked.
    AfterInvoke(u64),
}

/// An egress record that has not arrived yet.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// Its id, derived like a message's.
    pub id: MessageId,
    /// The egress, `namespace/type`.
    pub egress: Arc<str>,
    /// What to deliver.
    pub value: TypedValue,
}

/// The bucket of an address among `buckets`.
pub fn bucket_of(address: &Address, buckets: u16) -> u16 {
    bucket_of_hash(address.stable_hash(), buckets)
}

/// The bucket among `buckets` of the address with this hash.
pub(crate) fn bucket_of_hash(stable_hash: u64, buckets: u16) -> u16 {
    // The low bits choose the bucket, so that partitions can be ranges of the high ones.
    ((stable_hash & 0xffff_ffff) % u64::from(buckets.max(1))) as u16
}

impl Key {
    /// The bucket in which the fact lies: that of its address, or `buckets` for what belongs to the whole partition.
    pub fn bucket(&self, buckets: u16) -> u16 {
        match self.address() {
            Some(address) => bucket_of(address, buckets),
            None => buckets,
        }
    }

    /// The address to which the fact belongs.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::State { address, .. }
            | Self::Message { address, .. }
            | Self::Timer { owner: address, .. }
            | Self::Suspension { address }
            | Self::Trouble { address }
            | Self::Idempotency { address, .. } => Some(address),
            Self::DeadLetter { address, .. } => address.as_ref(),
            Self::Registration { .. }
            | Self::Shard(_)
            | Self::Outbox { .. }
            | Self::Counter
            | Self::EgressMark { .. }
            | Self::Hold
            | Self::Received { .. } => None,
        }
    }
}

impl Change {
    /// Appends the key's durable form to `out`.
    pub fn encode_key(&self, out: &mut Vec<u8>) {
        key::encode(&self.key, out);
    }

    /// Appends the value's durable form to `out`, if there is a value; says whether there was.
    pub fn encode_value(&self, out: &mut Vec<u8>) -> bool {
        self.value
            .as_ref()
            .map(|value| value::encode(value, out))
            .is_some()
    }

    /// Reads the durable form.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the bytes are not a fact of a version that this software knows.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, Malformed> {
        let key = key::decode(key)?;
        let value = value.map(|bytes| value::decode(&key, bytes)).transpose()?;
        Ok(Self { key, value })
    }
}

#[cfg(test)]
mod tests;
