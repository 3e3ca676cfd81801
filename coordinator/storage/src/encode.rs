//! Durable form of what a partition commits.
//!
//! Each change of the engine is one log entry. Its key says to which bucket it belongs; a change
//! without a value is a removal.

use satchel_engine::durable::Change;
use satchel_engine::output::{BucketImage, Delta};
use satchel_engine::partition::{BucketProblem, LoadedBucket, Overlay};
use satchel_engine::placement::{CachedPlacement, Placement};
use satchel_log::{Entries, EntriesBuilder, Entry};

/// Encodes a delta as the log commits it.
#[must_use]
pub fn encode_delta(encoder: &mut ChangeEncoder, delta: &Delta) -> satchel_log::Delta {
    satchel_log::Delta {
        sequence: delta.number,
        committed_at_ms: delta.committed_at_ms,
        clean: delta.clean,
        entries: encoder.encode_all(&delta.changes),
    }
}

/// Encodes the image of a bucket as a snapshot stores it.
#[must_use]
pub fn encode_image(encoder: &mut ChangeEncoder, image: &BucketImage) -> satchel_log::BucketImage {
    satchel_log::BucketImage {
        bucket: image.bucket,
        sequence: image.delta,
        earliest_due_ms: image.summary.earliest_due_ms,
        pending: image.summary.pending,
        entries: encoder.encode_all(&image.content),
    }
}

/// Encodes changes in their order.
#[must_use]
pub fn encode_changes(placement: Placement, changes: &[Change]) -> Entries {
    ChangeEncoder::new(placement).encode_all(changes)
}

/// Encodes changes one by one, into buffers that it reuses.
#[derive(Clone, Debug)]
pub struct ChangeEncoder {
    placement: CachedPlacement,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl ChangeEncoder {
    /// Creates an encoder for a partition whose addresses are placed so.
    #[must_use]
    pub fn new(placement: Placement) -> Self {
        Self {
            placement: CachedPlacement::new(placement),
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
            bucket: change.key.bucket_cached(&mut self.placement),
            key: &self.key,
            value: has_value.then_some(&self.value[..]),
        }
    }

    /// Encodes changes in their order.
    pub fn encode_all(&mut self, changes: &[Change]) -> Entries {
        let mut entries = EntriesBuilder::new();
        for change in changes {
            let entry = self.encode(change);
            entries.push(entry.bucket, entry.key, entry.value);
        }
        entries.finish()
    }
}

/// Decodes an entry of a partition whose addresses are placed so.
///
/// # Errors
/// [`BucketProblem`] if the entry is not a fact that this software knows, or if the fact does not
/// belong to the entry's bucket.
pub fn decode_entry(
    placement: &mut CachedPlacement,
    entry: Entry<'_>,
) -> Result<Change, BucketProblem> {
    let bucket = entry.bucket;
    let change = Change::decode(entry.key, entry.value)
        .map_err(|malformed| BucketProblem::Malformed { bucket, malformed })?;
    if change.key.bucket_cached(placement) != bucket {
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
    placement: Placement,
    image: &Entries,
    overlay: &Overlay,
) -> Result<LoadedBucket, BucketProblem> {
    let entries = image.iter().map(|entry| (entry.key, entry.value));
    let expected = image.iter().count();
    LoadedBucket::decode(bucket, placement, entries, expected, overlay)
}
