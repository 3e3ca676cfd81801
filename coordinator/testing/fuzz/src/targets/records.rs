//! Kinesis records aggregated by the producer library.

use bytes::Bytes;
use md5::{Digest, Md5};
use satchel_aws::kinesis::aggregation::{Aggregation, UserRecord, aggregate, user_records};

use crate::Target;

/// Size of the digest at the end of an aggregate, in bytes.
const DIGEST_BYTES: usize = 16;

/// An aggregate, decoded unchanged and again with a corrected digest.
pub(super) const AGGREGATE: Target = Target {
    name: "aggregate",
    dictionary: &["key", "340282366920938463463374607431768211455", "-1"],
    seeds: || {
        let record = |key: &str, explicit_hash_key, data: &[u8]| UserRecord {
            key: key.into(),
            explicit_hash_key,
            data: Bytes::copy_from_slice(data),
        };
        let records = [
            record("alice", None, b"first"),
            record("bob", Some(u128::MAX), b""),
            record("alice", Some(7), &[0; 300]),
        ];
        [&records[..], &records[..1], &[]]
            .map(|records| aggregate(records).to_vec())
            .to_vec()
    },
    decode: |input| {
        let end = input.len().saturating_sub(DIGEST_BYTES);
        let message = input.get(4..end).unwrap_or_default();
        let corrected = [
            &[0xF3, 0x89, 0x9A, 0xC2],
            message,
            &Md5::digest(message)[..],
        ]
        .concat();
        [input.to_vec(), corrected]
            .map(|data| unpacked(&data.into()))
            .join(" / ")
    },
};

fn unpacked(data: &Bytes) -> String {
    let all = user_records("key", data, None, Aggregation::Kpl).records;
    let none = user_records("key", data, Some((1, 0)), Aggregation::Kpl);
    let kept = user_records("key", data, Some((1, 0)), Aggregation::Detect);
    let whole = matches!(&all[..], [(0, record)] if record.data == *data);
    let sub_sequences: Vec<u64> = all.iter().map(|(sub_sequence, _)| *sub_sequence).collect();
    let expected: Vec<u64> = (0..).take(all.len()).collect();
    assert_eq!(
        sub_sequences, expected,
        "records are not numbered consecutively"
    );
    let bytes: usize = all.iter().map(|(_, record)| record.data.len()).sum();
    assert!(bytes <= data.len(), "more data than the input");
    let explicit = all
        .iter()
        .any(|(_, record)| record.explicit_hash_key.is_some());
    // Plain data belongs to every shard, a user record only to its own shard.
    assert!(
        whole || none.records.is_empty(),
        "a record of an empty range"
    );
    assert_eq!(
        none.dropped as usize + none.records.len(),
        all.len(),
        "a dropped record is not counted"
    );
    assert_eq!(kept.records, all, "dropped for an unknown producer");
    format!("{whole} {explicit} {:?}", all.len().min(3).checked_ilog2())
}
