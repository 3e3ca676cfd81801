//! Sequence numbers in the format of Kinesis.
//!
//! ```text
//! bits 184..    2                       so that every number has 56 decimal digits
//!      148..184 creation time of the shard, in seconds since the Unix epoch
//!       84..148 count of the record in its stream
//!       72..84  0
//!       36..72  arrival time of the record, in seconds since the Unix epoch
//!        4..36  number of the shard
//!        0..4   2
//! ```
//!
//! Numbers therefore grow inside a shard, a child's numbers are larger than its parents', and no
//! number is assigned twice in a stream. Records from the time when a stream had one shard and
//! counted from 1 keep their short numbers, which are smaller than all others.

use std::fmt;
use std::str::FromStr;

/// Position of a record in its stream: decimal digits that grow inside a shard and are opaque
/// otherwise. Their order is numeric, which equals the order by (length, text).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceNumber {
    // The order of the fields is the order of the numbers.
    created_s: u64,
    count: u64,
    time_s: u64,
    shard: u32,
}

/// A text that is not a sequence number of a local stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sequence number of a local stream")]
pub struct InvalidSequenceNumber(pub String);

/// Number of bits of a time in seconds.
const SECONDS_BITS: u32 = 36;
/// Largest power of ten that fits 64 bits.
const CHUNK: u64 = 10_000_000_000_000_000_000;
const CHUNK_DIGITS: usize = 19;
const DIGITS: usize = 56;

impl SequenceNumber {
    /// Number of the entry with this count, in a shard that was created at `created_s`.
    pub(crate) fn new(created_s: u64, count: u64, time_ms: u64, shard: u32) -> Self {
        let seconds_max = (1 << SECONDS_BITS) - 1;
        Self {
            created_s: created_s.clamp(1, seconds_max),
            count,
            time_s: (time_ms / 1_000).min(seconds_max),
            shard,
        }
    }

    /// Number from the time when streams had one shard and numbers were only a count.
    pub(crate) fn plain(count: u64) -> Self {
        Self {
            created_s: 0,
            count,
            time_s: 0,
            shard: 0,
        }
    }

    /// Count of the entry among all numbered entries of the stream, over all shards.
    pub(crate) fn count(self) -> u64 {
        self.count
    }

    /// Number of the shard, from 0.
    pub fn shard(self) -> u32 {
        self.shard
    }

    /// Returns a number that is smaller than this one, and not smaller than that of any earlier
    /// record in its shard.
    pub(crate) fn before(self) -> Self {
        let count = self.count.saturating_sub(1);
        // The time follows the count in the order, so the largest time is used.
        let time_s = match self.is_plain() {
            true => 0,
            false => (1 << SECONDS_BITS) - 1,
        };
        Self {
            count,
            time_s,
            ..self
        }
    }

    /// This number with the time of another one.
    pub(crate) fn with_time_of(self, other: Self) -> Self {
        Self {
            time_s: other.time_s,
            ..self
        }
    }

    fn is_plain(self) -> bool {
        self.created_s == 0
    }

    /// The bits, most significant limb first.
    fn limbs(self) -> [u64; 3] {
        let high = 2 << 56 | self.created_s << 20 | self.count >> 44;
        let low = u128::from(self.count) << 84
            | u128::from(self.time_s) << 36
            | u128::from(self.shard) << 4
            | 2;
        [high, (low >> 64) as u64, low as u64]
    }

    fn from_limbs([high, middle, low]: [u64; 3]) -> Option<Self> {
        let rest = u128::from(middle) << 64 | u128::from(low);
        let number = Self {
            created_s: high >> 20 & ((1 << SECONDS_BITS) - 1),
            count: high << 44 | (rest >> 84) as u64,
            time_s: (rest >> 36) as u64 & ((1 << SECONDS_BITS) - 1),
            shard: (rest >> 4) as u32,
        };
        (!number.is_plain() && number.limbs() == [high, middle, low]).then_some(number)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() {
            return write!(f, "{}", self.count);
        }
        let mut limbs = self.limbs();
        let chunks: [u64; 3] = std::array::from_fn(|_| divide(&mut limbs));
        let [low, middle, high] = chunks;
        write!(f, "{high}{middle:0CHUNK_DIGITS$}{low:0CHUNK_DIGITS$}")
    }
}

/// Divides by [`CHUNK`] in place and returns the remainder.
fn divide(limbs: &mut [u64; 3]) -> u64 {
    let mut remainder = 0;
    for limb in limbs {
        let part = u128::from(remainder) << 64 | u128::from(*limb);
        *limb = (part / u128::from(CHUNK)) as u64;
        remainder = (part % u128::from(CHUNK)) as u64;
    }
    remainder
}

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text == "0"
            || text.starts_with(|c: char| matches!(c, '1'..='9'))
                && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = match text.len() {
            _ if !canonical => None,
            DIGITS => parse_limbs(text).and_then(Self::from_limbs),
            _ => text.parse().ok().map(Self::plain),
        };
        number.ok_or_else(|| InvalidSequenceNumber(text.to_owned()))
    }
}

/// Parses 56 digits into bits. Returns nothing if 192 bits do not suffice.
fn parse_limbs(digits: &str) -> Option<[u64; 3]> {
    let mut limbs = [0_u64; 3];
    for digit in digits.bytes() {
        let mut carry = u64::from(digit - b'0');
        for limb in limbs.iter_mut().rev() {
            let part = u128::from(*limb) * 10 + u128::from(carry);
            *limb = part as u64;
            carry = (part >> 64) as u64;
        }
        if carry > 0 {
            return None;
        }
    }
    Some(limbs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_reads_back_and_sorts_as_its_digits_do(
            one in (1..1_u64 << 36, any::<u64>(), 0..1_u64 << 36, any::<u32>()),
            two in (1..1_u64 << 36, any::<u64>(), 0..1_u64 << 36, any::<u32>()),
        ) {
            let number = |(created, count, time, shard)| {
                SequenceNumber::new(created, count, time * 1_000, shard)
            };
            let (one, two) = (number(one), number(two));
            prop_assert_eq!(one.to_string().parse(), Ok(one));
            prop_assert_eq!(one.to_string().len(), 56);
            prop_assert_eq!(one.cmp(&two), one.to_string().cmp(&two.to_string()));
        }

        #[test]
        fn a_changed_digit_gives_another_number_or_none(offset in 0..56_usize, digit in 0..10_u8) {
            let number = SequenceNumber::new(1_700_000_000, 77, 1_700_000_001_000, 3);
            let mut text = number.to_string().into_bytes();
            let changed = text[offset] != b'0' + digit;
            text[offset] = b'0' + digit;
            let read = String::from_utf8(text).unwrap().parse::<SequenceNumber>();
            prop_assert_eq!(read == Ok(number), !changed);
        }
    }

    #[test]
    fn plain_numbers_read_back_and_are_smaller_than_all_others() {
        for count in [0, 1, 9, 10, u64::MAX] {
            let number = SequenceNumber::plain(count);
            assert_eq!(number.to_string().parse(), Ok(number));
            assert!(number < SequenceNumber::new(0, 0, 0, 0));
        }
        for text in ["", "01", "+1", "-1", "1 ", "x", "18446744073709551616"] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text}");
        }
        assert!("9".repeat(56).parse::<SequenceNumber>().is_err());
    }

    #[test]
    fn numbers_look_like_those_of_kinesis() {
        let number = SequenceNumber::new(1_700_000_000, 1, 1_700_000_000_000, 0);
        assert!(number.to_string().starts_with("49"), "{number}");
    }
}
