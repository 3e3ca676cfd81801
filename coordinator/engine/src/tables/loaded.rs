//! A loaded bucket, decoded outside the partition, which only installs it.

use super::bucket::Bucket;
use super::functions::Functions;
use super::overlay::Overlay;
use crate::address::{Address, FunctionType};
use crate::durable::state::{RawState, raw_state};
use crate::durable::{BucketSummary, Change, Malformed, Value};
use crate::placement::Placement;

/// Decoded content of a bucket: its image, with the entries of the log applied over it.
#[derive(Debug, Clone)]
pub struct LoadedBucket {
    pub(crate) bucket: Bucket,
    /// Slots by which its instances refer to their states.
    pub(crate) functions: Functions,
    /// For each function of the bucket, which of these slots hold a value.
    pub(crate) used_slots: Vec<Vec<bool>>,
    pub(crate) summary: BucketSummary,
    /// Addresses with an active state, or with a value that expires.
    pub(crate) active: Vec<Address>,
}

/// The bucket contains an entry that does not belong to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketProblem {
    /// An entry is not a fact of a version that this software knows.
    #[error("bucket {bucket} contains an unreadable entry: {malformed}")]
    Malformed {
        /// Number of the bucket.
        bucket: u16,
        /// Defect of the entry.
        malformed: Malformed,
    },
    /// A fact belongs to another bucket.
    #[error("bucket {bucket} contains a fact of another bucket: {fact}")]
    Foreign {
        /// Number of the bucket.
        bucket: u16,
        /// Key of the fact.
        fact: String,
    },
}

impl LoadedBucket {
    /// Decodes the image of `bucket`, and applies the replayed entries over it. `placement` says
    /// what belongs to the bucket.
    ///
    /// Entries are pairs of key and value. `expected` is the likely number of entries, to reserve
    /// capacity in advance. This is a pure function that may run on any thread.
    ///
    /// # Errors
    ///
    /// Returns [`BucketProblem`] for an entry that does not belong to the bucket.
    pub fn decode<'a>(
        bucket: u16,
        placement: Placement,
        image: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        expected: usize,
        replayed: &'a Overlay,
    ) -> Result<Self, BucketProblem> {
        let mut decoding = Decoding {
            number: bucket,
            placement,
            expected,
            bucket: Bucket::default(),
            functions: Functions::default(),
            last: FunctionType::new("", ""),
        };
        let newest = replayed.newest();
        for (key, value) in image {
            if newest.is_empty() || !newest.contains_key(key) {
                decoding.take(key, value)?;
            }
        }
        for (key, value) in newest {
            decoding.take(key, value)?;
        }
        let mut bucket = decoding.bucket;
        bucket.finish_loading();
        Ok(Self {
            used_slots: bucket.used_slots(),
            summary: bucket.summary(),
            active: bucket.active_addresses(),
            functions: decoding.functions,
            bucket,
        })
    }

    /// Approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bucket.bytes()
    }

    fn facts(&self) -> Vec<(Vec<u8>, Option<Value>)> {
        let mut facts = Vec::new();
        self.bucket.for_each_key(&self.functions, &mut |key| {
            let value = self.bucket.value(&self.functions, &key);
            let mut bytes = Vec::new();
            let change = Change { key, value };
            change.encode_key(&mut bytes);
            facts.push((bytes, change.value));
        });
        facts.sort_by(|one, other| one.0.cmp(&other.0));
        facts
    }
}

/// Two loaded buckets are equal if they hold the same facts, in whatever layout.
impl PartialEq for LoadedBucket {
    fn eq(&self, other: &Self) -> bool {
        self.facts() == other.facts()
    }
}

struct Decoding {
    number: u16,
    placement: Placement,
    expected: usize,
    bucket: Bucket,
    functions: Functions,
    /// Function of the last state, usually that of the next one too.
    last: FunctionType,
}

impl Decoding {
    fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BucketProblem> {
        let state = value.and_then(|value| raw_state(key, value).transpose());
        match state
            .transpose()
            .map_err(|malformed| self.malformed(malformed))?
        {
            Some(state) => self.take_state(&state),
            None => self.take_other(key, value),
        }
    }

    /// Most facts of a bucket are states, so they have a fast path.
    fn take_state(&mut self, state: &RawState<'_>) -> Result<(), BucketProblem> {
        if (self.last.namespace(), self.last.name()) != (state.namespace, state.name) {
            self.last = FunctionType::new(state.namespace, state.name);
        }
        if self.placement.key_group_of(&self.last, state.id).0 != self.number {
            return Err(self.foreign(&(state.namespace, state.name, state.id, state.state)));
        }
        let slot = self
            .functions
            .slot_for(&self.last, state.state, state.typename);
        self.bucket.load_state(
            (&self.last, state.id),
            slot,
            state.expires_at_ms,
            state.value,
            self.expected,
        );
        // Another function has a table of its own, of unknown size.
        self.expected = 0;
        Ok(())
    }

    fn take_other(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BucketProblem> {
        let change = Change::decode(key, value).map_err(|malformed| self.malformed(malformed))?;
        let expected = change.key.bucket(&self.placement);
        if expected != self.number || self.number >= self.placement.buckets() {
            return Err(self.foreign(&change.key));
        }
        match change.value {
            Some(value) => self.bucket.put(&mut self.functions, change.key, value),
            None => self.bucket.remove(&self.functions, &change.key),
        }
        Ok(())
    }

    fn malformed(&self, malformed: Malformed) -> BucketProblem {
        BucketProblem::Malformed {
            bucket: self.number,
            malformed,
        }
    }

    fn foreign(&self, fact: &dyn std::fmt::Debug) -> BucketProblem {
        BucketProblem::Foreign {
            bucket: self.number,
            fact: format!("{fact:?}"),
        }
    }
}
