//! Reconciliation with a stream: acknowledged positions, and the search for records in doubt.
//!
//! Only one request to a stream is in flight at a time. When its answer is known, everything that
//! the egress put into a shard up to the highest sequence number in the answer is acknowledged.
//! Everything that it puts there later lies beyond, because a record put after the answer to an
//! earlier one has the greater sequence number in the same shard.
//!
//! These numbers are the [`Positions`]. They become durable in the delta of the acknowledgement.
//! After a takeover, every record of this egress beyond the positions is therefore in the outbox,
//! with the same key and bytes, and is no more often in the stream than in the outbox.

use std::collections::BTreeMap;

use crate::input::EgressMark;
use crate::map::Map;
use bytes::Bytes;

/// Name of the mark for all streams.
const ANY_STREAM: &str = "since";

/// Name of the mark for the request timeout.
const REQUEST_TIMEOUT: &str = "request-timeout";

/// Acknowledged positions of one egress in all its streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// Start of reconcilable delivery: before it, no unacknowledged record was put into any stream.
    /// In ms since the epoch.
    since_ms: Option<u64>,
    /// Maximum duration of a request that any owner began, in ms.
    request_timeout_ms: u64,
    streams: BTreeMap<String, StreamPositions>,
}

/// Acknowledged positions of one egress in one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPositions {
    /// Before this time, no unacknowledged record was put into the stream. Used for shards without
    /// a sequence number. In ms since the epoch.
    pub since_ms: u64,
    /// Sequence number of the last acknowledged record of each shard.
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
    ) -> Result<Self, UnknownMark> {
        let mut positions = Self::default();
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
                _ => return Err(unknown()),
            }
        }
        Ok(positions)
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

    /// Records that the stream's records up to `arrived` are acknowledged, and that nothing of the
    /// stream is in doubt at `now_ms`. `arrived` are pairs of shard and sequence number.
    pub fn advance<'a>(
        &mut self,
        stream: &str,
        arrived: impl IntoIterator<Item = (&'a str, &'a str)>,
        now_ms: u64,
    ) -> Vec<EgressMark> {
        let known = self.stream_mut(stream);
        known.since_ms = now_ms;
        let mut marks = vec![mark(format!("since/{stream}"), now_ms.to_string())];
        let mut touched = BTreeMap::new();
        for (shard, sequence) in arrived {
            let highest = known.shards.entry(shard.to_owned()).or_default();
            if is_after(sequence, highest) {
                sequence.clone_into(highest);
                touched.insert(shard, sequence);
            }
        }
        marks.extend(
            touched.into_iter().map(|(shard, sequence)| {
                mark(format!("shard/{stream}/{shard}"), sequence.to_owned())
            }),
        );
        marks
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

/// Compares sequence numbers of any length.
fn is_after(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    (one.len(), one) > (other.len(), other)
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

    fn read(marks: &[EgressMark]) -> Positions {
        let pairs = marks.iter().filter_map(|mark| {
            let value = mark.value.as_deref()?;
            Some((&*mark.name, value))
        });
        Positions::read(pairs).unwrap()
    }

    #[test]
    fn positions_are_what_their_marks_say() {
        let mut positions = Positions::default();
        let mut marks = vec![
            positions.mark_settled(10),
            positions.set_request_timeout(7_000),
        ];
        marks.extend(positions.advance("s", [("shard-1", "99"), ("shard-2", "5")], 20));
        marks.extend(positions.advance("s", [("shard-1", "100"), ("shard-1", "98")], 30));
        assert_eq!(read(&marks), positions);
        assert_eq!(positions.request_timeout_ms(), 7_000);
        let known = positions.stream("s");
        assert_eq!(known.since_ms, 30);
        assert_eq!(
            known.shards["shard-1"], "100",
            "numbers are compared as numbers"
        );
        assert_eq!(known.shards["shard-2"], "5");
        assert_eq!(positions.stream("other").since_ms, 10);
        let gone = positions.retain_shards("s", &|shard| shard == "shard-1");
        assert_eq!(gone, [forget("shard/s/shard-2")]);
        assert_eq!(positions.stream("s").shards.len(), 1);
    }

    #[test]
    fn a_mark_of_another_version_is_rejected_by_its_name() {
        let unknown = Positions::read([("cursor/s", &b"1"[..])]).unwrap_err();
        assert_eq!(unknown.name, "cursor/s");
        assert!(Positions::read([("since", &b"soon"[..])]).is_err());
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
