//! Records that were acknowledged recently, by shard and sequence number.
//!
//! They are in the part of a shard that a scan reads, and must not be taken for records in doubt
//! with the same key and bytes. A mark holds those of one acknowledgement:
//!
//! ```text
//! acked/<stream>/<id>   <shard>:<sequence>,<shared>~<rest>,…;<shard>:…
//! ```
//!
//! Sequence numbers of a shard are in ascending order. Each but the first is the number of leading
//! digits that it shares with the one before it, and its remaining digits. `id` grows with each
//! acknowledgement.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sequence numbers by shard.
type Shards = BTreeMap<String, Vec<String>>;

/// Records that were acknowledged recently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    entries: BTreeMap<u64, Entry>,
}

/// Records of one acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Their stream.
    pub(super) stream: Arc<str>,
    /// Time of the acknowledgement, by the monotonic clock of this owner, in ms.
    at_ms: u64,
    /// Their sequence numbers, in ascending order.
    pub(super) shards: Shards,
    /// True if a mark holds them.
    pub(super) is_marked: bool,
}

impl Acknowledged {
    /// Adds records, and returns the id of their acknowledgement.
    pub(super) fn add<'a>(
        &mut self,
        stream: &str,
        records: impl IntoIterator<Item = (&'a str, &'a str)>,
        at_ms: u64,
        is_marked: bool,
    ) -> Option<u64> {
        let mut shards = Shards::new();
        for (shard, sequence) in records {
            let sequences = shards.entry(shard.to_owned()).or_default();
            sequences.push(sequence.to_owned());
        }
        if shards.is_empty() {
            return None;
        }
        for sequences in shards.values_mut() {
            sequences.sort_by(|one, other| compare(one, other));
        }
        let id = self.entries.last_key_value().map_or(1, |(id, _)| id + 1);
        let stream = stream.into();
        let entry = Entry {
            stream,
            at_ms,
            shards,
            is_marked,
        };
        self.entries.insert(id, entry);
        Some(id)
    }

    /// Adds the records of a durable mark. Returns `None` if the mark is malformed.
    pub(super) fn read(&mut self, stream: &str, id: &str, text: &str) -> Option<()> {
        let entry = Entry {
            stream: stream.into(),
            at_ms: 0,
            shards: parse(text)?,
            is_marked: true,
        };
        self.entries.insert(id.parse().ok()?, entry);
        Some(())
    }

    /// Sets the time of all acknowledgements. They happened at `now_ms` at the latest.
    pub(super) fn inherit(&mut self, now_ms: u64) {
        self.entries
            .values_mut()
            .for_each(|entry| entry.at_ms = now_ms);
    }

    /// Value of the mark for an acknowledgement.
    pub(super) fn mark_value(&self, id: u64) -> String {
        self.entries
            .get(&id)
            .map_or_else(String::new, |entry| encode(&entry.shards))
    }

    /// Takes the acknowledgements of a stream that happened at `until_ms` or earlier.
    pub(super) fn take_until(&mut self, stream: &str, until_ms: u64) -> Vec<(u64, Entry)> {
        let is_old =
            |_: &u64, entry: &mut Entry| entry.at_ms <= until_ms && &*entry.stream == stream;
        self.entries.extract_if(.., is_old).collect()
    }

    /// Shard and sequence number of every record of a stream.
    pub(super) fn of_stream(&self, stream: &str) -> BTreeSet<(&str, &str)> {
        self.entries
            .values()
            .filter(|entry| &*entry.stream == stream)
            .flat_map(|entry| &entry.shards)
            .flat_map(|(shard, sequences)| sequences.iter().map(|sequence| (&**shard, &**sequence)))
            .collect()
    }
}

/// Compares sequence numbers of any length.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    (one.len(), one).cmp(&(other.len(), other))
}

fn encode(shards: &Shards) -> String {
    let mut text = String::new();
    for (shard, sequences) in shards {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(shard);
        let mut before: Option<&str> = None;
        for sequence in sequences {
            match before {
                None => {
                    text.push(':');
                    text.push_str(sequence);
                }
                Some(before) => {
                    let pairs = before.bytes().zip(sequence.bytes());
                    let shared = pairs.take_while(|(one, other)| one == other).count();
                    text.push_str(&format!(",{shared}~{}", &sequence[shared..]));
                }
            }
            before = Some(sequence);
        }
    }
    text
}

fn parse(text: &str) -> Option<Shards> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mut shards = Shards::new();
    for part in text.split(';') {
        let (shard, numbers) = part.split_once(':')?;
        let mut sequences: Vec<String> = Vec::new();
        for number in numbers.split(',') {
            let sequence = match (sequences.last(), number.split_once('~')) {
                (None, None) => number.to_owned(),
                (Some(before), Some((shared, rest))) => {
                    let shared = before.get(..shared.parse().ok()?)?;
                    format!("{shared}{rest}")
                }
                _ => return None,
            };
            if sequence.is_empty() || !is_number(&sequence) {
                return None;
            }
            sequences.push(sequence);
        }
        shards.insert(shard.to_owned(), sequences);
    }
    Some(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_as_short_as_the_numbers_are_alike() {
        let mut acknowledged = Acknowledged::default();
        let records = [
            (
                "shard-1",
                "49543463076570308322303623326179887152428262250726293588",
            ),
            (
                "shard-1",
                "49543463076570308322303623326179887152428262250726293522",
            ),
            ("shard-2", "7"),
            ("shard-2", "10"),
            ("shard-2", "7"),
        ];
        let id = acknowledged.add("s", records, 3, true).unwrap();
        let value = acknowledged.mark_value(id);
        assert_eq!(
            value,
            "shard-1:49543463076570308322303623326179887152428262250726293522,54~88;\
             shard-2:7,1~,0~10"
        );
        let mut read = Acknowledged::default();
        read.read("s", "1", &value).unwrap();
        read.inherit(3);
        assert_eq!(read, acknowledged);
        assert!(read.of_stream("s").contains(&("shard-2", "10")));
        assert!(read.of_stream("other").is_empty());
    }

    #[test]
    fn a_malformed_mark_is_rejected() {
        for text in [
            "", "s", "s:", "s:x", "s:1,2", "s:1,2~3", "s:1,0~x", "s:1~2", "s:1,0~",
        ] {
            let mut read = Acknowledged::default();
            assert_eq!(read.read("stream", "1", text), None, "{text:?}");
        }
        let mut read = Acknowledged::default();
        assert_eq!(read.read("stream", "first", "s:1"), None);
    }

    #[test]
    fn acknowledgements_are_taken_by_their_age() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.add("s", [("a", "1")], 10, false);
        acknowledged.add("s", [("a", "2")], 20, false);
        assert_eq!(acknowledged.add("s", [], 20, false), None);
        assert!(acknowledged.take_until("other", 30).is_empty());
        let taken = acknowledged.take_until("s", 10);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].1.shards["a"], ["1"]);
        assert_eq!(acknowledged.of_stream("s").len(), 1);
    }
}
