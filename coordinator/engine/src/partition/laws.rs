//! The laws of the design as assertions, which stay on in release builds: where one of them is broken the partition stops, and its next owner goes on
//! from what is durable, which is worth more than going on with what is wrong.
//!
//! | Law | Asserted where |
//! |---|---|
//! | 1, one in flight, in order | an address that is invoked is idle, an attempt is known once and lands where it began, a mailbox grows at its tail only |
//! | 2, all or nothing | no delta is sealed while an answer is applied |
//! | 3, release later | what leaves waits for no delta that is not durable, and is not itself a change that no delta holds |
//! | 4, position with effect | the position of a shard only goes forward |
//! | 5, recovery is replay | deltas become durable in order, partition time never goes back, no timer fires early |
//! | 6, safety from the log | nothing is sealed beyond the window of the log, nor by who has stopped |
//! | 7, answers are matched | an answer lands on the attempt that is in flight |
//! | 9, bounded | what is pending never becomes less than nothing |
//!
//! Laws 8 and 10 are about what comes from outside, which is checked and answered with an error, never with an assertion. What would cost more than it does
//! here is compared by [`Partition::audit`].

use super::Partition;
use crate::address::Address;
use crate::durable::Key;
use crate::position::{ShardId, ShardPosition};
use crate::tables::Live;

impl Partition {
    /// Law 9: so many bytes less are pending.
    pub(super) fn no_more_pending(&mut self, bytes: usize) {
        let left = self.pending_bytes.checked_sub(bytes);
        self.pending_bytes = left.expect("what is counted as pending was counted before");
    }

    /// Law 1: a message with this number comes behind all that wait.
    pub(super) fn assert_at_the_tail(address: &Address, live: &Live, number: u64) {
        let last = live.mailbox.back();
        assert!(
            last.is_none_or(|(last, _)| *last < number),
            "{address}: message {number} comes behind {last:?}"
        );
    }

    /// Law 3: what waited for delta `through` may leave.
    pub(super) fn assert_durable(&self, through: u64) {
        assert!(
            through <= self.commits.durable(),
            "what waits for delta {through} leaves, and {} are durable",
            self.commits.durable()
        );
    }

    /// Law 3: the entry of the outbox that leaves, if it is still there, is in a delta.
    pub(super) fn assert_in_a_delta(&self, number: u64) {
        let leaves = self.tables.outbox.contains_key(&number);
        assert!(
            !(leaves && self.commits.is_dirty(&Key::Outbox { number })),
            "entry {number} of the outbox leaves, and is in no delta"
        );
    }

    /// Law 4: a shard is applied up to `now`, after it was applied up to `before`.
    pub(super) fn assert_forward(shard: &ShardId, before: &ShardPosition, now: &ShardPosition) {
        assert!(
            !before.is_beyond(now),
            "the position of {shard} goes back from {before:?} to {now:?}"
        );
    }
}
