//! Reading the next records of a stream or a shard.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::frames::{FrameHead, scan};
use super::{Chunk, Cursor, Limits};
use crate::error::StreamError;
use crate::frame::RawRecord;
use crate::log::{Tip, damaged};
use crate::number::SequenceNumber;
use crate::record::Record;
use crate::segment::Segment;
use crate::shards::{Description, shard_id};

/// Maximum number of bytes that one chunk scans for records of a shard.
const SCAN_MAX_BYTES: u64 = 32 << 20;

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
                return ControlFlow::Break((at.with_count(record.count), Ok(())));
            }
            bytes += size;
            match to_record(description, record) {
                Some(record) => records.push(record),
                None => return ControlFlow::Break((at, Err("a record's shard or key is unknown"))),
            }
        }
        next_count = raw[raw.len() - 1].count + 1;
        if closed.is_some_and(|closed| next_count > closed) {
            return ControlFlow::Break((at.with_count(next_count), Ok(())));
        }
        // The rest waits for the next chunk. This frame is passed.
        match scanned >= SCAN_MAX_BYTES {
            true => ControlFlow::Break((at.with_count(next_count), Ok(()))),
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
