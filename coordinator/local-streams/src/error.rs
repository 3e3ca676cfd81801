//! Why a local stream refuses or fails.

use std::path::PathBuf;

/// Why a local stream refuses or fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The name is not the name of a stream.
    #[error("{0}")]
    InvalidName(String),
    /// A record that no stream takes.
    #[error("the record is refused: {0}")]
    InvalidRecord(String),
    /// A position that the stream never had.
    #[error(
        "the stream '{stream}' never gave the sequence number {sequence_number} there; was its data directory exchanged?"
    )]
    UnknownPosition {
        /// The stream.
        stream: String,
        /// What was asked for.
        sequence_number: String,
    },
    /// A position from which on records were deleted for their age before they were read.
    #[error(
        "the stream '{stream}' deleted records of {shard} after {sequence_number} for their age; its retention is too short for how late they are read"
    )]
    Expired {
        /// The stream.
        stream: String,
        /// The shard's id.
        shard: String,
        /// What was asked for.
        sequence_number: String,
    },
    /// The stream does not exist.
    #[error("there is no stream '{0}'")]
    Missing(String),
    /// The stream exists.
    #[error("the stream '{0}' exists already")]
    Exists(String),
    /// The shard does not exist.
    #[error("{0}")]
    UnknownShard(String),
    /// A change that cannot be made to the stream as it is.
    #[error("{0}")]
    InvalidChange(String),
    /// Something of this name is there already.
    #[error("{0}")]
    InUse(String),
    /// A limit of Kinesis would be exceeded.
    #[error("{0}")]
    TooMany(String),
    /// The file holds something that was never written so, or lacks what was acknowledged. Nothing is read past it.
    #[error("the stream '{stream}' is damaged: {path} at byte {offset}: {reason}", path = .path.display())]
    Damaged {
        /// The stream.
        stream: String,
        /// Its file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The file system refuses. What was to be appended is not in the stream.
    #[error("the stream '{stream}' cannot {action}: {message}")]
    Io {
        /// The stream.
        stream: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        message: String,
    },
    /// An earlier append failed in a way that leaves the end of the file unknown; only a restart finds out.
    #[error(
        "the stream '{stream}' takes no records until it is opened again, because making records durable failed: {message}"
    )]
    Unsure {
        /// The stream.
        stream: String,
        /// What the system said.
        message: String,
    },
    /// An earlier append of the same producer failed and must be sent again first.
    #[error(
        "the stream '{stream}' waits for number {failed} of the producer '{producer}', which failed, before {number}"
    )]
    OutOfOrder {
        /// The stream.
        stream: String,
        /// The producer.
        producer: String,
        /// What came.
        number: u64,
        /// What must come first.
        failed: u64,
    },
    /// The process stops; whether the records are in the stream is unknown.
    #[error("the process stops before the records are known to be durable")]
    Stopped,
}

impl StreamError {
    /// Whether what was asked for can never be done, so that asking again is of no use.
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

    /// Whether the stream goes on only after it is opened again, that is, after a restart of the process.
    pub fn needs_restart(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Unsure { .. } | Self::Stopped
        )
    }

    /// Whether durable data is not what was once written.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
