//! Outputs of a partition: imperatives for the driver.

use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;

use crate::address::{Address, FunctionType};
pub use crate::durable::BucketSummary;
use crate::durable::Change;
use crate::invocation::{Batch, EndpointIndex};
use crate::link::{self, CloseCause, Frame, LinkDamage};
use crate::message::{MessageId, PeerMessage};
use crate::position::{ShardId, ShardPosition};
use crate::queue::QueuedId;
use crate::request::{DeadLetterCursor, RequestId};
use crate::tables::Overlay;
use crate::trace::TraceParent;

/// An imperative taken from [`Partition::poll_output`](crate::partition::Partition::poll_output).
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Process this batch; answer with `InvocationCompleted` or `InvocationFailed`.
    Invoke {
        /// Endpoint that serves the function of the batch.
        endpoint: EndpointIndex,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// Make this delta durable; answer with `CommitDurable`. Deltas are emitted in order, with at
    /// most `commit_depth` of them unanswered.
    Commit(Box<Delta>),
    /// Keep this image for a snapshot. Never answered.
    Image(Box<BucketImage>),
    /// Read the image of this bucket, decode it together with the entries replayed over it
    /// ([`LoadedBucket::decode`](crate::tables::LoadedBucket::decode)), and answer with
    /// `BucketLoaded`. At most `loads_at_once` of these are unanswered.
    LoadBucket {
        /// Number of the bucket.
        bucket: u16,
        /// Names this load, so that no other answer is mistaken for its own.
        load: u64,
        /// Entries of the log over the image.
        replayed: Arc<Overlay>,
    },
    /// Begin a snapshot: memory exceeds the limit, and only a snapshot allows more buckets to be
    /// evicted. Not repeated before a snapshot was taken.
    SnapshotWanted,
    /// Deliver these records, in order per egress and key; answer with `EgressAcked` or
    /// `EgressRefused`.
    Emit(Vec<Emission>),
    /// Notify this egress that the marks that it waits for are durable.
    MarksDurable {
        /// The egress, `namespace/type`.
        egress: Arc<str>,
    },
    /// Answer a request.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Read a shard from this position; answer with `RecordsRead`. After [`ShardPosition::End`]
    /// there is nothing to read: the output then confirms that the end is durable.
    Read {
        /// The shard.
        shard: ShardId,
        /// Applied position of the shard.
        after: ShardPosition,
    },
    /// Plan the reading of a stream. `applied` is everything durable about its shards.
    Plan {
        /// Id of the ingress.
        ingress: Arc<str>,
        /// Name of the stream.
        stream: Arc<str>,
        /// Applied position of each shard, by shard id.
        applied: Vec<(Arc<str>, ShardPosition)>,
    },
    /// Receive from the queue of this ingress; answer with `MessagesReceived`.
    Receive {
        /// Id of the ingress.
        ingress: Arc<str>,
    },
    /// Delete these messages of a queue: the messages that they became are durable. Answer with
    /// `MessagesDeleted` once the queue confirms a deletion.
    Deletable {
        /// Id of the ingress.
        ingress: Arc<str>,
        /// Ids of the messages.
        ids: Vec<QueuedId>,
    },
    /// Stop reading shards and receiving from queues: too much is pending.
    PauseIngress,
    /// Continue reading and receiving.
    ResumeIngress,
    /// Stop reading for this ingress, or continue: a person paused or resumed it. Both pauses must
    /// be over before it reads.
    SetIngressPause {
        /// Id of the ingress.
        ingress: Arc<str>,
        /// True to stop.
        paused: bool,
    },
    /// Send this frame to another partition.
    PeerFrame {
        /// Number of the other partition.
        peer: u32,
        /// Connection to use, as in [`crate::input::Input::PeerConnected`].
        connection: u64,
        /// Generation that the frame names.
        generation: u64,
        /// The frame.
        frame: Frame<PeerMessage>,
    },
    /// Send this answer to another partition.
    PeerAnswer {
        /// Number of the other partition.
        peer: u32,
        /// Connection to use, as in [`crate::input::Input::PeerAccepted`].
        connection: u64,
        /// The answer.
        answer: link::Answer,
    },
    /// Close this connection. If this partition made it, connect again to whoever owns the other
    /// partition, after a back-off.
    PeerClose {
        /// Number of the other partition.
        peer: u32,
        /// The connection. It need not be reported as disconnected.
        connection: u64,
        /// Reason, for people.
        cause: CloseCause,
    },
    /// The two sides of a pair contradict each other. Look at the log: a process that no longer
    /// owns its partition ends. Otherwise the application is damaged, and the pair stands still
    /// until a person decides.
    PeerDamaged {
        /// Number of the other partition.
        peer: u32,
        /// The contradiction.
        damage: LinkDamage,
    },
    /// Tell all partitions that too many messages wait here for others, or no longer. While any
    /// says so, each gets [`crate::input::Input::ApplicationCongested`].
    Congested(bool),
    /// Send `TimeReached` at this time, in ms since the epoch. Replaces an earlier request.
    WakeAt(u64),
    /// The partition has stopped: everything is durable, nothing is in flight, and no output
    /// follows.
    Stopped,
}

/// Everything that changed since the last delta: coalesced, absolute values.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// Number of the delta within this ownership period, from 1.
    pub number: u64,
    /// Partition time, in ms since the epoch. Never decreases.
    pub committed_at_ms: u64,
    /// True if this is the last delta of an orderly stop, with nothing in flight.
    pub clean: bool,
    /// The changes.
    pub changes: Vec<Change>,
}

/// Full content of one bucket, equal to the fold of all deltas up to and including `delta`.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketImage {
    /// Number of the bucket.
    pub bucket: u16,
    /// Number of the last delta sealed before the image was taken; 0 if this period has sealed none
    /// yet.
    pub delta: u64,
    /// Facts that must be known while the bucket is not in memory.
    pub summary: BucketSummary,
    /// Content of the bucket.
    pub content: Vec<Change>,
}

/// One record to deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    /// Number in the outbox. Numbers grow, and a number that has left names the same content
    /// forever.
    pub number: u64,
    /// Id of the record, derived like that of a message.
    pub id: MessageId,
    /// The egress, `namespace/type`.
    pub egress: Arc<str>,
    /// Value to deliver.
    pub value: TypedValue,
    /// Trace context of the message that caused the record.
    pub trace: Option<TraceParent>,
}

/// Answer to a request from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The message is durable.
    Accepted,
    /// The function replied with this value.
    Replied(TypedValue),
    /// The message became a dead letter.
    Failed {
        /// Id of the dead letter.
        dead_letter: MessageId,
        /// Reason of the failure.
        reason: String,
    },
    /// The message was rejected for good and had no effects. No dead letter is kept.
    Rejected {
        /// HTTP status for the caller: 400 to 499, or 500.
        code: u16,
        /// Reason of the rejection.
        message: String,
    },
    /// No endpoint serves this function.
    UnknownFunction(FunctionType),
    /// The message exceeds the request size limit of its function's endpoint. Nothing was accepted.
    TooLarge {
        /// Maximum size of a request, in bytes.
        bytes_max: usize,
    },
    /// The idempotency key was used before with a different body.
    KeyReused,
    /// Another partition owns the address. Nothing was accepted.
    Elsewhere {
        /// Number of that partition.
        partition: u32,
    },
    /// Too much is pending. Nothing was accepted.
    Overloaded,
    /// The dead letters have more bytes than their limit. Nothing was accepted.
    TooManyDeadLetters {
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// A person paused the function. Nothing was accepted. Holds a description.
    Paused(String),
    /// The process is stopping and the outcome is unknown. The client should retry with the same
    /// key.
    Stopping,
    /// The partition is stopping and took nothing of the call. It may be made again, at the next
    /// owner.
    NotTaken,
    /// The requested object does not exist. Holds a description.
    NotFound(String),
    /// The request cannot be fulfilled. Holds the reason.
    Refused(String),
    /// The request was fulfilled.
    Done,
    /// View of an address.
    Address(Box<AddressView>),
    /// Messages of an address.
    Mailbox(Box<MailboxView>),
    /// List of addresses.
    Addresses(Vec<AddressSummary>),
    /// List of dead letters.
    DeadLetters(Vec<DeadLetterView>),
    /// Result of a change of many dead letters.
    DeadLettersChanged(DeadLettersChanged),
    /// Result of a request to drop a state of a function.
    StateDropped(StateDropped),
    /// List of timers.
    Timers(Vec<TimerView>),
}

/// An address as shown to an administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct AddressView {
    /// The address.
    pub address: Address,
    /// States that have a value.
    pub state: Vec<StateView>,
    /// Number of pending messages, including those in flight.
    pub backlog_messages: usize,
    /// Size of the pending messages, in bytes.
    pub backlog_bytes: usize,
    /// True if a batch is in flight.
    pub in_flight: bool,
    /// Reason of the suspension, if the address is suspended.
    pub suspended: Option<String>,
    /// Reason why the messages of its function type wait, if they do.
    pub function_stopped: Option<String>,
    /// Number of failed attempts of the message at the head, and the reason of the last one.
    pub failing: Option<(u32, String)>,
}

/// Mailbox of an address as shown to an administrator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MailboxView {
    /// Messages in their order, those in flight first.
    pub messages: Vec<MessageView>,
    /// True if there are messages after these.
    pub more: bool,
    /// The batch in flight.
    pub in_flight: Option<FlightView>,
    /// Time of the next attempt after a failure, in ms since the epoch.
    pub next_try_ms: Option<u64>,
    /// Beginning of the suspension, in ms since the epoch.
    pub suspended_since_ms: Option<u64>,
    /// The next timers that the address has set.
    pub timers: Vec<TimerView>,
    /// Number of all timers that the address has set.
    pub timers_total: usize,
}

/// A batch in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightView {
    /// Number of its messages, from the front of the mailbox.
    pub messages: usize,
    /// Start of the attempt, in ms since the epoch.
    pub since_ms: u64,
}

/// A pending message as shown to an administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageView {
    /// Number of the message. Later messages have higher numbers.
    pub number: u64,
    /// Id shown to functions.
    pub id: MessageId,
    /// Sender. Records of an ingress and messages of `send` have none.
    pub caller: Option<Address>,
    /// The message, or the new value of a correction.
    pub message: TypedValue,
    /// Name of the state that an administrator corrects by it; none for a message.
    pub corrects: Option<Arc<str>>,
}

/// Function types and ingresses that stand still.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stoppages {
    /// Function types whose deployed version does not fit, which continue by themselves.
    pub suspended_functions: Vec<Stoppage>,
    /// Function types that a person paused.
    pub paused_functions: Vec<Stoppage>,
    /// Ingresses that a person paused.
    pub paused_ingresses: Vec<Stoppage>,
}

/// A function type or an ingress that stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stoppage {
    /// The function type or the id of the ingress, `namespace/name`.
    pub name: String,
    /// Reason; may be empty for a pause.
    pub reason: String,
    /// Time since which it stands still, in ms since the epoch.
    pub since_ms: u64,
}

/// An address in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSummary {
    /// The address.
    pub address: Address,
    /// Number of states that have a value.
    pub states: usize,
    /// Number of pending messages, including those in flight.
    pub backlog_messages: usize,
    /// Size of the pending messages, in bytes.
    pub backlog_bytes: usize,
    /// True if a batch is in flight.
    pub in_flight: bool,
    /// Reason of the suspension, if the address is suspended.
    pub suspended: Option<String>,
    /// Number of failed attempts of the message at the head, and the reason of the last one.
    pub failing: Option<(u32, String)>,
}

/// A state as shown to an administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct StateView {
    /// Name of the state.
    pub name: Arc<str>,
    /// Typename of the value.
    pub typename: Arc<str>,
    /// The value.
    pub value: Bytes,
    /// Expiry of the value, in ms since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// A dead letter as shown to an administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterView {
    /// Id of the dead letter.
    pub id: MessageId,
    /// Address that it was meant for; none for an unroutable record and for an egress record.
    pub address: Option<Address>,
    /// Origin: the address of a caller, a record of a shard, or an egress.
    pub source: String,
    /// The message.
    pub message: TypedValue,
    /// Number of attempts made.
    pub attempts: u32,
    /// Reason why the message became a dead letter.
    pub reason: String,
    /// Time of the failure, in ms since the epoch.
    pub failed_at_ms: u64,
}

/// Result of a change of many dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLettersChanged {
    /// Number of dead letters that were retried or dropped.
    pub changed: usize,
    /// Number of matching dead letters that cannot be retried, because their records could not be
    /// routed to any address. They are kept.
    pub skipped: usize,
    /// Cursor of the next request; `None` if there is nothing left.
    pub cursor: Option<DeadLetterCursor>,
}

/// Result of a request to drop a state of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDropped {
    /// Number of values that were removed.
    pub dropped: usize,
    /// Bucket of the next request; `None` if there is nothing left.
    pub next: Option<u16>,
}

/// A timer as shown to an administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct TimerView {
    /// Address that set the timer.
    pub owner: Address,
    /// Due time, in ms since the epoch.
    pub due_ms: u64,
    /// Address that receives the message.
    pub target: Address,
    /// Typename of the message.
    pub typename: String,
    /// Token by which the owner can cancel the timer.
    pub token: Option<Arc<str>>,
}
