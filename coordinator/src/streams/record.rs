//! Records and their sequence numbers.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use bytes::Bytes;

/// The largest data of one record, as Kinesis allows at most.
pub const DATA_MAX_BYTES: usize = 10 << 20;
/// The longest key in characters, as in Kinesis; the shortest is 1.
pub const KEY_MAX_CHARS: usize = 256;

/// Where a record stands in its stream: decimal digits that grow, opaque otherwise. Their order is the numeric one, which is that of
/// (length, text).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceNumber(NonZeroU64);

/// Why a text is not a sequence number of a local stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sequence number of a local stream")]
pub struct InvalidSequenceNumber(pub String);

impl SequenceNumber {
    /// The number of the first record of every stream.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The number `steps` after this one.
    pub(crate) fn plus(self, steps: u64) -> Self {
        Self(self.0.saturating_add(steps))
    }

    /// The number as stored.
    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    /// The number stored as `number`.
    pub(crate) fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text.starts_with(|c: char| matches!(c, '1'..='9'))
            && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = canonical.then(|| text.parse().ok()).flatten();
        number
            .map(Self)
            .ok_or_else(|| InvalidSequenceNumber(text.to_owned()))
    }
}

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The partition key: 1 to [`KEY_MAX_CHARS`] characters.
    pub key: String,
    /// The data: at most [`DATA_MAX_BYTES`].
    pub data: Bytes,
    /// When it arrived, in milliseconds since the Unix epoch. A stream's times never go back: an earlier one becomes that of the record
    /// before.
    pub time_ms: u64,
}

/// A record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub sequence_number: SequenceNumber,
    /// The partition key.
    pub key: String,
    /// The data.
    pub data: Bytes,
    /// When it arrived, in milliseconds since the Unix epoch; never before the record before it.
    pub time_ms: u64,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record.
    Earliest,
    /// After what is in the stream now.
    Latest,
    /// At the record with this number, as Kinesis' `AT_SEQUENCE_NUMBER`.
    At(SequenceNumber),
    /// After the record with this number, as Kinesis' `AFTER_SEQUENCE_NUMBER`.
    After(SequenceNumber),
    /// At the first record that arrived at this time or later, in milliseconds since the Unix epoch, as Kinesis' `AT_TIMESTAMP`.
    AtTime(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_reads_back_and_nothing_else_is_one() {
        for number in [1, 9, 10, u64::MAX] {
            let number = SequenceNumber::new(number).unwrap();
            assert_eq!(number.to_string().parse(), Ok(number));
        }
        for text in ["", "0", "01", "+1", "-1", "1 ", "x", "18446744073709551616"] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text}");
        }
    }
}
