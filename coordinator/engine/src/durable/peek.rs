//! What must be known of a fact before it is decoded.

use super::codec::Reader;
use super::key::{DEAD_LETTER, IDEMPOTENCY, MESSAGE, TIMER};

/// What an entry says at a peek.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Glance {
    /// Whether it is a fact that must be in memory: a message, an open request, a dead letter.
    pub(crate) pending: bool,
    /// About how many bytes of pending messages it is.
    pub(crate) message_bytes: usize,
    /// When the timer that it is becomes due.
    pub(crate) timer_ms: Option<u64>,
}

/// Where the outcome of a request begins: behind the version, the fingerprint and the call.
const OUTCOME_AT: usize = 1 + 16 + 16;

/// Looks at an entry. What can not be understood looks like nothing: it is refused when it is decoded.
pub(crate) fn peek(key: &[u8], value: Option<&[u8]>) -> Glance {
    let (Some(tag), Some(value)) = (key.first(), value) else {
        return Glance::default();
    };
    match *tag {
        MESSAGE => Glance {
            pending: true,
            message_bytes: value.len(),
            timer_ms: None,
        },
        DEAD_LETTER => Glance {
            pending: true,
            ..Glance::default()
        },
        IDEMPOTENCY => Glance {
            pending: value.get(OUTCOME_AT) == Some(&0),
            ..Glance::default()
        },
        TIMER => Glance {
            timer_ms: value.get(1..).and_then(|rest| Reader(rest).number().ok()),
            ..Glance::default()
        },
        _ => Glance::default(),
    }
}
