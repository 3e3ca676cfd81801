//! Properties of an entry that are needed before it is decoded.

use super::codec::Reader;
use super::key::{DEAD_LETTER, IDEMPOTENCY, MESSAGE, TIMER};

/// Properties of an entry, read without decoding it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EntrySummary {
    /// True if the entry must be in memory: a message, an open request or a dead letter.
    pub(crate) pending: bool,
    /// Approximate size in bytes, if the entry is a pending message.
    pub(crate) message_bytes: usize,
    /// Due time, if the entry is a timer.
    pub(crate) timer_ms: Option<u64>,
}

/// Offset of a request's outcome: after version, fingerprint and call.
const OUTCOME_AT: usize = 1 + 16 + 16;

/// Returns whether entries of this key may have to be in memory.
pub(crate) fn may_be_pending(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(MESSAGE | DEAD_LETTER | IDEMPOTENCY)))
}

/// Reads the properties of an entry. An unreadable entry gives the default; decoding it later
/// returns an error.
pub(crate) fn peek(key: &[u8], value: Option<&[u8]>) -> EntrySummary {
    let (Some(tag), Some(value)) = (key.first(), value) else {
        return EntrySummary::default();
    };
    match *tag {
        MESSAGE => EntrySummary {
            pending: true,
            message_bytes: key.len() + value.len(),
            timer_ms: None,
        },
        DEAD_LETTER => EntrySummary {
            pending: true,
            ..EntrySummary::default()
        },
        IDEMPOTENCY => EntrySummary {
            pending: value.get(OUTCOME_AT) == Some(&0),
            ..EntrySummary::default()
        },
        TIMER => EntrySummary {
            timer_ms: value.get(1..).and_then(|rest| Reader(rest).number().ok()),
            ..EntrySummary::default()
        },
        _ => EntrySummary::default(),
    }
}
