//! Size of all buckets, counted incrementally: it is needed after every input, and there may be
//! thousands of buckets.

use super::bucket_slot::BucketSlot;

/// Sizes of buckets as last counted, and the buckets whose size may have changed since.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    total: usize,
    counted: Vec<Counted>,
    changed: Vec<u16>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    bytes: usize,
    /// True if the bucket is in `changed`.
    is_changed: bool,
}

impl Sizes {
    /// Records that the size of a bucket may change.
    pub(super) fn may_change(&mut self, bucket: u16) {
        let index = usize::from(bucket);
        if self.counted.len() <= index {
            self.counted.resize(index + 1, Counted::default());
        }
        if !std::mem::replace(&mut self.counted[index].is_changed, true) {
            self.changed.push(bucket);
        }
    }

    /// Returns the size of all buckets, in bytes.
    pub(super) fn total(&mut self, slots: &[BucketSlot]) -> usize {
        for bucket in self.changed.drain(..) {
            let index = usize::from(bucket);
            let bytes = slots[index].bytes();
            let counted = &mut self.counted[index];
            self.total = self.total - counted.bytes + bytes;
            *counted = Counted {
                bytes,
                is_changed: false,
            };
        }
        self.total
    }
}
