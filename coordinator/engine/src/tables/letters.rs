//! Which dead letters are in memory, in their order and by their ids. Those of an address lie in its instance.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Address;
use crate::message::MessageId;

/// Where each dead letter lies.
#[derive(Default)]
pub(crate) struct Letters {
    places: BTreeMap<u64, LetterPlace>,
    /// By id; two of the same are told apart by their numbers, so that neither is out of reach.
    ids: BTreeSet<(MessageId, u64)>,
}

/// Where a dead letter lies.
#[derive(Debug, Clone)]
pub(crate) struct LetterPlace {
    pub(crate) id: MessageId,
    pub(crate) address: Option<Address>,
}

impl Letters {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn get(&self, number: u64) -> Option<&LetterPlace> {
        self.places.get(&number)
    }

    /// The number of the first dead letter with this id.
    pub(crate) fn number_of(&self, id: MessageId) -> Option<u64> {
        let (found, number) = self.ids.range((id, 0)..).next()?;
        (*found == id).then_some(*number)
    }

    /// Those from `first` on, in order of their numbers.
    pub(crate) fn since(&self, first: u64) -> impl Iterator<Item = (u64, &LetterPlace)> {
        let places = self.places.range(first..);
        places.map(|(number, place)| (*number, place))
    }

    pub(super) fn insert(&mut self, number: u64, place: LetterPlace) {
        self.ids.insert((place.id, number));
        self.places.insert(number, place);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<LetterPlace> {
        let place = self.places.remove(&number)?;
        self.ids.remove(&(place.id, number));
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_with_the_same_id_are_found_one_after_the_other() {
        let place = |id: u8| LetterPlace {
            id: MessageId([id; 16]),
            address: None,
        };
        let mut letters = Letters::default();
        for (number, id) in [(1, 7), (2, 9), (3, 7)] {
            letters.insert(number, place(id));
        }
        assert_eq!(letters.number_of(MessageId([7; 16])), Some(1));
        letters.remove(1);
        assert_eq!(letters.number_of(MessageId([7; 16])), Some(3));
        letters.remove(3);
        assert_eq!(letters.number_of(MessageId([7; 16])), None);
        assert_eq!(letters.number_of(MessageId([9; 16])), Some(2));
    }
}
