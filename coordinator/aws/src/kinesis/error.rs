//! Errors that stop an ingress. Temporary errors are not among them, except when the first listing
//! of a stream fails.

use satchel_engine::position::ShardId;

/// Reason why a stream is not read any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KinesisError {
    /// The stream does not exist.
    #[error(
        "ingress {ingress}: there is no Kinesis stream `{stream}` in this account and region; \
        create it or correct its name"
    )]
    NoStream {
        /// The ingress's id.
        ingress: String,
        /// The stream's name.
        stream: String,
    },
    /// Kinesis denies this process access to the stream.
    #[error("ingress {ingress}: Kinesis denies access to the stream `{stream}`: {reason}")]
    Refused {
        /// The ingress's id.
        ingress: String,
        /// The stream's name.
        stream: String,
        /// Operation that Kinesis denied, and its reason.
        reason: String,
    },
    /// The retention deleted the record at which reading would continue. Records behind it may have
    /// been deleted unread.
    #[error(
        "shard {shard} was read up to {position}, which is older than what the stream keeps \
        ({retention_hours} h): records behind it may be lost. To continue with the oldest record, \
        set `onExpiredPosition: earliest` in the module file"
    )]
    ExpiredPosition {
        /// Id of the shard.
        shard: ShardId,
        /// Last applied position.
        position: String,
        /// Retention of the stream in hours.
        retention_hours: u64,
    },
    /// A shard left the stream before it was read to its end.
    #[error(
        "shard {shard} has left the stream before it was read to its end: records may be lost. \
        To continue without them, set `onExpiredPosition: earliest` in the module file"
    )]
    LostShard {
        /// Id of the shard.
        shard: ShardId,
    },
    /// A shard that was read to its end is open: the stream is another one of the same name.
    #[error(
        "shard {shard} was read to its end, and the stream lists it as open: the stream was \
        deleted and created again. To read the new one, give the ingress another id"
    )]
    AnotherStream {
        /// Id of the shard.
        shard: ShardId,
    },
}

impl KinesisError {
    /// True if records may have been lost. A retry does not help then.
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::ExpiredPosition { .. } | Self::LostShard { .. } | Self::AnotherStream { .. }
        )
    }
}

/// Reason why a reader returns before its shard's end.
#[derive(Debug)]
#[cfg(feature = "sdk")]
pub(super) enum Stop {
    /// The partition has ended.
    PartitionClosed,
    /// An error that stops the ingress.
    Error(KinesisError),
}

#[cfg(feature = "sdk")]
impl From<KinesisError> for Stop {
    fn from(error: KinesisError) -> Self {
        Self::Error(error)
    }
}
