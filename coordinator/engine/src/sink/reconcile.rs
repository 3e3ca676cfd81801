//! Reconciliation with a stream: where to begin to search for records in doubt, and which records
//! found there are not in doubt.
//!
//! ```text
//!        acknowledged before      recently acknowledged       in doubt
//!  shard ───────────────────────┬───────────────────────┬─────────────────►
//!                               └ position              └ request begins
//!                               |<------ ordering ----->|
//! ```
//!
//! A shard orders records by arrival only coarsely: a record may get a smaller sequence number than
//! one that was acknowledged before its request began, but only if less than the ordering margin
//! passed in between. A shard's position is therefore the highest sequence number among the records
//! that were acknowledged more than this margin before. Everything that is put later lies beyond.
//!
//! Only one request to a stream is in flight at a time. So beyond the position there are, of this
//! egress, the records in doubt and those acknowledged within the margin. The latter are known by
//! shard and sequence number ([`Recognition::Content`]), or cannot be mistaken for one in doubt
//! ([`Recognition::Id`]).
//!
//! Both become durable in the delta of the acknowledgement, as marks. After a takeover, every other
//! record of this egress beyond the positions is therefore in the outbox, with the same key and
//! bytes, and is no more often in the stream than in the outbox.

use std::collections::BTreeMap;

use crate::input::EgressMark;
use crate::map::Map;
use bytes::Bytes;

use self::acknowledged::{Acknowledged, compare};

mod acknowledged;

/// Name of the mark for all streams.
const ANY_STREAM: &str = "since";

/// Name of the mark for the request timeout.
const REQUEST_TIMEOUT: &str = "request-timeout";

/// Property by which a record in the stream is recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recognition {
    /// Key and bytes. Several records may have the same.
    #[default]
    Content,
    /// An id within the bytes, which no other record has.
    Id,
}

/// Time of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckTime {
    /// Monotonic clock of this owner, in ms.
    pub ms: u64,
    /// Calendar time, in ms since the epoch.
    pub calendar_ms: u64,
    /// Maximum time, in ms, after which a record that is put may still get a smaller sequence
    /// number than a record that was acknowledged before.
    pub ordering_ms: u64,
}

/// Acknowledged positions of one egress in all its streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// Start of reconcilable delivery: before it, no unacknowledged record was put into any stream.
    /// In ms since the epoch.
    since_ms: Option<u64>,
    /// Maximum duration of a request that any owner began, in ms.
    request_timeout_ms: u64,
    streams: BTreeMap<String, StreamPositions>,
    recognition: Recognition,
    /// Records acknowledged beyond the positions of their shards.
    recent: Acknowledged,
}

/// Acknowledged positions of one egress in one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPositions {
    /// Before this time, no unacknowledged record was put into the stream. Used for shards without
    /// a sequence number. In ms since the epoch.
    pub since_ms: u64,
    /// Sequence number of each shard beyond which to read.
    pub shards: BTreeMap<String, String>,
}

/// A mark has a form that this version does not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the egress mark {name:?} is not known to this version")]
pub struct UnknownMark {
    /// Name of the mark.
    pub name: String,
}

impl Positions {
    /// Reads the durable marks.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownMark`] if a mark is not known. It is then unknown which records are in
    /// doubt.
    pub fn read<'a>(
        marks: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        recognition: Recognition,
    ) -> Result<Self, UnknownMark> {
        let mut positions = Self {
            recognition,
            ..Self::default()
        };
        for (name, value) in marks {
            let unknown = || UnknownMark {
                name: name.to_owned(),
            };
            let text = std::str::from_utf8(value).map_err(|_| unknown())?;
            match name.split('/').collect::<Vec<_>>()[..] {
                [ANY_STREAM] => {
                    positions.since_ms = Some(text.parse().map_err(|_| unknown())?);
                }
                [REQUEST_TIMEOUT] => {
                    positions.request_timeout_ms = text.parse().map_err(|_| unknown())?;
                }
                ["since", stream] => {
                    positions.stream_mut(stream).since_ms = text.parse().map_err(|_| unknown())?;
                }
                ["shard", stream, shard] if text.bytes().all(|it| it.is_ascii_digit()) => {
                    let shards = &mut positions.stream_mut(stream).shards;
                    shards.insert(shard.to_owned(), text.to_owned());
                }
                ["acked", stream, id] => {
                    let read = positions.recent.read(stream, id, text);
                    read.ok_or_else(unknown)?;
                }
                _ => return Err(unknown()),
            }
        }
        Ok(positions)
    }

    /// Counts the age of a former owner's acknowledgements from `now_ms`, by the monotonic clock of
    /// this owner.
    pub fn inherit(&mut self, now_ms: u64) {
        self.recent.inherit(now_ms);
    }

    /// Start of reconcilable delivery, in ms since the epoch; none if there was none.
    pub fn since_ms(&self) -> Option<u64> {
        self.since_ms
    }

    /// Records that nothing is in doubt at `now_ms` in any stream.
    pub fn mark_settled(&mut self, now_ms: u64) -> EgressMark {
        self.since_ms = Some(now_ms);
        mark(ANY_STREAM.to_owned(), now_ms.to_string())
    }

    /// Maximum duration of a former owner's request, in ms; 0 if there is no such mark.
    pub fn request_timeout_ms(&self) -> u64 {
        self.request_timeout_ms
    }

    /// Records the maximum duration of requests from now on. The next owner waits for them,
    /// whatever its own timeout is.
    pub fn set_request_timeout(&mut self, timeout_ms: u64) -> EgressMark {
        self.request_timeout_ms = timeout_ms;
        mark(REQUEST_TIMEOUT.to_owned(), timeout_ms.to_string())
    }

    /// Returns the acknowledged positions of a stream.
    pub fn stream(&self, stream: &str) -> StreamPositions {
        let known = self.streams.get(stream).cloned();
        known.unwrap_or_else(|| StreamPositions {
            since_ms: self.since_ms.unwrap_or_default(),
            shards: BTreeMap::new(),
        })
    }

    /// Records that the records at `arrived` are acknowledged, and that nothing of the stream is in
    /// doubt at this time. `arrived` are pairs of shard and sequence number.
    pub fn advance<'a>(
        &mut self,
        stream: &str,
        arrived: impl IntoIterator<Item = (&'a str, &'a str)>,
        at: AckTime,
    ) -> Vec<EgressMark> {
        self.stream_mut(stream).since_ms = at.calendar_ms;
        let since = at.calendar_ms.to_string();
        let mut marks = vec![mark(format!("since/{stream}"), since)];
        let is_marked = self.recognition == Recognition::Content && at.ordering_ms > 0;
        let added = self.recent.add(stream, arrived, at.ms, is_marked);
        if let Some(id) = added.filter(|_| is_marked) {
            let value = self.recent.mark_value(id);
            marks.push(mark(format!("acked/{stream}/{id}"), value));
        }
        self.pass(stream, at, &mut marks);
        marks
    }

    /// Moves the positions of a stream past the records that were acknowledged more than the
    /// ordering margin ago. Those of other streams stay: their requests may be in flight.
    fn pass(&mut self, stream: &str, at: AckTime, marks: &mut Vec<EgressMark>) {
        let Some(until_ms) = at.ms.checked_sub(at.ordering_ms) else {
            return;
        };
        let mut passed = BTreeMap::new();
        for (id, entry) in self.recent.take_until(stream, until_ms) {
            if entry.is_marked {
                marks.push(forget(format!("acked/{stream}/{id}")));
            }
            let known = self.stream_mut(stream);
            for (shard, sequences) in entry.shards {
                let highest = known.shards.entry(shard.clone()).or_default();
                for sequence in sequences {
                    if compare(&sequence, highest).is_gt() {
                        highest.clone_from(&sequence);
                        passed.insert(format!("shard/{stream}/{shard}"), sequence);
                    }
                }
            }
        }
        marks.extend(passed.into_iter().map(|(name, value)| mark(name, value)));
    }

    /// Returns those of the records that are not known to be acknowledged: of the records that a
    /// scan of the stream found, those that may be in doubt.
    pub fn unacknowledged<'a, T>(
        &self,
        stream: &str,
        records: impl IntoIterator<Item = &'a T>,
        place: impl Fn(&T) -> (&str, &str),
    ) -> Vec<&'a T> {
        let acknowledged = self.recent.of_stream(stream);
        records
            .into_iter()
            .filter(|record| !acknowledged.contains(&place(record)))
            .collect()
    }

    /// Removes shards that are no longer in the stream: their records have expired.
    pub fn retain_shards(&mut self, stream: &str, there: &dyn Fn(&str) -> bool) -> Vec<EgressMark> {
        let Some(known) = self.streams.get_mut(stream) else {
            return Vec::new();
        };
        let gone: Vec<String> = known
            .shards
            .keys()
            .filter(|shard| !there(shard))
            .cloned()
            .collect();
        gone.into_iter()
            .map(|shard| {
                known.shards.remove(&shard);
                forget(format!("shard/{stream}/{shard}"))
            })
            .collect()
    }

    fn stream_mut(&mut self, stream: &str) -> &mut StreamPositions {
        if !self.streams.contains_key(stream) {
            let fresh = self.stream(stream);
            self.streams.insert(stream.to_owned(), fresh);
        }
        self.streams.entry(stream.to_owned()).or_default()
    }
}

/// Returns the change that removes the mark of this name.
pub fn forget(name: impl Into<std::sync::Arc<str>>) -> EgressMark {
    EgressMark {
        name: name.into(),
        value: None,
    }
}

fn mark(name: String, value: String) -> EgressMark {
    EgressMark {
        name: name.into(),
        value: Some(value.into()),
    }
}

/// Finds records in doubt among the records read from their stream, by key, bytes and count.
///
/// Several records may have equal keys and bytes. Each such record in the stream stands for one of
/// them, the oldest first. They were put one after the other, so the youngest are those that may be
/// missing.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    unmatched: Map<(String, Bytes), Vec<u64>>,
    found: Vec<u64>,
}

impl Matcher {
    /// Searches for these records: number, key and bytes, in the order of their numbers.
    pub fn new<'a>(records: impl IntoIterator<Item = (u64, &'a str, &'a Bytes)>) -> Self {
        let mut unmatched: Map<_, Vec<u64>> = Map::default();
        for (number, key, data) in records {
            let same = unmatched.entry((key.to_owned(), data.clone())).or_default();
            same.push(number);
        }
        // `match_record` takes the oldest number from the end.
        unmatched.values_mut().for_each(|numbers| numbers.reverse());
        Self {
            unmatched,
            found: Vec::new(),
        }
    }

    /// Returns whether a record of the stream may be one of those searched for.
    pub fn wants(&self, key: &str, data: &[u8]) -> bool {
        let identity = (key.to_owned(), Bytes::copy_from_slice(data));
        self.unmatched.contains_key(&identity)
    }

    /// Matches a record of the stream. Returns whether it was one of those searched for.
    pub fn match_record(&mut self, key: &str, data: &[u8]) -> bool {
        let identity = (key.to_owned(), Bytes::copy_from_slice(data));
        let Some(numbers) = self.unmatched.get_mut(&identity) else {
            return false;
        };
        let number = numbers.pop();
        self.found.extend(number);
        number.is_some()
    }

    /// Returns the numbers of the found records.
    pub fn found(self) -> Vec<u64> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The positions that a new owner reads after these changes of marks.
    fn read(changes: &[EgressMark]) -> Positions {
        let mut marks = BTreeMap::new();
        for mark in changes {
            match &mark.value {
                Some(value) => marks.insert(&*mark.name, &**value),
                None => marks.remove(&*mark.name),
            };
        }
        Positions::read(marks, Recognition::Content).unwrap()
    }

    fn at(ms: u64) -> AckTime {
        AckTime {
            ms,
            calendar_ms: 1_000 + ms,
            ordering_ms: 100,
        }
    }

    fn may_be_in_doubt(positions: &Positions, sequence: &str) -> bool {
        let found = [("shard-1", sequence)];
        !positions.unacknowledged("s", &found, |it| *it).is_empty()
    }

    #[test]
    fn positions_are_what_their_marks_say() {
        let mut positions = Positions::default();
        let mut marks = vec![
            positions.mark_settled(10),
            positions.set_request_timeout(7_000),
        ];
        marks.extend(positions.advance("s", [("shard-1", "99"), ("shard-2", "5")], at(20)));
        marks.extend(positions.advance("s", [("shard-1", "100"), ("shard-1", "98")], at(30)));
        assert_eq!(positions.stream("s").shards, BTreeMap::new());
        marks.extend(positions.advance("s", [("shard-1", "101")], at(130)));
        let mut durable = read(&marks);
        assert_eq!(durable.request_timeout_ms(), 7_000);
        let known = positions.stream("s");
        assert_eq!(durable.stream("s"), known);
        assert_eq!(known.since_ms, 1_130);
        assert_eq!(
            known.shards["shard-1"], "100",
            "numbers are compared as numbers, and the last one is too young"
        );
        assert_eq!(known.shards["shard-2"], "5");
        for positions in [&positions, &durable] {
            assert!(!may_be_in_doubt(positions, "101"));
            assert!(may_be_in_doubt(positions, "102"));
            assert_eq!(positions.stream("other").since_ms, 10);
        }
        // The next owner counts the margin from its takeover.
        durable.inherit(5_000);
        durable.advance("s", [], at(5_099));
        assert_eq!(durable.stream("s").shards["shard-1"], "100");
        let passed = durable.advance("s", [], at(5_100));
        assert_eq!(durable.stream("s").shards["shard-1"], "101");
        assert!(passed.contains(&forget("acked/s/3")), "{passed:?}");
        let gone = positions.retain_shards("s", &|shard| shard == "shard-1");
        assert_eq!(gone, [forget("shard/s/shard-2")]);
        assert_eq!(positions.stream("s").shards.len(), 1);
    }

    #[test]
    fn records_with_ids_need_no_marks_of_their_own() {
        let mut positions = Positions::read([], Recognition::Id).unwrap();
        let marks = positions.advance("s", [("shard-1", "99")], at(20));
        assert_eq!(marks, [mark("since/s".to_owned(), "1020".to_owned())]);
        let marks = positions.advance("s", [], at(120));
        assert!(marks.contains(&mark("shard/s/shard-1".to_owned(), "99".to_owned())));
        assert_eq!(marks.len(), 2);
    }

    #[test]
    fn a_mark_of_another_version_is_rejected_by_its_name() {
        let read = |name, value| Positions::read([(name, value)], Recognition::Content);
        let unknown = read("cursor/s", &b"1"[..]).unwrap_err();
        assert_eq!(unknown.name, "cursor/s");
        assert!(read("since", &b"soon"[..]).is_err());
        assert!(read("acked/s/1", &b"shard:x"[..]).is_err());
    }

    #[test]
    fn equal_records_are_found_as_often_as_they_occur() {
        let data = Bytes::from_static(b"x");
        let other = Bytes::from_static(b"y");
        let records = [
            (1, "k", &data),
            (2, "k", &data),
            (3, "k", &other),
            (4, "l", &data),
        ];
        let mut matcher = Matcher::new(records);
        assert!(matcher.match_record("k", b"x"));
        assert!(matcher.match_record("l", b"x"));
        assert!(!matcher.match_record("m", b"x"));
        assert!(!matcher.match_record("l", b"x"), "of another writer");
        assert_eq!(matcher.found(), [1, 4]);
    }
}
