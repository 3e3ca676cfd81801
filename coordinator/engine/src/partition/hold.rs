//! The hold of a fork: what would touch the world outside waits until a person lets it go on.
//!
//! A root that was made of another one has the other's shards, timers and outbox. Were both to go on with them, every record would be read
//! twice, every timer would fire twice, and what the first has sent would be sent again. So the copy is held, durably and over restarts: shards
//! are registered and not read, timers are kept and set and do not fire, the outbox fills and nothing leaves it. Calls from outside are served,
//! and messages between functions are delivered.
//!
//! A hold is part of what a fork begins with; nothing sets one later, and it is lifted once.

use super::answers::outbox_bytes;
use super::commits::Release;
use super::{Partition, Stopping};
use crate::durable::{Hold, Key};

impl Partition {
    /// The hold, as long as nobody has lifted it.
    pub fn held(&self) -> Option<&Hold> {
        self.tables.hold.as_ref()
    }

    pub(super) fn is_held(&self) -> bool {
        self.tables.hold.is_some()
    }

    /// A shard is read, or a stream's reading planned, as soon as what is known of it is durable; under a hold, when that is lifted.
    pub(super) fn read_when_durable(&mut self, reading: Release) {
        if self.is_held() {
            self.held_reading.push(reading);
        } else {
            self.release_when_durable(reading);
        }
    }

    /// A record leaves as soon as it is durable; under a hold, when that is lifted.
    pub(super) fn emit_when_durable(&mut self, number: u64) {
        if !self.is_held() {
            self.release_when_durable(Release::Emit(number));
        }
    }

    /// Lifts the hold; without one there is nothing to do, and above all nothing to drop. What leaves waits until that is durable.
    pub(super) fn hold_lifted(&mut self, drop_outbox: bool) {
        if self.tables.hold.take().is_none() {
            return;
        }
        self.mark(Key::Hold);
        if drop_outbox {
            self.drop_outbox();
        }
        let numbers: Vec<u64> = self.tables.outbox.keys().copied().collect();
        for number in numbers {
            self.emit_when_durable(number);
        }
        for reading in std::mem::take(&mut self.held_reading) {
            self.read_when_durable(reading);
        }
        self.agenda.hold_timers(false);
        if self.stopping == Stopping::No {
            self.handle_due();
        }
    }

    fn drop_outbox(&mut self) {
        for (number, entry) in std::mem::take(&mut self.tables.outbox) {
            self.no_more_pending(outbox_bytes(&entry));
            self.counts.dropped_records += 1;
            self.commits
                .mark_end(Key::Outbox { number }, number, self.now_ms);
        }
    }
}
