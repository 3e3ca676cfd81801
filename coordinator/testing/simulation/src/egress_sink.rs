//! The stream that the application writes to. It accepts every record, and answers late, wrongly or
//! not at all.

use std::collections::{BTreeMap, BTreeSet};

use satchel_engine::sink::delivery::Record;
use satchel_engine::sink::exactly_once::{PutResult, ScanResult, ScannedRecord, StreamRecord};
use satchel_engine::sink::reconcile::{Matcher, StreamPositions};
use xxhash_rust::xxh3::xxh3_64;

/// Number of shards.
const SHARDS: u64 = 2;

/// Records that arrived.
#[derive(Debug, Default)]
pub(crate) struct EgressSink {
    /// True if each record must arrive exactly once.
    exactly_once: bool,
    /// Number and text of each record, in the order of their first arrivals.
    pub(crate) records: Vec<(u64, String)>,
    /// Numbers of records that the egress rejects.
    pub(crate) refused: BTreeSet<u64>,
    /// Number of records that arrived again.
    pub(crate) again: u64,
    shards: BTreeMap<String, Vec<Landed>>,
    /// First content of each number, and last number of each key.
    seen: BTreeMap<u64, StreamRecord>,
    last: BTreeMap<String, u64>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Landed {
    sequence: u64,
    put: StreamRecord,
    /// Time from which readers see the record.
    visible_at_ms: u64,
}

impl EgressSink {
    /// Creates an empty stream.
    pub(crate) fn new(exactly_once: bool) -> Self {
        Self {
            exactly_once,
            ..Self::default()
        }
    }

    /// Makes the sequence numbers greater than those of the stream of this fork's origin.
    pub(crate) fn continue_from(&mut self, older: &Self) {
        self.next_sequence = older.next_sequence;
    }

    /// Accepts a record.
    ///
    /// # Errors
    ///
    /// The law that the record breaks.
    pub(crate) fn land(
        &mut self,
        record: &Record<StreamRecord>,
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

    fn check(&mut self, number: u64, put: StreamRecord) -> Result<(), String> {
        if let Some(known) = self.seen.get(&number) {
            self.again += 1;
            if *known != put {
                return Err(format!(
                    "egress record {number} arrived as {known:?} and as {put:?}"
                ));
            }
            if self.exactly_once {
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

    /// Returns the wanted records that a reader sees after these positions.
    pub(crate) fn scan(
        &self,
        after: &StreamPositions,
        wanted: &Matcher,
        now_ms: u64,
    ) -> ScanResult {
        let mut result = ScanResult {
            shards: (0..SHARDS).map(|shard| format!("out-{shard}")).collect(),
            records: Vec::new(),
        };
        for (shard, landed) in &self.shards {
            let after = after.shards.get(shard);
            let after: u64 = after.map_or(0, |number| number.parse().unwrap_or(u64::MAX));
            // A shard is read in order, so a record that is not visible yet hides those behind it.
            let visible = landed
                .iter()
                .take_while(|landed| landed.visible_at_ms <= now_ms);
            for Landed { sequence, put, .. } in visible {
                if *sequence > after && wanted.wants(&put.key, &put.data) {
                    result.records.push(ScannedRecord {
                        shard: shard.clone(),
                        sequence: sequence.to_string(),
                        key: put.key.clone(),
                        data: put.data.to_vec(),
                    });
                }
            }
        }
        result
    }
}
