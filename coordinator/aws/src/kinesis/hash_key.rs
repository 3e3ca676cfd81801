//! Hash keys, by which Kinesis distributes partition keys over shards.

use md5::{Digest, Md5};

/// Hash key of a partition key: its MD5 as a 128-bit number.
pub(super) fn hash_key_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(md5_of(partition_key.as_bytes()))
}

pub(super) fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}
