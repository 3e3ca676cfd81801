//! A sparse index over a segment, for starting a read near a count or a time.

use crate::frame::HEAD_BYTES;

/// Maximum distance that is read to find a record, unless a single frame is larger.
const STEP_BYTES: u64 = 64 << 10;

/// Some of a segment's frames, in order.
#[derive(Debug, Default)]
pub(crate) struct Index(Vec<Entry>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    first: u64,
    time_ms: u64,
}

impl Index {
    /// Adds a frame with its offset and the count and time of its first record. Skips the frame if
    /// the last indexed one is less than [`STEP_BYTES`] before it.
    pub(crate) fn add(&mut self, offset: u64, first: u64, time_ms: u64) {
        let entry = Entry {
            offset,
            first,
            time_ms,
        };
        if self
            .0
            .last()
            .is_none_or(|last| offset - last.offset >= STEP_BYTES)
        {
            self.0.push(entry);
        }
    }

    /// Offset of a frame at or before the one that holds `count`.
    pub(crate) fn before_count(&self, count: u64) -> u64 {
        self.before(|entry| entry.first <= count)
    }

    /// Offset of a frame at or before the first one that holds a record of `time_ms` or later.
    pub(crate) fn before_time(&self, time_ms: u64) -> u64 {
        self.before(|entry| entry.time_ms < time_ms)
    }

    fn before(&self, is_before: impl Fn(&Entry) -> bool) -> u64 {
        let after = self.0.partition_point(is_before);
        match after.checked_sub(1) {
            Some(entry) => self.0[entry].offset,
            None => HEAD_BYTES as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_indexed_frame_before_is_found() {
        let mut index = Index::default();
        for step in 0..10 {
            index.add(32 + step * 40_000, 1 + step * 10, step * 100);
        }
        // Every second frame is indexed: at 32, 80032, 160032, ….
        assert_eq!(index.before_count(1), 32);
        assert_eq!(index.before_count(20), 32);
        assert_eq!(index.before_count(21), 80_032);
        assert_eq!(index.before_count(1_000), 320_032);
        assert_eq!(index.before_time(0), 32);
        assert_eq!(index.before_time(200), 32);
        assert_eq!(index.before_time(201), 80_032);
    }
}
