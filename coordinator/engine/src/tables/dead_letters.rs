//! Index of the dead letters in memory, in order and by id. The dead letters of an address are
//! stored in its instance.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Address;
use crate::message::MessageId;

/// Index of the dead letters in memory.
#[derive(Default)]
pub(crate) struct DeadLetterIndex {
    entries: BTreeMap<u64, DeadLetterEntry>,
    /// Pairs of id and number. Dead letters with equal ids differ in their numbers, so that
    /// each of them can be found.
    ids: BTreeSet<(MessageId, u64)>,
}

/// Id and location of a dead letter.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterEntry {
    pub(crate) id: MessageId,
    pub(crate) address: Option<Address>,
}

impl DeadLetterIndex {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
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
        self.ids.insert((entry.id, number));
        self.entries.insert(number, entry);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<DeadLetterEntry> {
        let entry = self.entries.remove(&number)?;
        self.ids.remove(&(entry.id, number));
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
        };
        let mut letters = DeadLetterIndex::default();
        for (number, id) in [(1, 7), (2, 9), (3, 7)] {
            letters.insert(number, entry(id));
        }
        assert_eq!(letters.number_of(MessageId([7; 16])), Some(1));
        letters.remove(1);
        assert_eq!(letters.number_of(MessageId([7; 16])), Some(3));
        letters.remove(3);
        assert_eq!(letters.number_of(MessageId([7; 16])), None);
        assert_eq!(letters.number_of(MessageId([9; 16])), Some(2));
    }
}
