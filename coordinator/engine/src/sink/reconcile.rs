//! What is known of the records of a stream: up to where everything is acknowledged, and which of those in doubt are in it.
//!
//! One request is under way to a stream at a time, so that when its answer is known, whatever an egress put into a shard up to the highest number in
//! the answer is acknowledged, and whatever it will put there lies beyond (a record that is put after the answer to an earlier one has the
//! greater sequence number in the same shard). These numbers are the [`Positions`]; they become durable in the delta of the
//! acknowledgement. So after a takeover, what lies beyond them and came from here is in the outbox: the same keys and bytes, and no more of them.

use std::collections::BTreeMap;

use crate::input::EgressMark;
use crate::map::Map;
use bytes::Bytes;

/// The name of the mark for all streams.
const ANY_STREAM: &str = "since";

/// The name of the mark for how long a request may take.
const REQUEST_TIMEOUT: &str = "request-timeout";

/// Up to where everything of one egress in its streams is acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// Nothing that is not acknowledged was put into any stream before; in ms since the epoch.
    since_ms: Option<u64>,
    /// For so long a request may be under way that an owner began.
    request_timeout_ms: u64,
    streams: BTreeMap<String, StreamPositions>,
}

/// Up to where everything of one egress in a stream is acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPositions {
    /// Nothing that is not acknowledged was put into it before; in ms since the epoch. For shards without a number.
    pub since_ms: u64,
    /// The sequence number of the last acknowledged record of each shard.
    pub shards: BTreeMap<String, String>,
}

/// A mark that this software does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mark {name:?} of the egress is not one that this version writes")]
pub struct UnknownMark {
    /// Its name.
    pub name: String,
}

impl Positions {
    /// Reads what is durable.
    ///
    /// # Errors
    ///
    /// [`UnknownMark`] if a mark is not one of these: then it is not known what is in doubt.
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

    /// Since when records are put so that they can be found again; none if they never were.
    pub fn since_ms(&self) -> Option<u64> {
        self.since_ms
    }

    /// Notes that nothing is in doubt at `now_ms`, whatever the stream.
    pub fn settled(&mut self, now_ms: u64) -> EgressMark {
        self.since_ms = Some(now_ms);
        mark(ANY_STREAM.to_owned(), now_ms.to_string())
    }

    /// For how long a request of a former owner may have been under way; 0 if none told.
    pub fn request_timeout_ms(&self) -> u64 {
        self.request_timeout_ms
    }

    /// Notes that requests from now on may be under way for so long, so that the next owner waits for them, whatever its own take.
    pub fn request_timeout(&mut self, timeout_ms: u64) -> EgressMark {
        self.request_timeout_ms = timeout_ms;
        mark(REQUEST_TIMEOUT.to_owned(), timeout_ms.to_string())
    }

    /// What is known of a stream.
    pub fn stream(&self, stream: &str) -> StreamPositions {
        let known = self.streams.get(stream).cloned();
        known.unwrap_or_else(|| StreamPositions {
            since_ms: self.since_ms.unwrap_or_default(),
            shards: BTreeMap::new(),
        })
    }

    /// Notes that the stream's records up to these are acknowledged, and that nothing of it is in doubt at `now_ms`. `arrived` are shards and
    /// sequence numbers.
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

    /// Forgets shards that are in the stream no more: what they held has expired.
    pub fn keep_shards(&mut self, stream: &str, there: &dyn Fn(&str) -> bool) -> Vec<EgressMark> {
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

/// The mark that forgets the one of this name.
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

/// Whether a sequence number, of any length, is greater than another.
fn is_after(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    (one.len(), one) > (other.len(), other)
}

/// Finds records in doubt among those that are read from their stream: by key, bytes and count.
///
/// Several records may be equal in key and bytes. Each one in the stream stands for one of them, the oldest first: they were put one after the
/// other, so the youngest are those that may be missing.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    missing: Map<(String, Bytes), Vec<u64>>,
    found: Vec<u64>,
}

impl Matcher {
    /// Looks for these records: number, key and bytes, in the order of their numbers.
    pub fn new<'a>(records: impl IntoIterator<Item = (u64, &'a str, &'a Bytes)>) -> Self {
        let mut missing: Map<_, Vec<u64>> = Map::default();
        for (number, key, data) in records {
            let same = missing.entry((key.to_owned(), data.clone())).or_default();
            same.push(number);
        }
        // The oldest is taken from the end.
        missing.values_mut().for_each(|numbers| numbers.reverse());
        Self {
            missing,
            found: Vec::new(),
        }
    }

    /// Whether a record of the stream may be one of those.
    pub fn wants(&self, key: &str, data: &[u8]) -> bool {
        let place = (key.to_owned(), Bytes::copy_from_slice(data));
        self.missing.contains_key(&place)
    }

    /// Looks at a record of the stream; says whether it was one of those.
    pub fn see(&mut self, key: &str, data: &[u8]) -> bool {
        let place = (key.to_owned(), Bytes::copy_from_slice(data));
        let Some(numbers) = self.missing.get_mut(&place) else {
            return false;
        };
        let number = numbers.pop();
        self.found.extend(number);
        number.is_some()
    }

    /// The numbers of the records that were found.
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
        let mut marks = vec![positions.settled(10), positions.request_timeout(7_000)];
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
        let gone = positions.keep_shards("s", &|shard| shard == "shard-1");
        assert_eq!(gone, [forget("shard/s/shard-2")]);
        assert_eq!(positions.stream("s").shards.len(), 1);
    }

    #[test]
    fn a_mark_of_another_version_is_refused_by_its_name() {
        let unknown = Positions::read([("cursor/s", &b"1"[..])]).unwrap_err();
        assert_eq!(unknown.name, "cursor/s");
        assert!(Positions::read([("since", &b"soon"[..])]).is_err());
    }

    #[test]
    fn equal_records_are_found_as_often_as_they_are_there() {
        let data = Bytes::from_static(b"x");
        let other = Bytes::from_static(b"y");
        let records = [
            (1, "k", &data),
            (2, "k", &data),
            (3, "k", &other),
            (4, "l", &data),
        ];
        let mut matcher = Matcher::new(records);
        assert!(matcher.see("k", b"x"));
        assert!(matcher.see("l", b"x"));
        assert!(!matcher.see("m", b"x"));
        assert!(!matcher.see("l", b"x"), "somebody else's");
        assert_eq!(matcher.found(), [1, 4]);
    }
}
