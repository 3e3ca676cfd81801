//! Changes of `(bucket, key)` pairs. Values are absolute, so applying a change twice is harmless.

use bytes::Bytes;

use crate::codec::{Source, put_varint};
use crate::error::Defect;

/// One change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The bucket; the number of buckets stands for the partition-wide one.
    pub bucket: u16,
    /// The key within the bucket.
    pub key: &'a [u8],
    /// The new value, or `None` if the key is removed.
    pub value: Option<&'a [u8]>,
}

/// An encoded list of changes, in order.
///
/// Layout, repeated to the end: bucket (varint), key length (varint), key, value length plus one or
/// 0 for a removal (varint), value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(Bytes);

impl Entries {
    /// The empty list.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Wraps encoded entries after checking all of them. Every bucket must be at most `bucket_max`.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong with the bytes.
    pub fn decode(bytes: Bytes, bucket_max: u16) -> Result<Self, Defect> {
        let mut source = Source::new(&bytes);
        while !source.is_empty() {
            if read_entry(&mut source)?.bucket > bucket_max {
                return Err(Defect::Malformed(
                    "it names a bucket that the partition does not have",
                ));
            }
        }
        Ok(Self(bytes))
    }

    /// Iterates over the changes in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut source = Source::new(&self.0);
        std::iter::from_fn(move || {
            if source.is_empty() {
                return None;
            }
            Some(read_entry(&mut source).expect("entries are checked before they are wrapped"))
        })
    }

    /// Returns true if there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The encoded form. Its length is the size before compression.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl<'a> FromIterator<Entry<'a>> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry<'a>>>(entries: I) -> Self {
        let mut builder = EntriesBuilder::new();
        for entry in entries {
            builder.push(entry.bucket, entry.key, entry.value);
        }
        builder.finish()
    }
}

/// Collects changes into [`Entries`].
#[derive(Clone, Debug, Default)]
pub struct EntriesBuilder {
    out: Vec<u8>,
}

impl EntriesBuilder {
    /// Creates an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change: `Some(value)` sets, `None` removes.
    pub fn push(&mut self, bucket: u16, key: &[u8], value: Option<&[u8]>) {
        put_varint(&mut self.out, u64::from(bucket));
        put_varint(&mut self.out, key.len() as u64);
        self.out.extend_from_slice(key);
        match value {
            None => put_varint(&mut self.out, 0),
            Some(value) => {
                put_varint(&mut self.out, value.len() as u64 + 1);
                self.out.extend_from_slice(value);
            }
        }
    }

    /// Encoded length so far, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.out.len()
    }

    /// Returns true if nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Returns the finished list.
    #[must_use]
    pub fn finish(self) -> Entries {
        Entries(Bytes::from(self.out))
    }
}

fn read_entry<'a>(source: &mut Source<'a>) -> Result<Entry<'a>, Defect> {
    let bucket = source.narrow()?;
    let key_len = source.length()?;
    let key = source.take(key_len)?;
    let value = match source.option()? {
        None => None,
        Some(len) => {
            let len = usize::try_from(len).map_err(|_| Defect::Truncated)?;
            Some(source.take(len)?)
        }
    };
    Ok(Entry { bucket, key, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Change = (u16, Vec<u8>, Option<Vec<u8>>);

    fn encode(changes: &[Change]) -> Entries {
        let mut builder = EntriesBuilder::new();
        for (bucket, key, value) in changes {
            builder.push(*bucket, key, value.as_deref());
        }
        builder.finish()
    }

    proptest! {
        #[test]
        fn entries_read_back_as_pushed(changes: Vec<Change>) {
            let entries = encode(&changes);
            let decoded = Entries::decode(entries.as_bytes().clone(), u16::MAX).unwrap();
            let read: Vec<Change> = decoded
                .iter()
                .map(|entry| (entry.bucket, entry.key.to_vec(), entry.value.map(<[u8]>::to_vec)))
                .collect();
            prop_assert_eq!(read, changes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(entries) = Entries::decode(Bytes::from(bytes), 300) {
                prop_assert!(entries.iter().all(|entry| entry.bucket <= 300));
            }
        }

        #[test]
        fn entries_that_end_inside_an_entry_are_refused(key: Vec<u8>, value: Vec<u8>) {
            let whole = encode(&[(3, key, Some(value))]).as_bytes().clone();
            for len in 1..whole.len() {
                prop_assert_eq!(
                    Entries::decode(whole.slice(..len), 300),
                    Err(Defect::Truncated)
                );
            }
        }
    }

    #[test]
    fn a_bucket_beyond_the_last_is_refused() {
        let entries = encode(&[(257, b"k".to_vec(), None)]);
        assert_eq!(
            Entries::decode(entries.as_bytes().clone(), 256),
            Err(Defect::Malformed(
                "it names a bucket that the partition does not have"
            ))
        );
    }
}
