//! What stops an ingress: never something that goes away by itself, except where the first look at a stream fails.

use satchel_engine::position::ShardId;

/// Why a stream is not read any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KinesisError {
    /// The stream does not exist.
    #[error("ingress {ingress}: there is no Kinesis stream `{stream}` in this account and region")]
    NoStream {
        /// The ingress's id.
        ingress: String,
        /// The stream's name.
        stream: String,
    },
    /// Kinesis refuses to show the stream to this process at all.
    #[error("ingress {ingress}: Kinesis refuses to list the shards of `{stream}`: {reason}")]
    Refused {
        /// The ingress's id.
        ingress: String,
        /// The stream's name.
        stream: String,
        /// What Kinesis says.
        reason: String,
    },
    /// The stream has forgotten the record at which reading would go on, and so perhaps records behind it that were never read.
    #[error(
        "shard {shard} was read up to {position}, which is older than what the stream keeps ({retention_hours} h): records behind it may be lost. To go on with the oldest that is left, set `onExpiredPosition: earliest` in the module file"
    )]
    ExpiredPosition {
        /// Which shard.
        shard: ShardId,
        /// How far it was applied.
        position: String,
        /// How long the stream keeps its records.
        retention_hours: u64,
    },
    /// The stream has forgotten a whole shard that was not read to its end.
    #[error(
        "shard {shard} has left the stream before it was read to its end: records may be lost. To go on without them, set `onExpiredPosition: earliest` in the module file"
    )]
    LostShard {
        /// Which shard.
        shard: ShardId,
    },
}

impl KinesisError {
    /// Whether records may have been lost: not something that trying again mends.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::ExpiredPosition { .. } | Self::LostShard { .. })
    }
}

/// Why a reader returns before its shard's end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The partition is gone, and with it the wish to read.
    Gone,
    /// Something for which the ingress stops.
    Error(KinesisError),
}

impl From<KinesisError> for Stop {
    fn from(error: KinesisError) -> Self {
        Self::Error(error)
    }
}
