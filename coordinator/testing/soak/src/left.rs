//! What left the application, as the stream of it shows.

use std::collections::{BTreeMap, BTreeSet};

use satchel_testkit::Record;

use crate::functions::{AlarmEnd, Left};

/// Everything that left so far.
#[derive(Debug, Default)]
pub(crate) struct SeenToLeave {
    /// The items of each sequence, in the order of the stream: number, and whether put again.
    pub(crate) items: BTreeMap<String, Vec<(u64, bool)>>,
    /// How each alarm ended.
    pub(crate) alarms: BTreeMap<u64, AlarmEnd>,
    /// The jobs that are done.
    pub(crate) gathered: BTreeSet<u64>,
    /// What was poisonous and is applied.
    pub(crate) applied: BTreeSet<u64>,
    /// How many records there are.
    pub(crate) count: u64,
}

impl SeenToLeave {
    /// Takes a record in; what is wrong with it, if something is.
    pub(crate) fn take(&mut self, record: &Record) -> Result<(), String> {
        self.count += 1;
        let left: Left = serde_json::from_slice(&record.data)
            .map_err(|error| format!("{record:?} left, and nobody wrote it: {error}"))?;
        let once = match left.clone() {
            Left::Item(item) => {
                let before = self.items.entry(item.sequence).or_default();
                let last = before.last().map_or(0, |(k, _)| *k);
                let follows = item.k == last + 1 || (item.again && item.k == last);
                before.push((item.k, item.again));
                if !follows {
                    return Err(format!("{left:?} left after item {last} of its sequence"));
                }
                true
            }
            Left::Alarm { n, ended } => self.alarms.insert(n, ended).is_none(),
            Left::Gathered { n } => self.gathered.insert(n),
            Left::Applied { n } => self.applied.insert(n),
        };
        match once {
            true => Ok(()),
            false => Err(format!("{left:?} left twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Item;

    fn record(left: &Left) -> Record {
        Record {
            sequence_number: "1".to_owned(),
            key: "key".to_owned(),
            time_ms: 0,
            data: serde_json::to_vec(left).unwrap().into(),
        }
    }

    fn item(k: u64, again: bool) -> Record {
        let sequence = "a".to_owned();
        record(&Left::Item(Item { sequence, k, again }))
    }

    #[test]
    fn items_leave_in_order_without_gaps_and_those_put_again_may_repeat() {
        let mut seen = SeenToLeave::default();
        for (k, again) in [(1, false), (2, false), (2, true), (3, true)] {
            assert_eq!(seen.take(&item(k, again)), Ok(()));
        }
        assert!(seen.take(&item(5, false)).is_err(), "one is missing");
        assert!(seen.take(&item(5, false)).is_err(), "it left before");
        assert!(seen.take(&item(4, false)).is_err(), "it comes late");
    }

    #[test]
    fn everything_else_leaves_once() {
        let mut seen = SeenToLeave::default();
        let ended = AlarmEnd::Rung;
        let once = [
            Left::Alarm { n: 1, ended },
            Left::Gathered { n: 1 },
            Left::Applied { n: 1 },
        ];
        for left in &once {
            assert_eq!(seen.take(&record(left)), Ok(()));
        }
        for left in &once {
            assert!(seen.take(&record(left)).is_err());
        }
        let mut strange = item(1, false);
        strange.data = "{}".into();
        assert!(seen.take(&strange).is_err());
    }
}
