//! Which dead letters are in memory, in their order and by their ids. Those of an address lie in its instance.

use std::collections::BTreeMap;

use super::Map;
use crate::address::Address;
use crate::message::MessageId;

/// Where each dead letter lies.
#[derive(Default)]
pub(crate) struct Letters {
    places: BTreeMap<u64, LetterPlace>,
    numbers: Map<MessageId, u64>,
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

    /// The number of the dead letter with this id.
    pub(crate) fn number_of(&self, id: MessageId) -> Option<u64> {
        self.numbers.get(&id).copied()
    }

    /// Those from `first` on, in order of their numbers.
    pub(crate) fn since(&self, first: u64) -> impl Iterator<Item = (u64, &LetterPlace)> {
        let places = self.places.range(first..);
        places.map(|(number, place)| (*number, place))
    }

    pub(super) fn insert(&mut self, number: u64, place: LetterPlace) {
        self.numbers.insert(place.id, number);
        self.places.insert(number, place);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<LetterPlace> {
        let place = self.places.remove(&number)?;
        if self.numbers.get(&place.id) == Some(&number) {
            self.numbers.remove(&place.id);
        }
        Some(place)
    }
}
