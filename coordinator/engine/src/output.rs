//! What a partition wants done: imperatives.

use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;

use crate::address::{Address, FunctionType};
use crate::durable::Change;
use crate::input::RequestId;
use crate::invocation::{Batch, EndpointIndex};
use crate::message::MessageId;
use crate::position::{ShardId, ShardPosition};
use crate::queue::QueuedId;
use crate::tables::Overlay;

/// One imperative.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Have this batch processed; answer with `InvocationCompleted` or `InvocationFailed`.
    Invoke {
        /// The endpoint that serves the batch's function.
        endpoint: EndpointIndex,
        /// What to process.
        batch: Arc<Batch>,
    },
    /// Make this delta durable; answer with `CommitDurable`. Deltas come in order, at most `commit_depth` of them unanswered.
    Commit(Box<Delta>),
    /// Keep this image for a snapshot; never answered.
    Image(Box<BucketImage>),
    /// Read the image of this bucket, decode it with what is replayed over it ([`LoadedBucket::decode`](crate::partition::LoadedBucket::decode))
    /// and answer with `BucketLoaded`. At most `loads_at_once` of them are unanswered.
    LoadBucket {
        /// Which bucket.
        bucket: u16,
        /// Names this load, so that no other answer is taken for its own.
        load: u64,
        /// What the log says over the image.
        replayed: Arc<Overlay>,
    },
    /// Too much is in memory, and it can be dropped only after a snapshot: begin one. Wanted again only after one was taken.
    SnapshotWanted,
    /// Deliver these records, in order per egress and key; answer with `EgressAcked` or `EgressRefused`.
    Emit(Vec<Emission>),
    /// Tell this egress that what it wanted to be remembered, and waits for, is durable.
    MarksDurable {
        /// The egress, `namespace/type`.
        egress: Arc<str>,
    },
    /// Answer a request.
    Reply {
        /// Which one.
        request: RequestId,
        /// With what.
        answer: Answer,
    },
    /// Read a shard from here on; answer with `RecordsRead`. From its end on there is nothing to read: its end is durable.
    Read {
        /// Which one.
        shard: ShardId,
        /// What has been applied already.
        after: ShardPosition,
    },
    /// Plan the reading of a stream: all that is durable of its shards is this.
    Plan {
        /// The ingress's id.
        ingress: Arc<str>,
        /// The stream's name.
        stream: Arc<str>,
        /// How far each shard was applied, by its id.
        applied: Vec<(Arc<str>, ShardPosition)>,
    },
    /// Receive from the queue of this ingress; answer with `MessagesReceived`.
    Receive {
        /// The ingress's id.
        ingress: Arc<str>,
    },
    /// What these messages of a queue became is durable: delete them; answer with `MessagesDeleted` those of which that is confirmed.
    Deletable {
        /// The ingress's id.
        ingress: Arc<str>,
        /// Their ids.
        ids: Vec<QueuedId>,
    },
    /// Too much is pending: stop reading shards, and receiving from queues.
    PauseIngress,
    /// Read on.
    ResumeIngress,
    /// Send `TimeReached` at this time, in ms since the epoch; replaces an earlier wish.
    WakeAt(u64),
    /// Everything is durable, nothing is in flight, nothing more will come.
    Stopped,
}

/// Everything that changed since the last delta, coalesced, absolute values.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// Counts the deltas of this ownership period, from 1.
    pub number: u64,
    /// Partition time, in ms since the epoch; never goes back.
    pub committed_at_ms: u64,
    /// Whether this is the last delta of an orderly stop: nothing was in flight.
    pub clean: bool,
    /// The changes.
    pub changes: Vec<Change>,
}

/// The whole content of one bucket, equal to the fold of all deltas up to and including `delta`.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketImage {
    /// Which bucket.
    pub bucket: u16,
    /// The number of the delta at whose seal it was taken; 0 if this period has sealed none yet.
    pub delta: u64,
    /// What must be known of it as long as it is not read.
    pub summary: BucketSummary,
    /// Its content.
    pub content: Vec<Change>,
}

/// What must be known of a bucket that is not in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketSummary {
    /// When something in it must be looked at, in ms since the epoch: when its earliest timer is due; some time after its first value has
    /// expired, which nobody is in a hurry to remove.
    pub earliest_due_ms: Option<u64>,
    /// Whether it must be in memory: messages wait in it, or requests whose outcome is open, or dead letters.
    pub pending: bool,
}

/// One record on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    /// Its number in the outbox: grows, and never names another content once it has left.
    pub number: u64,
    /// Its id, derived like a message's.
    pub id: MessageId,
    /// The egress, `namespace/type`.
    pub egress: Arc<str>,
    /// What to deliver.
    pub value: TypedValue,
}

/// The answer to a request from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The message is durable.
    Accepted,
    /// The function replied with this.
    Replied(TypedValue),
    /// The message became a dead letter.
    Failed {
        /// Its id.
        dead_letter: MessageId,
        /// Why.
        reason: String,
    },
    /// No endpoint serves this function.
    UnknownFunction(FunctionType),
    /// The message is larger than any request to the endpoint of its function may be; nothing was taken.
    TooLarge {
        /// How large such a request may be, in bytes.
        bytes_max: usize,
    },
    /// The idempotency key was used with another body.
    KeyReused,
    /// Too much is pending; nothing was taken.
    Overloaded,
    /// The process is stopping; nothing is known of the outcome: try again with the same key.
    Stopping,
    /// What was asked for does not exist.
    NotFound(String),
    /// What was asked for can not be done, and why.
    Refused(String),
    /// What was asked for is done.
    Done,
    /// An address.
    Address(Box<AddressView>),
    /// Dead letters.
    DeadLetters(Vec<DeadLetterView>),
    /// Timers.
    Timers(Vec<TimerView>),
}

/// An address as an administrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct AddressView {
    /// Which one.
    pub address: Address,
    /// Its states that have a value.
    pub state: Vec<StateView>,
    /// How many messages wait, those in flight included.
    pub backlog_messages: usize,
    /// How many bytes they take.
    pub backlog_bytes: usize,
    /// Whether a batch is in flight.
    pub in_flight: bool,
    /// Why it is suspended, if it is.
    pub suspended: Option<String>,
    /// How often the message at its head failed, and why the last time.
    pub failing: Option<(u32, String)>,
}

/// A state as an administrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateView {
    /// Its name.
    pub name: Arc<str>,
    /// The typename of its value.
    pub typename: Arc<str>,
    /// Its value.
    pub value: Bytes,
    /// When it expires, in ms since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// A dead letter as an administrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterView {
    /// Its id.
    pub id: MessageId,
    /// Where it could not be delivered; none for a record that could not be routed and for an egress record.
    pub address: Option<Address>,
    /// Where it came from: a caller's address, a shard's record, an egress.
    pub source: String,
    /// The message.
    pub message: TypedValue,
    /// How many attempts it was given.
    pub attempts: u32,
    /// Why it was given up on.
    pub reason: String,
    /// When, in ms since the epoch.
    pub failed_at_ms: u64,
}

/// A timer as an administrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct TimerView {
    /// Who set it.
    pub owner: Address,
    /// When it is due, in ms since the epoch.
    pub due_ms: u64,
    /// Where its message goes.
    pub target: Address,
    /// The typename of its message.
    pub typename: String,
    /// The token by which its owner can cancel it.
    pub token: Option<Arc<str>>,
}
