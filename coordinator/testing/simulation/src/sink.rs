//! The stream that the application writes to: it takes whatever comes, and tells late, wrongly or not at all.

use std::collections::{BTreeMap, BTreeSet};

use satchel_engine::sink::delivery::Record;
use satchel_engine::sink::exactly_once::{Look, Put, PutResult, Seen};
use satchel_engine::sink::reconcile::{Matcher, StreamPositions};
use xxhash_rust::xxh3::xxh3_64;

/// How many shards it has.
const SHARDS: u64 = 2;

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    /// Whether each record is to be there once.
    once: bool,
    /// The records in the order in which they first arrived: their numbers and what they say.
    pub(crate) records: Vec<(u64, String)>,
    /// The numbers that never can be put.
    pub(crate) refused: BTreeSet<u64>,
    /// How many records came again.
    pub(crate) again: u64,
    shards: BTreeMap<String, Vec<Landed>>,
    /// What each number was first seen with, and the last number of each key.
    seen: BTreeMap<u64, Put>,
    last: BTreeMap<String, u64>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Landed {
    sequence: u64,
    put: Put,
    /// Readers see it from then on.
    visible_at_ms: u64,
}

impl Sink {
    /// Nothing has arrived.
    pub(crate) fn new(once: bool) -> Self {
        Self {
            once,
            ..Self::default()
        }
    }

    /// As a stream of its own that is younger than this one: its numbers are greater.
    pub(crate) fn go_on_from(&mut self, older: &Self) {
        self.next_sequence = older.next_sequence;
    }

    /// Takes a record.
    ///
    /// # Errors
    ///
    /// Which law that breaks.
    pub(crate) fn land(
        &mut self,
        record: &Record<Put>,
        visible_at_ms: u64,
    ) -> Result<PutResult, String> {
        let (number, put) = (record.number, record.payload.clone());
        self.next_sequence += 1;
        let sequence = self.next_sequence;
        let shard = format!("out-{}", xxh3_64(put.key.as_bytes()) % SHARDS);
        self.shards.entry(shard.clone()).or_default().push(Landed {
            sequence,
            put: put.clone(),
            visible_at_ms,
        });
        self.check(number, put)?;
        Ok(PutResult::Taken {
            shard,
            sequence: sequence.to_string(),
        })
    }

    fn check(&mut self, number: u64, put: Put) -> Result<(), String> {
        if let Some(known) = self.seen.get(&number) {
            self.again += 1;
            if *known != put {
                return Err(format!(
                    "egress record {number} arrived as {known:?} and as {put:?}"
                ));
            }
            if self.once {
                return Err(format!("egress record {number}, {put:?}, arrived twice"));
            }
            return Ok(());
        }
        let last = self.last.insert(put.key.clone(), number);
        let text = String::from_utf8_lossy(&put.data).into_owned();
        self.seen.insert(number, put);
        self.records.push((number, text));
        match last {
            Some(last) if last > number => Err(format!(
                "egress record {number} arrived first after record {last} of its key"
            )),
            _ => Ok(()),
        }
    }

    /// What a reader sees beyond these positions.
    pub(crate) fn look(&self, after: &StreamPositions, wanted: &Matcher, now_ms: u64) -> Look {
        let mut look = Look {
            shards: (0..SHARDS).map(|shard| format!("out-{shard}")).collect(),
            seen: Vec::new(),
        };
        for (shard, landed) in &self.shards {
            let after = after.shards.get(shard);
            let after: u64 = after.map_or(0, |number| number.parse().unwrap_or(u64::MAX));
            // Records are read in their order, so one that is not seen yet hides those behind it.
            let visible = landed
                .iter()
                .take_while(|landed| landed.visible_at_ms <= now_ms);
            for Landed { sequence, put, .. } in visible {
                if *sequence > after && wanted.wants(&put.key, &put.data) {
                    look.seen.push(Seen {
                        shard: shard.clone(),
                        sequence: sequence.to_string(),
                        key: put.key.clone(),
                        data: put.data.to_vec(),
                    });
                }
            }
        }
        look
    }
}
