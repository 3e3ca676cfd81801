//! Keys with optional values, packed one behind the other.
//!
//! Layout of a chunk, repeated to its end: length of the key (varint), length of the value plus
//! one, or 0 for none (varint), key, value. An entry lies in one chunk.

/// Capacity in bytes of the first chunk.
const CHUNK_BYTES_MIN: usize = 512;
/// Capacity in bytes of a chunk, unless one entry needs more.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Maximum length of the two lengths of an entry, in bytes.
const HEAD_BYTES_MAX: usize = 20;

/// A list of keys with optional values. Adding one copies it and nothing else.
#[derive(Debug, Clone, Default)]
pub(super) struct PackedEntries {
    /// Each is filled up to its capacity, which is never exceeded.
    chunks: Vec<Vec<u8>>,
    /// Capacity of all chunks, in bytes.
    bytes: usize,
}

impl PackedEntries {
    /// Adds an entry at the end.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let value_bytes = value.map_or(0, <[u8]>::len);
        let needed = HEAD_BYTES_MAX + key.len() + value_bytes;
        let chunk = self.chunk_for(needed);
        put_entry(chunk, key, value);
    }

    /// Returns a chunk with room for this number of bytes.
    fn chunk_for(&mut self, needed: usize) -> &mut Vec<u8> {
        let has_room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= needed;
        if !self.chunks.last().is_some_and(has_room) {
            // At most a quarter of the capacity is unused, and few chunks hold many entries.
            let usual = (self.bytes / 4).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
            let capacity = usual.max(needed);
            self.bytes += capacity;
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    /// Iterates over the entries in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.chunks.iter().flat_map(|chunk| Entries(chunk))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Two lists are equal if they hold the same entries in the same order, in whatever chunks.
impl PartialEq for PackedEntries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Encodes an entry.
pub(super) fn put_entry(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    put_number(out, key.len());
    put_number(out, value.map_or(0, |value| value.len() + 1));
    out.extend_from_slice(key);
    out.extend_from_slice(value.unwrap_or_default());
}

/// The entries of the rest of a chunk.
pub(super) struct Entries<'a>(pub(super) &'a [u8]);

impl<'a> Entries<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> usize {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return number;
            }
            shift += 7;
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (key_length, value_length) = (self.number(), self.number());
        let key = self.take(key_length);
        let value = value_length.checked_sub(1).map(|length| self.take(length));
        Some((key, value))
    }
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_read_back_as_added(
            entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
            large in proptest::option::of(CHUNK_BYTES_MAX..3 * CHUNK_BYTES_MAX),
        ) {
            let mut entries = entries;
            entries.extend(large.map(|length| (vec![1; length], Some(vec![2; length]))));
            entries.push((Vec::new(), None));
            let mut packed = PackedEntries::default();
            for (key, value) in &entries {
                packed.push(key, value.as_deref());
            }
            let read: Vec<_> = packed.iter().collect();
            let added = entries.iter().map(|(key, value)| (&key[..], value.as_deref()));
            prop_assert_eq!(read, added.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_long_list_needs_few_chunks_and_little_more_than_its_entries() {
        let mut packed = PackedEntries::default();
        let entries = 10_000;
        for _ in 0..entries {
            packed.push(&[1; 50], Some(&[2; 150]));
        }
        assert!(packed.chunks.len() < 60, "{}", packed.chunks.len());
        assert!(packed.bytes() < entries * 200 * 5 / 4, "{}", packed.bytes());
        let capacity = packed.chunks.iter().map(Vec::capacity);
        assert_eq!(capacity.sum::<usize>(), packed.bytes());
    }
}
