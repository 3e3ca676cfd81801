//! The hash keys by which Kinesis divides partition keys among shards.

use md5::{Digest, Md5};

/// The hash key of a partition key: its MD5, as a number of 128 bit.
pub(super) fn hash_key_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(md5_of(partition_key.as_bytes()))
}

pub(super) fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}
