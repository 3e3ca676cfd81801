//! A stream's shards and settings. A change is made to a copy, which becomes durable as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::StreamError;
use crate::number::SequenceNumber;

/// Minimum retention in hours, and the retention of a new stream.
pub const RETENTION_HOURS_MIN: u32 = 24;
/// Maximum retention in hours.
pub const RETENTION_HOURS_MAX: u32 = 8_760;
/// Minimum of the maximum size of a record in KiB, and the one of a new stream.
pub const RECORD_KIB_MIN: u32 = 1_024;
/// Maximum of the maximum size of a record in KiB.
pub const RECORD_KIB_MAX: u32 = 10_240;
/// Maximum number of open shards of a stream.
pub const SHARDS_MAX: usize = 500;
/// Initial number of shards of an on-demand stream.
pub const ON_DEMAND_SHARDS: usize = 4;

/// A stream's shards and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Creation time in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// True if Kinesis would scale it on demand.
    pub on_demand: bool,
    /// Minimum time for which records are kept, in hours.
    pub retention_hours: u32,
    /// Maximum size of a record that is put over the Kinesis API, in KiB. Absent where it is that
    /// of a new stream, as in streams from before this field.
    #[serde(default = "record_kib", skip_serializing_if = "is_record_kib")]
    pub max_record_kib: u32,
    /// Shards that may still have records, by number.
    pub shards: Vec<Shard>,
    /// Number of the next shard.
    next_shard: u32,
    /// Tags of the stream.
    pub tags: BTreeMap<String, String>,
    /// Consumers registered for enhanced fan-out.
    pub consumers: Vec<Consumer>,
}

fn record_kib() -> u32 {
    RECORD_KIB_MIN
}

fn is_record_kib(kib: &u32) -> bool {
    *kib == RECORD_KIB_MIN
}

/// A consumer registered for enhanced fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    /// Its name, unique in its stream.
    pub name: String,
    /// Registration time in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// A shard of a stream: the records with hash keys in its range that were appended while it was
/// open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its number in the stream, from 0.
    pub index: u32,
    /// Shards that precede it: none, the one that was split, or the two that were merged.
    pub parents: Vec<u32>,
    /// The first hash key of its range.
    #[serde(with = "decimal")]
    pub first_hash_key: u128,
    /// The last hash key of its range.
    #[serde(with = "decimal")]
    pub last_hash_key: u128,
    created_ms: u64,
    /// Count that its creation took. 0 for the only shard of a stream that counted from 1.
    created_count: u64,
    closed: Option<Closed>,
    /// Highest count of its records. 0 if it has none.
    #[serde(default)]
    pub(crate) last: u64,
    /// Arrival time of its last record.
    #[serde(default)]
    pub(crate) last_ms: u64,
    /// Highest count of its records that the retention deleted. 0 if there are none.
    #[serde(default)]
    pub(crate) trimmed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    count: u64,
    time_ms: u64,
}

impl Shard {
    /// Its id in the format of Kinesis.
    pub fn id(&self) -> String {
        shard_id(self.index)
    }

    /// Number smaller than those of all its records.
    pub fn starting_sequence_number(&self) -> SequenceNumber {
        if self.created_count == 0 {
            return SequenceNumber::plain(0);
        }
        self.number(self.created_count, self.created_ms)
    }

    /// Number larger than those of all its records, if it is closed.
    pub fn ending_sequence_number(&self) -> Option<SequenceNumber> {
        let closed = self.closed.as_ref()?;
        Some(self.number(closed.count, closed.time_ms))
    }

    /// True if it accepts records.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Creation time in milliseconds since the Unix epoch.
    pub fn created_ms(&self) -> u64 {
        self.created_ms
    }

    /// Closing time in milliseconds since the Unix epoch.
    pub fn closed_ms(&self) -> Option<u64> {
        self.closed.as_ref().map(|closed| closed.time_ms)
    }

    /// Arrival time of its last record in milliseconds since the Unix epoch. 0 if it has none.
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// True if a record with this hash key belongs to it.
    pub fn holds(&self, hash_key: u128) -> bool {
        (self.first_hash_key..=self.last_hash_key).contains(&hash_key)
    }

    /// Sequence number of one of its records.
    pub(crate) fn number(&self, count: u64, time_ms: u64) -> SequenceNumber {
        SequenceNumber::new(self.created_ms / 1_000, count, time_ms, self.index)
    }

    /// True if this shard assigned `number` or could assign it.
    pub(crate) fn may_assign(&self, number: SequenceNumber) -> bool {
        let plain = self.created_count == 0 && number < SequenceNumber::new(0, 0, 0, 0);
        plain
            || number.shard() == self.index
                && self.number(number.count(), 0).with_time_of(number) == number
    }
}

/// Id of a shard in the format of Kinesis.
pub fn shard_id(index: u32) -> String {
    format!("shardId-{index:012}")
}

/// Number of the shard with this id.
pub fn parse_shard_id(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("shardId-")?;
    let index = digits.parse().ok()?;
    (shard_id(index) == id).then_some(index)
}

/// Time of a change, and the counts that the created and closed shards take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChangeContext {
    pub(crate) now_ms: u64,
    /// Next count of the stream.
    pub(crate) next: u64,
}

impl ChangeContext {
    fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

impl Description {
    /// Describes a new stream with `shards` equal shards.
    pub(crate) fn new(shards: usize, on_demand: bool, context: &mut ChangeContext) -> Self {
        let mut description = Self::empty(on_demand, context);
        for (first, last) in equal_ranges(shards) {
            description.open(Vec::new(), first, last, context);
        }
        description
    }

    /// Describes a stream that counted from 1 and had one shard until now.
    pub(crate) fn of_plain(context: &mut ChangeContext) -> Self {
        let mut description = Self::empty(false, context);
        description.open(
            Vec::new(),
            0,
            u128::MAX,
            &mut ChangeContext {
                next: 0,
                ..*context
            },
        );
        description
    }

    fn empty(on_demand: bool, context: &ChangeContext) -> Self {
        Self {
            created_ms: context.now_ms,
            on_demand,
            retention_hours: RETENTION_HOURS_MIN,
            max_record_kib: RECORD_KIB_MIN,
            shards: Vec::new(),
            next_shard: 0,
            tags: BTreeMap::new(),
            consumers: Vec::new(),
        }
    }

    /// Maximum size of a record's key and data that is put over the Kinesis API, in bytes.
    pub fn max_record_bytes(&self) -> usize {
        self.max_record_kib as usize * 1_024
    }

    /// The shard with this number.
    pub fn shard(&self, index: u32) -> Option<&Shard> {
        let position = self
            .shards
            .binary_search_by_key(&index, |shard| shard.index);
        position.ok().map(|position| &self.shards[position])
    }

    /// The shard with this number, mutable.
    pub(crate) fn shard_mut(&mut self, index: u32) -> Option<&mut Shard> {
        let position = self
            .shards
            .binary_search_by_key(&index, |shard| shard.index);
        position.ok().map(|position| &mut self.shards[position])
    }

    /// Shards that accept records, in the order of their ranges.
    pub fn open_shards(&self) -> Vec<&Shard> {
        let mut open: Vec<_> = self.shards.iter().filter(|shard| shard.is_open()).collect();
        open.sort_by_key(|shard| shard.first_hash_key);
        open
    }

    /// Shards that follow from this one by a split or a merge.
    pub fn children(&self, parent: u32) -> impl Iterator<Item = &Shard> {
        let is_child = move |shard: &&Shard| shard.parents.contains(&parent);
        self.shards.iter().filter(is_child)
    }

    /// Splits a shard in two.
    pub(crate) fn split(
        &mut self,
        index: u32,
        second_from: u128,
        context: &mut ChangeContext,
    ) -> Result<(), StreamError> {
        let shard = self.open_shard(index)?;
        let (first, last) = (shard.first_hash_key, shard.last_hash_key);
        if second_from <= first || second_from > last {
            return Err(StreamError::InvalidChange(format!(
                "the new starting hash key {second_from} of {} must be above {first} \
                and at most {last}",
                shard.id()
            )));
        }
        self.check_room_for(1)?;
        self.close(index, context);
        self.open(vec![index], first, second_from - 1, context);
        self.open(vec![index], second_from, last, context);
        Ok(())
    }

    /// Merges two adjacent shards.
    pub(crate) fn merge(
        &mut self,
        one: u32,
        other: u32,
        context: &mut ChangeContext,
    ) -> Result<(), StreamError> {
        let (low, high) = (self.open_shard(one)?, self.open_shard(other)?);
        let (low, high) = if low.first_hash_key <= high.first_hash_key {
            (low, high)
        } else {
            (high, low)
        };
        if low.last_hash_key.checked_add(1) != Some(high.first_hash_key) {
            return Err(StreamError::InvalidChange(format!(
                "the shards {} and {} are not adjacent",
                shard_id(one),
                shard_id(other)
            )));
        }
        let (first, last) = (low.first_hash_key, high.last_hash_key);
        self.close(one, context);
        self.close(other, context);
        self.open(vec![one, other], first, last, context);
        Ok(())
    }

    /// Makes `target` equal shards: splits at every new border, then merges across every old one.
    pub(crate) fn scale(
        &mut self,
        target: usize,
        context: &mut ChangeContext,
    ) -> Result<(), StreamError> {
        let ranges = equal_ranges(target);
        for (border, _) in ranges.iter().skip(1) {
            let crossed = self.shards.iter().find(|shard| {
                shard.is_open() && shard.holds(*border) && shard.first_hash_key != *border
            });
            if let Some(index) = crossed.map(|shard| shard.index) {
                self.close_into(index, *border, context);
            }
        }
        for (first, last) in ranges {
            let inside =
                |shard: &&Shard| first <= shard.first_hash_key && shard.last_hash_key <= last;
            let parts: Vec<u32> = self
                .open_shards()
                .into_iter()
                .filter(inside)
                .map(|shard| shard.index)
                .collect();
            let mut parts = parts.into_iter();
            let Some(mut merged) = parts.next() else {
                continue;
            };
            for next in parts {
                self.merge(merged, next, context)?;
                merged = self.next_shard - 1;
            }
        }
        Ok(())
    }

    fn close_into(&mut self, index: u32, border: u128, context: &mut ChangeContext) {
        let Some(shard) = self.shard(index) else {
            return;
        };
        let (first, last) = (shard.first_hash_key, shard.last_hash_key);
        self.close(index, context);
        self.open(vec![index], first, border - 1, context);
        self.open(vec![index], border, last, context);
    }

    /// Removes closed shards whose records were all deleted by the retention.
    pub(crate) fn forget_trimmed(&mut self, now_ms: u64) {
        let kept_ms = u64::from(self.retention_hours) * 3_600_000;
        self.shards.retain(|shard| match &shard.closed {
            Some(closed) => {
                shard.last > shard.trimmed || closed.time_ms.saturating_add(kept_ms) >= now_ms
            }
            None => true,
        });
    }

    /// Time before which records have expired, in milliseconds since the Unix epoch.
    pub fn horizon_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(u64::from(self.retention_hours) * 3_600_000)
    }

    pub(crate) fn check_room_for(&self, more: usize) -> Result<(), StreamError> {
        let open = self.shards.iter().filter(|shard| shard.is_open()).count();
        if open + more > SHARDS_MAX {
            return Err(StreamError::TooMany(format!(
                "a stream has at most {SHARDS_MAX} open shards; these would be {}",
                open + more
            )));
        }
        Ok(())
    }

    fn open_shard(&self, index: u32) -> Result<&Shard, StreamError> {
        let shard = self.shard(index).ok_or_else(|| {
            StreamError::UnknownShard(format!("the stream has no shard {}", shard_id(index)))
        })?;
        if !shard.is_open() {
            return Err(StreamError::InvalidChange(format!(
                "{} is closed",
                shard.id()
            )));
        }
        Ok(shard)
    }

    fn close(&mut self, index: u32, context: &mut ChangeContext) {
        let count = context.take();
        let time_ms = context.now_ms;
        if let Some(shard) = self.shard_mut(index) {
            shard.closed = Some(Closed { count, time_ms });
        }
    }

    fn open(&mut self, parents: Vec<u32>, first: u128, last: u128, context: &mut ChangeContext) {
        // A shard is never created before its parents, whatever the clock says. Its numbers start
        // with this time and must be larger than theirs.
        let parents_ms = parents.iter().filter_map(|parent| self.shard(*parent));
        let parents_ms = parents_ms.map(|parent| parent.created_ms).max();
        self.shards.push(Shard {
            index: self.next_shard,
            parents,
            first_hash_key: first,
            last_hash_key: last,
            created_ms: context.now_ms.max(parents_ms.unwrap_or(0)),
            created_count: context.take(),
            closed: None,
            last: 0,
            last_ms: 0,
            trimmed: 0,
        });
        self.next_shard += 1;
    }
}

/// Divides all hash keys into `count` ranges of equal size.
fn equal_ranges(count: usize) -> Vec<(u128, u128)> {
    let count = count.max(1) as u128;
    // 2^128 / count, rounded down, without 2^128.
    let size = if count == 1 {
        u128::MAX
    } else {
        (u128::MAX - count + 1) / count + 1
    };
    let range = |position: u128| {
        let last = if position + 1 == count {
            u128::MAX
        } else {
            (position + 1) * size - 1
        };
        (position * size, last)
    };
    (0..count).map(range).collect()
}

/// 128-bit numbers as decimal strings, because JSON readers lose digits of large numbers.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(number: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
