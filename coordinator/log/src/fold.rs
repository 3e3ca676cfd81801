//! Who receives what is durable.

use crate::entries::Entry;

/// Receives what is durable: the state to be rebuilt.
pub trait Fold {
    /// Forget everything applied so far: the takeover begins anew.
    fn clear(&mut self);

    /// Apply one change. The changes of one bucket come in their order: its image first, then the log.
    fn apply(&mut self, entry: Entry<'_>);

    /// A takeover asks, before anything of `bucket` is applied, whether its image can stay unread for now. After `true` only the log entries of the
    /// bucket come, to be kept as an overlay (tombstones included) until [`Log::load`](crate::Log::load) gives the image. Buckets without an image are
    /// empty and not asked for; neither is the partition-wide bucket, which is always read. Never asked by [`read()`](crate::read()).
    fn absent(&mut self, bucket: u16, summary: BucketSummary) -> bool {
        let _ = (bucket, summary);
        false
    }

    /// `done` of `total` bytes are read and applied.
    fn progress(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }
}

/// What is known of an image without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketSummary {
    /// When the earliest timer in it is due, in milliseconds since 1970.
    pub earliest_due_ms: Option<u64>,
    /// Whether it holds work that goes on without any input.
    pub pending: bool,
    /// The length of its entries in bytes, unpacked.
    pub raw_bytes: u64,
}

/// Takes every image at once, whatever the fold inside would rather do.
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
