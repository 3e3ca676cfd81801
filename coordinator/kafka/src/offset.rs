//! Offsets of a topic's partition as positions of a shard.
//!
//! A record at offset 7 has the sequence number 7 and the sub-sequence number 1. So the position
//! `After {7, 0}` lies before that record, and a partition of which nothing was read has a position
//! with an offset, too. Offsets have gaps, at compacted records and at the ends of transactions,
//! so the next record may have any higher offset.

use satchel_engine::position::{SequenceNumber, ShardPosition};

/// Sub-sequence number of every record.
pub const RECORD: u64 = 1;

/// Position before the record at `offset`.
pub fn before(offset: u64) -> ShardPosition {
    ShardPosition::After {
        sequence: offset.into(),
        sub_sequence: 0,
    }
}

/// Position after the record at `offset`.
pub fn after(offset: u64) -> ShardPosition {
    ShardPosition::After {
        sequence: offset.into(),
        sub_sequence: RECORD,
    }
}

/// Lowest offset that the next record may have. None if the position is not one of a topic's
/// partition.
pub fn next(position: &ShardPosition) -> Option<u64> {
    let offset = |sequence: &SequenceNumber, sub_sequence: u64| {
        let offset: u64 = sequence.as_str().parse().ok()?;
        offset.checked_add(sub_sequence.min(RECORD))
    };
    match position {
        ShardPosition::Beginning => Some(0),
        ShardPosition::After {
            sequence,
            sub_sequence,
        }
        | ShardPosition::Quiet {
            sequence,
            sub_sequence,
            ..
        } => offset(sequence, *sub_sequence),
        ShardPosition::Since { .. } | ShardPosition::End | ShardPosition::Elsewhere => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_covers_exactly_the_records_before_it() {
        let covered = |position: &ShardPosition| -> Vec<u64> {
            let covers = |offset: &u64| position.covers(&(*offset).into(), RECORD);
            (0..4).filter(covers).collect()
        };
        assert_eq!(covered(&before(0)), [0; 0]);
        assert_eq!(covered(&after(0)), [0]);
        assert_eq!(covered(&before(2)), [0, 1]);
        assert_eq!(covered(&after(2)), [0, 1, 2]);
        let nexts = [before(0), after(0), before(9), after(9)].map(|position| next(&position));
        assert_eq!(nexts, [Some(0), Some(1), Some(9), Some(10)]);
        assert_eq!(next(&ShardPosition::Beginning), Some(0));
        assert_eq!(next(&ShardPosition::Since { time_ms: 1 }), None);
    }
}
