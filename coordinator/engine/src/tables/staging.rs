//! Entries of the log on their way to the overlays of their buckets.
//!
//! Neighbouring entries of the log belong to different buckets, and the overlays of all buckets do
//! not fit into the cache of a processor. Entries are therefore collected, and each bucket takes
//! several at once.

use super::packed::{Entries, put_entry};

/// Size of the collected entries, in bytes, at which the buckets take them.
const STAGED_BYTES: usize = 2 << 20;

/// Entries of the log that no overlay has yet.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    /// The entries, as [`put_entry`] encodes them.
    encoded: Vec<u8>,
    /// Bucket and offset of each entry, in the order of the log.
    entries: Vec<(u16, usize)>,
    /// Offsets of the entries, bucket by bucket. Used by [`Self::take`] only.
    sorted: Vec<usize>,
}

impl Staging {
    /// Adds the next entry of the log.
    pub(crate) fn push(&mut self, bucket: u16, key: &[u8], value: Option<&[u8]>) {
        self.entries.push((bucket, self.encoded.len()));
        put_entry(&mut self.encoded, key, value);
    }

    /// Returns whether the buckets should take the entries.
    pub(crate) fn is_full(&self) -> bool {
        self.encoded.len() >= STAGED_BYTES
    }

    /// Hands out all entries: those of one bucket at once, in the order of the log.
    pub(crate) fn take(&mut self, mut give: impl FnMut(u16, StagedEntries<'_>)) {
        let buckets = self
            .entries
            .iter()
            .map(|(bucket, _)| usize::from(*bucket) + 1);
        let mut ends = vec![0; buckets.max().unwrap_or(0)];
        for (bucket, _) in &self.entries {
            ends[usize::from(*bucket)] += 1;
        }
        let mut begin = 0;
        for end in &mut ends {
            // For now the place of the bucket's first entry, which each entry then moves on.
            begin += std::mem::replace(end, begin);
        }
        self.sorted.clear();
        self.sorted.resize(self.entries.len(), 0);
        for (bucket, offset) in self.entries.drain(..) {
            let end = &mut ends[usize::from(bucket)];
            self.sorted[*end] = offset;
            *end += 1;
        }
        let mut begin = 0;
        for (bucket, end) in (0..=u16::MAX).zip(ends) {
            if begin < end {
                let offsets = self.sorted[begin..end].iter();
                let encoded = &self.encoded;
                give(bucket, StagedEntries { encoded, offsets });
            }
            begin = end;
        }
        self.encoded.clear();
    }
}

/// Entries of one bucket, in the order of the log.
pub(crate) struct StagedEntries<'a> {
    encoded: &'a [u8],
    offsets: std::slice::Iter<'a, usize>,
}

impl<'a> Iterator for StagedEntries<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offsets.next()?;
        Entries(&self.encoded[*offset..]).next()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Entry = (Vec<u8>, Option<Vec<u8>>);

    proptest! {
        #[test]
        fn each_bucket_takes_its_entries_once_and_in_order(
            entries: Vec<(u16, Vec<u8>, Option<Vec<u8>>)>,
            taken_after: usize,
        ) {
            let mut staging = Staging::default();
            let mut taken: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
            let mut expected: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
            let taken_after = taken_after % (entries.len() + 1);
            let mut take = |staging: &mut Staging| {
                staging.take(|bucket, entries| {
                    let entries =
                        entries.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
                    taken.entry(bucket).or_default().extend(entries);
                });
            };
            for (index, (bucket, key, value)) in entries.into_iter().enumerate() {
                if index == taken_after {
                    take(&mut staging);
                }
                staging.push(bucket, &key, value.as_deref());
                expected.entry(bucket).or_default().push((key, value));
            }
            take(&mut staging);
            take(&mut staging);
            prop_assert_eq!(taken, expected);
        }
    }
}
