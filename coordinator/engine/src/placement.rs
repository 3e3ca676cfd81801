//! Placement: the key group of an address or an id, and the partition of a key group.
//!
//! Key groups are numbered over the whole application. A key group is a bucket, the unit of
//! snapshots and loading. A partition owns a contiguous range of key groups, so its facts move to
//! another partition as whole buckets.
//!
//! ```text
//!  id ──hash tag──► MD5 ──top bits──► key group ──map──► partition
//!                    │                    ▲
//!                    └ hash key of a record of Kinesis, with the id as its partition key
//! ```
//!
//! Addresses with equal ids have one key group, whatever their function types, so messages between
//! the functions of one entity stay in one partition. Key groups are ranges of MD5, as Kinesis's
//! shards are: the records of P even shards belong to P even partitions, if P divides the number of
//! key groups.
//!
//! A reserved address, which stands for a caller or a place, names its key group itself.
//!
//! The placement is fixed when a root is created. Roots of earlier versions hash the whole address,
//! with which no partition but one is possible.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use md5::{Digest, Md5};

use crate::address::{Address, FunctionType, RESERVED_NAMESPACE, stable_hash};

#[cfg(test)]
mod tests;

/// Default number of key groups of a new application.
pub const DEFAULT_KEY_GROUPS: u16 = 1_024;

/// Maximum number of key groups. One number more names the partition-wide bucket.
pub const KEY_GROUPS_MAX: u16 = u16::MAX - 1;

/// Number of a key group, over the whole application, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyGroup(pub u16);

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Function from addresses to key groups. It never changes during the life of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Number of key groups, from 1 to [`KEY_GROUPS_MAX`].
    pub key_groups: u16,
    /// Choice of the key group.
    pub kind: PlacementKind,
}

/// Choice of the key group of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlacementKind {
    /// Remainder of the hash XXH3 of function type and id: roots of formats 1 and 2.
    Xxh3,
    /// Top bits of the MD5 of the id.
    IdMd5 {
        /// True if only the hash tag of an id is hashed, where it has one (see [`hash_tag`]).
        hash_tags: bool,
    },
}

impl PlacementKind {
    /// Name in the record of a root and to people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Xxh3 => "xxh3",
            Self::IdMd5 { .. } => "id-md5",
        }
    }
}

impl Placement {
    /// Placement of the roots of formats 1 and 2.
    #[must_use]
    pub const fn xxh3(buckets: u16) -> Self {
        Self {
            key_groups: buckets,
            kind: PlacementKind::Xxh3,
        }
    }

    /// Placement by the MD5 of the id.
    #[must_use]
    pub const fn id_md5(key_groups: u16, hash_tags: bool) -> Self {
        Self {
            key_groups,
            kind: PlacementKind::IdMd5 { hash_tags },
        }
    }

    /// Returns the key group of an address.
    #[must_use]
    pub fn key_group(&self, address: &Address) -> KeyGroup {
        match self.kind {
            PlacementKind::Xxh3 => self.of_stable_hash(address.stable_hash()),
            PlacementKind::IdMd5 { .. } => match self.named_by(address) {
                Some(key_group) => key_group,
                None => self.key_group_of_id(&address.id),
            },
        }
    }

    /// Returns the key group that a reserved address names: its id begins with the number, in four
    /// hexadecimal digits. Callers and the places of unaddressed dead letters are such addresses.
    pub(crate) fn named_by(&self, address: &Address) -> Option<KeyGroup> {
        if address.function.namespace() != RESERVED_NAMESPACE {
            return None;
        }
        let digits = address.id.get(..4)?;
        let key_group = u16::from_str_radix(digits, 16).ok()?;
        (key_group < self.key_groups).then_some(KeyGroup(key_group))
    }

    /// Returns the key group of an address that is given in parts.
    pub(crate) fn key_group_of(&self, function: &FunctionType, id: &str) -> KeyGroup {
        match self.kind {
            PlacementKind::Xxh3 => self.of_stable_hash(stable_hash(function, id)),
            PlacementKind::IdMd5 { .. } => self.key_group_of_id(id),
        }
    }

    /// Returns the key group of all addresses with this id. Names that are no ids, as those of
    /// streams and queues, are placed in the same way.
    ///
    /// The placement `xxh3` has no key group of an id alone. It returns that of the MD5, by which
    /// no address is placed there.
    #[must_use]
    pub fn key_group_of_id(&self, id: &str) -> KeyGroup {
        let hashed = match self.kind {
            PlacementKind::IdMd5 { hash_tags: true } => hash_tag(id),
            _ => id,
        };
        self.key_group_of_hash_key(hash_key(hashed))
    }

    /// Returns the key group of a hash key of Kinesis.
    #[must_use]
    pub fn key_group_of_hash_key(&self, hash_key: u128) -> KeyGroup {
        // The product has up to 144 bits, so it is made of two halves.
        let key_groups = u128::from(self.key_groups);
        let low = (hash_key & u128::from(u64::MAX)) * key_groups;
        let high = (hash_key >> 64) * key_groups + (low >> 64);
        KeyGroup((high >> 64) as u16)
    }

    /// Number of buckets of the only partition. The partition-wide bucket has this number.
    #[must_use]
    pub const fn buckets(&self) -> u16 {
        self.key_groups
    }

    /// True if all addresses with one id have one key group, so that facts and ids can name it.
    #[must_use]
    pub const fn has_key_groups_of_ids(&self) -> bool {
        matches!(self.kind, PlacementKind::IdMd5 { .. })
    }

    /// True if the hash tags of ids are used.
    #[must_use]
    pub const fn has_hash_tags(&self) -> bool {
        matches!(self.kind, PlacementKind::IdMd5 { hash_tags: true })
    }

    fn of_stable_hash(&self, stable_hash: u64) -> KeyGroup {
        KeyGroup(((stable_hash & 0xffff_ffff) % u64::from(self.key_groups.max(1))) as u16)
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self::id_md5(DEFAULT_KEY_GROUPS, false)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags = match self.has_hash_tags() {
            true => " with hash tags",
            false => "",
        };
        let (kind, key_groups) = (self.kind.name(), self.key_groups);
        write!(f, "{kind}{tags} over {key_groups} key groups")
    }
}

/// Placement that remembers the key groups of ids that it met lately. A message needs that of its
/// address many times, and an MD5 takes as long as a dozen look-ups in a hash table.
#[derive(Debug, Clone)]
pub struct CachedPlacement {
    placement: Placement,
    /// Ids with their key groups, each at a place that its hash chooses. Empty until it is used.
    slots: Vec<Option<(Arc<str>, KeyGroup)>>,
}

/// Number of ids that a [`CachedPlacement`] remembers. Ids have a maximum length, so this bounds
/// its size too.
const CACHED_IDS: usize = 1_024;

impl CachedPlacement {
    /// Creates an empty cache over `placement`.
    #[must_use]
    pub const fn new(placement: Placement) -> Self {
        Self {
            placement,
            slots: Vec::new(),
        }
    }

    /// Placement that is cached.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        self.placement
    }

    /// Returns the key group of an address, as [`Placement::key_group`].
    pub fn key_group(&mut self, address: &Address) -> KeyGroup {
        if self.placement.kind == PlacementKind::Xxh3 {
            return self.placement.key_group(address);
        }
        // The id of a reserved address has another key group than the address.
        if let Some(key_group) = self.placement.named_by(address) {
            return key_group;
        }
        if self.slots.is_empty() {
            self.slots.resize(CACHED_IDS, None);
        }
        let hash = foldhash::fast::FixedState::default().hash_one(&*address.id);
        let slot = &mut self.slots[hash as usize % CACHED_IDS];
        match slot {
            Some((id, key_group)) if *id == address.id => *key_group,
            _ => {
                let key_group = self.placement.key_group(address);
                *slot = Some((Arc::clone(&address.id), key_group));
                key_group
            }
        }
    }
}

/// Returns the hash tag of an id: the text between its first `{` and the next `}`, or the whole id
/// if there is no such text or it is empty. So `{tenant}/order-7` and `{tenant}/order-8` have one
/// key group. Redis Cluster has the same rule.
#[must_use]
pub fn hash_tag(id: &str) -> &str {
    let tag = id
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(id)
}

/// Hash key of a text: its MD5, as a number. Kinesis computes the same of a partition key.
#[must_use]
pub fn hash_key(text: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(text.as_bytes()).into())
}

/// Contiguous range of key groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyGroupRange {
    first: u16,
    end: u16,
}

impl KeyGroupRange {
    /// Range of the key groups from `first` up to, and without, `end`. It is empty if `end` is not
    /// larger.
    #[must_use]
    pub const fn new(first: u16, end: u16) -> Self {
        Self { first, end }
    }

    /// Range of partition `partition` if `key_groups` are divided evenly among `partitions`.
    #[must_use]
    pub fn even(key_groups: u16, partition: u16, partitions: u16) -> Self {
        let bound = |partition: u16| {
            let bound = u32::from(key_groups) * u32::from(partition) / u32::from(partitions.max(1));
            bound as u16
        };
        Self {
            first: bound(partition),
            end: bound(partition.saturating_add(1)),
        }
    }

    /// First key group of the range.
    #[must_use]
    pub const fn first(&self) -> KeyGroup {
        KeyGroup(self.first)
    }

    /// Number after that of the last key group.
    #[must_use]
    pub const fn end(&self) -> u16 {
        self.end
    }

    /// Number of key groups.
    #[must_use]
    pub const fn len(&self) -> u16 {
        self.end.saturating_sub(self.first)
    }

    /// True if there is no key group in the range.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a key group lies in the range.
    #[must_use]
    pub const fn contains(&self, key_group: KeyGroup) -> bool {
        self.first <= key_group.0 && key_group.0 < self.end
    }

    /// Iterates over the key groups.
    pub fn key_groups(&self) -> impl Iterator<Item = KeyGroup> + use<> {
        (self.first..self.end).map(KeyGroup)
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            0 => write!(f, "none"),
            1 => write!(f, "{}", self.first),
            _ => write!(f, "{}-{}", self.first, self.end - 1),
        }
    }
}

/// Map of key groups to partitions: each key group has exactly one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMap {
    key_groups: u16,
    /// End of each partition's range, with the partition's number, in the order of the ranges.
    ends: Vec<(u16, u32)>,
}

/// The ranges of a partition map are not a division of the key groups.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMap {
    /// A partition's range is empty, or does not begin where the one before ends.
    #[error("partition {partition} has the key groups {range}, expected a range from {expected}")]
    Range {
        /// Number of the partition.
        partition: u32,
        /// Its range.
        range: KeyGroupRange,
        /// Expected begin of the range.
        expected: u16,
    },
    /// The ranges do not end with the last key group.
    #[error("the partitions have the key groups before {end}, of {key_groups}")]
    End {
        /// End of the last range.
        end: u16,
        /// Number of key groups.
        key_groups: u16,
    },
    /// Two ranges have one partition.
    #[error("partition {0} is named twice")]
    Twice(u32),
}

impl PartitionMap {
    /// Map of `key_groups` to `partitions` with even ranges, numbered from 0. There are at most as
    /// many partitions as key groups, and at least one.
    #[must_use]
    pub fn even(key_groups: u16, partitions: u16) -> Self {
        let partitions = partitions.clamp(1, key_groups.max(1));
        let ends = (0..partitions)
            .map(|partition| {
                let range = KeyGroupRange::even(key_groups, partition, partitions);
                (range.end, u32::from(partition))
            })
            .collect();
        Self { key_groups, ends }
    }

    /// Map of `key_groups` to these partitions, in the order of their ranges.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidMap`] unless each key group is in exactly one range.
    pub fn new(key_groups: u16, partitions: &[(u32, KeyGroupRange)]) -> Result<Self, InvalidMap> {
        let mut ends: Vec<(u16, u32)> = Vec::with_capacity(partitions.len());
        let mut expected = 0;
        for (partition, range) in partitions.iter().copied() {
            if range.first != expected || range.is_empty() {
                return Err(InvalidMap::Range {
                    partition,
                    range,
                    expected,
                });
            }
            if ends.iter().any(|(_, number)| *number == partition) {
                return Err(InvalidMap::Twice(partition));
            }
            expected = range.end;
            ends.push((range.end, partition));
        }
        if expected != key_groups {
            return Err(InvalidMap::End {
                end: expected,
                key_groups,
            });
        }
        Ok(Self { key_groups, ends })
    }

    /// Returns the partition of a key group. A number beyond the last key group has the last
    /// partition.
    #[must_use]
    pub fn partition_of(&self, key_group: KeyGroup) -> u32 {
        let at = self.ends.partition_point(|(end, _)| *end <= key_group.0);
        self.ends[at.min(self.ends.len() - 1)].1
    }

    /// Returns the range of a partition, if it is one of the map's.
    #[must_use]
    pub fn range_of(&self, partition: u32) -> Option<KeyGroupRange> {
        let mut ranges = self.partitions();
        ranges.find_map(|(number, range)| (number == partition).then_some(range))
    }

    /// Iterates over the partitions, in the order of their ranges.
    pub fn partitions(&self) -> impl Iterator<Item = (u32, KeyGroupRange)> {
        let firsts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        let ranges = firsts.zip(&self.ends);
        ranges.map(|(first, (end, partition))| (*partition, KeyGroupRange::new(first, *end)))
    }

    /// Number of key groups.
    #[must_use]
    pub fn key_groups(&self) -> u16 {
        self.key_groups
    }
}
