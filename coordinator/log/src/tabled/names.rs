//! Names of the parts of a log in its table and beside it.

use std::fmt::Write;

use crate::keys::{Layout, number_in};

/// A sequence of numbered objects that lies in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Series {
    /// Claims of epochs.
    Epochs,
    /// Log objects.
    Log,
}

impl Series {
    const ALL: [Self; 2] = [Self::Epochs, Self::Log];

    fn name(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::Log => "log",
        }
    }
}

/// A sequence of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) partition: u32,
    pub(crate) series: Series,
}

impl Sequence {
    /// Name of an item.
    pub(crate) fn item(self, number: u64) -> String {
        format!("{}/{number:020}", self.series.name())
    }

    /// Returns the number in the name of an item.
    pub(crate) fn number(self, item: &str) -> Option<u64> {
        number_in(item.strip_prefix(self.series.name())?, "/")
    }
}

/// Keys of a root whose logs lie in a table.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Prefix of everything of all partitions.
    partitions_prefix: String,
    /// Number of partitions.
    partitions: u32,
    /// Beginning of the name of each log in the table.
    place: String,
}

impl Names {
    pub(crate) fn new(root: &str, partitions: u32, place: &str) -> Self {
        Self {
            partitions_prefix: Layout::new(root, 0).partitions_prefix(),
            partitions,
            place: place.to_owned(),
        }
    }

    /// Name of the log of a partition in the table.
    pub(crate) fn log(&self, partition: u32) -> String {
        format!("{}#{partition}", self.place)
    }

    fn partition_prefix(&self, partition: u32) -> String {
        format!("{}{partition}/", self.partitions_prefix)
    }

    /// Prefix of the keys of a sequence.
    pub(crate) fn prefix(&self, sequence: Sequence) -> String {
        let mut prefix = self.partition_prefix(sequence.partition);
        let _ = write!(prefix, "{}/", sequence.series.name());
        prefix
    }

    /// Prefix of the bodies of log objects that are too large for an item.
    pub(crate) fn bodies_prefix(&self, partition: u32) -> String {
        format!("{}bodies/", self.partition_prefix(partition))
    }

    /// Prefix of the archived log.
    pub(crate) fn archived_prefix(&self, partition: u32) -> String {
        format!("{}archived/", self.partition_prefix(partition))
    }

    /// Returns the sequence and the number if the object under `key` lies in the table.
    pub(crate) fn parse(&self, key: &str) -> Option<(Sequence, u64)> {
        let sequence = self.sequence_in(key)?;
        Some((sequence, number_in(key, &self.prefix(sequence))?))
    }

    /// Returns the sequence whose prefix `prefix` is.
    pub(crate) fn sequence(&self, prefix: &str) -> Option<Sequence> {
        let sequence = self.sequence_in(prefix)?;
        (self.prefix(sequence) == prefix).then_some(sequence)
    }

    fn sequence_in(&self, key: &str) -> Option<Sequence> {
        let rest = key.strip_prefix(&self.partitions_prefix)?;
        let (partition, rest) = rest.split_once('/')?;
        let (series, _) = rest.split_once('/')?;
        Some(Sequence {
            partition: partition.parse().ok()?,
            series: Series::ALL.into_iter().find(|one| one.name() == series)?,
        })
    }

    /// Returns the sequences whose keys all begin with `prefix`.
    pub(crate) fn sequences_under(&self, prefix: &str) -> Vec<Sequence> {
        (0..self.partitions)
            .flat_map(|partition| Series::ALL.map(|series| Sequence { partition, series }))
            .filter(|sequence| self.prefix(*sequence).starts_with(prefix))
            .collect()
    }

    /// Returns the prefix of the parts of a log among which `key` is, if it is one. They are not
    /// objects of a root of their own.
    pub(crate) fn part_prefix(&self, key: &str) -> Option<String> {
        let rest = key.strip_prefix(&self.partitions_prefix)?;
        let (partition, rest) = rest.split_once('/')?;
        let (kind, _) = rest.split_once('/')?;
        let partition = partition.parse().ok()?;
        match kind {
            "bodies" => Some(self.bodies_prefix(partition)),
            "archived" => Some(self.archived_prefix(partition)),
            _ => None,
        }
    }
}

/// Returns the first number whose key under `prefix` is greater than `start_after`; `None` if there
/// is none.
pub(crate) fn first_after(prefix: &str, start_after: Option<&str>) -> Option<u64> {
    let Some(start) = start_after.filter(|start| *start >= prefix) else {
        return Some(0);
    };
    let text = start.strip_prefix(prefix)?.as_bytes();
    let digits = text.iter().take(20).take_while(|b| b.is_ascii_digit());
    let digits: Vec<u8> = digits.copied().collect();
    // The least text of 20 digits that begins with these digits.
    let mut number = digits.iter().fold(0u128, |number, digit| {
        number * 10 + u128::from(digit - b'0')
    });
    let missing = 20 - digits.len() as u32;
    // Behind the digits comes the end, or a byte that is less or greater than every digit.
    let greater = match text.get(digits.len()) {
        None => missing == 0,
        Some(byte) => missing == 0 || *byte > b'9',
    };
    number += u128::from(greater);
    u64::try_from(number * 10u128.pow(missing)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names::new("a/b", 2, "bucket/a/b")
    }

    const LOG: Sequence = Sequence {
        partition: 1,
        series: Series::Log,
    };

    #[test]
    fn log_objects_and_claims_lie_in_the_table_and_nothing_else_does() {
        let names = names();
        let layout = Layout::new("a/b", 1);
        assert_eq!(names.parse(&layout.log(7)), Some((LOG, 7)));
        assert_eq!(LOG.item(7), "log/00000000000000000007");
        assert_eq!(LOG.number(&LOG.item(7)), Some(7));
        let epochs = Sequence {
            series: Series::Epochs,
            ..LOG
        };
        assert_eq!(names.parse(&layout.epoch(3)), Some((epochs, 3)));
        for key in [
            layout.manifest(1),
            layout.application().to_owned(),
            format!("{}17", layout.log_prefix()),
            Layout::new("a", 1).log(7),
        ] {
            assert_eq!(names.parse(&key), None, "{key}");
        }
        assert_eq!(names.log(1), "bucket/a/b#1");
    }

    #[test]
    fn a_prefix_is_a_sequence_or_holds_several() {
        let names = names();
        let layout = Layout::new("a/b", 1);
        assert_eq!(names.sequence(&layout.log_prefix()), Some(LOG));
        assert_eq!(names.sequence(layout.partition_prefix()), None);
        assert_eq!(names.sequences_under(layout.partition_prefix()).len(), 2);
        assert_eq!(names.sequences_under("").len(), 4);
        assert_eq!(names.sequences_under(&layout.manifests_prefix()).len(), 0);
    }

    #[test]
    fn parts_of_a_log_are_known_by_their_prefix() {
        let names = names();
        assert_eq!(
            names.part_prefix("a/b/partitions/1/bodies/x").as_deref(),
            Some("a/b/partitions/1/bodies/")
        );
        assert_eq!(names.part_prefix("a/b/partitions/1/manifests/x"), None);
        assert_eq!(names.part_prefix("a/b/application"), None);
    }

    proptest! {
        #[test]
        fn the_first_number_after_a_key_is_the_least_greater_one(
            number: u64,
            cut in 0..25_usize,
            rest in "[-/0-9a~]{0,3}",
        ) {
            let text = format!("{number:020}");
            let start = format!("p/{}{rest}", &text[..cut.min(20)]);
            let key = |number: u64| format!("p/{number:020}");
            match first_after("p/", Some(&start)) {
                None => prop_assert!(key(u64::MAX) <= start),
                Some(first) => {
                    prop_assert!(key(first) > start);
                    prop_assert!(first == 0 || key(first - 1) <= start);
                }
            }
        }
    }

    #[test]
    fn a_key_before_or_behind_the_prefix_selects_all_or_nothing() {
        assert_eq!(first_after("p/", None), Some(0));
        assert_eq!(first_after("p/", Some("a")), Some(0));
        assert_eq!(first_after("p/", Some("q")), None);
        assert_eq!(first_after("p/", Some("p/")), Some(0));
        assert_eq!(first_after("p/", Some("p/00000000000000000007")), Some(8));
    }
}
