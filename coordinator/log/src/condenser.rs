//! The rules of condensing, without any I/O: which durable log objects are copied together.
//!
//! Small log objects are copied in runs. Several runs are copied once more, so that even a long log
//! is few objects to a reader. An object that is not small ends a run: reading it alone costs no
//! more than reading its bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::condensed::CondensedName;
use crate::options::Condensation;

/// Size in bytes from which on a copy is not extended further.
const COPY_BYTES_MAX: usize = 4 << 20;

/// Decides which log objects of one epoch are copied.
#[derive(Debug)]
pub(crate) struct Condenser {
    epoch: u64,
    settings: Option<Condensation>,
    /// Objects that are not durable yet, by number.
    sealed: BTreeMap<u64, Bytes>,
    /// Number of the first object of `whole`.
    first: u64,
    /// Durable small objects of consecutive numbers since the last large copy.
    whole: Vec<Bytes>,
    /// Total size of `whole` in bytes.
    bytes: usize,
    /// Number of objects of `whole` that are in copies of single runs.
    copied: usize,
    /// Number of those copies.
    runs: u64,
}

/// A copy to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) name: CondensedName,
    pub(crate) objects: Vec<Bytes>,
    /// Number of reads that it saves a takeover.
    pub(crate) saves: u64,
}

impl Condenser {
    pub(crate) fn new(epoch: u64, settings: Option<Condensation>) -> Self {
        Self {
            epoch,
            settings,
            sealed: BTreeMap::new(),
            first: 0,
            whole: Vec::new(),
            bytes: 0,
            copied: 0,
            runs: 0,
        }
    }

    /// Takes note of an object that is being stored. It may be stored under a later number instead.
    pub(crate) fn sealed(&mut self, number: u64, object: &Bytes) {
        if self.settings.is_some() {
            self.sealed.insert(number, object.clone());
        }
    }

    /// Takes note that the object `number` and all before it are durable. Returns the copy that is
    /// to be stored, if any.
    pub(crate) fn durable(&mut self, number: u64) -> Option<Copy> {
        let settings = self.settings?;
        let later = self.sealed.split_off(&(number + 1));
        let object = std::mem::replace(&mut self.sealed, later).remove(&number)?;
        if number != self.first + self.whole.len() as u64 {
            self.begin(number);
        }
        if object.len() as u64 > settings.object_bytes_max {
            self.begin(number + 1);
            return None;
        }
        self.bytes += object.len();
        self.whole.push(object);
        let loose = (self.whole.len() - self.copied) as u64;
        let is_whole = self.runs + 1 >= settings.runs || self.bytes >= COPY_BYTES_MAX;
        if loose >= settings.objects && is_whole {
            let copy = self.copy_from(0, self.runs + loose);
            self.begin(number + 1);
            Some(copy)
        } else if loose >= settings.objects {
            let copy = self.copy_from(self.copied, loose);
            self.copied = self.whole.len();
            self.runs += 1;
            Some(copy)
        } else {
            None
        }
    }

    fn begin(&mut self, first: u64) {
        self.first = first;
        self.whole.clear();
        self.bytes = 0;
        self.copied = 0;
        self.runs = 0;
    }

    fn copy_from(&self, index: usize, reads: u64) -> Copy {
        Copy {
            name: CondensedName {
                first: self.first + index as u64,
                last: self.first + self.whole.len() as u64 - 1,
                epoch: self.epoch,
            },
            objects: self.whole[index..].to_vec(),
            saves: reads - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Condensation = Condensation {
        objects: 3,
        runs: 2,
        object_bytes_max: 10,
    };

    /// Makes objects of these numbers durable. Returns the copies, each with its first and last
    /// number and the reads that it saves.
    fn copies(condenser: &mut Condenser, numbers: impl Iterator<Item = u64>) -> Vec<[u64; 3]> {
        let copies = numbers.filter_map(|number| {
            condenser.sealed(number, &Bytes::from(format!("{number:05}")));
            let copy = condenser.durable(number)?;
            let objects = (copy.name.first..).zip(&copy.objects);
            for (number, object) in objects {
                assert_eq!(object, format!("{number:05}").as_bytes());
            }
            let held = copy.name.last + 1 - copy.name.first;
            assert_eq!(copy.objects.len() as u64, held);
            Some([copy.name.first, copy.name.last, copy.saves])
        });
        copies.collect()
    }

    #[test]
    fn runs_are_copied_and_then_several_runs_at_once() {
        let mut condenser = Condenser::new(1, Some(SETTINGS));
        let copies = copies(&mut condenser, 5..20);
        assert_eq!(
            copies,
            [[5, 7, 2], [5, 10, 3], [11, 13, 2], [11, 16, 3], [17, 19, 2]]
        );
    }

    #[test]
    fn a_large_object_and_a_gap_begin_a_new_run() {
        let mut condenser = Condenser::new(1, Some(SETTINGS));
        assert_eq!(copies(&mut condenser, 5..7), [[0; 3]; 0]);
        condenser.sealed(7, &Bytes::from_static(&[0; 11]));
        assert_eq!(condenser.durable(7), None);
        assert_eq!(copies(&mut condenser, 8..11), [[8, 10, 2]]);
        // Number 11 turned out to be void.
        condenser.sealed(11, &Bytes::from_static(b"00012"));
        assert_eq!(copies(&mut condenser, 12..15), [[12, 14, 2]]);
        assert!(condenser.sealed.is_empty());
    }

    #[test]
    fn without_settings_nothing_is_copied_or_remembered() {
        let mut condenser = Condenser::new(1, None);
        assert_eq!(copies(&mut condenser, 5..500), [[0; 3]; 0]);
        assert!(condenser.sealed.is_empty());
    }
}
