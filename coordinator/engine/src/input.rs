//! Inputs of a partition: facts, in the past tense.

use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::{FromFunction, TypedValue};

use crate::address::{Address, FunctionType};
use crate::invocation::{AttemptId, Failure};
use crate::link::{Answer, Frame};
pub use crate::message::{Header, Headers, Unroutable};
use crate::message::{MessageId, PeerMessage};
use crate::partition::Limits;
use crate::position::{SequenceNumber, ShardId, ShardPosition};
use crate::queue::{QueuedId, QueuedMessage};
pub use crate::request::{
    Call, CallId, DeadLetterChange, DeadLetterCursor, DeadLetterFilter, RequestId, Verb,
};
use crate::tables::LoadedBucket;
use crate::trace::TraceParent;

/// A shard that an ingress found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundShard {
    /// The shard.
    pub shard: ShardId,
    /// Position to start from if no partition knows one.
    pub start: ShardPosition,
    /// Range of the hash keys of its records, both ends included, if the stream reports it. The
    /// partition that owns its middle reads the shard.
    pub hash_range: Option<(u128, u128)>,
}

/// A fact handed to [`Partition::handle_input`](crate::partition::Partition::handle_input).
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// An ingress found a shard and resolved the start for the case that the shard was never read.
    ShardFound {
        /// The shard.
        shard: ShardId,
        /// Position to start from if the partition knows none. The ingress resolves `latest` and
        /// dates to a position once.
        start: ShardPosition,
    },
    /// An ingress is about to read a sharded stream and needs the applied position of each of its
    /// shards. Answered by [`crate::output::Output::Plan`].
    StreamFound {
        /// Id of the ingress.
        ingress: Arc<str>,
        /// Name of the stream.
        stream: Arc<str>,
    },
    /// Several shards were found at once, each as by [`Input::ShardFound`]. Their starts are in one
    /// delta, so that `latest` is resolved for all of them or for none. Another partition may have
    /// to read some of them; of these, only the end is reported.
    ShardsFound(Vec<FoundShard>),
    /// The last record of a closed shard was read before this input. Once the end is durable, it is
    /// answered by [`crate::output::Output::Read`] from [`ShardPosition::End`].
    ShardEnded {
        /// The shard.
        shard: ShardId,
    },
    /// A shard was read to its tip, and nothing had arrived there until `until_ms`.
    ShardQuiet {
        /// The shard.
        shard: ShardId,
        /// Time by the stream's clock, in ms since the epoch.
        until_ms: u64,
    },
    /// An ended shard has left its stream. Its position is no longer needed.
    ShardForgotten {
        /// The shard.
        shard: ShardId,
    },
    /// Records of a shard were read, in order.
    RecordsRead {
        /// The shard.
        shard: ShardId,
        /// The records.
        records: Vec<Record>,
    },
    /// An ingress is about to receive from a queue. Answered by [`crate::output::Output::Receive`].
    QueueFound {
        /// Id of the ingress, which has exactly one queue.
        ingress: Arc<str>,
    },
    /// Messages were received from a queue, in the order given by the queue. Any of them may have
    /// been received before. Answered by [`crate::output::Output::Deletable`].
    MessagesReceived {
        /// Id of the ingress.
        ingress: Arc<str>,
        /// The messages.
        messages: Vec<QueuedMessage>,
        /// Time for which the queue may deliver the messages again if they are not deleted, in ms.
        keep_ms: u64,
    },
    /// A queue has confirmed the deletion of messages.
    MessagesDeleted {
        /// Id of the ingress.
        ingress: Arc<str>,
        /// Ids of the deleted messages.
        ids: Vec<QueuedId>,
        /// Time for which the queue may deliver the messages again in spite of the deletion, in ms.
        keep_ms: u64,
    },
    /// A client outside sent a call or a send.
    CallReceived(Call),
    /// The client that waited for the answer to this request has disconnected.
    RequestAbandoned(RequestId),
    /// A function answered.
    InvocationCompleted {
        /// The answered attempt.
        attempt: AttemptId,
        /// The answer.
        answer: FromFunction,
    },
    /// A batch got no answer.
    InvocationFailed {
        /// The failed attempt.
        attempt: AttemptId,
        /// Reason of the failure.
        failure: Failure,
    },
    /// This delta of this ownership period, and every delta before it, is durable.
    CommitDurable {
        /// Number of the delta, as in [`crate::output::Delta::number`].
        number: u64,
    },
    /// Entries of the outbox were delivered.
    EgressAcked {
        /// Numbers of the entries.
        numbers: Vec<u64>,
    },
    /// Entries of the outbox were delivered, and the egress stores marks that it needs after a
    /// takeover. Both are in one delta.
    EgressMarked {
        /// The egress, `namespace/type`.
        egress: Arc<str>,
        /// Numbers of the entries.
        numbers: Vec<u64>,
        /// Marks to set or to remove.
        marks: Vec<EgressMark>,
        /// True if the egress waits until the marks are durable. Answered by
        /// [`crate::output::Output::MarksDurable`].
        confirm: bool,
    },
    /// An entry of the outbox can never be delivered as it is.
    EgressRefused {
        /// Number of the entry.
        number: u64,
        /// Reason given by the egress.
        reason: String,
    },
    /// An administrator sent a query or a correction.
    Administered {
        /// Names the request.
        request: RequestId,
        /// The query or correction.
        administration: Administration,
    },
    /// The log wants images of these buckets for a snapshot.
    ImagesWanted(Vec<u16>),
    /// An operator released a fork from its hold: its ingress, timers and outbox. Has no effect
    /// without a hold.
    HoldLifted {
        /// Drop the entries of the outbox instead of delivering them.
        drop_outbox: bool,
    },
    /// A snapshot took effect. From now on, the images of these buckets are loaded, each identified
    /// by its delta as in [`crate::output::BucketImage::delta`].
    SnapshotTaken(Vec<(u16, u64)>),
    /// A bucket was loaded.
    BucketLoaded {
        /// Number of the bucket.
        bucket: u16,
        /// The load that this input answers, as in [`crate::output::Output::LoadBucket`].
        load: u64,
        /// Decoded content of the bucket.
        content: Box<LoadedBucket>,
    },
    /// A connection to the owner of another partition is ready for frames. It replaces the one
    /// before.
    PeerConnected {
        /// Number of the other partition.
        peer: u32,
        /// Names the connection. The driver assigns the numbers and uses none twice.
        connection: u64,
    },
    /// An owner of another partition has connected, and will send frames. Answered by
    /// [`crate::output::Output::PeerAnswer`].
    PeerAccepted {
        /// Number of the other partition.
        peer: u32,
        /// Names the connection, as in [`Input::PeerConnected`].
        connection: u64,
    },
    /// A connection to or from another partition has ended.
    PeerDisconnected {
        /// The connection.
        connection: u64,
    },
    /// A frame of another partition arrived over a connection that it made.
    PeerFrame {
        /// The connection.
        connection: u64,
        /// Generation that the frame names.
        generation: u64,
        /// The frame.
        frame: Frame<PeerMessage>,
    },
    /// An answer to this partition's frames arrived over the connection that it made.
    PeerAnswered {
        /// The connection.
        connection: u64,
        /// The answer.
        answer: Answer,
    },
    /// Some partition of the application began to say that too many messages wait for others
    /// ([`crate::output::Output::Congested`]), or none says so any more.
    ApplicationCongested(bool),
    /// The process shares its limits among its partitions in another way.
    LimitsChanged(Limits),
    /// The requested wake-up time was reached (possibly early). The wake-up is used up: if it came
    /// too early, the partition requests another one.
    TimeReached,
    /// The process wants to stop. The partition finishes what is in flight and starts nothing new.
    StopRequested,
    /// The time for finishing is over. The partition seals its changes and stops.
    StopForced,
}

/// A mark of an egress, kept until it is replaced or removed. An egress uses it, for instance, to
/// store how far it has reconciled a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressMark {
    /// Name of the mark, unique within the egress.
    pub name: Arc<str>,
    /// New value; `None` removes the mark. Only the egress interprets it.
    pub value: Option<Bytes>,
}

/// One user record of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Sequence number of the record.
    pub sequence: SequenceNumber,
    /// Index among the user records aggregated under that sequence number; 0 without aggregation.
    pub sub_sequence: u64,
    /// Partition key of the record.
    pub key: Arc<str>,
    /// The messages that the record becomes, or the reason why it becomes none.
    pub routed: Result<Vec<(Address, TypedValue)>, Unroutable>,
    /// Trace context of the record, if its stream has a place for one.
    pub trace: Option<TraceParent>,
    /// Headers of the record, if its stream has a place for them.
    pub headers: Headers,
}

/// A query or correction by an administrator.
#[derive(Debug, Clone, PartialEq)]
pub enum Administration {
    /// Returns the state, backlog and suspension of an address.
    Inspect(Address),
    /// Shows the messages of an address in their order, and what the address waits for. Answered by
    /// [`Answer::Mailbox`](crate::output::Answer::Mailbox).
    ShowMailbox {
        /// The address.
        address: Address,
        /// Shows only messages after the one with this number.
        after: Option<u64>,
        /// Maximum number of messages.
        limit: usize,
    },
    /// Lists dead letters, oldest first.
    ListDeadLetters {
        /// Lists only dead letters that match.
        filter: DeadLetterFilter,
        /// Lists only dead letters after this one.
        after: Option<MessageId>,
        /// Maximum number of entries.
        limit: usize,
    },
    /// Sends the message of a dead letter again, as a new message at the tail of the mailbox.
    RetryDeadLetter(MessageId),
    /// Deletes a dead letter.
    DropDeadLetter(MessageId),
    /// Changes the dead letters that match, oldest first, up to a bound per request. Answered by
    /// [`Answer::DeadLettersChanged`](crate::output::Answer::DeadLettersChanged).
    ChangeDeadLetters {
        /// The change.
        change: DeadLetterChange,
        /// Changes only dead letters that match.
        filter: DeadLetterFilter,
        /// Cursor from the answer to the request before this one; `None` for the first one.
        cursor: Option<DeadLetterCursor>,
        /// Maximum number of changed entries.
        limit: usize,
    },
    /// Sets a state, in order with the messages of the address. Takes effect at once if the address
    /// is suspended.
    SetState {
        /// Address that owns the state.
        address: Address,
        /// Name of the state.
        state: Arc<str>,
        /// New typename and value. The typename may be `satchel/json` for any state.
        value: TypedValue,
    },
    /// Deletes a state, in order with the messages of the address. Takes effect at once if the
    /// address is suspended.
    DeleteState {
        /// Address that owns the state.
        address: Address,
        /// Name of the state.
        state: Arc<str>,
    },
    /// Removes the values of a state that the function no longer declares from the addresses of one
    /// bucket, up to a bound per request. Answered by
    /// [`Answer::StateDropped`](crate::output::Answer::StateDropped).
    DropState {
        /// Number of the bucket.
        bucket: u16,
        /// The function type.
        function: FunctionType,
        /// Name of the state.
        state: Arc<str>,
        /// Maximum number of removed values.
        limit: usize,
    },
    /// Resumes a suspended address, starting with the message at the head of its mailbox.
    Resume(Address),
    /// Makes a dead letter of the message that suspended an address, and resumes the address.
    Skip(Address),
    /// Pauses an ingress durably, until a person resumes it.
    PauseIngress {
        /// Id of the ingress.
        ingress: Arc<str>,
        /// Reason for people; may be empty.
        reason: Arc<str>,
    },
    /// Resumes a paused ingress.
    ResumeIngress(Arc<str>),
    /// Pauses a function type durably, until a person resumes it.
    PauseFunction {
        /// The function type.
        function: FunctionType,
        /// Reason for people; may be empty.
        reason: Arc<str>,
    },
    /// Resumes a paused function type.
    ResumeFunction(FunctionType),
    /// Lists addresses of one bucket, by function and id.
    ListAddresses {
        /// Number of the bucket.
        bucket: u16,
        /// Lists only addresses of this function, `namespace/name`.
        function: Option<Arc<str>>,
        /// Lists only addresses whose id begins with this text.
        prefix: Arc<str>,
        /// Lists only addresses after this one.
        after: Option<Address>,
        /// Maximum number of entries.
        limit: usize,
    },
    /// Lists pending timers by due time.
    ListTimers {
        /// Lists only timers set by this function, `namespace/name`.
        function: Option<Arc<str>>,
        /// Maximum number of entries.
        limit: usize,
    },
}

impl Administration {
    /// Returns the only address that the query or correction concerns, if there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Inspect(address)
            | Self::ShowMailbox { address, .. }
            | Self::SetState { address, .. }
            | Self::DeleteState { address, .. }
            | Self::Resume(address)
            | Self::Skip(address) => Some(address),
            _ => None,
        }
    }
}
