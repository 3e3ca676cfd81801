//! Encoding of a group of append calls.

use std::collections::HashMap;

use bytes::BytesMut;

use super::{Append, Appended, Log};
use crate::error::StreamError;
use crate::frame::{Producer, RawRecord, encode_records};
use crate::number::SequenceNumber;

/// Facts about a frame of records that stay in memory.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) producer: Option<Producer>,
    /// Count of the entry after it.
    pub(super) next: u64,
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    /// For each shard its last record: shard, count and time.
    pub(super) shards: Vec<(u32, u64, u64)>,
}

impl Summary {
    /// Summarizes a frame that was read. It has at least one record.
    pub(super) fn of(producer: Option<Producer>, records: &[RawRecord<'_>]) -> Self {
        let mut summary = Self::new(producer, records[0].count, records[0].time_ms);
        for record in records {
            summary.add(record.shard.unwrap_or(0), record.time_ms);
        }
        summary
    }

    fn new(producer: Option<Producer>, first: u64, first_ms: u64) -> Self {
        Self {
            producer,
            next: first,
            first_ms,
            last_ms: first_ms,
            shards: Vec::new(),
        }
    }

    fn add(&mut self, shard: u32, time_ms: u64) {
        let known = self.shards.iter_mut().find(|(known, ..)| *known == shard);
        match known {
            Some(known) => *known = (shard, self.next, time_ms),
            None => self.shards.push((shard, self.next, time_ms)),
        }
        self.last_ms = time_ms;
        self.next += 1;
    }
}

/// Frames of a group of append calls, to be written together.
pub(super) struct Group {
    bytes: BytesMut,
    /// The summaries, each with the end of its frame in the segment.
    summaries: Vec<(u64, Summary)>,
    next: u64,
    time_ms: u64,
    /// Highest numbers of producers inside the group.
    producers: HashMap<String, u64>,
}

impl Group {
    /// Starts an empty group at the end of `log`.
    pub(super) fn begin(log: &Log) -> Self {
        Self {
            bytes: BytesMut::new(),
            summaries: Vec::new(),
            next: log.next,
            time_ms: log.time_ms,
            producers: HashMap::new(),
        }
    }

    /// Adds the records of one append call whose numbers are not known, unless they are out of
    /// order.
    pub(super) fn add(&mut self, log: &Log, append: &Append) -> Result<Appended, StreamError> {
        let mut known = 0;
        if let Some(Producer { id, number: last }) = &append.producer {
            let applied = self.producers.get(id).or_else(|| log.producers.get(id));
            if applied >= Some(last) {
                return Ok(Appended::Known);
            }
            known = append
                .numbers
                .partition_point(|number| Some(number) <= applied);
            let number = append.lowest_number(known).unwrap_or(*last);
            if let Some(failed) = log.failed.get(id).filter(|failed| **failed < number)
                && applied < Some(failed)
            {
                return Err(StreamError::OutOfOrder {
                    stream: log.name.clone(),
                    producer: id.clone(),
                    number,
                    failed: *failed,
                });
            }
            match self.producers.get_mut(id) {
                Some(number) => *number = *last,
                None => {
                    self.producers.insert(id.clone(), *last);
                }
            }
        }
        let records = &append.records[known..];
        let first = self.next;
        let mut placed = Vec::with_capacity(records.len());
        let mut numbers = Vec::with_capacity(records.len());
        for record in records {
            self.time_ms = record.time_ms.max(self.time_ms);
            let shard = log.route(record);
            placed.push((record, shard, self.time_ms));
            let number = log.description.shard(shard);
            let number = number.map(|shard| shard.number(self.next, self.time_ms));
            numbers.push(number.unwrap_or_else(|| SequenceNumber::plain(self.next)));
            self.next += 1;
        }
        let mut summary = Summary::new(append.producer.clone(), first, placed[0].2);
        for (_, shard, time_ms) in &placed {
            summary.add(*shard, *time_ms);
        }
        let offset = log.end + self.bytes.len() as u64;
        let producer = append.producer.as_ref();
        encode_records(offset, first, producer, placed.into_iter(), &mut self.bytes);
        self.summaries
            .push((log.end + self.bytes.len() as u64, summary));
        Ok(Appended::New(numbers))
    }

    /// Returns the bytes to write, and the summaries to apply afterwards.
    pub(super) fn finish(self) -> (BytesMut, Vec<(u64, Summary)>) {
        (self.bytes, self.summaries)
    }
}
