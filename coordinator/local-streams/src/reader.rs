//! Reading and following a stream, or one shard of it, from a position.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::StreamError;
use crate::frame::{Content, HEAD_BYTES, RawRecord};
use crate::index::Index;
use crate::log::{Tip, damaged, io_error};
use crate::number::SequenceNumber;
use crate::record::{ReadFrom, Record};
use crate::scan::{Scan, Step};
use crate::segment::Segment;
use crate::shards::{Description, Shard, shard_id};
use crate::stream::Stream;

/// Interval at which a waiting reader checks for appends of another process.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of bytes that one chunk scans for records of a shard.
const SCAN_MAX_BYTES: u64 = 32 << 20;

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
}

/// Finds the position at which reading starts. Blocks.
pub(crate) fn locate(
    stream: &str,
    tip: &Tip,
    shard: Option<u32>,
    from: ReadFrom,
) -> Result<Cursor, StreamError> {
    let at = |number: SequenceNumber, count: u64| {
        check_number(stream, tip, shard, number, count)?;
        let segment = segment_before(tip, |segment| segment.first <= count);
        let offset = with_index(stream, segment, tip, |index| index.before_count(count))?;
        Ok(Cursor {
            segment: segment.number,
            offset,
            count,
        })
    };
    match from {
        ReadFrom::Earliest => Ok(Cursor::at_start_of(&tip.segments[0], 0)),
        ReadFrom::Latest => Ok(Cursor::at(tip)),
        ReadFrom::At(number) => at(number, number.count()),
        ReadFrom::After(number) => at(number, number.count() + 1),
        ReadFrom::AtTime(time_ms) => {
            let segment = segment_before(tip, |segment| segment.start_ms < time_ms);
            let offset = with_index(stream, segment, tip, |index| index.before_time(time_ms))?;
            find_time(
                stream,
                tip,
                Cursor {
                    segment: segment.number,
                    offset,
                    count: 0,
                },
                time_ms,
            )
        }
    }
}

/// Returns the sequence number after which a read of a shard from `from` starts. Blocks.
pub(crate) fn before(
    stream: &str,
    tip: &Tip,
    shard: u32,
    from: ReadFrom,
) -> Result<Option<SequenceNumber>, StreamError> {
    let Some(description) = tip.description.shard(shard) else {
        return Err(StreamError::UnknownShard(format!(
            "the stream '{stream}' has no shard {}",
            shard_id(shard)
        )));
    };
    let cursor = locate(stream, tip, Some(shard), from)?;
    let one = Limits {
        records: 1,
        bytes: 0,
    };
    let mut chunk = read_chunk(stream, tip, Some(shard), cursor, one)?;
    while chunk.records.is_empty() && !chunk.at_tip {
        chunk = read_chunk(stream, tip, Some(shard), chunk.cursor, one)?;
    }
    Ok(
        match (chunk.records.first(), description.ending_sequence_number()) {
            // Any number is right that is smaller than the record's and not smaller than that of
            // the record before it.
            (Some(record), _) => match record.sequence_number.before() {
                before if before <= description.starting_sequence_number() => None,
                before => Some(before),
            },
            (None, Some(ending)) => Some(ending),
            (None, None) => {
                // Records that are appended from now on have larger numbers.
                Some(description.number(tip.next, 0).before())
            }
        },
    )
}

fn check_number(
    stream: &str,
    tip: &Tip,
    shard: Option<u32>,
    number: SequenceNumber,
    count: u64,
) -> Result<(), StreamError> {
    let owner = tip.description.shard(shard.unwrap_or(number.shard()));
    let foreign = shard.is_some() && !owner.is_some_and(|owner| owner.may_assign(number));
    if count > tip.next || foreign {
        return Err(StreamError::UnknownPosition {
            stream: stream.to_owned(),
            sequence_number: number.to_string(),
        });
    }
    let trimmed = |shard: &Shard| shard.trimmed;
    let trimmed = match shard {
        Some(_) => owner.map_or(0, trimmed),
        None => tip.segments[0].first - 1,
    };
    if count <= trimmed {
        return Err(StreamError::Expired {
            stream: stream.to_owned(),
            shard: shard_id(number.shard()),
            sequence_number: number.to_string(),
        });
    }
    Ok(())
}

/// Returns the last segment for which `is_before` holds, else the first segment.
fn segment_before(tip: &Tip, is_before: impl Fn(&Segment) -> bool) -> &Segment {
    let after = tip.segments.partition_point(|segment| is_before(segment));
    &tip.segments[after.saturating_sub(1)]
}

/// Queries the index of a segment. An index that does not exist yet is built.
fn with_index(
    stream: &str,
    segment: &Segment,
    tip: &Tip,
    ask: impl FnOnce(&Index) -> u64,
) -> Result<u64, StreamError> {
    let lock = || segment.index.lock().unwrap_or_else(PoisonError::into_inner);
    let is_last = tip.segments[tip.segments.len() - 1].number == segment.number;
    if let Some(index) = &*lock() {
        return Ok(ask(index));
    }
    let mut index = Index::default();
    // Appends maintain the index of the last segment.
    if !is_last {
        let _: Option<Cursor> =
            scan(
                stream,
                tip,
                Cursor::at_start_of(segment, 0),
                |at, frame| match frame {
                    _ if at.segment != segment.number => ControlFlow::Break(at),
                    FrameHead::Records(first, records) => {
                        index.add(at.offset, first, records[0].time_ms);
                        ControlFlow::Continue(())
                    }
                    FrameHead::Other => ControlFlow::Continue(()),
                },
            )?;
    }
    let cursor = ask(&index);
    if !is_last {
        *lock() = Some(index);
    }
    Ok(cursor)
}

/// Position of the first record that arrived at `time_ms` or later, else the tip.
fn find_time(stream: &str, tip: &Tip, from: Cursor, time_ms: u64) -> Result<Cursor, StreamError> {
    let found = scan(stream, tip, from, |at, frame| match frame {
        FrameHead::Records(_, records) => {
            match records.iter().find(|record| record.time_ms >= time_ms) {
                Some(record) => ControlFlow::Break(Cursor {
                    count: record.count,
                    ..at
                }),
                None => ControlFlow::Continue(()),
            }
        }
        FrameHead::Other => ControlFlow::Continue(()),
    })?;
    Ok(found.unwrap_or(Cursor::at(tip)))
}

/// Reads the next records. Blocks.
pub(crate) fn read_chunk(
    stream: &str,
    tip: &Tip,
    shard: Option<u32>,
    cursor: Cursor,
    limits: Limits,
) -> Result<Chunk, StreamError> {
    let description = &tip.description;
    let closed = shard.and_then(|shard| match description.shard(shard) {
        // A forgotten shard has no records any more.
        None => Some(0),
        Some(shard) => shard.ending_sequence_number().map(SequenceNumber::count),
    });
    let cursor = skip_deleted(stream, tip, shard, cursor)?;
    let mut records = Vec::new();
    let (mut bytes, mut scanned) = (0, 0);
    let mut next_count = cursor.count;
    let stopped = scan(stream, tip, cursor, |at, frame| {
        let FrameHead::Records(_, raw) = frame else {
            return ControlFlow::Continue(());
        };
        for record in raw.iter().filter(|record| record.count >= cursor.count) {
            let size = record.key.len() + record.data.len();
            scanned += size as u64;
            if shard.is_some_and(|shard| record.shard.unwrap_or(0) != shard) {
                continue;
            }
            let full = records.len() == limits.records || bytes + size > limits.bytes;
            if full && !records.is_empty() {
                return ControlFlow::Break((
                    Cursor {
                        count: record.count,
                        ..at
                    },
                    Ok(()),
                ));
            }
            bytes += size;
            match to_record(description, record) {
                Some(record) => records.push(record),
                None => return ControlFlow::Break((at, Err("a record's shard or key is unknown"))),
            }
        }
        next_count = raw[raw.len() - 1].count + 1;
        if closed.is_some_and(|closed| next_count > closed) {
            return ControlFlow::Break((
                Cursor {
                    count: next_count,
                    ..at
                },
                Ok(()),
            ));
        }
        // The rest waits for the next chunk. This frame is passed.
        match scanned >= SCAN_MAX_BYTES {
            true => ControlFlow::Break((
                Cursor {
                    count: next_count,
                    ..at
                },
                Ok(()),
            )),
            false => ControlFlow::Continue(()),
        }
    })?;
    let (cursor, at_tip) = match stopped {
        None => (Cursor::at(tip), true),
        Some((cursor, Ok(()))) => (cursor, false),
        Some((cursor, Err(reason))) => {
            let segment = segment_at(tip, cursor.segment);
            return Err(damaged(stream, segment.path.clone(), cursor.offset, reason));
        }
    };
    let ended = closed.is_some_and(|closed| at_tip || cursor.count > closed);
    Ok(Chunk {
        records,
        cursor,
        at_tip: at_tip || ended,
        ended,
    })
}

/// Returns the position if its segment exists. If the segment was deleted and held nothing that is
/// wanted, returns the oldest position instead.
fn skip_deleted(
    stream: &str,
    tip: &Tip,
    shard: Option<u32>,
    cursor: Cursor,
) -> Result<Cursor, StreamError> {
    let first = &tip.segments[0];
    if cursor.segment >= first.number {
        return Ok(cursor);
    }
    let trimmed = match shard {
        Some(shard) => tip
            .description
            .shard(shard)
            .map_or(0, |shard| shard.trimmed),
        None => first.first - 1,
    };
    if cursor.count > 0 && cursor.count <= trimmed {
        return Err(StreamError::Expired {
            stream: stream.to_owned(),
            shard: shard.map_or_else(|| "all shards".to_owned(), shard_id),
            sequence_number: cursor.count.to_string(),
        });
    }
    Ok(Cursor::at_start_of(first, cursor.count))
}

enum FrameHead<'f> {
    /// Count of the first record, and the records.
    Records(u64, &'f [RawRecord<'f>]),
    Other,
}

/// Passes the frames from a position up to the tip to `each`, until it breaks.
fn scan<T>(
    stream: &str,
    tip: &Tip,
    from: Cursor,
    mut each: impl FnMut(Cursor, FrameHead<'_>) -> ControlFlow<T>,
) -> Result<Option<T>, StreamError> {
    let begin = tip
        .segments
        .partition_point(|segment| segment.number < from.segment);
    for (position, segment) in tip.segments.iter().enumerate().skip(begin) {
        let next = tip.segments.get(position + 1);
        if next.is_some_and(|next| from.count >= next.first) {
            continue;
        }
        let offset = match segment.number == from.segment {
            true => from.offset,
            false => HEAD_BYTES as u64,
        };
        let end = match next {
            None => tip.end,
            Some(_) => length(stream, segment)?,
        };
        let mut scan = Scan::new(&segment.file, segment.version, offset, end);
        let mut count = None;
        // The end of a continued segment may hold bytes that a crash left. They contain no counted
        // entry.
        while next.is_none_or(|next| count.is_none_or(|count| count < next.first)) {
            let step = scan.step();
            let step = step.map_err(|error| io_error(stream, "read its file", &error))?;
            let is_damaged =
                |offset, reason: &str| Err(damaged(stream, segment.path.clone(), offset, reason));
            let (offset, frame) = match step {
                Step::Frame(offset, frame) => (offset, frame),
                Step::End => break,
                Step::Unfinished(offset) => {
                    return is_damaged(offset, "the file is shorter than it was");
                }
                Step::Damaged(offset, reason) => return is_damaged(offset, &reason),
            };
            let (first, content) = match frame.content() {
                Ok(content) => content,
                Err(reason) => return is_damaged(offset, &reason),
            };
            let at = Cursor {
                segment: segment.number,
                offset,
                count: from.count,
            };
            let flow = match &content {
                Content::Records { records, .. } => {
                    count = Some(first + records.len() as u64);
                    each(at, FrameHead::Records(first, records))
                }
                Content::Continued => break,
                Content::Change { next, .. } => {
                    count = Some(*next);
                    each(at, FrameHead::Other)
                }
                Content::Checkpoint { .. } => {
                    count = Some(first);
                    each(at, FrameHead::Other)
                }
            };
            if let ControlFlow::Break(value) = flow {
                return Ok(Some(value));
            }
        }
        if let (Some(next), Some(count)) = (next, count)
            && count < next.first
        {
            let reason = format!("records from {count} on are missing");
            return Err(damaged(stream, segment.path.clone(), end, reason));
        }
    }
    Ok(None)
}

fn length(stream: &str, segment: &Segment) -> Result<u64, StreamError> {
    let metadata = segment.file.metadata();
    let metadata = metadata.map_err(|error| io_error(stream, "inspect its file", &error))?;
    Ok(metadata.len())
}

fn segment_at(tip: &Tip, number: u64) -> &Arc<Segment> {
    let at = tip.segments.iter().find(|segment| segment.number == number);
    at.unwrap_or(&tip.segments[0])
}

fn to_record(description: &Description, raw: &RawRecord<'_>) -> Option<Record> {
    let sequence_number = match raw.shard {
        None => SequenceNumber::plain(raw.count),
        Some(shard) => description.shard(shard)?.number(raw.count, raw.time_ms),
    };
    Some(Record {
        sequence_number,
        key: std::str::from_utf8(raw.key).ok()?.to_owned(),
        // Copied, because a slice would keep the whole chunk of the file in memory while the record
        // lives.
        data: Bytes::copy_from_slice(raw.data),
        time_ms: raw.time_ms,
    })
}
