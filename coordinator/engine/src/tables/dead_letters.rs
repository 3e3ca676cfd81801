//! Index of all dead letters, in order and by id. The index is in memory; the dead letters
//! themselves are stored in the instances of their addresses, and evicted with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::address::{Address, FunctionType, RESERVED_NAMESPACE};
use crate::durable::DeadLetter;
use crate::message::MessageId;
use crate::placement::{KeyGroup, Placement, PlacementKind};

/// Name of the function type whose addresses store dead letters that belong to no address.
const UNADDRESSED_NAME: &str = "dead-letters";

/// Size of a dead letter besides its message and texts, in bytes: its entry here and in a bucket.
const OVERHEAD_BYTES: usize = 1024;

/// Index of all dead letters.
#[derive(Default)]
pub(crate) struct DeadLetterIndex {
    entries: BTreeMap<u64, DeadLetterEntry>,
    /// Pairs of id and number. Dead letters with equal ids differ in their numbers, so that
    /// each of them can be found.
    ids: BTreeSet<(MessageId, u64)>,
    bytes: usize,
}

/// Id and location of a dead letter, with everything but its message.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterEntry {
    pub(crate) id: MessageId,
    /// Address that the message was meant for.
    pub(crate) address: Option<Address>,
    /// Address in whose instance the dead letter is stored; `None` for one that software before
    /// this version stored for the partition as a whole.
    pub(crate) home: Option<Address>,
    /// Reason for which the message was given up on.
    pub(crate) reason: Arc<str>,
    /// Time at which the message was given up on, in ms since the epoch.
    pub(crate) failed_at_ms: u64,
    /// Size that the dead letter adds to a list, in bytes.
    pub(crate) listed_bytes: usize,
    /// Size that counts for the limit of all dead letters, in bytes.
    bytes: usize,
}

/// Returns the address that stores a dead letter which belongs to none. Each has another one, so
/// that they are spread over all buckets of the partition that made them. The id begins with a key
/// group, where the placement has key groups of ids.
pub(crate) fn home_of_unaddressed(id: MessageId, placement: &Placement) -> Address {
    let function = FunctionType::new(RESERVED_NAMESPACE, UNADDRESSED_NAME);
    let id = match placement.kind {
        PlacementKind::Xxh3 => id.to_string(),
        PlacementKind::IdMd5 { .. } => {
            let KeyGroup(key_group) = placement.key_group_of_hash_key(u128::from_be_bytes(id.0));
            format!("{key_group:04x}{id}")
        }
    };
    Address::new(function, id)
}

impl DeadLetterEntry {
    pub(crate) fn of(home: Option<&Address>, letter: &DeadLetter) -> Self {
        let reserved = |home: &&Address| home.function.namespace() != RESERVED_NAMESPACE;
        let listed_bytes = letter.argument.value.len() + letter.reason.len();
        Self {
            id: letter.id,
            address: home.filter(reserved).cloned(),
            home: home.cloned(),
            reason: letter.reason.as_str().into(),
            failed_at_ms: letter.failed_at_ms,
            listed_bytes,
            bytes: listed_bytes + letter.source.len() + OVERHEAD_BYTES,
        }
    }
}

impl DeadLetterIndex {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Audits the size and the index by id.
    pub(crate) fn is_well_counted(&self) -> bool {
        let bytes = self.entries.values().map(|entry| entry.bytes);
        self.bytes == bytes.sum::<usize>() && self.ids.len() == self.entries.len()
    }

    /// Size of all dead letters, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, number: u64) -> Option<&DeadLetterEntry> {
        self.entries.get(&number)
    }

    /// Returns the number of the first dead letter with this id.
    pub(crate) fn number_of(&self, id: MessageId) -> Option<u64> {
        let (found, number) = self.ids.range((id, 0)..).next()?;
        (*found == id).then_some(*number)
    }

    /// Iterates over the dead letters from number `first`, in order of their numbers.
    pub(crate) fn since(&self, first: u64) -> impl Iterator<Item = (u64, &DeadLetterEntry)> {
        let entries = self.entries.range(first..);
        entries.map(|(number, entry)| (*number, entry))
    }

    pub(super) fn insert(&mut self, number: u64, entry: DeadLetterEntry) {
        // A dead letter is known already if its bucket is loaded again.
        self.remove(number);
        self.ids.insert((entry.id, number));
        self.bytes += entry.bytes;
        self.entries.insert(number, entry);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<DeadLetterEntry> {
        let entry = self.entries.remove(&number)?;
        self.ids.remove(&(entry.id, number));
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_with_the_same_id_are_found_one_after_the_other() {
        let entry = |id: u8| DeadLetterEntry {
            id: MessageId([id; 16]),
            address: None,
            home: None,
            reason: "no".into(),
            failed_at_ms: 0,
            listed_bytes: 0,
            bytes: 100 * usize::from(id),
        };
        let mut letters = DeadLetterIndex::default();
        for (number, id) in [(1, 7), (2, 9), (3, 7)] {
            letters.insert(number, entry(id));
        }
        assert_eq!(letters.number_of(MessageId([7; 16])), Some(1));
        assert_eq!(letters.bytes(), 2_300);
        letters.insert(1, entry(7));
        assert_eq!((letters.bytes(), letters.len()), (2_300, 3));
        letters.remove(1);
        assert_eq!(letters.number_of(MessageId([7; 16])), Some(3));
        letters.remove(3);
        assert_eq!(letters.number_of(MessageId([7; 16])), None);
        assert_eq!(letters.number_of(MessageId([9; 16])), Some(2));
        letters.remove(2);
        assert_eq!(letters.bytes(), 0);
    }
}
