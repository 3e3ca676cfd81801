//! All durable facts of a root, read as the log stores them. The simulation compares them with what
//! partitions make of them.

use satchel_engine::durable::{Change, Key, Value};
use satchel_log::{Entry, Fold};

use crate::truth::Facts;

/// Fold that keeps every durable fact.
#[derive(Default)]
pub(crate) struct DurableFacts {
    pub(crate) facts: Facts,
    pub(crate) problem: Option<String>,
}

impl DurableFacts {
    /// The next number that the recovered counter will give out.
    pub(crate) fn next_number(&self) -> u64 {
        match self.facts.get(Key::Counter) {
            Some(Value::Counter(next)) => *next,
            _ => 1,
        }
    }
}

impl Fold for DurableFacts {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match Change::decode(entry.key, entry.value) {
            Ok(change) => {
                self.facts.apply(&change);
            }
            Err(malformed) => self.problem = Some(malformed.to_string()),
        }
    }
}
