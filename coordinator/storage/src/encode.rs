//! Durable form of what a partition commits.
//!
//! Each change of the engine is one log entry. Its key says to which bucket it belongs; a change
//! without a value is a removal.

use satchel_engine::durable::Change;
use satchel_engine::output::{BucketImage, Delta};
use satchel_engine::partition::{BucketProblem, LoadedBucket, Overlay};
use satchel_log::{Entries, EntriesBuilder, Entry};

/// Encodes a delta as the log commits it.
#[must_use]
pub fn encode_delta(buckets: u16, delta: &Delta) -> satchel_log::Delta {
    satchel_log::Delta {
        sequence: delta.number,
        committed_at_ms: delta.committed_at_ms,
        clean: delta.clean,
        entries: encode_changes(buckets, &delta.changes),
    }
}

/// Encodes the image of a bucket as a snapshot stores it.
#[must_use]
pub fn encode_image(buckets: u16, image: &BucketImage) -> satchel_log::BucketImage {
    satchel_log::BucketImage {
        bucket: image.bucket,
        sequence: image.delta,
        earliest_due_ms: image.summary.earliest_due_ms,
        pending: image.summary.pending,
        entries: encode_changes(buckets, &image.content),
    }
}

/// Encodes changes in their order.
#[must_use]
pub fn encode_changes(buckets: u16, changes: &[Change]) -> Entries {
    let mut encoder = ChangeEncoder::new(buckets);
    let mut entries = EntriesBuilder::new();
    for change in changes {
        let entry = encoder.encode(change);
        entries.push(entry.bucket, entry.key, entry.value);
    }
    entries.finish()
}

/// Encodes changes one by one, into buffers that it reuses.
#[derive(Clone, Debug)]
pub struct ChangeEncoder {
    buckets: u16,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl ChangeEncoder {
    /// Creates an encoder for a partition with this number of buckets.
    #[must_use]
    pub fn new(buckets: u16) -> Self {
        Self {
            buckets,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Encodes one change. The entry borrows the encoder's buffers.
    pub fn encode(&mut self, change: &Change) -> Entry<'_> {
        self.key.clear();
        self.value.clear();
        change.encode_key(&mut self.key);
        let has_value = change.encode_value(&mut self.value);
        Entry {
            bucket: change.key.bucket(self.buckets),
            key: &self.key,
            value: has_value.then_some(&self.value[..]),
        }
    }
}

/// Decodes an entry of a partition with this number of buckets.
///
/// # Errors
/// [`BucketProblem`] if the entry is not a fact that this software knows, or if the fact does not
/// belong to the entry's bucket.
pub fn decode_entry(buckets: u16, entry: Entry<'_>) -> Result<Change, BucketProblem> {
    let bucket = entry.bucket;
    let change = Change::decode(entry.key, entry.value)
        .map_err(|malformed| BucketProblem::Malformed { bucket, malformed })?;
    if change.key.bucket(buckets) != bucket {
        let fact = format!("{:?}", change.key);
        return Err(BucketProblem::Foreign { bucket, fact });
    }
    Ok(change)
}

/// Decodes the image of one bucket and applies its overlay.
///
/// # Errors
/// [`BucketProblem`] names the first entry that the bucket cannot hold.
pub fn decode_bucket(
    bucket: u16,
    buckets: u16,
    image: &Entries,
    overlay: &Overlay,
) -> Result<LoadedBucket, BucketProblem> {
    let entries = image.iter().map(|entry| (entry.key, entry.value));
    let expected = image.iter().count();
    LoadedBucket::decode(bucket, buckets, entries, expected, overlay)
}
