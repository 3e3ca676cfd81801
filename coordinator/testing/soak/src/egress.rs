//! Egress of the application, as its stream shows it.

use std::collections::{BTreeMap, BTreeSet};

use satchel_testkit::Record;
use serde::Deserialize;

use crate::functions::{AlarmEnd, EgressRecord};

/// All egress records so far.
#[derive(Debug, Default)]
pub(crate) struct SeenEgress {
    /// Items of each sequence in stream order: number, and whether put again.
    pub(crate) items: BTreeMap<String, Vec<(u64, bool)>>,
    /// End of each alarm.
    pub(crate) alarms: BTreeMap<u64, AlarmEnd>,
    /// Completed jobs.
    pub(crate) gathered: BTreeSet<u64>,
    /// Poison messages that were applied.
    pub(crate) applied: BTreeSet<u64>,
    /// Number of records.
    pub(crate) count: u64,
}

/// A record in its stream: as a function wrote it, or in the envelope that names its id.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Emitted {
    InEnvelope { data: EgressRecord },
    Plain(EgressRecord),
}

impl SeenEgress {
    /// Adds a record; fails with a description if the record violates an expectation.
    pub(crate) fn observe(&mut self, record: &Record) -> Result<(), String> {
        self.count += 1;
        let emitted = serde_json::from_slice(&record.data).map_err(|error| {
            format!("{record:?} was emitted, but no function wrote it: {error}")
        })?;
        let (Emitted::InEnvelope { data: emitted } | Emitted::Plain(emitted)) = emitted;
        let once = match emitted.clone() {
            EgressRecord::Item(item) => {
                let before = self.items.entry(item.sequence).or_default();
                let last = before.last().map_or(0, |(k, _)| *k);
                let follows = item.k == last + 1 || (item.again && item.k == last);
                before.push((item.k, item.again));
                if !follows {
                    return Err(format!(
                        "{emitted:?} was emitted after item {last} of its sequence"
                    ));
                }
                true
            }
            EgressRecord::Alarm { n, ended } => self.alarms.insert(n, ended).is_none(),
            EgressRecord::Gathered { n } => self.gathered.insert(n),
            EgressRecord::Applied { n } => self.applied.insert(n),
        };
        match once {
            true => Ok(()),
            false => Err(format!("{emitted:?} was emitted twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Item;

    fn record(emitted: &EgressRecord) -> Record {
        Record {
            sequence_number: "1".to_owned(),
            key: "key".to_owned(),
            time_ms: 0,
            data: serde_json::to_vec(emitted).unwrap().into(),
        }
    }

    fn item(k: u64, again: bool) -> Record {
        let sequence = "a".to_owned();
        record(&EgressRecord::Item(Item { sequence, k, again }))
    }

    #[test]
    fn items_are_emitted_in_order_without_gaps_and_repeated_puts_may_repeat() {
        let mut seen = SeenEgress::default();
        for (k, again) in [(1, false), (2, false), (2, true), (3, true)] {
            assert_eq!(seen.observe(&item(k, again)), Ok(()));
        }
        assert!(seen.observe(&item(5, false)).is_err(), "item 4 is missing");
        assert!(
            seen.observe(&item(5, false)).is_err(),
            "item 5 was emitted before"
        );
        assert!(seen.observe(&item(4, false)).is_err(), "item 4 is late");
    }

    #[test]
    fn all_other_records_are_emitted_once() {
        let mut seen = SeenEgress::default();
        let ended = AlarmEnd::Rung;
        let once = [
            EgressRecord::Alarm { n: 1, ended },
            EgressRecord::Gathered { n: 1 },
            EgressRecord::Applied { n: 1 },
        ];
        for emitted in &once {
            assert_eq!(seen.observe(&record(emitted)), Ok(()));
        }
        for emitted in &once {
            assert!(seen.observe(&record(emitted)).is_err());
        }
        let mut unknown = item(1, false);
        unknown.data = "{}".into();
        assert!(seen.observe(&unknown).is_err());
    }
}
