//! Records, and the positions at which reading starts.

use bytes::Bytes;
use md5::{Digest, Md5};

use crate::error::StreamError;
use crate::number::SequenceNumber;

/// Maximum size of one record's data, the same as the maximum of Kinesis.
pub const DATA_MAX_BYTES: usize = 10 << 20;
/// Maximum size of a key in bytes. The topics of Kafka allow keys of this size and records without
/// a key, for which the empty key stands.
pub const KEY_MAX_BYTES: usize = 16 << 10;
/// Maximum length of a key of Kinesis in characters. The minimum is 1.
pub const KEY_MAX_CHARS: usize = 256;

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The partition key: at most [`KEY_MAX_BYTES`]; none if it is empty.
    pub key: String,
    /// Hash key that replaces the one derived from the partition key.
    pub explicit_hash_key: Option<u128>,
    /// The data: at most [`DATA_MAX_BYTES`].
    pub data: Bytes,
    /// Arrival time in milliseconds since the Unix epoch. Times in a stream never go back: an
    /// earlier time is replaced by that of the preceding record.
    pub time_ms: u64,
}

impl NewRecord {
    /// Checks the lengths of key and data.
    ///
    /// # Errors
    /// [`StreamError::InvalidRecord`]: no stream accepts the record.
    pub fn check(&self) -> Result<(), StreamError> {
        let refused = |what: &str, bytes: usize, max: usize| {
            Err(StreamError::InvalidRecord(format!(
                "its {what} has {bytes} bytes; at most {max} are allowed"
            )))
        };
        match (self.key.len(), self.data.len()) {
            (key, _) if key > KEY_MAX_BYTES => refused("key", key, KEY_MAX_BYTES),
            (_, data) if data > DATA_MAX_BYTES => refused("data", data, DATA_MAX_BYTES),
            _ => Ok(()),
        }
    }

    /// Hash key that selects the shard: the explicit one, else the MD5 of the partition key, as in
    /// Kinesis.
    pub fn hash_key(&self) -> u128 {
        self.explicit_hash_key
            .unwrap_or_else(|| hash_key(&self.key))
    }
}

/// Hash key of a partition key: its MD5 as a number, as in Kinesis.
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// Parses an explicit hash key: a decimal number below 2^128, without leading zeros.
///
/// # Errors
/// A text that says which hash keys are valid.
pub fn parse_hash_key(text: &str) -> Result<u128, String> {
    let canonical = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    let number = canonical.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| {
        format!("`{text}` is not a hash key: write a decimal number from 0 to 2^128 - 1")
    })
}

/// A record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position in the stream, and the shard.
    pub sequence_number: SequenceNumber,
    /// The partition key.
    pub key: String,
    /// The data.
    pub data: Bytes,
    /// Arrival time in milliseconds since the Unix epoch. It is never before that of the preceding
    /// record.
    pub time_ms: u64,
}

/// Position at which reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record.
    Earliest,
    /// After everything that is in the stream now.
    Latest,
    /// At the record with this number, like Kinesis' `AT_SEQUENCE_NUMBER`.
    At(SequenceNumber),
    /// After the record with this number, like Kinesis' `AFTER_SEQUENCE_NUMBER`.
    After(SequenceNumber),
    /// At the first record that arrived at this time or later, in milliseconds since the Unix
    /// epoch, like Kinesis' `AT_TIMESTAMP`.
    AtTime(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_keys_are_the_md5_as_a_big_endian_number() {
        // RFC 1321: MD5("abc") = 900150983cd24fb0d6963f7d28e17f72.
        assert_eq!(hash_key("abc"), 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72);
        assert_eq!(parse_hash_key(&u128::MAX.to_string()), Ok(u128::MAX));
        assert_eq!(parse_hash_key("0"), Ok(0));
        for wrong in [
            "",
            "00",
            "-1",
            "+1",
            "340282366920938463463374607431768211456",
        ] {
            assert!(parse_hash_key(wrong).is_err(), "{wrong}");
        }
    }
}
