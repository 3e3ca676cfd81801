//! Messages from one partition to another: numbers, frames, acknowledgements and credit of one
//! ordered pair of partitions.
//!
//! ```text
//!  partition s ──release(n)──► Sender ──Frame──► (connection) ──► Receiver ──Take──► partition r
//!       ▲                        ▲                                  ▲   │                 │
//!       └──Acknowledged{upto}────┴◄──────────── Answer ◄────────────┼───┘                 │
//!                                                                   └──durable(n)◄── its commit
//! ```
//!
//! A message gets its number in the delta that makes it, without gaps for each pair, and leaves
//! only after that delta is durable. So a number has one content, and a resend by a former owner of
//! the sender is identical (rule 21). The receiver takes only the number after the last one it
//! took, puts the messages and that number into one delta, and acknowledges it when the delta is
//! durable (rules 15, 19, 20). Only that acknowledgement removes an entry of the sender, never the
//! success of a transport.
//!
//! A connection delivers frames and answers in order or breaks. Several connections of a pair may
//! exist at a time, from and to former owners too. Nothing here depends on which of them is right:
//! a former owner of the receiver can never make a delta durable, so it acknowledges nothing, and
//! its epoch tells its other answers apart (rule 45).
//!
//! Both sides are state machines without a clock. What is durable of them is three numbers of each
//! pair: the sender's last number, and what was acknowledged and by which epoch; the receiver's
//! last number taken. Everything else is rebuilt after a change of owner, by a resend from the
//! first number that is not acknowledged.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use receiver::{Intake, Receiver};
pub use sender::{Reaction, Sender};

/// Maximum credit of a connection, in bytes. Before its first answer, the greeting of the receiver,
/// a connection has none: a sender that connects again and again would otherwise send as much each
/// time to a receiver without room.
pub const CREDIT_MAX: u64 = 1 << 20;

/// Limit by which the time of a frame or an acknowledgement may be ahead of the time of the
/// partition that gets it, in ms. One that is further ahead is not taken (rule 36).
pub const AHEAD_MAX_MS: u64 = 5_000;

/// Approximate size of a frame with several messages, in bytes.
pub const FRAME_BYTES: u64 = 256 << 10;

/// Maximum size of a message between partitions, in bytes. A larger one becomes a dead letter of
/// its sender before it gets a number.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Number of a message within its pair of partitions, from 1. Zero is before the first message.
pub type Number = u64;

/// Consecutive messages of one pair, sent together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame<M> {
    /// Number of the first message; the others follow without gaps.
    pub first: Number,
    /// The messages: at least one.
    pub messages: Vec<M>,
    /// Largest commit time of the deltas that made these messages, in ms since the epoch. The delta
    /// that takes them is not earlier.
    pub time_ms: u64,
}

impl<M> Frame<M> {
    /// Returns the number of the last message.
    #[must_use]
    pub fn last(&self) -> Number {
        self.first + self.messages.len() as u64 - 1
    }
}

/// Statement of the receiving side about a pair, made at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Epoch of the receiver's owner that answers.
    pub epoch: u64,
    /// Last number taken, durable or not.
    pub taken: Number,
    /// Last number that is durable at the receiver.
    pub durable: Number,
    /// Commit time of the delta in which `durable` was taken, in ms since the epoch. The delta that
    /// removes the sender's entries is not earlier.
    pub time_ms: u64,
    /// Reason for which the frame that this answers was not taken, if it was not.
    pub refused: Option<Refusal>,
    /// Bytes of messages after `taken` for which the receiver has room.
    pub credit: u64,
}

/// Reason for which a receiver takes nothing of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The frame begins beyond the next number, which is `taken + 1`.
    Gap,
    /// The frame's time is ahead of the receiver's by more than [`AHEAD_MAX_MS`].
    Ahead,
}

/// Reason for which a partition closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The other end is a former owner of its partition.
    FormerOwner,
    /// The clocks of both sides differ by more than [`AHEAD_MAX_MS`]. A person should look at them.
    ClocksDiffer,
    /// The other end divides the key groups into partitions in another way.
    OtherGeneration,
}

/// Contradiction between the two sides of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkDamage {
    /// The receiver has taken numbers that this side never made.
    Unmade {
        /// Last number that the receiver has.
        taken: Number,
    },
    /// The receiver lacks numbers that it had acknowledged.
    Lost {
        /// First number that is missing.
        number: Number,
    },
}
