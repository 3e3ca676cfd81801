//! Reads a local stream: what stands for a Kinesis stream in `satchel dev`.

use std::time::Duration;

use satchel_engine::input::{Input, Record};
use satchel_engine::position::{ShardId, ShardPosition};
use tokio::sync::mpsc;

use super::routing::Routing;
use crate::module::StartupPosition;
use crate::runtime::now_ms;
use crate::runtime::reading::Reading;
use crate::streams::{ReadFrom, SHARD_ID, SequenceNumber, Stream, StreamError};

/// How much is read at once.
const RECORDS_PER_READ: usize = 1000;
const BYTES_PER_READ: usize = 1 << 20;

/// Reads one local stream for one ingress.
pub struct LocalStreamIngress {
    /// The ingress's id, `namespace/name`.
    pub ingress: String,
    /// What is read.
    pub stream: Stream,
    /// Where reading starts if it never did.
    pub startup: StartupPosition,
    /// Where the records go.
    pub routing: Routing,
}

impl LocalStreamIngress {
    /// Reads until the partition is gone.
    ///
    /// # Errors
    ///
    /// Damage of the stream, or what the file system says.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<(), StreamError> {
        let shard = ShardId {
            ingress: self.ingress.as_str().into(),
            stream: self.stream.name().into(),
            shard: SHARD_ID.into(),
        };
        let start = self.resolve_start().await?;
        let started = reading.expect(shard.clone());
        let found = Input::ShardFound {
            shard: shard.clone(),
            start,
        };
        if inputs.send(found).await.is_err() {
            return Ok(());
        }
        let Ok(after) = started.await else {
            return Ok(());
        };
        let mut reader = self
            .stream
            .read(read_from(&self.stream, &after).await?)
            .await?;
        let mut paused = reading.paused();
        loop {
            if paused.wait_for(|paused| !paused).await.is_err() {
                return Ok(());
            }
            let read = reader.follow(RECORDS_PER_READ, BYTES_PER_READ).await?;
            let records = read
                .into_iter()
                .map(|record| self.to_input(record))
                .collect();
            let read = Input::RecordsRead {
                shard: shard.clone(),
                records,
            };
            if inputs.send(read).await.is_err() {
                return Ok(());
            }
        }
    }

    fn to_input(&self, record: crate::streams::Record) -> Record {
        Record {
            sequence: position_number(record.sequence_number),
            sub_sequence: 0,
            routed: self.routing.route(&record.key, &record.data),
            key: record.key.into(),
        }
    }

    /// Where reading starts if it never did: `latest` and dates become a position.
    async fn resolve_start(&self) -> Result<ShardPosition, StreamError> {
        match self.startup {
            StartupPosition::Earliest => Ok(ShardPosition::Beginning),
            StartupPosition::Latest => self.before_next().await,
            StartupPosition::Date(date_ms) => {
                let wait_ms = date_ms.saturating_sub(now_ms());
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                let mut reader = self.stream.read(ReadFrom::AtTime(date_ms)).await?;
                match reader.next(1, 0).await?.first() {
                    Some(first) => Ok(before(first.sequence_number)),
                    None => self.before_next().await,
                }
            }
        }
    }

    async fn before_next(&self) -> Result<ShardPosition, StreamError> {
        Ok(before(self.stream.next_sequence_number().await?))
    }
}

fn position_number(number: SequenceNumber) -> satchel_engine::position::SequenceNumber {
    number
        .to_string()
        .parse()
        .expect("it is written in decimal digits")
}

/// The position from which `number` is the next record.
fn before(number: SequenceNumber) -> ShardPosition {
    let number: u64 = number
        .to_string()
        .parse()
        .expect("a local stream counts in 64 bit");
    match number {
        0 | 1 => ShardPosition::Beginning,
        number => ShardPosition::After {
            sequence: (number - 1).into(),
            sub_sequence: 0,
        },
    }
}

/// Where to read on after `position`.
async fn read_from(stream: &Stream, position: &ShardPosition) -> Result<ReadFrom, StreamError> {
    match position {
        ShardPosition::Beginning => Ok(ReadFrom::Earliest),
        ShardPosition::Since { time_ms } => Ok(ReadFrom::AtTime(*time_ms)),
        // A local stream has one shard, which is never closed.
        ShardPosition::End => Err(unknown(stream, "the end of a shard").await?),
        ShardPosition::After { sequence, .. } | ShardPosition::Quiet { sequence, .. } => {
            match sequence.as_str().parse() {
                Ok(number) => Ok(ReadFrom::After(number)),
                // The position was made on something that was no local stream.
                Err(_) => Err(unknown(stream, sequence.as_str()).await?),
            }
        }
    }
}

async fn unknown(stream: &Stream, position: &str) -> Result<StreamError, StreamError> {
    Ok(StreamError::UnknownPosition {
        stream: stream.name().to_owned(),
        sequence_number: position.to_owned(),
        next: stream.next_sequence_number().await?.to_string(),
    })
}
