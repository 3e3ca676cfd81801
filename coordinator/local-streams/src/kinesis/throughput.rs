//! Throughput limits of shards, as in Kinesis.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Bytes that a shard accepts per second.
const WRITE_BYTES: f64 = 1_048_576.0;
/// Records that a shard accepts per second.
const WRITE_RECORDS: f64 = 1_000.0;
/// Bytes per second that a shard returns to pollers.
const READ_BYTES: f64 = 2_097_152.0;
/// Polls per second that a shard serves.
const READS: f64 = 5.0;

/// A shard, distinguished from a shard of a deleted stream with the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ShardKey {
    pub(super) stream: String,
    pub(super) created_ms: u64,
    pub(super) shard: u32,
}

/// Throughput of all shards.
#[derive(Debug)]
pub(super) struct Throughput {
    /// None if there are no limits.
    shards: Option<Mutex<HashMap<ShardKey, Shard>>>,
}

#[derive(Debug)]
struct Shard {
    write_bytes: Bucket,
    write_records: Bucket,
    read_bytes: Bucket,
    reads: Bucket,
}

/// Token bucket that fills with `rate` per second, up to the amount of one second.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    filled: Instant,
}

impl Throughput {
    /// Applies the limits of Kinesis, or none.
    pub(super) fn new(limited: bool) -> Self {
        Self {
            shards: limited.then(Mutex::default),
        }
    }

    /// Takes capacity for one record of `bytes` bytes. False if the shard is throttled.
    pub(super) fn write(&self, shard: &ShardKey, bytes: usize) -> bool {
        self.with(shard, |shard, now| {
            let fits = shard.write_bytes.has_any(now) && shard.write_records.has(now, 1.0);
            if fits {
                // A record larger than the rest is accepted and paid for later, because a shard
                // accepts records of 1 MiB and a key.
                shard.write_bytes.level -= bytes as f64;
                shard.write_records.level -= 1.0;
            }
            fits
        })
    }

    /// Takes capacity for one read. False if the shard is throttled.
    pub(super) fn read(&self, shard: &ShardKey) -> bool {
        self.with(shard, |shard, now| {
            let fits = shard.read_bytes.has_any(now) && shard.reads.has(now, 1.0);
            if fits {
                shard.reads.level -= 1.0;
            }
            fits
        })
    }

    /// Charges the bytes that a read returned.
    pub(super) fn charge_read(&self, shard: &ShardKey, bytes: usize) {
        self.with(shard, |shard, _| {
            shard.read_bytes.level -= bytes as f64;
            true
        });
    }

    fn with(&self, key: &ShardKey, apply: impl FnOnce(&mut Shard, Instant) -> bool) -> bool {
        let Some(shards) = &self.shards else {
            return true;
        };
        let now = Instant::now();
        let mut shards = shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = shards.get_mut(key) {
            return apply(shard, now);
        }
        apply(
            shards.entry(key.clone()).or_insert_with(|| Shard::new(now)),
            now,
        )
    }
}

impl Shard {
    fn new(now: Instant) -> Self {
        let bucket = |rate| Bucket {
            rate,
            level: rate,
            filled: now,
        };
        Self {
            write_bytes: bucket(WRITE_BYTES),
            write_records: bucket(WRITE_RECORDS),
            read_bytes: bucket(READ_BYTES),
            reads: bucket(READS),
        }
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let seconds = now.duration_since(self.filled).as_secs_f64();
        self.level = (self.level + seconds * self.rate).min(self.rate);
        self.filled = now;
    }

    /// True if it holds at least `amount`.
    fn has(&mut self, now: Instant, amount: f64) -> bool {
        self.fill(now);
        self.level >= amount
    }

    /// True if it is not empty.
    fn has_any(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level > 0.0
    }
}
