//! Finding the position at which reading starts.

use std::ops::ControlFlow;
use std::sync::PoisonError;

use super::chunk::read_chunk;
use super::frames::{FrameHead, scan};
use super::{Cursor, Limits};
use crate::error::StreamError;
use crate::index::Index;
use crate::log::Tip;
use crate::number::SequenceNumber;
use crate::record::ReadFrom;
use crate::segment::Segment;
use crate::shards::{Shard, shard_id};

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
                Some(record) => ControlFlow::Break(at.with_count(record.count)),
                None => ControlFlow::Continue(()),
            }
        }
        FrameHead::Other => ControlFlow::Continue(()),
    })?;
    Ok(found.unwrap_or(Cursor::at(tip)))
}
