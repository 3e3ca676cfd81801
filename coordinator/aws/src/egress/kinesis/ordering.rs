//! Sequence numbers of the last record of each key, for `SequenceNumberForOrdering`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use satchel_clock::BootTime;

use super::ORDERING_MARGIN;

/// Number of keys from which on a generation may be followed by the next one.
const KEYS_MAX: usize = 65_536;

/// Stream and partition key.
type Key = (String, String);

/// Highest sequence number of the records of each key.
///
/// Of two generations, the older one is dropped when the younger one has [`KEYS_MAX`] keys and was
/// begun at least [`ORDERING_MARGIN`] ago. So a key that is dropped was not used for longer than
/// Kinesis needs to order records by their arrival.
#[derive(Debug, Default)]
pub(super) struct LastNumbers(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    younger: HashMap<Key, String>,
    /// When the younger generation was begun.
    begun: Option<BootTime>,
    older: HashMap<Key, String>,
}

impl LastNumbers {
    /// Sequence number of the last record with this key.
    pub(super) fn get(&self, stream: &str, key: &str) -> Option<String> {
        let key = (stream.to_owned(), key.to_owned());
        let numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = numbers.younger.get(&key);
        found.or_else(|| numbers.older.get(&key)).cloned()
    }

    /// Notes that a record with this key is in the stream.
    pub(super) fn note(&self, stream: &str, key: &str, sequence: &str) {
        self.note_at(stream, key, sequence, BootTime::now());
    }

    fn note_at(&self, stream: &str, key: &str, sequence: &str, now: BootTime) {
        let key = (stream.to_owned(), key.to_owned());
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = &mut *numbers;
        let known = numbers.younger.get(&key);
        let known = known.or_else(|| numbers.older.get(&key));
        if known.is_some_and(|known| (known.len(), &**known) >= (sequence.len(), sequence)) {
            return;
        }
        let begun = *numbers.begun.get_or_insert(now);
        let is_full = numbers.younger.len() >= KEYS_MAX && !numbers.younger.contains_key(&key);
        if is_full && now.since(begun) >= ORDERING_MARGIN {
            numbers.older = std::mem::take(&mut numbers.younger);
            numbers.begun = Some(now);
        }
        numbers.younger.insert(key, sequence.to_owned());
    }

    /// Forgets the number of a key: Kinesis does not accept it.
    pub(super) fn forget(&self, stream: &str, key: &str) {
        let key = (stream.to_owned(), key.to_owned());
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.younger.remove(&key);
        numbers.older.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_of_a_key_is_known_until_many_others_were_used_for_the_margin() {
        let numbers = LastNumbers::default();
        let begun = BootTime::now();
        let later = begun
            .checked_sub(ORDERING_MARGIN)
            .map(|earlier| (earlier, begun));
        let (begun, later) = later.expect("the machine is up for longer than the margin");
        let known = || numbers.get("s", "a");
        for sequence in ["9", "10", "8"] {
            numbers.note_at("s", "a", sequence, begun);
        }
        assert_eq!(known().as_deref(), Some("10"));
        assert_eq!(numbers.get("other", "a"), None);
        for other in 0..3 * KEYS_MAX {
            numbers.note_at("s", &other.to_string(), "3", begun);
        }
        assert_eq!(known().as_deref(), Some("10"), "it was used a moment ago");
        numbers.note_at("s", "next", "3", later);
        assert_eq!(
            known().as_deref(),
            Some("10"),
            "it is in the older generation"
        );
        for other in 0..KEYS_MAX {
            numbers.note_at("s", &format!("b{other}"), "3", later);
        }
        assert_eq!(
            known().as_deref(),
            Some("10"),
            "the younger one was begun now"
        );
        numbers.note_at("s", "a", "11", later);
        numbers.forget("s", "a");
        assert_eq!(known(), None);
    }
}
