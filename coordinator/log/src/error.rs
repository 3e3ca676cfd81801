//! Errors of the log. Each names its object for the operator, and has a kind that tells the caller
//! what to do.

use crate::store::StoreError;

/// Reason an object cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The object ends before its content does.
    #[error("it is truncated")]
    Truncated,
    /// The object has no valid magic number.
    #[error("it does not begin as a {expected} does")]
    Magic {
        /// Name of the expected kind of object.
        expected: &'static str,
    },
    /// Newer software wrote the object.
    #[error("its format version is {found}; this program reads versions up to {known}")]
    Version {
        /// The version found.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// This program does not know the kind of the record.
    #[error("its kind is {found}, which this program does not know")]
    Kind {
        /// The kind found.
        found: u8,
    },
    /// This program does not know the value of a field.
    #[error("its {field} is {found:?}, which this program does not know")]
    Unknown {
        /// The field.
        field: &'static str,
        /// The value found.
        found: String,
    },
    /// A checksum does not match.
    #[error("the checksum of its {part} does not match")]
    Checksum {
        /// The part that the checksum covers.
        part: &'static str,
    },
    /// The object says something else than its key.
    #[error("its {field} is {found}, expected {expected}")]
    Mismatch {
        /// The field.
        field: &'static str,
        /// The value in the object.
        found: String,
        /// The value that belongs there.
        expected: String,
    },
    /// The checksum matches, but the content breaks a rule of the format.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Reason the log stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Another owner took the partition over. A delta that was not reported durable does not count.
    #[error("epoch {epoch} of this partition is over: {reason}")]
    Fenced {
        /// The epoch of this owner.
        epoch: u64,
        /// The evidence.
        reason: String,
    },
    /// An object is damaged, or of an unknown version or kind.
    #[error("{key} cannot be read: {defect}")]
    Damaged {
        /// The object.
        key: String,
        /// The defect.
        defect: Defect,
    },
    /// The image of a bucket in a segment is damaged.
    #[error("{key}: the image of bucket {bucket} cannot be read: {defect}")]
    DamagedImage {
        /// The segment.
        key: String,
        /// The bucket.
        bucket: u16,
        /// The defect.
        defect: Defect,
    },
    /// A required object does not exist.
    #[error("{key} is missing: {reason}")]
    Missing {
        /// The object.
        key: String,
        /// Reason it is required.
        reason: String,
    },
    /// The root belongs to another application, or was created with other numbers of partitions or
    /// buckets.
    #[error("{key}: this root has {field} {found}, not {expected}")]
    Foreign {
        /// The object that says so.
        key: String,
        /// The property that differs.
        field: &'static str,
        /// The value in the root.
        found: String,
        /// The value asked for.
        expected: String,
    },
    /// An object exists where the rules of the format allow none. The epoch ends instead of
    /// guessing.
    #[error("{key} should not exist: {reason}")]
    Unexpected {
        /// The object.
        key: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// The caller broke the contract of this crate.
    #[error("invalid use of the log: {0}")]
    Misuse(String),
    /// The store rejected a request permanently, or did not answer for as long as the caller
    /// allowed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Action that a caller should take on a [`LogError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Another owner is at work: stop, release nothing, and report it.
    Fenced,
    /// The durable data is damaged, foreign or incomplete: stop; an operator must look at it.
    Refused,
    /// The environment (store, network, permissions) failed: trying again later may help.
    Environment,
    /// A bug in the caller.
    Bug,
}

impl LogError {
    /// Returns the kind, which tells the caller what to do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            LogError::Fenced { .. } => ErrorKind::Fenced,
            LogError::Damaged { .. }
            | LogError::DamagedImage { .. }
            | LogError::Missing { .. }
            | LogError::Foreign { .. }
            | LogError::Unexpected { .. }
            | LogError::Store(StoreError::Damaged { .. }) => ErrorKind::Refused,
            LogError::Store(_) => ErrorKind::Environment,
            LogError::Misuse(_) => ErrorKind::Bug,
        }
    }

    pub(crate) fn damaged(key: &str, defect: Defect) -> Self {
        LogError::Damaged {
            key: key.to_owned(),
            defect,
        }
    }
}
