//! What a partition is told: facts, in the past tense.

use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::{FromFunction, TypedValue};

use crate::address::Address;
use crate::invocation::{AttemptId, Failure};
use crate::message::MessageId;
use crate::position::{SequenceNumber, ShardId, ShardPosition};
use crate::queue::{QueuedId, QueuedMessage};
use crate::tables::LoadedBucket;

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// An ingress found a shard, and resolved where reading it would start if it had never been read.
    ShardFound {
        /// The shard.
        shard: ShardId,
        /// Where to start: `latest` and dates resolved to a position, once.
        start: ShardPosition,
    },
    /// An ingress is about to read a sharded stream, and must know first how far its shards were applied. Answered by
    /// [`crate::output::Output::Plan`].
    StreamFound {
        /// The ingress's id.
        ingress: Arc<str>,
        /// The stream's name.
        stream: Arc<str>,
    },
    /// Several shards were found at once, as by [`Input::ShardFound`] each: their starts are in one delta, so that `latest` is resolved for
    /// all of them or for none.
    ShardsFound(Vec<(ShardId, ShardPosition)>),
    /// The last record of a closed shard was read before this. Answered by [`crate::output::Output::Read`] from
    /// [`ShardPosition::End`] on when that is durable.
    ShardEnded {
        /// The shard.
        shard: ShardId,
    },
    /// A shard was read to its tip, and nothing had arrived there until this moment.
    ShardQuiet {
        /// The shard.
        shard: ShardId,
        /// The moment by the stream's clock, in ms since the epoch.
        until_ms: u64,
    },
    /// An ended shard has left its stream: its position is needed no more.
    ShardForgotten {
        /// The shard.
        shard: ShardId,
    },
    /// Records of a shard were read, in order.
    RecordsRead {
        /// The shard.
        shard: ShardId,
        /// What was read.
        records: Vec<Record>,
    },
    /// An ingress is about to receive from a queue. Answered by [`crate::output::Output::Receive`].
    QueueFound {
        /// The ingress's id; it has one queue.
        ingress: Arc<str>,
    },
    /// Messages were received from a queue, in the order in which it gave them; any of them may have been received before. Answered by
    /// [`crate::output::Output::Deletable`].
    MessagesReceived {
        /// The ingress's id.
        ingress: Arc<str>,
        /// What was received.
        messages: Vec<QueuedMessage>,
        /// For so long the queue may hand them out again if they are not deleted.
        keep_ms: u64,
    },
    /// A queue has confirmed that these are deleted.
    MessagesDeleted {
        /// The ingress's id.
        ingress: Arc<str>,
        /// Their ids.
        ids: Vec<QueuedId>,
        /// For so long it may hand them out all the same.
        keep_ms: u64,
    },
    /// Somebody outside called or sent.
    CallReceived(Call),
    /// The one who waited for this request's answer is gone.
    RequestAbandoned(RequestId),
    /// A function answered.
    InvocationCompleted {
        /// The attempt that it answers.
        attempt: AttemptId,
        /// What it answers.
        answer: FromFunction,
    },
    /// A batch got no answer.
    InvocationFailed {
        /// The attempt that failed.
        attempt: AttemptId,
        /// Why.
        failure: Failure,
    },
    /// This delta of this ownership period, and all before it, are durable.
    CommitDurable {
        /// The number of the delta, as in [`crate::output::Delta::number`].
        number: u64,
    },
    /// These entries of the outbox have arrived for good.
    EgressAcked {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// These entries of the outbox have arrived for good, and their egress wants this to be known after a takeover: both are in one delta.
    EgressMarked {
        /// The egress, `namespace/type`.
        egress: Arc<str>,
        /// The entries' numbers.
        numbers: Vec<u64>,
        /// What to remember, or to forget.
        marks: Vec<EgressMark>,
        /// Whether the egress waits until it is durable: answered by [`crate::output::Output::MarksDurable`].
        confirm: bool,
    },
    /// An entry of the outbox can never be delivered as it is.
    EgressRefused {
        /// Its number.
        number: u64,
        /// Why.
        reason: String,
    },
    /// An administrator asks or corrects.
    Administered {
        /// Names the request.
        request: RequestId,
        /// What is asked.
        administration: Administration,
    },
    /// Images of these buckets are wanted for a snapshot.
    ImagesWanted(Vec<u16>),
    /// A person lets a fork go on: its ingress, timers and outbox. Without a hold this means nothing.
    HoldLifted {
        /// Forget what the outbox holds, instead of delivering it.
        drop_outbox: bool,
    },
    /// A snapshot took effect: the images of these buckets, each as in [`crate::output::BucketImage::delta`], are what is loaded from now on.
    SnapshotTaken(Vec<(u16, u64)>),
    /// A bucket was loaded.
    BucketLoaded {
        /// Which bucket.
        bucket: u16,
        /// The load that it answers, as in [`crate::output::Output::LoadBucket`].
        load: u64,
        /// What was read.
        content: Box<LoadedBucket>,
    },
    /// Nothing happened but time. Uses up the wake-up that was asked for, even if it comes too early: then it is asked for again.
    TimeReached,
    /// The process wants to stop: finish what is in flight, start nothing new.
    StopRequested,
    /// The time for finishing is over: seal what there is and stop.
    StopForced,
}

/// A note of an egress, kept as long as it is not replaced: how far a stream is known, for instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressMark {
    /// Names it, within the egress.
    pub name: Arc<str>,
    /// What it says from now on; `None` forgets it. The egress knows what it means.
    pub value: Option<Bytes>,
}

/// One user record of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its sequence number.
    pub sequence: SequenceNumber,
    /// Its place among the user records aggregated under that number; 0 if there is no aggregation.
    pub sub_sequence: u64,
    /// Its partition key.
    pub key: Arc<str>,
    /// Where it goes: the messages it becomes, or why it becomes none.
    pub routed: Result<Vec<(Address, TypedValue)>, Unroutable>,
}

/// Why a record becomes no message.
#[derive(Debug, Clone, PartialEq)]
pub struct Unroutable {
    /// The record's bytes, under the typename that it would have had.
    pub value: TypedValue,
    /// Why.
    pub reason: String,
}

/// Names a request from outside, within one process. The adapter counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Names a call over all processes: 128 random bits, drawn by the adapter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId(pub [u8; 16]);

/// What somebody outside wants of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// The function's reply.
    Call,
    /// To know that the message is durable.
    Send,
}

impl Verb {
    /// Its name in paths and durable keys.
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
    /// What is wanted.
    pub verb: Verb,
    /// Of whom.
    pub target: Address,
    /// The message.
    pub argument: TypedValue,
    /// The caller's idempotency key.
    pub idempotency_key: Option<Arc<str>>,
}

/// What an administrator wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Administration {
    /// The state, backlog and suspension of an address.
    Inspect(Address),
    /// Dead letters, oldest first.
    ListDeadLetters {
        /// Only those of this function, `namespace/name`.
        function: Option<Arc<str>>,
        /// Only those after this one.
        after: Option<MessageId>,
        /// At most so many.
        limit: usize,
    },
    /// Send the message of a dead letter again, as a new message at the tail.
    RetryDeadLetter(MessageId),
    /// Forget a dead letter.
    DropDeadLetter(MessageId),
    /// Set a state, in order with the address's messages; at once if it is suspended.
    SetState {
        /// Whose state.
        address: Address,
        /// Its name.
        state: Arc<str>,
        /// Its new typename and value; the typename may be `satchel/json` for any state.
        value: TypedValue,
    },
    /// Delete a state, in order with the address's messages; at once if it is suspended.
    DeleteState {
        /// Whose state.
        address: Address,
        /// Its name.
        state: Arc<str>,
    },
    /// Let a suspended address go on with the message at its head.
    Resume(Address),
    /// Timers that are pending, by due time.
    ListTimers {
        /// Only those set by this function, `namespace/name`.
        function: Option<Arc<str>>,
        /// At most so many.
        limit: usize,
    },
}
