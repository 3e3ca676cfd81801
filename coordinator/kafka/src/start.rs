//! Start of partitions that were never read: from what a module file wants and a broker says to an
//! offset.

use std::collections::BTreeMap;

/// First record to read of a partition that has no position yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    /// After the records that are in the partition now.
    Latest,
    /// The oldest record.
    Earliest,
    /// The offset that the consumer group has committed.
    GroupOffsets,
    /// These offsets, by partition of the topic.
    SpecificOffsets(BTreeMap<u32, u64>),
    /// The first record at or after this time, in ms since the epoch.
    Date(u64),
}

/// First record to read where a startup position names an offset that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// After the records that are in the partition now.
    Latest,
    /// The oldest record.
    Earliest,
}

/// Facts about one partition, as the brokers report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionFacts {
    /// Offset of the oldest record.
    pub oldest: u64,
    /// Offset that the next record of a producer gets.
    pub end: u64,
    /// Offset that the consumer group has committed.
    pub committed: Option<u64>,
    /// Offset of the first record at or after the date of the startup position.
    pub at_date: Option<u64>,
}

/// Resolved start of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Offset of the first record to read.
    pub offset: u64,
    /// Offset that the startup position names and that does not exist.
    pub replaced: Option<u64>,
}

/// Resolves the start of `partition`.
pub fn resolve(startup: &Startup, reset: Reset, partition: u32, facts: PartitionFacts) -> Start {
    let found = |offset| Start {
        offset,
        replaced: None,
    };
    let reset = |replaced| Start {
        offset: match reset {
            Reset::Latest => facts.end,
            Reset::Earliest => facts.oldest,
        },
        replaced,
    };
    let named = |offset: Option<u64>| match offset {
        Some(offset) if (facts.oldest..=facts.end).contains(&offset) => found(offset),
        named => reset(named),
    };
    match startup {
        Startup::Latest => found(facts.end),
        Startup::Earliest => found(facts.oldest),
        Startup::GroupOffsets => named(facts.committed),
        Startup::SpecificOffsets(offsets) => named(offsets.get(&partition).copied()),
        // No record is as young as the date, so the next one is.
        Startup::Date(_) => found(facts.at_date.unwrap_or(facts.end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: PartitionFacts = PartitionFacts {
        oldest: 10,
        end: 20,
        committed: None,
        at_date: None,
    };

    fn offset(startup: &Startup, facts: PartitionFacts) -> u64 {
        let start = resolve(startup, Reset::Latest, 3, facts);
        assert_eq!(start.replaced, None);
        start.offset
    }

    #[test]
    fn every_startup_position_is_resolved_to_an_offset() {
        assert_eq!(offset(&Startup::Latest, FACTS), 20);
        assert_eq!(offset(&Startup::Earliest, FACTS), 10);
        let committed = PartitionFacts {
            committed: Some(20),
            ..FACTS
        };
        assert_eq!(offset(&Startup::GroupOffsets, committed), 20);
        let specific = Startup::SpecificOffsets([(2, 11), (3, 12)].into());
        assert_eq!(offset(&specific, FACTS), 12);
        let dated = PartitionFacts {
            at_date: Some(15),
            ..FACTS
        };
        assert_eq!(offset(&Startup::Date(1), dated), 15);
        assert_eq!(offset(&Startup::Date(1), FACTS), 20);
    }

    #[test]
    fn an_offset_that_does_not_exist_is_replaced_and_reported() {
        for (named, replaced) in [(None, None), (Some(9), Some(9)), (Some(21), Some(21))] {
            let facts = PartitionFacts {
                committed: named,
                ..FACTS
            };
            for (reset, offset) in [(Reset::Latest, 20), (Reset::Earliest, 10)] {
                let start = resolve(&Startup::GroupOffsets, reset, 3, facts);
                assert_eq!(start, Start { offset, replaced });
            }
        }
        let unlisted = Startup::SpecificOffsets([(2, 11)].into());
        assert_eq!(
            resolve(&unlisted, Reset::Earliest, 3, FACTS),
            Start {
                offset: 10,
                replaced: None
            }
        );
    }
}
