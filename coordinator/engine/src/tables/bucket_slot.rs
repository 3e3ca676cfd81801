//! One bucket as the tables hold it: in memory, or absent with a summary and pending additions.

use std::sync::Arc;

use super::active_state::Eviction;
use super::bucket::{Bucket, Instance};
use super::overlay::Overlay;
use crate::address::{Address, FunctionType};
use crate::durable::{BucketSummary, Key, Value};
use crate::map::Map;

/// A bucket, in memory or absent.
#[derive(Default)]
pub(crate) struct BucketSlot {
    pub(super) bucket: Bucket,
    pub(super) absence: Option<Absence>,
    /// Entries of the log over the image in effect, from deltas before this period. They are kept
    /// as long as the bucket may be evicted before a newer image takes effect.
    pub(crate) replayed: Arc<Overlay>,
    /// While absent: summary of the image in effect together with `replayed`. While in memory:
    /// summary at the last image taken.
    pub(crate) summary: BucketSummary,
    /// Approximate size after the next load, in bytes.
    pub(crate) expected_bytes: usize,
    /// Number of the delta whose fold equals the image in effect. 0 stands for the image at the
    /// takeover together with `replayed`; `None` if there is no image.
    pub(crate) image: Option<u64>,
    /// Number of the delta of this period that holds its last change; 0 for none.
    pub(crate) changed: u64,
    /// One more than the number of sealed deltas when a fact of the bucket last changed. Only if no
    /// further delta was sealed since, the change may be in no delta.
    pub(crate) marked: u64,
    /// Turn at which the bucket was last used.
    pub(crate) touched: u64,
}

/// Facts that this period adds to an absent bucket: messages and dead letters.
#[derive(Default)]
pub(crate) struct Absence {
    pub(super) additions: Map<Key, Value>,
    pub(super) additions_bytes: usize,
}

impl BucketSlot {
    pub(crate) fn is_absent(&self) -> bool {
        self.absence.is_some()
    }

    /// Returns whether the bucket can be evicted: it is in memory, the image in effect equals its
    /// content, and nothing in it must be in memory.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_absent()
            && self.is_as_imaged()
            && self.eviction() == Eviction::Allowed
            && self.bucket.bytes() > 0
    }

    /// Earliest time at which a timer of an absent bucket may be due.
    pub(crate) fn earliest_timer_ms(&self) -> Option<u64> {
        let due = [
            self.summary.earliest_due_ms,
            self.replayed.earliest_timer_ms(),
        ];
        let due_ms = due.into_iter().flatten().min();
        due_ms.filter(|_| self.is_absent())
    }

    /// Approximate size of the known messages of an absent bucket, in bytes.
    pub(crate) fn message_bytes(&self) -> usize {
        let additions = self
            .absence
            .iter()
            .flat_map(|absence| absence.additions.iter());
        let additions = additions.map(|addition| match addition {
            (Key::Message { address, .. }, Value::Message(message)) => {
                message.pending_bytes(address)
            }
            _ => 0,
        });
        self.replayed.message_bytes() + additions.sum::<usize>()
    }

    /// Returns whether messages or dead letters arrived while the bucket was absent.
    pub(crate) fn has_additions(&self) -> bool {
        let absence = self.absence.as_ref();
        absence.is_some_and(|absence| !absence.additions.is_empty())
    }

    /// Approximate size, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let additions = self
            .absence
            .as_ref()
            .map_or(0, |absence| absence.additions_bytes);
        self.bucket.bytes() + self.replayed.bytes() + additions
    }

    /// Lists the addresses with an active state, or with a value that expires.
    pub(crate) fn active_addresses(&self) -> Vec<Address> {
        self.bucket.active_addresses()
    }

    /// Iterates over the instances in memory, with function and id.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (&FunctionType, &str, &Instance)> {
        self.bucket.iter()
    }

    /// Audits the counters. With `sealed`, a seal has counted every active state.
    pub(crate) fn is_well_counted(&self, sealed: bool) -> bool {
        self.bucket.is_well_counted(sealed)
    }

    /// Effect of its addresses on the bucket's eviction, which no image changes.
    pub(crate) fn eviction(&self) -> Eviction {
        self.bucket.eviction()
    }

    /// Size of the messages that wait until a suspension or a pause ends, in bytes.
    pub(crate) fn standing_bytes(&self) -> usize {
        self.bucket.standing_bytes()
    }

    /// Returns whether the bucket changed in this period without an image in effect that holds the
    /// change.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed > self.image.unwrap_or(0)
    }

    /// Returns whether the bucket was in memory from the beginning, without a known image.
    pub(crate) fn is_unknown(&self) -> bool {
        self.image.is_none() && self.bucket.bytes() > 0
    }

    /// Returns whether the image in effect, with the entries replayed over it, equals the content
    /// in memory.
    pub(crate) fn is_as_imaged(&self) -> bool {
        self.image.is_some_and(|image| self.changed <= image)
    }
}
