//! The hold of a fork: effects on the outside world wait until an operator releases the fork.
//!
//! A root made from another one contains that root's shards, timers and outbox. If both continued
//! with them, every record would be read twice, every timer would fire twice, and every sent record
//! would be sent again. The copy is therefore held, durably and over restarts:
//!
//! - shards are registered but not read;
//! - timers are kept and can be set, but do not fire;
//! - the outbox fills, but nothing leaves it;
//! - calls from outside are served, and messages between functions are delivered.
//!
//! A fork begins with its hold. No hold is set later, and it is lifted once.

use super::answers::outbox_bytes;
use super::commits::Release;
use super::{Partition, Stopping};
use crate::durable::{Hold, Key};
use crate::story::Step;

impl Partition {
    /// Returns the hold until it is lifted.
    pub fn held(&self) -> Option<&Hold> {
        self.tables.hold.as_ref()
    }

    pub(super) fn is_held(&self) -> bool {
        self.tables.hold.is_some()
    }

    /// Reads a shard, plans a stream or receives from a queue once what is known of it is durable.
    /// Under a hold or a pause, this waits until there is none.
    pub(super) fn read_when_durable(&mut self, reading: Release) {
        if self.is_held() {
            self.held_reads.push(reading);
        } else if let Some(reading) = self.hold_paused_read(reading) {
            self.release_when_durable(reading);
        }
    }

    /// Emits a record once it is durable. Under a hold, this waits until the hold is lifted.
    pub(super) fn emit_when_durable(&mut self, number: u64) {
        if !self.is_held() {
            self.release_when_durable(Release::Emit(number));
        }
    }

    /// Lifts the hold. Without a hold nothing happens; in particular, nothing is dropped. Effects
    /// wait until the change is durable.
    pub(super) fn hold_lifted(&mut self, drop_outbox: bool) {
        if self.tables.hold.take().is_none() {
            return;
        }
        self.mark_changed(Key::Hold);
        if drop_outbox {
            self.drop_outbox();
        }
        let numbers: Vec<u64> = self.tables.outbox.keys().copied().collect();
        for number in numbers {
            self.emit_when_durable(number);
        }
        for reading in std::mem::take(&mut self.held_reads) {
            self.read_when_durable(reading);
        }
        self.schedule.hold_timers(false);
        if self.stopping == Stopping::No {
            self.handle_due();
        }
    }

    fn drop_outbox(&mut self) {
        for (number, entry) in std::mem::take(&mut self.tables.outbox) {
            self.subtract_pending(outbox_bytes(&entry));
            self.outbox_bytes -= outbox_bytes(&entry);
            self.counts.dropped_records += 1;
            self.tell_fact((entry.id, entry.trace), true, || Step::Cancelled);
            self.commits
                .mark_ended(Key::Outbox { number }, number, self.now_ms);
        }
    }
}
