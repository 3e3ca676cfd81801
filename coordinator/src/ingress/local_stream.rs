//! Ingress from a local stream, in the place of a stream, topic or queue in `satchel dev`.
//!
//! Aggregates of the Kinesis Producer Library are unpacked by the same code as those of Kinesis.
//!
//! Each shard has a task that reads it. Reading of a child shard begins when the ends of all its
//! parents are durable. Everything that came from the parents is durable then too.

mod handed;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use satchel_aws::kinesis::aggregation::{DropLog, UserRecords, user_records};
use satchel_aws::kinesis::{Aggregation, ExpiredPosition, KinesisObserver};
use satchel_engine::address::Address;
use satchel_engine::input::{FoundShard, Input, Record, Unroutable};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::queue_routing::{QueueRouting, message_of_record};
use super::routing::Routing;
use super::stream_source;
use crate::clock::now_ms;
use crate::ingress::reading::Reading;
use crate::metrics::Metrics;
use crate::module::StartupPosition;
use crate::sources::{SourceId, SourceProblem, SourceStopped};
use crate::streams::shards::shard_id;
use crate::streams::{
    Description, ReadFrom, Reader, SequenceNumber, Shard, Stream, StreamError, Streams,
};

/// Maximum size of a read, in records and in bytes.
const RECORDS_PER_READ: usize = 1000;
const BYTES_PER_READ: usize = 1 << 20;

/// One local stream of an ingress.
#[derive(Clone)]
pub struct LocalStreamIngress {
    /// Id of the ingress, `namespace/name`.
    pub ingress: String,
    /// Streams of this machine.
    pub streams: Streams,
    /// Name of the stream to read, which must exist.
    pub stream: String,
    /// Way of reading it.
    pub reading: LocalReading,
    /// Route of the records.
    pub routing: LocalRouting,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Partition that reads the shards which the home of the stream hands to it; none is the home.
    pub handed_to: Option<u32>,
}

/// Route of the records of a local stream.
#[derive(Debug, Clone)]
pub enum LocalRouting {
    /// The stream stands for one of Kinesis, or for a topic.
    Records(Routing),
    /// The stream stands for a queue.
    Queue(QueueRouting),
}

/// Way of reading the local streams of an ingress.
#[derive(Debug, Clone, Copy)]
pub struct LocalReading {
    /// Start position of a stream that was never read.
    pub startup: StartupPosition,
    /// Reaction if the stream has deleted unread records.
    pub on_expired: ExpiredPosition,
    /// Treatment of records in aggregates that belong to another shard. Without it, no record is
    /// taken for an aggregate.
    pub aggregation: Option<Aggregation>,
}

/// Readers of the shards of an open stream.
#[derive(Clone)]
struct Readers {
    ingress: LocalStreamIngress,
    stream: Stream,
}

/// Start position of a shard that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Start position of the module: the shard and all its ancestors are older than the ingress.
    Startup,
    /// Beginning of the shard, because a parent was read.
    Beginning,
}

/// Shard that was read to its end.
struct Ended {
    shard: u32,
    /// True if the ingress began only after the shard, so that its children begin at the
    /// module's start position.
    skipped: bool,
}

impl LocalRouting {
    fn route(
        &self,
        number: SequenceNumber,
        key: &str,
        data: &Bytes,
    ) -> Result<Vec<(Address, TypedValue)>, Unroutable> {
        match self {
            Self::Records(routing) => routing.route(key, data),
            Self::Queue(routing) => {
                routing.route(&message_of_record(number.to_string(), key, data))
            }
        }
    }
}

impl LocalStreamIngress {
    /// The reader of the shards that the home of the stream hands to a partition, unless the stream
    /// stands for a queue.
    pub(super) fn handed_to(&self, partition: u32) -> Option<Self> {
        matches!(self.routing, LocalRouting::Records(_)).then(|| Self {
            handed_to: Some(partition),
            ..self.clone()
        })
    }

    /// Name of the stream, and of the partition if it is not the home.
    pub(super) fn source(&self) -> SourceId {
        SourceId {
            ingress: self.ingress.as_str().into(),
            name: stream_source(&self.stream, self.handed_to),
        }
    }

    /// Reads until the partition is gone.
    ///
    /// # Errors
    ///
    /// The stream does not exist or is damaged, unread records are gone, or an error of the file
    /// system.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<(), SourceStopped> {
        let ingress = self.ingress.clone();
        let read = async {
            let handed = match self.handed_to {
                None => None,
                Some(_) => {
                    let stream = (self.ingress.as_str().into(), self.stream.as_str().into());
                    match reading.handed(&inputs, stream).await {
                        Some(handed) => Some(handed),
                        None => return Ok(()),
                    }
                }
            };
            // A stream that was deleted is not created again by being read.
            let stream = self.streams.existing(&self.stream).await?;
            let readers = Readers {
                ingress: self,
                stream,
            };
            match handed {
                None => readers.run(inputs, reading).await,
                Some(handed) => readers.run_handed(inputs, reading, handed).await,
            }
        };
        let read: Result<(), StreamError> = read.await;
        read.map_err(|error| SourceStopped {
            problem: problem_of(&error),
            reason: format!("ingress {ingress}: {error}"),
        })
    }
}

/// Kind of the problem of a stream that cannot be read.
fn problem_of(error: &StreamError) -> SourceProblem {
    match error {
        StreamError::Missing(_) => SourceProblem::Missing,
        StreamError::UnknownPosition { .. } | StreamError::Expired { .. } => SourceProblem::Lost,
        error if error.is_damage() => SourceProblem::Damaged,
        _ => SourceProblem::Unreadable,
    }
}

impl Readers {
    /// Reads until the partition is gone.
    async fn run(self, inputs: mpsc::Sender<Input>, reading: Reading) -> Result<(), StreamError> {
        let mut readers = JoinSet::new();
        let outcome = self.read_shards(&mut readers, inputs, reading).await;
        // No reader outlives the others, so that the stream may be read anew.
        readers.shutdown().await;
        outcome
    }

    async fn read_shards(
        &self,
        readers: &mut JoinSet<Result<Option<Ended>, StreamError>>,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<(), StreamError> {
        let mut plan = Plan::default();
        loop {
            for (shard, start) in plan.next(&self.stream.description()) {
                let reader = self.clone();
                let (inputs, reading) = (inputs.clone(), reading.clone());
                readers.spawn(async move { reader.read(shard, start, inputs, reading).await });
            }
            match readers.join_next().await {
                Some(Ok(outcome)) => match outcome? {
                    Some(ended) => plan.ended(&ended),
                    None => return Ok(()),
                },
                Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
                // There is no shard to read.
                None => return Err(StreamError::Stopped),
            }
        }
    }

    /// Reads one shard to its end. Returns none if the partition is gone.
    async fn read(
        self,
        index: u32,
        start: Start,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<Option<Ended>, StreamError> {
        let shard = ShardId {
            ingress: self.ingress.ingress.as_str().into(),
            stream: self.stream.name().into(),
            shard: shard_id(index).into(),
        };
        let start = match start {
            Start::Startup => self.resolve_start(index).await?,
            Start::Beginning => ShardPosition::Beginning,
        };
        let started = reading.expect(shard.clone());
        let found = FoundShard {
            shard: shard.clone(),
            hash_range: self.hash_range(index, &start),
            start,
        };
        if inputs.send(Input::ShardsFound(vec![found])).await.is_err() {
            return Ok(None);
        }
        let Ok(after) = started.await else {
            return Ok(None);
        };
        if after == ShardPosition::End {
            let description = self.stream.description();
            if description.shard(index).is_some_and(Shard::is_open) {
                // The shard that was read to its end was that of a deleted stream of this name.
                return Err(self.unknown_position("after the end of the shard"));
            }
            return Ok(Some(Ended {
                shard: index,
                skipped: false,
            }));
        }
        let skipped = self.is_skipped(index, &after);
        self.read_after((shard, index), &after, skipped, inputs, reading)
            .await
    }

    /// Range of the hash keys of a shard that another partition may read. Queues, and shards of
    /// which nothing is read, stay at the home.
    fn hash_range(&self, index: u32, start: &ShardPosition) -> Option<(u128, u128)> {
        if matches!(self.ingress.routing, LocalRouting::Queue(_)) || self.is_skipped(index, start) {
            return None;
        }
        let description = self.stream.description();
        let shard = description.shard(index)?;
        Some((shard.first_hash_key, shard.last_hash_key))
    }

    /// Returns whether the ingress began only after the shard.
    fn is_skipped(&self, index: u32, position: &ShardPosition) -> bool {
        let ending = |shard: &Shard| shard.ending_sequence_number();
        let ending = self.stream.description().shard(index).and_then(ending);
        let from = self.read_from(position);
        matches!((from, ending), (Ok(ReadFrom::After(after)), Some(ending)) if after >= ending)
    }

    /// Reads one shard from a position to its end. Returns none if the partition is gone.
    async fn read_after(
        self,
        (shard, index): (ShardId, u32),
        after: &ShardPosition,
        skipped: bool,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<Option<Ended>, StreamError> {
        let from = self.read_from(after)?;
        let mut reader = self.open(index, from).await?;
        let mut paused = reading.paused();
        let mut drop_log = DropLog::default();
        loop {
            if paused.wait_for(|paused| !paused).await.is_err() {
                return Ok(None);
            }
            let read = reader.follow(RECORDS_PER_READ, BYTES_PER_READ).await?;
            if read.is_empty() {
                return self.end(shard, index, skipped, &inputs, &reading).await;
            }
            self.show(&shard, &read);
            // One input has all user records of an aggregate, so that no position lies within one.
            let records = self.unpack(&shard, index, read, &mut drop_log);
            let read = Input::RecordsRead {
                shard: shard.clone(),
                records,
            };
            if inputs.send(read).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Opens a shard. If unread records are gone, and the module file accepts that, reading
    /// continues with the oldest record.
    async fn open(&self, index: u32, from: ReadFrom) -> Result<Reader, StreamError> {
        let error = match self.stream.read_shard(index, from).await {
            Err(error) if problem_of(&error) == SourceProblem::Lost => error,
            opened => return opened,
        };
        match self.ingress.reading.on_expired {
            ExpiredPosition::Stop => Err(error),
            ExpiredPosition::Earliest => {
                tracing::error!(
                    ingress = self.ingress.ingress,
                    %error,
                    "position expired; continuing with the oldest record, as configured"
                );
                self.stream.read_shard(index, ReadFrom::Earliest).await
            }
        }
    }

    /// Shows what was read. A read that is not full has reached the tip of the shard.
    fn show(&self, shard: &ShardId, read: &[crate::streams::Record]) {
        let status = self.ingress.metrics.status();
        status.ingress_received(&self.ingress.ingress, read.len() as u64);
        let last_ms = read.last().map_or(0, |last| last.time_ms);
        let behind_ms = match read.len() {
            RECORDS_PER_READ => now_ms().saturating_sub(last_ms),
            _ => 0,
        };
        status.ingress_lag(&self.ingress.ingress, &shard.shard, behind_ms);
    }

    /// Converts records, unpacking aggregates.
    fn unpack(
        &self,
        shard: &ShardId,
        index: u32,
        read: Vec<crate::streams::Record>,
        drop_log: &mut DropLog,
    ) -> Vec<Record> {
        let LocalStreamIngress {
            routing, metrics, ..
        } = &self.ingress;
        let Some(aggregation) = self.ingress.reading.aggregation else {
            let records = read.into_iter().map(|record| Record {
                sequence: position_number(record.sequence_number),
                sub_sequence: 0,
                trace: None,
                headers: None,
                routed: routing.route(record.sequence_number, &record.key, &record.data),
                key: record.key.into(),
            });
            return records.collect();
        };
        let description = self.stream.description();
        let range = description
            .shard(index)
            .map(|shard| (shard.first_hash_key, shard.last_hash_key));
        let mut unpacked = Vec::with_capacity(read.len());
        for record in read {
            let sequence = position_number(record.sequence_number);
            let UserRecords { records, dropped } =
                user_records(&record.key, &record.data, range, aggregation);
            if dropped > 0 {
                metrics.dropped(shard, dropped);
                drop_log.dropped(shard, dropped);
            }
            for (sub_sequence, user) in records {
                unpacked.push(Record {
                    sequence: sequence.clone(),
                    sub_sequence,
                    trace: None,
                    headers: None,
                    routed: routing.route(record.sequence_number, &user.key, &user.data),
                    key: user.key,
                });
            }
        }
        unpacked
    }

    /// Resolves the start position: `latest` and dates become a position. For a closed shard
    /// without records to read, it is the ending sequence number, which no record has.
    async fn resolve_start(&self, shard: u32) -> Result<ShardPosition, StreamError> {
        let from = match self.ingress.reading.startup {
            StartupPosition::Earliest => return Ok(ShardPosition::Beginning),
            StartupPosition::Latest => ReadFrom::Latest,
            StartupPosition::Date(date_ms) => {
                let wait_ms = date_ms.saturating_sub(now_ms());
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                ReadFrom::AtTime(date_ms)
            }
        };
        let before = self.stream.before(shard, from).await?;
        Ok(
            before.map_or(ShardPosition::Beginning, |number| ShardPosition::After {
                sequence: position_number(number),
                sub_sequence: 0,
            }),
        )
    }

    /// Waits until the end of a shard is durable. Returns none if the partition is gone. The
    /// position of a skipped shard is its end already, and must stay distinct from that of a shard
    /// that was read.
    async fn end(
        &self,
        shard: ShardId,
        index: u32,
        skipped: bool,
        inputs: &mpsc::Sender<Input>,
        reading: &Reading,
    ) -> Result<Option<Ended>, StreamError> {
        if !skipped {
            let durable = reading.expect(shard.clone());
            let ended = Input::ShardEnded { shard };
            if inputs.send(ended).await.is_err() || durable.await.is_err() {
                return Ok(None);
            }
        }
        Ok(Some(Ended {
            shard: index,
            skipped,
        }))
    }

    fn unknown_position(&self, position: &str) -> StreamError {
        StreamError::UnknownPosition {
            stream: self.stream.name().to_owned(),
            sequence_number: position.to_owned(),
        }
    }

    fn read_from(&self, position: &ShardPosition) -> Result<ReadFrom, StreamError> {
        match position {
            ShardPosition::Beginning => Ok(ReadFrom::Earliest),
            ShardPosition::Since { time_ms } => Ok(ReadFrom::AtTime(*time_ms)),
            ShardPosition::End | ShardPosition::Elsewhere => {
                Err(self.unknown_position("after its end"))
            }
            ShardPosition::After { sequence, .. } | ShardPosition::Quiet { sequence, .. } => {
                // Other positions come from sources that were not local streams.
                let number = sequence.as_str().parse();
                number
                    .map(ReadFrom::After)
                    .map_err(|_| self.unknown_position(sequence.as_str()))
            }
        }
    }
}

/// Progress over the shards of a stream.
#[derive(Debug, Default)]
struct Plan {
    begun: HashSet<u32>,
    /// Shards that ended, with true for skipped ones.
    ended: HashMap<u32, bool>,
}

impl Plan {
    /// Returns the shards whose reading can begin: those without remaining parents, and those
    /// whose parents have all ended.
    fn next(&mut self, description: &Description) -> Vec<(u32, Start)> {
        let mut next = Vec::new();
        for shard in &description.shards {
            let there = shard.parents.iter().filter(|parent| {
                description.shard(**parent).is_some() || self.begun.contains(parent)
            });
            let parents: Vec<_> = there.map(|parent| self.ended.get(parent)).collect();
            if parents.iter().any(Option::is_none) || !self.begun.insert(shard.index) {
                continue;
            }
            // A parent that was read existed when the ingress began, so the child is younger.
            let start = match parents.into_iter().flatten().all(|skipped| *skipped) {
                true => Start::Startup,
                false => Start::Beginning,
            };
            next.push((shard.index, start));
        }
        next
    }

    fn ended(&mut self, ended: &Ended) {
        self.ended.insert(ended.shard, ended.skipped);
    }
}

fn position_number(number: SequenceNumber) -> satchel_engine::position::SequenceNumber {
    number
        .to_string()
        .parse()
        .expect("a sequence number is written in decimal digits")
}

#[cfg(test)]
mod tests;
