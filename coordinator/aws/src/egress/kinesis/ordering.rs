//! Sequence numbers of the last record of each key, for `SequenceNumberForOrdering`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Number of keys of each generation.
const KEYS_MAX: usize = 65_536;

/// Stream and partition key.
type Key = (String, String);

/// Highest sequence number of the records of each key.
///
/// Of two generations with at most [`KEYS_MAX`] keys each, the older one is dropped when the
/// younger one is full. A key that is dropped was not used for as many records, which takes longer
/// than Kinesis needs to order records by their arrival.
#[derive(Debug, Default)]
pub(super) struct LastNumbers(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    younger: HashMap<Key, String>,
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
        let key = (stream.to_owned(), key.to_owned());
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = &mut *numbers;
        let known = numbers.younger.get(&key);
        let known = known.or_else(|| numbers.older.get(&key));
        if known.is_some_and(|known| (known.len(), &**known) >= (sequence.len(), sequence)) {
            return;
        }
        if numbers.younger.len() >= KEYS_MAX && !numbers.younger.contains_key(&key) {
            numbers.older = std::mem::take(&mut numbers.younger);
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
    fn the_highest_number_of_a_key_is_known_until_as_many_others_were_used() {
        let numbers = LastNumbers::default();
        let known = || numbers.get("s", "a");
        for sequence in ["9", "10", "8"] {
            numbers.note("s", "a", sequence);
        }
        assert_eq!(known().as_deref(), Some("10"));
        assert_eq!(numbers.get("other", "a"), None);
        for other in 0..KEYS_MAX {
            numbers.note("s", &other.to_string(), "3");
        }
        assert_eq!(known().as_deref(), Some("10"));
        for other in 0..KEYS_MAX {
            numbers.note("s", &format!("b{other}"), "3");
        }
        assert_eq!(known(), None);
        numbers.note("s", "a", "4");
        numbers.forget("s", "a");
        assert_eq!(known(), None);
    }
}
