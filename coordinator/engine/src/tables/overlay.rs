//! Entries of the log for a bucket whose image was not read: absolute values and tombstones,
//! applied over the image later.

use crate::durable::peek::{EntrySummary, peek};
use crate::map::Map;

/// Entries of the log over an image that was not read, in their durable form.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay {
    entries: Map<Box<[u8]>, Option<Box<[u8]>>>,
    bytes: usize,
    /// Number of facts that must be in memory: messages, open requests, dead letters.
    pending: usize,
    message_bytes: usize,
    earliest_timer_ms: Option<u64>,
}

impl Overlay {
    /// Adds the next entry of the log, which replaces an earlier one with the same key.
    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        const ENTRY_BYTES: usize = 96;
        let after = peek(key, value);
        self.note(&after);
        let length = value.map_or(0, <[u8]>::len);
        let value = value.map(Box::from);
        match self.entries.get_mut(key) {
            Some(known) => {
                let before = peek(key, known.as_deref());
                self.pending -= usize::from(before.pending);
                self.message_bytes -= before.message_bytes;
                self.bytes -= known.as_ref().map_or(0, |value| value.len());
                *known = value;
            }
            None => {
                self.bytes += key.len() + ENTRY_BYTES;
                self.entries.insert(key.into(), value);
            }
        }
        self.bytes += length;
    }

    fn note(&mut self, after: &EntrySummary) {
        self.pending += usize::from(after.pending);
        self.message_bytes += after.message_bytes;
        // If the timer is removed later, the bucket is loaded too early, which is harmless.
        let due = [self.earliest_timer_ms, after.timer_ms];
        self.earliest_timer_ms = due.into_iter().flatten().min();
    }

    /// Iterates over the entries in no particular order. Each key occurs once.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let entries = self.entries.iter();
        entries.map(|(key, value)| (&**key, value.as_deref()))
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending > 0
    }

    pub(crate) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    pub(crate) fn earliest_timer_ms(&self) -> Option<u64> {
        self.earliest_timer_ms
    }
}
