//! What can go wrong, named so that a person can find the object, and grouped by what to do about it.

use crate::store::StoreError;

/// Why an object cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// It ends before its content does.
    #[error("it is cut short")]
    Truncated,
    /// It does not begin as such an object begins.
    #[error("it does not begin like a {expected}")]
    Magic {
        /// What should be there.
        expected: &'static str,
    },
    /// It was written by newer software.
    #[error("its format version is {found}; this program reads versions up to {known}")]
    Version {
        /// The version found.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// Its kind is not known to this program.
    #[error("its kind is {found}, which this program does not know")]
    Kind {
        /// The kind found.
        found: u8,
    },
    /// A checksum does not match.
    #[error("the checksum of its {part} does not match")]
    Checksum {
        /// Which part.
        part: &'static str,
    },
    /// It says that it is something else than its name says.
    #[error("its {field} is {found}, but {expected} belongs here")]
    Mismatch {
        /// Which field.
        field: &'static str,
        /// What the object says.
        found: String,
        /// What belongs there.
        expected: String,
    },
    /// Its checksum matches, and still its content breaks a rule of the format.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Why the log stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Another owner has taken the partition over. Nothing that was not reported durable counts.
    #[error("epoch {epoch} of this partition is over: {reason}")]
    Fenced {
        /// The epoch of this owner.
        epoch: u64,
        /// What showed it.
        reason: String,
    },
    /// An object is damaged, or of an unknown version or kind.
    #[error("{key} cannot be read: {defect}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        defect: Defect,
    },
    /// The image of a bucket in a segment is damaged.
    #[error("{key}, the image of bucket {bucket} in it, cannot be read: {defect}")]
    DamagedImage {
        /// The segment.
        key: String,
        /// The bucket.
        bucket: u16,
        /// What is wrong with it.
        defect: Defect,
    },
    /// An object that must exist does not.
    #[error("{key} is missing: {reason}")]
    Missing {
        /// The object.
        key: String,
        /// Why it must exist.
        reason: String,
    },
    /// The root belongs to another application, or was made with other numbers.
    #[error("{key}: this root has {field} {found}, not {expected}")]
    Foreign {
        /// The object that says so.
        key: String,
        /// Which property differs.
        field: &'static str,
        /// What the root has.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// An object stands where, by the rules of the format, none can: the epoch ends rather than guess.
    #[error("{key} should not exist: {reason}")]
    Unexpected {
        /// The object.
        key: String,
        /// Why not.
        reason: String,
    },
    /// The caller broke the contract of this crate.
    #[error("refused: {0}")]
    Misuse(String),
    /// The store refuses for good, or did not answer for as long as the caller was willing to wait.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a caller should do about a [`LogError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Another owner is at work: stop, release nothing, say so.
    Fenced,
    /// The durable data is damaged, foreign or incomplete: stop, a person must look.
    Refused,
    /// The environment (store, network, permissions) failed: trying again later may help.
    Environment,
    /// A bug in the caller.
    Bug,
}

impl LogError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            LogError::Fenced { .. } => ErrorKind::Fenced,
            LogError::Damaged { .. }
            | LogError::DamagedImage { .. }
            | LogError::Missing { .. }
            | LogError::Foreign { .. }
            | LogError::Unexpected { .. } => ErrorKind::Refused,
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
