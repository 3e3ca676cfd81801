//! Reading and following a stream, or one shard of it, from a position.

mod chunk;
mod frames;
mod locate;

use std::time::Duration;

use tokio::sync::watch;

use crate::error::StreamError;
use crate::frame::HEAD_BYTES;
use crate::log::Tip;
use crate::record::{ReadFrom, Record};
use crate::segment::Segment;
use crate::stream::Stream;

pub(crate) use chunk::read_chunk;
pub(crate) use locate::{before, locate};

/// Interval at which a waiting reader checks for appends of another process.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the records of one stream, or of one shard of it, in order.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    shard: Option<u32>,
    cursor: Cursor,
    tip: watch::Receiver<Tip>,
}

/// Position of the next read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Offset of a frame in the segment.
    pub(crate) offset: u64,
    /// Count of the first wanted record. Everything before it was read or is not wanted.
    pub(crate) count: u64,
}

/// Limits of one read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Maximum number of records, at least 1.
    pub(crate) records: usize,
    /// Maximum bytes of keys and data, unless the first record alone is larger.
    pub(crate) bytes: usize,
}

/// Result of one read.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The records.
    pub(crate) records: Vec<Record>,
    /// Position for the next read.
    pub(crate) cursor: Cursor,
    /// True if nothing more can be read now.
    pub(crate) at_tip: bool,
    /// True if nothing more will ever follow.
    pub(crate) ended: bool,
}

impl Reader {
    pub(crate) async fn open(
        stream: Stream,
        shard: Option<u32>,
        from: ReadFrom,
    ) -> Result<Self, StreamError> {
        stream.refresh().await?;
        let tip = stream.watch_tip();
        let cursor = stream.locate(shard, from).await?;
        Ok(Self {
            stream,
            shard,
            cursor,
            tip,
        })
    }

    /// Returns the next records: at most `records_max` (at least 1), and at most `bytes_max` bytes
    /// of keys and data unless a single record has more. Returns none if all were read.
    /// Cancel-safe: the position changes only with the result.
    ///
    /// # Errors
    /// Damaged data, or an error of the file system.
    pub async fn next(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StreamError> {
        loop {
            let chunk = self.chunk(records_max, bytes_max).await?;
            if !chunk.records.is_empty() || chunk.at_tip {
                return Ok(chunk.records);
            }
        }
    }

    /// Waits until unread entries were appended, or until the shard is closed. Cancel-safe.
    ///
    /// # Errors
    /// An error found while reading the appends of another process, or a deleted stream.
    pub async fn wait(&mut self) -> Result<(), StreamError> {
        loop {
            {
                let tip = self.tip.borrow_and_update();
                if tip.deleted {
                    return Err(StreamError::Missing(self.stream.name().to_owned()));
                }
                if !self.cursor.is_at(&tip) {
                    return Ok(());
                }
            }
            match tokio::time::timeout(REFRESH_INTERVAL, self.tip.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StreamError::Stopped),
                Err(_) => self.stream.refresh().await?,
            }
        }
    }

    /// Returns the next records like [`Reader::next`], but waits until there are some. Returns none
    /// only if the reader reads one shard, the shard is closed, and everything in it was read.
    ///
    /// # Errors
    /// As for [`Reader::next`].
    pub async fn follow(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StreamError> {
        loop {
            let chunk = self.chunk(records_max, bytes_max).await?;
            if !chunk.records.is_empty() || chunk.ended {
                return Ok(chunk.records);
            }
            if chunk.at_tip {
                self.wait().await?;
            }
        }
    }

    async fn chunk(&mut self, records_max: usize, bytes_max: usize) -> Result<Chunk, StreamError> {
        let tip = self.tip.borrow_and_update().clone();
        let limits = Limits {
            records: records_max.max(1),
            bytes: bytes_max,
        };
        let chunk = self.stream.read_chunk(tip, self.shard, self.cursor, limits);
        let chunk = chunk.await?;
        self.cursor = chunk.cursor;
        Ok(chunk)
    }
}

impl Cursor {
    /// True if nothing follows it.
    fn is_at(&self, tip: &Tip) -> bool {
        let last = &tip.segments[tip.segments.len() - 1];
        (self.segment, self.offset) >= (last.number, tip.end)
    }

    fn at_start_of(segment: &Segment, count: u64) -> Self {
        Self {
            segment: segment.number,
            offset: HEAD_BYTES as u64,
            count,
        }
    }

    /// Position after everything.
    pub(crate) fn at(tip: &Tip) -> Self {
        Self {
            segment: tip.segments[tip.segments.len() - 1].number,
            offset: tip.end,
            count: tip.next,
        }
    }

    fn with_count(self, count: u64) -> Self {
        Self { count, ..self }
    }
}
