//! Aggregated records of the Kinesis Producer Library: many user records under one sequence number.
//!
//! The format is that of `amazon-kinesis-producer`'s `aggregation-format.md`: four bytes of magic,
//! a protobuf message, and its MD5. Data that is not valid in every part is plain data, as in the
//! Kinesis Client Library.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::hash_key::{hash_key_of, md5_of};

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST_BYTES: usize = 16;

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

/// User records of a record, each with its sub-sequence number: its index in the aggregate, or 0
/// for plain data.
///
/// Of an aggregate, only records whose hash key lies in `hash_range` (both ends included) belong to
/// this shard. An aggregate that was made before a split and arrived after it also holds other
/// records. The producer library sends those again to their shard.
pub fn user_records(
    key: &str,
    data: &Bytes,
    hash_range: Option<(u128, u128)>,
) -> Vec<(u64, UserRecord)> {
    match unpack(data) {
        Some(records) => (0..)
            .zip(records)
            .filter(|(_, record)| hash_range.is_none_or(|range| belongs(record, range)))
            .collect(),
        None => vec![(
            0,
            UserRecord {
                key: key.into(),
                explicit_hash_key: None,
                data: data.clone(),
            },
        )],
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

    #[test]
    fn an_aggregate_that_was_written_by_hand_is_unpacked() {
        // partition_key_table ["a", "b"]; records (0, "x") and (1, "yz").
        let message = b"\x0a\x01a\x0a\x01b\x1a\x05\x08\x00\x1a\x01x\x1a\x06\x08\x01\x1a\x02yz";
        let mut data = MAGIC.to_vec();
        data.extend_from_slice(message);
        data.extend_from_slice(&md5_of(message));
        let data = Bytes::from(data);
        let expected = vec![(0, record("a", "x")), (1, record("b", "yz"))];
        assert_eq!(user_records("outer", &data, None), expected);
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

    #[test]
    fn records_outside_the_range_of_the_shard_are_skipped_and_the_others_keep_their_indexes() {
        let with_hash_key = |key: &str, hash_key| UserRecord {
            explicit_hash_key: Some(hash_key),
            ..record(key, "")
        };
        let own = hash_key_of("own");
        let data = aggregate(&[
            with_hash_key("a", 4),
            record("own", ""),
            with_hash_key("b", 5),
            with_hash_key("c", 9),
        ]);
        let kept = |range| -> Vec<(u64, Arc<str>)> {
            let records = user_records("outer", &data, Some(range));
            let kept = records.into_iter();
            kept.map(|(index, record)| (index, record.key)).collect()
        };
        assert_eq!(kept((5, 9)), [(2, "b".into()), (3, "c".into())]);
        assert_eq!(kept((own, own)), [(1, "own".into())]);
    }

    #[test]
    fn an_aggregate_that_names_a_key_it_does_not_have_is_plain_data() {
        let message = b"\x1a\x05\x08\x00\x1a\x01x";
        let data = [&MAGIC[..], message, &md5_of(message)].concat();
        let data = Bytes::from(data);
        let records = user_records("outer", &data, None);
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
            let unpacked = user_records("outer", &aggregate(&records), None);
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
            let whole = aggregate(&records);
            let offset = offset.index(whole.len());
            let mut damaged = whole.to_vec();
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
            prop_assert_eq!(user_records("outer", &damaged, None), vec![(0, plain)]);
        }
    }
}
