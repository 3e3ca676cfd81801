//! Entries of the log for a bucket whose image was not read: absolute values and tombstones,
//! applied over the image later.
//!
//! The tail of the log may hold millions of entries, and a takeover waits until all of them are
//! here. Adding an entry therefore only copies its bytes behind those of the bucket's earlier
//! entries, and later entries of a key follow earlier ones. Only keys of facts that must be in
//! memory are looked up, because a takeover asks for these facts.

use super::packed::PackedEntries;
use crate::durable::peek::{EntrySummary, may_be_pending, peek};
use crate::map::Map;

/// Size of the entries, in bytes, from which replaced ones are looked for.
const CHECK_BYTES: usize = 256 << 10;

/// Entries of the log over an image that was not read, in their durable form.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay {
    entries: PackedEntries,
    /// Facts that must be in memory after the last entry: messages, open requests, dead letters.
    /// The value is the size of a message, in bytes.
    pending: Map<Box<[u8]>, usize>,
    pending_bytes: usize,
    message_bytes: usize,
    earliest_timer_ms: Option<u64>,
    /// Size of the entries at which replaced ones are looked for again, if larger than
    /// [`CHECK_BYTES`].
    check_at_bytes: usize,
}

impl Overlay {
    /// Adds the next entry of the log, which replaces earlier ones with the same key.
    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.note(key, &peek(key, value));
        self.entries.push(key, value);
        if self.entries.bytes() >= self.check_at_bytes.max(CHECK_BYTES) {
            self.remove_replaced();
        }
    }

    fn note(&mut self, key: &[u8], after: &EntrySummary) {
        // If the timer is removed later, the bucket is loaded too early, which is harmless.
        let due = [self.earliest_timer_ms, after.timer_ms];
        self.earliest_timer_ms = due.into_iter().flatten().min();
        if !may_be_pending(key) {
            return;
        }
        const ENTRY_BYTES: usize = 48;
        let before = if after.pending {
            let before = self.pending.insert(key.into(), after.message_bytes);
            self.message_bytes += after.message_bytes;
            self.pending_bytes += key.len() + ENTRY_BYTES;
            before
        } else {
            self.pending.remove(key)
        };
        if let Some(message_bytes) = before {
            self.message_bytes -= message_bytes;
            self.pending_bytes -= key.len() + ENTRY_BYTES;
        }
    }

    /// Removes replaced entries if they are half of all. Otherwise looks again when there are four
    /// times as many, so that the search costs little if few are replaced. An overlay is therefore
    /// never larger than eight times the most that its newest entries ever took, or
    /// [`CHECK_BYTES`].
    fn remove_replaced(&mut self) {
        if let Some(newest) = self.newest_if_half() {
            self.entries = newest;
        }
        self.check_at_bytes = self.entries.bytes().saturating_mul(4);
    }

    /// Returns the newest entry of each key, if they take at most half of the memory of all.
    fn newest_if_half(&self) -> Option<PackedEntries> {
        let mut kept = PackedEntries::default();
        for (key, value) in self.newest() {
            kept.push(key, value);
            if kept.bytes() > self.entries.bytes() / 2 {
                return None;
            }
        }
        Some(kept)
    }

    /// Returns the newest value of each key.
    pub(super) fn newest(&self) -> Map<&[u8], Option<&[u8]>> {
        self.entries.iter().collect()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes() + self.pending_bytes
    }

    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    pub(crate) fn earliest_timer_ms(&self) -> Option<u64> {
        self.earliest_timer_ms
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::address::{Address, FunctionType};
    use crate::durable::{Change, Key};

    type Entry = (Vec<u8>, Option<Vec<u8>>);

    /// Key of a message, a dead letter or a state of one of a few addresses.
    fn key(kind: u8, id: u8) -> Vec<u8> {
        let address = Address::new(FunctionType::new("test", "f"), id.to_string());
        let number = u64::from(id);
        let key = match kind {
            0 => Key::Message { address, number },
            1 => Key::DeadLetter {
                address: Some(address),
                number,
            },
            _ => Key::State {
                address,
                name: "state".into(),
            },
        };
        let mut bytes = Vec::new();
        Change { key, value: None }.encode_key(&mut bytes);
        bytes
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let value = proptest::option::of((any::<u8>(), 0..30_000_usize));
        let entry = (0..3_u8, 0..10_u8, value).prop_map(|(kind, id, value)| {
            (
                key(kind, id),
                value.map(|(byte, length)| vec![byte; length]),
            )
        });
        proptest::collection::vec(entry, 0..200)
    }

    proptest! {
        #[test]
        fn the_last_entry_of_each_key_counts(entries in entries()) {
            let mut overlay = Overlay::default();
            let mut newest: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
            let mut most_bytes = 0;
            for (key, value) in &entries {
                overlay.put(key, value.as_deref());
                newest.insert(key, value.as_deref());
                let newest_bytes: usize = newest
                    .iter()
                    .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len) + 2)
                    .sum();
                most_bytes = most_bytes.max(newest_bytes);
                prop_assert!(overlay.bytes() <= (16 * most_bytes).max(2 * CHECK_BYTES));
            }
            let read: BTreeMap<_, _> = overlay.newest().into_iter().collect();
            prop_assert_eq!(&read, &newest);
            let summaries: Vec<_> =
                newest.iter().map(|(key, value)| peek(key, *value)).collect();
            prop_assert_eq!(overlay.is_pending(), summaries.iter().any(|it| it.pending));
            let message_bytes: usize = summaries.iter().map(|it| it.message_bytes).sum();
            prop_assert_eq!(overlay.message_bytes(), message_bytes);
        }
    }

    #[test]
    fn an_overlay_keeps_to_its_bound_when_everything_is_removed() {
        let mut overlay = Overlay::default();
        let value = vec![7; 30_000];
        for id in 0..10 {
            overlay.put(&key(2, id), Some(&value));
        }
        let most_bytes = overlay.bytes();
        for id in 0..10 {
            overlay.put(&key(2, id), None);
        }
        assert!(overlay.newest().values().all(Option::is_none));
        for number in 0..10_000_u32 {
            overlay.put(&key(2, 200), Some(&number.to_le_bytes().repeat(50)));
        }
        assert!(overlay.bytes() <= 8 * most_bytes, "{}", overlay.bytes());
        assert_eq!(overlay.newest().len(), 11);
    }

    #[test]
    fn a_key_that_is_written_often_takes_the_place_of_few_entries() {
        let mut overlay = Overlay::default();
        for number in 0..20_000_u32 {
            let value = number.to_le_bytes().repeat(50);
            overlay.put(&key(2, (number % 3) as u8), Some(&value));
        }
        assert!(overlay.bytes() <= 2 * CHECK_BYTES, "{}", overlay.bytes());
        let newest = overlay.newest();
        let last = 19_999_u32.to_le_bytes().repeat(50);
        assert_eq!(newest[&key(2, (19_999 % 3) as u8)[..]], Some(&last[..]));
        assert_eq!(newest.len(), 3);
    }
}
