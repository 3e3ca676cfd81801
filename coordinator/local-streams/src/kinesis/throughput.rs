//! What a shard takes and gives a second, as Kinesis limits it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A shard takes so many bytes a second.
const WRITE_BYTES: f64 = 1_048_576.0;
/// A shard takes so many records a second.
const WRITE_RECORDS: f64 = 1_000.0;
/// A shard gives so many bytes a second to those who poll.
const READ_BYTES: f64 = 2_097_152.0;
/// A shard is polled so often a second.
const READS: f64 = 5.0;

/// A shard, told from one of a stream of the same name that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ShardKey {
    pub(super) stream: String,
    pub(super) created_ms: u64,
    pub(super) shard: u32,
}

/// The throughput of all shards.
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

/// Fills with `rate` a second, up to what a second gives.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    filled: Instant,
}

impl Throughput {
    /// With the limits of Kinesis, or without any.
    pub(super) fn new(limited: bool) -> Self {
        Self {
            shards: limited.then(Mutex::default),
        }
    }

    /// Whether a shard takes a record of so many bytes now.
    pub(super) fn write(&self, shard: &ShardKey, bytes: usize) -> bool {
        self.with(shard, |shard, now| {
            let fits = shard.write_bytes.fits(now) && shard.write_records.has(now, 1.0);
            if fits {
                // A record larger than what is left is taken, and paid for later: a shard takes records of 1 MiB and a key.
                shard.write_bytes.level -= bytes as f64;
                shard.write_records.level -= 1.0;
            }
            fits
        })
    }

    /// Whether a shard is read now.
    pub(super) fn read(&self, shard: &ShardKey) -> bool {
        self.with(shard, |shard, now| {
            let fits = shard.read_bytes.fits(now) && shard.reads.has(now, 1.0);
            if fits {
                shard.reads.level -= 1.0;
            }
            fits
        })
    }

    /// So many bytes of a shard were given.
    pub(super) fn note_read(&self, shard: &ShardKey, bytes: usize) {
        self.with(shard, |shard, _| {
            shard.read_bytes.level -= bytes as f64;
            true
        });
    }

    fn with(&self, key: &ShardKey, ask: impl FnOnce(&mut Shard, Instant) -> bool) -> bool {
        let Some(shards) = &self.shards else {
            return true;
        };
        let now = Instant::now();
        let mut shards = shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = shards.get_mut(key) {
            return ask(shard, now);
        }
        ask(
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

    /// Whether so much is in it.
    fn has(&mut self, now: Instant, amount: f64) -> bool {
        self.fill(now);
        self.level >= amount
    }

    /// Whether anything is in it.
    fn fits(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level > 0.0
    }
}
