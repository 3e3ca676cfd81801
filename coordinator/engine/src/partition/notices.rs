//! Notices: occurrences that operators read about in the log of the process.
//!
//! A notice is an observation, not an output: it may precede the commit of what it reports, and is
//! repeated if a crash undoes that. A driver that takes none loses nothing but log lines, because
//! the queue is bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Partition;
use crate::address::{Address, FunctionType};
use crate::message::MessageId;

/// Maximum number of notices kept for the driver. More are counted and dropped.
const NOTICES_MAX: usize = 1024;

/// Maximum length of a reason in a notice, in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// Occurrence that an operator reads about in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message became a dead letter.
    DeadLetter {
        /// Id of the dead letter.
        id: MessageId,
        /// Function that the message was for; none for an unroutable record and an egress record.
        function: Option<FunctionType>,
        /// Egress of the record, if it was an egress record.
        egress: Option<Arc<str>>,
        /// Number of attempts made.
        attempts: u32,
        /// Reason, shortened.
        reason: String,
    },
    /// An address was suspended with the message at the head of its mailbox.
    AddressSuspended {
        /// The address.
        address: Address,
        /// Reason, shortened.
        reason: String,
    },
    /// An administrator resumed a suspended address.
    AddressResumed {
        /// The address.
        address: Address,
    },
    /// A function answered, and its answer was not accepted.
    AnswerRejected {
        /// The function.
        function: FunctionType,
        /// Reason, shortened.
        reason: String,
    },
    /// Streams and queues are not read for now.
    IngressPaused {
        /// Cause of the pause.
        cause: PauseCause,
    },
    /// Streams and queues are read again.
    IngressResumed,
}

/// Cause of a pause of all ingresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseCause {
    /// More bytes are pending than the limit allows.
    PendingBytes,
    /// State in memory exceeds its limit and cannot be evicted yet.
    Memory,
    /// The dead letters exceed their limit.
    DeadLetters,
    /// Too many messages wait for other partitions, here or at another one.
    Congestion,
}

impl PauseCause {
    /// Name of the cause in logs and in the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingBytes => "pending_limit",
            Self::Memory => "memory_limit",
            Self::DeadLetters => "dead_letter_limit",
            Self::Congestion => "congestion",
        }
    }
}

/// Notices that the driver has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Notices {
    queue: VecDeque<Notice>,
    missed: u64,
}

impl Partition {
    /// Takes the notices since the last call, oldest first, and the number of those that were
    /// dropped because the driver took none for too long.
    pub fn take_notices(&mut self) -> (Vec<Notice>, u64) {
        let notices = std::mem::take(&mut self.notices);
        (notices.queue.into(), notices.missed)
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        if self.notices.queue.len() < NOTICES_MAX {
            self.notices.queue.push_back(notice);
        } else {
            self.notices.missed += 1;
        }
    }
}

/// Returns a reason that is short enough for a notice.
pub(super) fn shortened(reason: &str) -> String {
    if reason.len() <= REASON_BYTES_MAX {
        return reason.to_owned();
    }
    let mut end = REASON_BYTES_MAX;
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &reason[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(shortened("it panicked"), "it panicked");
        let long = format!("x{}", "ü".repeat(REASON_BYTES_MAX));
        let cut = shortened(&long);
        assert!(cut.len() <= REASON_BYTES_MAX + '…'.len_utf8() && cut.ends_with("ü…"));
    }
}
