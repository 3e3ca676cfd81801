//! The stream that the application writes to. It accepts every record, orders them by arrival only
//! coarsely, and answers late, wrongly or not at all.

use std::collections::{BTreeMap, BTreeSet};

use satchel_engine::sink::delivery::Record;
use satchel_engine::sink::exactly_once::{PutResult, ScanResult, ScannedRecord, StreamRecord};
use satchel_engine::sink::reconcile::{Matcher, StreamPositions};
use xxhash_rust::xxh3::xxh3_64;

/// Number of shards.
const SHARDS: u64 = 2;

/// Number of different sequence numbers of one millisecond.
const SEQUENCES_PER_MS: u64 = 100_000;

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
    /// Text of each record that was emitted. Records in the stream may have less.
    pub(crate) texts: BTreeMap<u64, String>,
    /// Records of each shard by sequence number.
    shards: BTreeMap<String, BTreeMap<u64, Landed>>,
    /// First content of each number, and last number of each key.
    seen: BTreeMap<u64, StreamRecord>,
    last: BTreeMap<String, u64>,
    /// Sequence number below all of this stream.
    base: u64,
    /// Highest sequence number.
    highest: u64,
    landed: u64,
}

/// Arrival of a record, in true time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Time by which its sequence number is ordered: not before that of its arrival, and later by
    /// less than the ordering margin.
    pub(crate) ordered_ms: u64,
    /// Time from which readers see the record.
    pub(crate) visible_ms: u64,
}

#[derive(Debug)]
struct Landed {
    put: StreamRecord,
    /// Time from which readers see the record.
    visible_ms: u64,
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
        self.base = older.highest;
        self.highest = older.highest;
    }

    /// Accepts a record.
    ///
    /// # Errors
    ///
    /// The law that the record breaks.
    pub(crate) fn land(
        &mut self,
        record: &Record<StreamRecord>,
        arrival: Arrival,
    ) -> Result<PutResult, String> {
        let (number, put) = (record.number, record.payload.clone());
        self.landed += 1;
        let within_ms = self.landed % SEQUENCES_PER_MS;
        let sequence = self.base + arrival.ordered_ms * SEQUENCES_PER_MS + within_ms + 1;
        self.highest = self.highest.max(sequence);
        let shard = format!("out-{}", xxh3_64(put.key.as_bytes()) % SHARDS);
        let landed = Landed {
            put: put.clone(),
            visible_ms: arrival.visible_ms,
        };
        let shards = self.shards.entry(shard.clone()).or_default();
        shards.insert(sequence, landed);
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
        let text = self.texts.get(&number).cloned().unwrap_or_default();
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
                .take_while(|(_, landed)| landed.visible_ms <= now_ms);
            for (sequence, Landed { put, .. }) in visible {
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
