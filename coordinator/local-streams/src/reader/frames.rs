//! Scanning the frames of all segments from a position.

use std::ops::ControlFlow;

use super::Cursor;
use crate::error::StreamError;
use crate::frame::{Content, HEAD_BYTES, RawRecord};
use crate::log::{Tip, damaged, io_error};
use crate::scan::{Scan, Step};
use crate::segment::Segment;

/// A frame, as far as readers care.
pub(super) enum FrameHead<'f> {
    /// Count of the first record, and the records.
    Records(u64, &'f [RawRecord<'f>]),
    Other,
}

/// Passes the frames from a position up to the tip to `each`, until it breaks.
pub(super) fn scan<T>(
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
