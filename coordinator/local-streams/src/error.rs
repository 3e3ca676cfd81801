//! The error of local streams.

use std::path::PathBuf;

/// Reason why a local stream refuses a request or fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The name is not a valid stream name.
    #[error("{0}")]
    InvalidName(String),
    /// A record that no stream accepts.
    #[error("the record was rejected: {0}")]
    InvalidRecord(String),
    /// A position that the stream never assigned.
    #[error(
        "the stream '{stream}' never assigned the sequence number {sequence_number} there; \
        was its data directory replaced?"
    )]
    UnknownPosition {
        /// The stream.
        stream: String,
        /// The requested sequence number.
        sequence_number: String,
    },
    /// A position whose following records were deleted by the retention before they were read.
    #[error(
        "the stream '{stream}' deleted records of {shard} after {sequence_number} because of their \
        age; increase its retention, or read sooner"
    )]
    Expired {
        /// The stream.
        stream: String,
        /// The shard's id.
        shard: String,
        /// The requested sequence number.
        sequence_number: String,
    },
    /// The stream does not exist.
    #[error("there is no stream '{0}'")]
    Missing(String),
    /// The stream exists already.
    #[error("the stream '{0}' exists already")]
    Exists(String),
    /// The shard does not exist.
    #[error("{0}")]
    UnknownShard(String),
    /// A change that the current state of the stream does not allow.
    #[error("{0}")]
    InvalidChange(String),
    /// The name is in use already.
    #[error("{0}")]
    InUse(String),
    /// A limit of Kinesis would be exceeded.
    #[error("{0}")]
    TooMany(String),
    /// The file holds bytes that were never written so, or lacks acknowledged records. Nothing
    /// behind that offset is read.
    #[error(
        "the stream '{stream}' is damaged: {path} at byte {offset}: {reason}",
        path = .path.display()
    )]
    Damaged {
        /// The stream.
        stream: String,
        /// Its file.
        path: PathBuf,
        /// Byte offset of the damage.
        offset: u64,
        /// Description of the damage.
        reason: String,
    },
    /// The file system reported an error. The appended records are not in the stream.
    #[error("the stream '{stream}' cannot {action}: {message}")]
    Io {
        /// The stream.
        stream: String,
        /// Attempted action.
        action: &'static str,
        /// Error text of the system.
        message: String,
    },
    /// An earlier append failed and left the end of the file unknown. Only opening the stream
    /// again, by a restart, determines the end.
    #[error(
        "the stream '{stream}' accepts no records until it is opened again, because a sync failed: \
        {message}; restart the process"
    )]
    Unsure {
        /// The stream.
        stream: String,
        /// Error text of the system.
        message: String,
    },
    /// An earlier append of the same producer failed and must be sent again first.
    #[error(
        "the stream '{stream}' expects number {failed} of the producer '{producer}', which failed, \
        before {number}; send {failed} again first"
    )]
    OutOfOrder {
        /// The stream.
        stream: String,
        /// The producer.
        producer: String,
        /// Number of the rejected append.
        number: u64,
        /// Number that must be sent first.
        failed: u64,
    },
    /// The process stops. It is unknown whether the records are in the stream.
    #[error("the process stopped before the records were known to be durable")]
    Stopped,
}

impl StreamError {
    /// True if the request can never succeed, so that a retry is useless.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::InvalidName(_)
                | Self::InvalidRecord(_)
                | Self::UnknownPosition { .. }
                | Self::Expired { .. }
                | Self::UnknownShard(_)
                | Self::InvalidChange(_)
                | Self::InUse(_)
                | Self::TooMany(_)
                | Self::Exists(_)
        )
    }

    /// True if the stream works again only after it is opened anew, that is, after a restart of the
    /// process.
    pub fn needs_restart(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Unsure { .. } | Self::Stopped
        )
    }

    /// True if durable data differs from what was written.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
