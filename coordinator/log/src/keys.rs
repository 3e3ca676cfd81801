//! Keys of the objects under a root.

use crate::condensed::CondensedName;
use crate::savepoint::SavepointName;
use crate::segment::SegmentName;

/// Keys of all objects of one partition of a root.
///
/// ```text
/// <root>/application
/// <root>/partitions/<p>/log/<number>
/// <root>/partitions/<p>/condensed/<2^64 − 1 − last>-<first>-<epoch>
/// <root>/partitions/<p>/epochs/<epoch>
/// <root>/partitions/<p>/snapshots/<number>/<epoch>-<n>
/// <root>/partitions/<p>/manifests/<number>
/// <root>/partitions/<p>/savepoints/<name>
/// ```
///
/// Numbers have 20 digits, so that the order of keys is the order of numbers. Copies of log objects
/// are in descending order of their last numbers, so that a takeover finds the newest ones first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    application: String,
    partition: String,
}

impl Layout {
    /// Creates the layout of `partition` under `root`: a prefix without a slash at its end, or
    /// empty for the top of the store.
    #[must_use]
    pub fn new(root: &str, partition: u32) -> Self {
        let root = root.trim_matches('/');
        let prefix = if root.is_empty() {
            String::new()
        } else {
            format!("{root}/")
        };
        Self {
            application: format!("{prefix}application"),
            partition: format!("{prefix}partitions/{partition}/"),
        }
    }

    /// Key of the record that names the application of the root.
    #[must_use]
    pub fn application(&self) -> &str {
        &self.application
    }

    /// Prefix of everything of all partitions.
    #[must_use]
    pub fn partitions_prefix(&self) -> String {
        let root = self.application.strip_suffix("application");
        format!("{}partitions/", root.unwrap_or_default())
    }

    /// Prefix of everything of this partition.
    #[must_use]
    pub fn partition_prefix(&self) -> &str {
        &self.partition
    }

    /// Prefix of all log objects.
    #[must_use]
    pub fn log_prefix(&self) -> String {
        format!("{}log/", self.partition)
    }

    /// Key of one log object.
    #[must_use]
    pub fn log(&self, number: u64) -> String {
        format!("{}log/{number:020}", self.partition)
    }

    /// Prefix of all condensed copies of log objects.
    #[must_use]
    pub fn condensed_prefix(&self) -> String {
        format!("{}condensed/", self.partition)
    }

    /// Key of one condensed copy.
    #[must_use]
    pub fn condensed(&self, name: &CondensedName) -> String {
        let CondensedName { first, last, epoch } = name;
        let descending = u64::MAX - last;
        format!(
            "{}condensed/{descending:020}-{first:020}-{epoch:020}",
            self.partition
        )
    }

    /// A key after those of all condensed copies that hold `number` or a later one, and before the
    /// others.
    #[must_use]
    pub(crate) fn condensed_before(&self, number: u64) -> String {
        let descending = u64::MAX - number;
        format!("{}condensed/{descending:020}~", self.partition)
    }

    /// Prefix of all claims of epochs.
    #[must_use]
    pub fn epochs_prefix(&self) -> String {
        format!("{}epochs/", self.partition)
    }

    /// Key of the claim of one epoch.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> String {
        format!("{}epochs/{epoch:020}", self.partition)
    }

    /// Prefix of all manifests.
    #[must_use]
    pub fn manifests_prefix(&self) -> String {
        format!("{}manifests/", self.partition)
    }

    /// Key of one manifest.
    #[must_use]
    pub fn manifest(&self, number: u64) -> String {
        format!("{}manifests/{number:020}", self.partition)
    }

    /// Prefix of all segments of all snapshots.
    #[must_use]
    pub fn segments_prefix(&self) -> String {
        format!("{}snapshots/", self.partition)
    }

    /// Key of one segment.
    #[must_use]
    pub fn segment(&self, name: &SegmentName) -> String {
        format!(
            "{}snapshots/{:020}/{:020}-{:06}",
            self.partition, name.snapshot, name.epoch, name.index
        )
    }

    /// Prefix of all savepoints.
    #[must_use]
    pub fn savepoints_prefix(&self) -> String {
        format!("{}savepoints/", self.partition)
    }

    /// Key of one savepoint.
    #[must_use]
    pub fn savepoint(&self, name: &SavepointName) -> String {
        format!("{}savepoints/{name}", self.partition)
    }
}

/// Returns the number that `key` contains after `prefix`, if it is a key of this layout.
#[must_use]
pub(crate) fn number_in(key: &str, prefix: &str) -> Option<u64> {
    digits(key.strip_prefix(prefix)?, 20)
}

/// Returns the segment that `key` names after `prefix`, if it is a key of this layout.
#[must_use]
pub(crate) fn segment_in(key: &str, prefix: &str) -> Option<SegmentName> {
    let (snapshot, rest) = key.strip_prefix(prefix)?.split_once('/')?;
    let (epoch, index) = rest.split_once('-')?;
    Some(SegmentName {
        snapshot: digits(snapshot, 20)?,
        epoch: digits(epoch, 20)?,
        index: u32::try_from(digits(index, 6)?).ok()?,
    })
}

/// Returns the condensed copy that `key` names after `prefix`, if it is a key of this layout.
#[must_use]
pub(crate) fn condensed_in(key: &str, prefix: &str) -> Option<CondensedName> {
    let (descending, rest) = key.strip_prefix(prefix)?.split_once('-')?;
    let (first, epoch) = rest.split_once('-')?;
    let name = CondensedName {
        first: digits(first, 20)?,
        last: u64::MAX - digits(descending, 20)?,
        epoch: digits(epoch, 20)?,
    };
    (name.first <= name.last).then_some(name)
}

/// Returns the savepoint that `key` names after `prefix`, if it is a key of this layout.
#[must_use]
pub(crate) fn savepoint_in(key: &str, prefix: &str) -> Option<SavepointName> {
    key.strip_prefix(prefix)?.parse().ok()
}

fn digits(text: &str, len: usize) -> Option<u64> {
    (text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_read_back() {
        let layout = Layout::new("/root/app/", 2);
        assert_eq!(layout.application(), "root/app/application");
        assert_eq!(layout.partitions_prefix(), "root/app/partitions/");
        assert_eq!(
            layout.log(17),
            "root/app/partitions/2/log/00000000000000000017"
        );
        assert_eq!(
            number_in(&layout.log(u64::MAX), &layout.log_prefix()),
            Some(u64::MAX)
        );
        let name = SegmentName {
            snapshot: 12,
            epoch: 3,
            index: 4,
        };
        assert_eq!(
            layout.segment(&name),
            "root/app/partitions/2/snapshots/00000000000000000012/00000000000000000003-000004"
        );
        assert_eq!(
            segment_in(&layout.segment(&name), &layout.segments_prefix()),
            Some(name)
        );
    }

    #[test]
    fn names_of_condensed_copies_read_back_and_the_newest_come_first() {
        let layout = Layout::new("root", 2);
        let name = |first, last| CondensedName {
            first,
            last,
            epoch: 3,
        };
        let prefix = layout.condensed_prefix();
        let [old, new] = [name(1, 99), name(90, 100)].map(|name| layout.condensed(&name));
        assert!(new < old);
        assert_eq!(condensed_in(&old, &prefix), Some(name(1, 99)));
        assert_eq!(condensed_in(&layout.condensed(&name(9, 8)), &prefix), None);
        let between = layout.condensed_before(100);
        assert!(new < between && between < old);
    }

    #[test]
    fn an_empty_root_is_the_top_of_the_store() {
        let layout = Layout::new("", 0);
        assert_eq!(layout.application(), "application");
        assert_eq!(layout.partitions_prefix(), "partitions/");
    }

    #[test]
    fn foreign_names_are_not_numbers() {
        let layout = Layout::new("", 0);
        for key in [
            "partitions/0/log/17",
            "partitions/0/log/0000000000000000001x",
            "partitions/0/log/000000000000000000017",
            "partitions/1/log/00000000000000000017",
        ] {
            assert_eq!(number_in(key, &layout.log_prefix()), None, "{key}");
        }
    }
}
