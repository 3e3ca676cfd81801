//! Errors that stop an ingress. Temporary errors are not among them.

use satchel_engine::position::ShardId;

/// Reason why a topic is not read any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// The topic does not exist.
    #[error(
        "ingress {ingress}: the brokers have no topic `{topic}`; create it or correct its name"
    )]
    NoTopic {
        /// The ingress's id.
        ingress: String,
        /// The topic's name.
        topic: String,
    },
    /// The brokers deny this process access to the topic.
    #[error("ingress {ingress}: the brokers deny access to the topic `{topic}`: {reason}")]
    Refused {
        /// The ingress's id.
        ingress: String,
        /// The topic's name.
        topic: String,
        /// Reason given by the brokers.
        reason: String,
    },
    /// The client cannot be made with these settings.
    #[error("ingress {ingress}: the topic `{topic}` cannot be read: {reason}")]
    Settings {
        /// The ingress's id.
        ingress: String,
        /// The topic's name.
        topic: String,
        /// Setting, and what is wrong with it.
        reason: String,
    },
    /// The retention deleted records that were not read yet.
    #[error(
        "partition {shard} was read up to offset {next}, and its oldest record has offset \
        {oldest}: the records between were deleted unread. To continue with the oldest record, \
        set `onExpiredPosition: earliest` in the module file"
    )]
    ExpiredPosition {
        /// The partition.
        shard: ShardId,
        /// Offset of the first record that was not read.
        next: u64,
        /// Offset of the oldest record.
        oldest: u64,
    },
    /// The partition ends before what was read of it.
    #[error(
        "partition {shard} was read up to offset {next}, and ends at offset {end}: the topic was \
        deleted and created again, or its brokers lost records. To read the new one, give the \
        ingress another id"
    )]
    AnotherTopic {
        /// The partition.
        shard: ShardId,
        /// Offset of the first record that was not read.
        next: u64,
        /// Offset that the next record of a producer gets.
        end: u64,
    },
    /// A durable position is not one of a topic's partition.
    #[error(
        "the position of partition {shard} is not an offset: the ingress has read a stream of \
        another kind under this name; give the ingress another id"
    )]
    ForeignPosition {
        /// The partition.
        shard: ShardId,
    },
}
