//! Positions: the progress of applying a shard.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A shard of a stream, as read by one ingress.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId {
    /// Id of the ingress that reads the shard, `namespace/name`. Two ingresses may read the same
    /// stream, each at its own pace.
    pub ingress: Arc<str>,
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Id of the shard.
    pub shard: Arc<str>,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.ingress, self.stream, self.shard)
    }
}

/// Sequence number of a record: decimal digits, compared as a number. Those of Kinesis exceed every
/// machine integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SequenceNumber(Arc<str>);

/// The text is not a sequence of decimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sequence number: expected decimal digits")]
pub struct InvalidSequenceNumber(pub String);

impl SequenceNumber {
    /// The digits, without leading zeros.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidSequenceNumber(text.to_owned()));
        }
        let digits = text.trim_start_matches('0');
        Ok(Self(if digits.is_empty() { "0" } else { digits }.into()))
    }
}

impl From<u64> for SequenceNumber {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.len(), &*self.0).cmp(&(other.0.len(), &*other.0))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Progress of applying a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardPosition {
    /// Nothing was applied.
    Beginning,
    /// Reading starts at this time. Nothing that arrived at or after it was applied. Records from
    /// before it are not wanted, or there were none.
    Since {
        /// Time by the stream's clock, in ms since the epoch.
        time_ms: u64,
    },
    /// Everything up to and including this user record was applied.
    After {
        /// Sequence number of the record.
        sequence: SequenceNumber,
        /// Index among the user records aggregated under that sequence number; `u64::MAX` stands
        /// for all of them.
        sub_sequence: u64,
    },
    /// Everything up to and including this user record was applied, and nothing more had arrived
    /// until `until_ms`. A record that the stream has expired by now is therefore no gap if it
    /// expired after that time.
    Quiet {
        /// Sequence number of the record.
        sequence: SequenceNumber,
        /// Index as in `After`.
        sub_sequence: u64,
        /// Time by the stream's clock, in ms since the epoch.
        until_ms: u64,
    },
    /// Everything was applied: the shard was closed, and its last record was applied.
    End,
    /// Another partition reads the shard. This one, the home of the stream, waits for its end.
    Elsewhere,
}

impl ShardPosition {
    /// Returns whether the record at (`sequence`, `sub_sequence`) was applied already.
    pub fn covers(&self, record_sequence: &SequenceNumber, record_sub_sequence: u64) -> bool {
        match self {
            Self::Beginning | Self::Since { .. } => false,
            Self::After {
                sequence,
                sub_sequence,
            }
            | Self::Quiet {
                sequence,
                sub_sequence,
                ..
            } => (record_sequence, record_sub_sequence) <= (sequence, *sub_sequence),
            Self::End | Self::Elsewhere => true,
        }
    }

    /// Returns whether this position is beyond `other`.
    pub(crate) fn is_beyond(&self, other: &Self) -> bool {
        match self {
            Self::Beginning | Self::Since { .. } => false,
            Self::After {
                sequence,
                sub_sequence,
            }
            | Self::Quiet {
                sequence,
                sub_sequence,
                ..
            } => !other.covers(sequence, *sub_sequence),
            Self::End => *other != Self::End,
            Self::Elsewhere => !matches!(other, Self::End | Self::Elsewhere),
        }
    }

    /// Returns the same position, with the knowledge that nothing more had arrived until
    /// `until_ms`.
    pub(crate) fn quiet_until(&self, until_ms: u64) -> Self {
        match self {
            Self::Beginning | Self::End | Self::Elsewhere => self.clone(),
            Self::Since { time_ms } => Self::Since {
                time_ms: until_ms.max(*time_ms),
            },
            Self::After {
                sequence,
                sub_sequence,
            } => Self::Quiet {
                sequence: sequence.clone(),
                sub_sequence: *sub_sequence,
                until_ms,
            },
            Self::Quiet {
                sequence,
                sub_sequence,
                until_ms: before_ms,
            } => Self::Quiet {
                sequence: sequence.clone(),
                sub_sequence: *sub_sequence,
                until_ms: until_ms.max(*before_ms),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_compare_as_numbers_of_any_length() {
        let number = |text: &str| text.parse::<SequenceNumber>().unwrap();
        assert!(number("9") < number("10"));
        assert!(
            number("49545115243490985018280067714973144582180062593244200961")
                < number("49545115243490985018280067714973144582180062593244200962")
        );
        assert_eq!(number("007"), number("7"));
        assert_eq!(number("000"), number("0"));
        assert!("".parse::<SequenceNumber>().is_err());
        assert!("12a".parse::<SequenceNumber>().is_err());
    }

    #[test]
    fn a_position_covers_the_sub_sequences_that_were_applied() {
        let position = ShardPosition::After {
            sequence: 7.into(),
            sub_sequence: 2,
        };
        assert!(position.covers(&6.into(), 9));
        assert!(position.covers(&7.into(), 2));
        assert!(!position.covers(&7.into(), 3));
        assert!(!ShardPosition::Beginning.covers(&0.into(), 0));
        assert!(!ShardPosition::Since { time_ms: 5 }.covers(&0.into(), 0));
        assert!(position.quiet_until(9).covers(&7.into(), 2));
        assert!(!position.quiet_until(9).covers(&7.into(), 3));
        assert!(ShardPosition::End.covers(&7.into(), 3));
    }
}
