//! Invariants of the design as assertions, which stay enabled in release builds. If one is broken,
//! the partition stops and its next owner continues from what is durable. That is better than
//! continuing in a wrong state.
//!
//! | Invariant | Asserted |
//! |---|---|
//! | 1, one in flight | invoked addresses are idle; attempts are unique; mailboxes append only |
//! | 2, all or nothing | no delta is sealed while an answer is applied |
//! | 3, release later | releases follow their durable delta; an emitted entry is in a delta |
//! | 4, position with effect | the position of a shard only moves forward |
//! | 5, recovery is replay | deltas become durable in order; time never decreases; no early timer |
//! | 6, safety from the log | nothing is sealed beyond the window of the log, or after the stop |
//! | 7, answers are matched | an answer belongs to the attempt in flight at its address |
//! | 9, bounded | the count of pending bytes never becomes negative |
//!
//! Invariants 8 and 10 concern data from outside, which is checked and answered with an error,
//! never with an assertion. Checks that would be expensive here are part of [`Partition::audit`].

use super::Partition;
use crate::address::Address;
use crate::durable::Key;
use crate::position::{ShardId, ShardPosition};
use crate::tables::ActiveState;

impl Partition {
    /// Invariant 9: subtracts bytes that were counted as pending.
    pub(super) fn subtract_pending(&mut self, bytes: usize) {
        let left = self.pending_bytes.checked_sub(bytes);
        self.pending_bytes = left.expect("these bytes were counted as pending before");
    }

    /// Invariant 1: asserts that a message with this number comes after all pending ones.
    pub(super) fn assert_at_the_tail(address: &Address, active: &ActiveState, number: u64) {
        let last = active.mailbox.back();
        assert!(
            last.is_none_or(|(last, _)| *last < number),
            "{address}: message {number} comes behind {last:?}"
        );
    }

    /// Invariant 3: asserts that releases of delta `through` may be performed.
    pub(super) fn assert_durable(&self, through: u64) {
        assert!(
            through <= self.commits.durable(),
            "a release of delta {through} is performed, and only {} deltas are durable",
            self.commits.durable()
        );
    }

    /// Invariant 3: asserts that an emitted entry of the outbox, if it is still there, is in a
    /// delta.
    pub(super) fn assert_in_a_delta(&self, number: u64) {
        let leaves = self.tables.outbox.contains_key(&number);
        assert!(
            !(leaves && self.commits.is_dirty(&Key::Outbox { number })),
            "entry {number} of the outbox is emitted, and is in no delta"
        );
    }

    /// Invariant 4: asserts that the position of a shard moves from `before` to `now` only forward.
    pub(super) fn assert_forward(shard: &ShardId, before: &ShardPosition, now: &ShardPosition) {
        assert!(
            !before.is_beyond(now),
            "the position of {shard} goes back from {before:?} to {now:?}"
        );
    }
}
