//! Ingress from a local stream, in the place of a Kinesis stream in `satchel dev`.
//!
//! Each shard has a task that reads it. Reading of a child shard begins when the ends of all its
//! parents are durable. Everything that came from the parents is durable then too.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use satchel_engine::input::{Input, Record};
use satchel_engine::position::{ShardId, ShardPosition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::routing::Routing;
use crate::clock::now_ms;
use crate::ingress::reading::Reading;
use crate::metrics::Metrics;
use crate::module::StartupPosition;
use crate::streams::shards::shard_id;
use crate::streams::{Description, ReadFrom, SequenceNumber, Shard, Stream, StreamError};

/// Maximum size of a read, in records and in bytes.
const RECORDS_PER_READ: usize = 1000;
const BYTES_PER_READ: usize = 1 << 20;

/// One local stream of an ingress.
#[derive(Clone)]
pub struct LocalStreamIngress {
    /// Id of the ingress, `namespace/name`.
    pub ingress: String,
    /// Stream to read.
    pub stream: Stream,
    /// Start position of a stream that was never read.
    pub startup: StartupPosition,
    /// Route of the records.
    pub routing: Routing,
    /// Metrics of the process, whose status shows what is read.
    pub metrics: Metrics,
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

impl LocalStreamIngress {
    /// Reads until the partition is gone.
    ///
    /// # Errors
    ///
    /// Damage of the stream, or an error of the file system.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<(), StreamError> {
        let mut plan = Plan::default();
        let mut readers = JoinSet::new();
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
                // A task panicked, which ends the process, or there is no shard to read.
                Some(Err(_)) | None => return Err(StreamError::Stopped),
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
            ingress: self.ingress.as_str().into(),
            stream: self.stream.name().into(),
            shard: shard_id(index).into(),
        };
        let start = match start {
            Start::Startup => self.resolve_start(index).await?,
            Start::Beginning => ShardPosition::Beginning,
        };
        let started = reading.expect(shard.clone());
        let found = Input::ShardFound {
            shard: shard.clone(),
            start,
        };
        if inputs.send(found).await.is_err() {
            return Ok(None);
        }
        let Ok(after) = started.await else {
            return Ok(None);
        };
        if after == ShardPosition::End {
            return Ok(Some(Ended {
                shard: index,
                skipped: false,
            }));
        }
        let from = self.read_from(&after)?;
        let ending = |shard: &Shard| shard.ending_sequence_number();
        let ending = self.stream.description().shard(index).and_then(ending);
        let skipped =
            matches!((from, ending), (ReadFrom::After(after), Some(ending)) if after >= ending);
        let mut reader = self.stream.read_shard(index, from).await?;
        let mut paused = reading.paused();
        loop {
            if paused.wait_for(|paused| !paused).await.is_err() {
                return Ok(None);
            }
            let read = reader.follow(RECORDS_PER_READ, BYTES_PER_READ).await?;
            if read.is_empty() {
                return self.end(shard, index, skipped, &inputs, &reading).await;
            }
            self.show(&shard, &read);
            let records = read
                .into_iter()
                .map(|record| self.to_input(record))
                .collect();
            let read = Input::RecordsRead {
                shard: shard.clone(),
                records,
            };
            if inputs.send(read).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Shows what was read. A read that is not full has reached the tip of the shard.
    fn show(&self, shard: &ShardId, read: &[crate::streams::Record]) {
        let status = self.metrics.status();
        status.ingress_received(&self.ingress, read.len() as u64);
        let last_ms = read.last().map_or(0, |last| last.time_ms);
        let behind_ms = match read.len() {
            RECORDS_PER_READ => now_ms().saturating_sub(last_ms),
            _ => 0,
        };
        status.ingress_lag(&self.ingress, &shard.shard, behind_ms);
    }

    fn to_input(&self, record: crate::streams::Record) -> Record {
        Record {
            sequence: position_number(record.sequence_number),
            sub_sequence: 0,
            routed: self.routing.route(&record.key, &record.data),
            key: record.key.into(),
        }
    }

    /// Resolves the start position: `latest` and dates become a position. For a closed shard
    /// without records to read, it is the ending sequence number, which no record has.
    async fn resolve_start(&self, shard: u32) -> Result<ShardPosition, StreamError> {
        let from = match self.startup {
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

    fn read_from(&self, position: &ShardPosition) -> Result<ReadFrom, StreamError> {
        let unknown = |position: &str| StreamError::UnknownPosition {
            stream: self.stream.name().to_owned(),
            sequence_number: position.to_owned(),
        };
        match position {
            ShardPosition::Beginning => Ok(ReadFrom::Earliest),
            ShardPosition::Since { time_ms } => Ok(ReadFrom::AtTime(*time_ms)),
            ShardPosition::End => Err(unknown("after its end")),
            ShardPosition::After { sequence, .. } | ShardPosition::Quiet { sequence, .. } => {
                // Other positions come from sources that were not local streams.
                let number = sequence.as_str().parse();
                number
                    .map(ReadFrom::After)
                    .map_err(|_| unknown(sequence.as_str()))
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
mod tests {
    use super::*;
    use crate::streams::Streams;

    #[tokio::test]
    async fn children_begin_when_all_their_parents_ended_and_at_their_beginning_if_one_was_read() {
        let streams = Streams::ephemeral();
        let stream = streams.create("names", 2, false).await.unwrap();
        stream.split(0, 5).await.unwrap();
        stream.merge(3, 1).await.unwrap();
        let description = stream.description();
        let mut plan = Plan::default();
        assert_eq!(
            plan.next(&description),
            [(0, Start::Startup), (1, Start::Startup)]
        );
        plan.ended(&Ended {
            shard: 0,
            skipped: true,
        });
        assert_eq!(
            plan.next(&description),
            [(2, Start::Startup), (3, Start::Startup)]
        );
        plan.ended(&Ended {
            shard: 3,
            skipped: true,
        });
        assert_eq!(plan.next(&description), []);
        plan.ended(&Ended {
            shard: 1,
            skipped: false,
        });
        assert_eq!(plan.next(&description), [(4, Start::Beginning)]);
    }
}
