//! The receiver of durable content.

use crate::entries::Entry;

/// Receives durable content and rebuilds the state from it.
pub trait Fold {
    /// Forgets everything applied so far, because the takeover restarts.
    fn clear(&mut self);

    /// Applies one change. The changes of one bucket come in order: first its image, then the log.
    fn apply(&mut self, entry: Entry<'_>);

    /// Decides whether the image of `bucket` stays unread for now. A takeover asks before it
    /// applies anything of the bucket.
    ///
    /// After `true` only the log entries of the bucket come. The fold keeps them as an overlay
    /// (tombstones included) until [`Log::load`](crate::Log::load) delivers the image. A takeover
    /// does not ask about buckets without an image, which are empty, nor about the partition-wide
    /// bucket, which is always read. [`read()`](crate::read()) never asks.
    fn absent(&mut self, bucket: u16, summary: BucketSummary) -> bool {
        let _ = (bucket, summary);
        false
    }

    /// Reports that `done` of `total` bytes are read and applied.
    fn progress(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }
}

/// Facts about an image that are known without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketSummary {
    /// Time of the earliest timer in the image, in milliseconds since 1970.
    pub earliest_due_ms: Option<u64>,
    /// True if the bucket holds work that continues without any input.
    pub pending: bool,
    /// Length of its entries in bytes, uncompressed.
    pub raw_bytes: u64,
}

/// A fold that leaves no image unread, whatever the inner fold prefers.
pub(crate) struct Eager<'a, F>(pub(crate) &'a mut F);

impl<F: Fold> Fold for Eager<'_, F> {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn apply(&mut self, entry: Entry<'_>) {
        self.0.apply(entry);
    }

    fn progress(&mut self, done: u64, total: u64) {
        self.0.progress(done, total);
    }
}
