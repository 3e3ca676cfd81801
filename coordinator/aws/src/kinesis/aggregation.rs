//! Aggregated records of the Kinesis Producer Library: many user records under one sequence number.
//!
//! The format is that of `amazon-kinesis-producer`'s `aggregation-format.md`: four bytes of magic,
//! a protobuf message, and its MD5. Data that is not valid in every part is plain data, as in the
//! Kinesis Client Library.
//!
//! An aggregate may hold records whose hash keys lie outside the range of the shard that holds it.
//! Their meaning depends on the producer:
//!
//! - The producer library gathers records for one shard. If the shard was split meanwhile, the
//!   library sees in the response that some records arrived in the wrong shard, and sends those
//!   again. They must be dropped here, or they would be processed twice.
//! - Other libraries gather any records, put the aggregate under the key of its first record, and
//!   never send anything again. All of its records must be kept.
//!
//! The record itself shows who made it ([`Aggregation::Detect`]). The producer library puts an
//! aggregate of two or more records under the key `a`, with the hash key of the first record, which
//! therefore belongs to the shard; and it writes down a hash key only where the application gave
//! one.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use satchel_engine::position::ShardId;
use tokio::time::Instant;

use super::hash_key::{hash_key_of, md5_of};

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST_BYTES: usize = 16;

/// Partition key of every aggregate of the producer library.
const LIBRARY_KEY: &str = "a";

/// Treatment of records in aggregates that belong to another shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregation {
    /// Drop them if the aggregate is one of the producer library, else keep them.
    #[default]
    Detect,
    /// Drop them, as the Kinesis Client Library does.
    Kpl,
    /// Keep them.
    Keep,
}

/// User records of one record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecords {
    /// Records, each with its sub-sequence number: its index in the aggregate, or 0 for plain data.
    pub records: Vec<(u64, UserRecord)>,
    /// Number of records that were dropped, because they belong to another shard.
    pub dropped: u64,
}

/// One user record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Its partition key.
    pub key: Arc<str>,
    /// Hash key that its producer set instead of the one of its partition key.
    pub explicit_hash_key: Option<u128>,
    /// Its data.
    pub data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, required, tag = "1")]
    partition_key_index: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", required, tag = "3")]
    data: Bytes,
}

/// Unpacks a record with this key and data, from a shard whose records have hash keys in
/// `hash_range` (both ends included). Without a range, nothing is dropped.
pub fn user_records(
    key: &str,
    data: &Bytes,
    hash_range: Option<(u128, u128)>,
    aggregation: Aggregation,
) -> UserRecords {
    let Some(records) = unpack(data) else {
        let record = UserRecord {
            key: key.into(),
            explicit_hash_key: None,
            data: data.clone(),
        };
        return UserRecords {
            records: vec![(0, record)],
            dropped: 0,
        };
    };
    let dropping = hash_range.filter(|range| match aggregation {
        Aggregation::Detect => is_of_producer_library(key, &records, *range),
        Aggregation::Kpl => true,
        Aggregation::Keep => false,
    });
    let count = records.len();
    let kept: Vec<_> = (0..)
        .zip(records)
        .filter(|(_, record)| dropping.is_none_or(|range| belongs(record, range)))
        .collect();
    UserRecords {
        dropped: (count - kept.len()) as u64,
        records: kept,
    }
}

/// True if the aggregate looks in every respect like one of the producer library.
fn is_of_producer_library(key: &str, records: &[UserRecord], range: (u128, u128)) -> bool {
    // Aggregators of other languages write down the hash keys that follow from the keys.
    let is_derived = |record: &UserRecord| {
        let derived = hash_key_of(&record.key);
        record.explicit_hash_key == Some(derived)
    };
    let [first, _, ..] = records else {
        return false;
    };
    key == LIBRARY_KEY && belongs(first, range) && !records.iter().all(is_derived)
}

/// Interval at which dropped records are logged.
const DROP_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Rate-limited log of the dropped records of a shard.
#[derive(Debug, Clone, Default)]
pub struct DropLog {
    logged: Option<Instant>,
    unlogged: u64,
}

impl DropLog {
    /// Adds dropped records, and logs all that were not logged yet if nothing was logged recently.
    pub fn dropped(&mut self, shard: &ShardId, records: u64) {
        self.unlogged += records;
        if self
            .logged
            .is_none_or(|at| at.elapsed() >= DROP_LOG_INTERVAL)
        {
            self.logged = Some(Instant::now());
            let records = std::mem::take(&mut self.unlogged);
            tracing::warn!(
                %shard,
                records,
                "dropped records of aggregates that belong to another shard, where the producer \
                 library sends them again; to keep such records, set `aggregation: keep`"
            );
        }
    }
}

/// Aggregates user records like the producer library.
pub fn aggregate(records: &[UserRecord]) -> Bytes {
    let mut message = Aggregate::default();
    for record in records {
        let hash_key = record
            .explicit_hash_key
            .map(|hash_key| hash_key.to_string());
        message.records.push(Entry {
            partition_key_index: index_in(&mut message.partition_key_table, &record.key),
            explicit_hash_key_index: hash_key
                .map(|hash_key| index_in(&mut message.explicit_hash_key_table, &hash_key)),
            data: record.data.clone(),
        });
    }
    let message = message.encode_to_vec();
    let mut bytes = BytesMut::with_capacity(MAGIC.len() + message.len() + DIGEST_BYTES);
    bytes.put_slice(&MAGIC);
    bytes.put_slice(&message);
    bytes.put_slice(&md5_of(&message));
    bytes.freeze()
}

fn index_in(table: &mut Vec<String>, text: &str) -> u64 {
    let index = table.iter().position(|known| known == text);
    let index = index.unwrap_or_else(|| {
        table.push(text.to_owned());
        table.len() - 1
    });
    index as u64
}

/// Records of an aggregate, or `None` if the data is not an aggregate.
fn unpack(data: &Bytes) -> Option<Vec<UserRecord>> {
    let length = data.len().checked_sub(MAGIC.len() + DIGEST_BYTES)?;
    if data[..MAGIC.len()] != MAGIC {
        return None;
    }
    let message = data.slice(MAGIC.len()..MAGIC.len() + length);
    if data[MAGIC.len() + length..] != md5_of(&message) {
        return None;
    }
    let Aggregate {
        partition_key_table,
        explicit_hash_key_table,
        records,
    } = Aggregate::decode(message).ok()?;
    let keys: Vec<Arc<str>> = partition_key_table.into_iter().map(Arc::from).collect();
    let record = |entry: Entry| {
        let explicit_hash_key = match entry.explicit_hash_key_index {
            Some(index) => Some(
                explicit_hash_key_table
                    .get(usize::try_from(index).ok()?)?
                    .parse()
                    .ok()?,
            ),
            None => None,
        };
        Some(UserRecord {
            key: keys
                .get(usize::try_from(entry.partition_key_index).ok()?)?
                .clone(),
            explicit_hash_key,
            // Copied, because a slice would keep the whole aggregate in memory while the record
            // waits.
            data: Bytes::copy_from_slice(&entry.data),
        })
    };
    records.into_iter().map(record).collect()
}

fn belongs(record: &UserRecord, (first, last): (u128, u128)) -> bool {
    let hash_key = record
        .explicit_hash_key
        .unwrap_or_else(|| hash_key_of(&record.key));
    (first..=last).contains(&hash_key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(key: &str, data: &'static str) -> UserRecord {
        UserRecord {
            key: key.into(),
            explicit_hash_key: None,
            data: Bytes::from_static(data.as_bytes()),
        }
    }

    /// Records of a record from a shard of unknown range.
    fn whole(key: &str, data: &Bytes) -> Vec<(u64, UserRecord)> {
        let unpacked = user_records(key, data, None, Aggregation::Kpl);
        assert_eq!(unpacked.dropped, 0);
        unpacked.records
    }

    #[test]
    fn an_aggregate_that_was_written_by_hand_is_unpacked() {
        // partition_key_table ["a", "b"]; records (0, "x") and (1, "yz").
        let message = b"\x0a\x01a\x0a\x01b\x1a\x05\x08\x00\x1a\x01x\x1a\x06\x08\x01\x1a\x02yz";
        let mut data = MAGIC.to_vec();
        data.extend_from_slice(message);
        data.extend_from_slice(&md5_of(message));
        let data = Bytes::from(data);
        let expected = vec![(0, record("a", "x")), (1, record("b", "yz"))];
        assert_eq!(whole("outer", &data), expected);
        assert_eq!(
            aggregate(&[record("a", "x"), record("b", "yz")]),
            data,
            "the encoder writes the same"
        );
    }

    #[test]
    fn the_hash_key_of_a_key_is_its_md5() {
        assert_eq!(hash_key_of(""), 0xd41d8cd98f00b204e9800998ecf8427e);
    }

    fn with_hash_key(key: &str, hash_key: u128) -> UserRecord {
        UserRecord {
            explicit_hash_key: Some(hash_key),
            ..record(key, "")
        }
    }

    /// Keys that are kept of an aggregate, each with its index, and the number of dropped records.
    fn kept(
        outer: &str,
        records: &[UserRecord],
        range: (u128, u128),
        aggregation: Aggregation,
    ) -> (Vec<(u64, String)>, u64) {
        let unpacked = user_records(outer, &aggregate(records), Some(range), aggregation);
        let kept = unpacked.records.into_iter();
        let kept = kept.map(|(index, record)| (index, record.key.to_string()));
        (kept.collect(), unpacked.dropped)
    }

    fn keys(records: &[UserRecord]) -> Vec<(u64, String)> {
        let keys = records.iter().map(|record| record.key.to_string());
        (0..).zip(keys).collect()
    }

    #[test]
    fn what_the_producer_library_sends_again_is_dropped_and_the_rest_keeps_its_indexes() {
        let own = hash_key_of("own");
        let records = [
            with_hash_key("a", 5),
            record("own", ""),
            with_hash_key("b", 4),
            with_hash_key("c", 9),
        ];
        let expected = vec![(0, "a".to_owned()), (3, "c".to_owned())];
        for aggregation in [Aggregation::Detect, Aggregation::Kpl] {
            let kept = kept("a", &records, (5, 9), aggregation);
            assert_eq!(kept, (expected.clone(), 2), "{aggregation:?}");
        }
        let range = (own, own);
        let only = (vec![(1, "own".to_owned())], 3);
        assert_eq!(kept("a", &records, range, Aggregation::Kpl), only);
        let all = (keys(&records), 0);
        assert_eq!(kept("a", &records, (5, 9), Aggregation::Keep), all);
    }

    #[test]
    fn what_no_producer_sends_again_is_kept() {
        // The second quarter of the hash keys, as in a stream of four shards.
        let quarter = u128::MAX / 4 + 1;
        let range = (quarter, 2 * quarter - 1);
        let users: Vec<UserRecord> = (0..50)
            .map(|user| record(&format!("user-{user}"), "x"))
            .collect();
        let inside = users.iter().filter(|user| belongs(user, range)).count();
        assert!((1..50).contains(&inside), "some lie outside: {inside}");
        let all = (keys(&users), 0);
        let kept =
            |outer: &str, records: &[UserRecord]| kept(outer, records, range, Aggregation::Detect);
        // Under the key of the first record, as by most libraries, or under any other key.
        assert_eq!(kept("user-0", &users), all);
        assert_eq!(kept("0f8c", &users), all);
        // Under the producer library's key, but with a first record of another shard.
        let first = users.iter().position(|user| !belongs(user, range)).unwrap();
        let mut outside_first = users.clone();
        outside_first.swap(0, first);
        assert_eq!(kept("a", &outside_first).1, 0);
        // With derived hash keys, as by the aggregators of Python and Java.
        let derived: Vec<UserRecord> = users
            .iter()
            .map(|user| with_hash_key(&user.key, hash_key_of(&user.key)))
            .collect();
        let first = derived
            .iter()
            .position(|user| belongs(user, range))
            .unwrap();
        let mut inside_first = derived.clone();
        inside_first.swap(0, first);
        assert_eq!(kept("a", &inside_first).1, 0);
        // A single record, which the producer library never aggregates.
        assert_eq!(kept("a", &outside_first[..1]).1, 0);
        // The same records without hash keys are as the producer library writes them.
        let first = users.iter().position(|user| belongs(user, range)).unwrap();
        let mut of_library = users.clone();
        of_library.swap(0, first);
        assert_eq!(kept("a", &of_library).1, 50 - inside as u64);
    }

    #[test]
    fn an_aggregate_that_names_a_key_it_does_not_have_is_plain_data() {
        let message = b"\x1a\x05\x08\x00\x1a\x01x";
        let data = [&MAGIC[..], message, &md5_of(message)].concat();
        let data = Bytes::from(data);
        let records = whole("outer", &data);
        assert_eq!(records.len(), 1);
        assert_eq!((&*records[0].1.key, &records[0].1.data), ("outer", &data));
    }

    fn any_record() -> impl Strategy<Value = UserRecord> {
        let data = prop::collection::vec(any::<u8>(), 0..40);
        ("[a-c]{1,2}", prop::option::of(any::<u128>()), data).prop_map(|(key, hash_key, data)| {
            UserRecord {
                key: key.into(),
                explicit_hash_key: hash_key,
                data: data.into(),
            }
        })
    }

    proptest! {
        #[test]
        fn aggregated_records_are_unpacked_unchanged(
            records in prop::collection::vec(any_record(), 0..20),
        ) {
            let unpacked = whole("outer", &aggregate(&records));
            let (indexes, unpacked): (Vec<u64>, Vec<UserRecord>) = unpacked.into_iter().unzip();
            prop_assert_eq!(indexes, (0..records.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(unpacked, records);
        }

        #[test]
        fn a_damaged_aggregate_is_plain_data(
            records in prop::collection::vec(any_record(), 1..5),
            offset in any::<prop::sample::Index>(),
            cut in any::<bool>(),
        ) {
            let sound = aggregate(&records);
            let offset = offset.index(sound.len());
            let mut damaged = sound.to_vec();
            if cut {
                damaged.truncate(offset);
            } else {
                damaged[offset] ^= 1;
            }
            let damaged = Bytes::from(damaged);
            let plain = UserRecord {
                key: "outer".into(),
                explicit_hash_key: None,
                data: damaged.clone(),
            };
            prop_assert_eq!(whole("outer", &damaged), vec![(0, plain)]);
        }
    }
}
