//! Reading a stream, or one shard of it, from a place on, and following it.

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

/// How often a reader that waits looks whether another process appended.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How much one piece looks through at most for records of a shard.
const SCAN_MAX_BYTES: u64 = 32 << 20;

/// Reads the records of one stream, or of one shard of it, in order.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    shard: Option<u32>,
    place: Place,
    tip: watch::Receiver<Tip>,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the segment.
    pub(crate) segment: u64,
    /// Where in it a frame begins.
    pub(crate) offset: u64,
    /// Everything before this count was read or is not wanted.
    pub(crate) count: u64,
}

/// How much is wanted at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// At most so many records, at least 1.
    pub(crate) records: usize,
    /// At most so many bytes of keys and data, unless the first record alone is larger.
    pub(crate) bytes: usize,
}

/// What was read at once.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The records.
    pub(crate) records: Vec<Record>,
    /// Where to go on.
    pub(crate) place: Place,
    /// Whether there is nothing more now.
    pub(crate) at_tip: bool,
    /// Whether there will never be more.
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
        let place = stream.locate(shard, from).await?;
        Ok(Self {
            stream,
            shard,
            place,
            tip,
        })
    }

    /// The next records: at most `records_max` (at least 1), and no more than `bytes_max` bytes of keys and data, unless one record alone
    /// has more. None if all were read. Safe to cancel: the place changes only with the answer.
    ///
    /// # Errors
    /// Damage, or what the file system says.
    pub async fn next(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StreamError> {
        loop {
            let piece = self.piece(records_max, bytes_max).await?;
            if !piece.records.is_empty() || piece.at_tip {
                return Ok(piece.records);
            }
        }
    }

    /// Waits until something was appended that was not looked at, or until the shard is closed. Safe to cancel.
    ///
    /// # Errors
    /// What was found wrong while looking for records of another process; a stream that was deleted.
    pub async fn wait(&mut self) -> Result<(), StreamError> {
        loop {
            {
                let tip = self.tip.borrow_and_update();
                if tip.gone {
                    return Err(StreamError::Missing(self.stream.name().to_owned()));
                }
                if !self.place.is_at(&tip) {
                    return Ok(());
                }
            }
            match tokio::time::timeout(LOOK_INTERVAL, self.tip.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StreamError::Stopped),
                Err(_) => self.stream.refresh().await?,
            }
        }
    }

    /// The next records as [`Reader::next`] gives them, waiting until there are some. None only when the reader reads one shard, this is
    /// closed, and everything in it was read.
    ///
    /// # Errors
    /// As for [`Reader::next`].
    pub async fn follow(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StreamError> {
        loop {
            let piece = self.piece(records_max, bytes_max).await?;
            if !piece.records.is_empty() || piece.ended {
                return Ok(piece.records);
            }
            if piece.at_tip {
                self.wait().await?;
            }
        }
    }

    async fn piece(&mut self, records_max: usize, bytes_max: usize) -> Result<Piece, StreamError> {
        let tip = self.tip.borrow_and_update().clone();
        let limits = Limits {
            records: records_max.max(1),
            bytes: bytes_max,
        };
        let piece = self.stream.read_piece(tip, self.shard, self.place, limits);
        let piece = piece.await?;
        self.place = piece.place;
        Ok(piece)
    }
}

impl Place {
    /// Whether there is nothing after it.
    fn is_at(&self, tip: &Tip) -> bool {
        let last = &tip.segments[tip.segments.len() - 1];
        (self.segment, self.offset) >= (last.number, tip.end)
    }

    fn beginning(segment: &Segment, count: u64) -> Self {
        Self {
            segment: segment.number,
            offset: HEAD_BYTES as u64,
            count,
        }
    }

    /// After everything.
    pub(crate) fn at(tip: &Tip) -> Self {
        Self {
            segment: tip.segments[tip.segments.len() - 1].number,
            offset: tip.end,
            count: tip.next,
        }
    }
}

/// Finds where reading begins. Blocks.
pub(crate) fn locate(
    stream: &str,
    tip: &Tip,
    shard: Option<u32>,
    from: ReadFrom,
) -> Result<Place, StreamError> {
    let at = |number: SequenceNumber, count: u64| {
        check_number(stream, tip, shard, number, count)?;
        let segment = segment_before(tip, |segment| segment.first <= count);
        let offset = with_index(stream, segment, tip, |index| index.before_count(count))?;
        Ok(Place {
            segment: segment.number,
            offset,
            count,
        })
    };
    match from {
        ReadFrom::Earliest => Ok(Place::beginning(&tip.segments[0], 0)),
        ReadFrom::Latest => Ok(Place::at(tip)),
        ReadFrom::At(number) => at(number, number.count()),
        ReadFrom::After(number) => at(number, number.count() + 1),
        ReadFrom::AtTime(time_ms) => {
            let segment = segment_before(tip, |segment| segment.begun_ms < time_ms);
            let offset = with_index(stream, segment, tip, |index| index.before_time(time_ms))?;
            find_time(
                stream,
                tip,
                Place {
                    segment: segment.number,
                    offset,
                    count: 0,
                },
                time_ms,
            )
        }
    }
}

/// The number after which reading a shard from `from` on begins. Blocks.
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
    let place = locate(stream, tip, Some(shard), from)?;
    let one = Limits {
        records: 1,
        bytes: 0,
    };
    let mut piece = read_piece(stream, tip, Some(shard), place, one)?;
    while piece.records.is_empty() && !piece.at_tip {
        piece = read_piece(stream, tip, Some(shard), piece.place, one)?;
    }
    Ok(
        match (piece.records.first(), description.ending_sequence_number()) {
            // Any number will do that is smaller than the record's and not smaller than that of the one before it.
            (Some(record), _) => match record.sequence_number.before() {
                before if before <= description.starting_sequence_number() => None,
                before => Some(before),
            },
            (None, Some(ending)) => Some(ending),
            (None, None) => {
                // What is appended from now on has larger numbers.
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
    let foreign = shard.is_some() && !owner.is_some_and(|owner| owner.could_give(number));
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

/// The last segment of which `is_before` is true, else the first.
fn segment_before(tip: &Tip, is_before: impl Fn(&Segment) -> bool) -> &Segment {
    let after = tip.segments.partition_point(|segment| is_before(segment));
    &tip.segments[after.saturating_sub(1)]
}

/// Asks the index of a segment, which is made if it is not there yet.
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
    // The index of the last segment is made by those who append.
    if !is_last {
        let _: Option<Place> =
            scan(
                stream,
                tip,
                Place::beginning(segment, 0),
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
    let place = ask(&index);
    if !is_last {
        *lock() = Some(index);
    }
    Ok(place)
}

/// The first record that arrived at `time_ms` or later, else the tip.
fn find_time(stream: &str, tip: &Tip, from: Place, time_ms: u64) -> Result<Place, StreamError> {
    let found = scan(stream, tip, from, |at, frame| match frame {
        FrameHead::Records(_, records) => {
            match records.iter().find(|record| record.time_ms >= time_ms) {
                Some(record) => ControlFlow::Break(Place {
                    count: record.count,
                    ..at
                }),
                None => ControlFlow::Continue(()),
            }
        }
        FrameHead::Other => ControlFlow::Continue(()),
    })?;
    Ok(found.unwrap_or(Place::at(tip)))
}

/// Reads the next records. Blocks.
pub(crate) fn read_piece(
    stream: &str,
    tip: &Tip,
    shard: Option<u32>,
    place: Place,
    limits: Limits,
) -> Result<Piece, StreamError> {
    let description = &tip.description;
    let closed = shard.and_then(|shard| match description.shard(shard) {
        // A shard that is forgotten has no records any more.
        None => Some(0),
        Some(shard) => shard.ending_sequence_number().map(SequenceNumber::count),
    });
    let place = still_there(stream, tip, shard, place)?;
    let mut records = Vec::new();
    let (mut bytes, mut scanned) = (0, 0);
    let mut next_count = place.count;
    let stopped = scan(stream, tip, place, |at, frame| {
        let FrameHead::Records(_, raw) = frame else {
            return ControlFlow::Continue(());
        };
        for record in raw.iter().filter(|record| record.count >= place.count) {
            let size = record.key.len() + record.data.len();
            scanned += size as u64;
            if shard.is_some_and(|shard| record.shard.unwrap_or(0) != shard) {
                continue;
            }
            let full = records.len() == limits.records || bytes + size > limits.bytes;
            if full && !records.is_empty() {
                return ControlFlow::Break((
                    Place {
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
                Place {
                    count: next_count,
                    ..at
                },
                Ok(()),
            ));
        }
        // The rest waits for the next piece; this frame is passed.
        match scanned >= SCAN_MAX_BYTES {
            true => ControlFlow::Break((
                Place {
                    count: next_count,
                    ..at
                },
                Ok(()),
            )),
            false => ControlFlow::Continue(()),
        }
    })?;
    let (place, at_tip) = match stopped {
        None => (Place::at(tip), true),
        Some((place, Ok(()))) => (place, false),
        Some((place, Err(reason))) => {
            let segment = segment_at(tip, place.segment);
            return Err(damaged(stream, segment.path.clone(), place.offset, reason));
        }
    };
    let ended = closed.is_some_and(|closed| at_tip || place.count > closed);
    Ok(Piece {
        records,
        place,
        at_tip: at_tip || ended,
        ended,
    })
}

/// The place, or the first one there is if what was there was deleted and held nothing that is wanted.
fn still_there(
    stream: &str,
    tip: &Tip,
    shard: Option<u32>,
    place: Place,
) -> Result<Place, StreamError> {
    let first = &tip.segments[0];
    if place.segment >= first.number {
        return Ok(place);
    }
    let trimmed = match shard {
        Some(shard) => tip
            .description
            .shard(shard)
            .map_or(0, |shard| shard.trimmed),
        None => first.first - 1,
    };
    if place.count > 0 && place.count <= trimmed {
        return Err(StreamError::Expired {
            stream: stream.to_owned(),
            shard: shard.map_or_else(|| "all shards".to_owned(), shard_id),
            sequence_number: place.count.to_string(),
        });
    }
    Ok(Place::beginning(first, place.count))
}

enum FrameHead<'f> {
    /// The count of the first record, and the records.
    Records(u64, &'f [RawRecord<'f>]),
    Other,
}

/// Gives `each` the frames from a place to the tip, until it breaks.
fn scan<T>(
    stream: &str,
    tip: &Tip,
    from: Place,
    mut each: impl FnMut(Place, FrameHead<'_>) -> ControlFlow<T>,
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
        // The end of a segment that goes on may hold what a crash left; nothing that counts is there.
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
            let at = Place {
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
                Content::Beginning { .. } => {
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
    let metadata = metadata.map_err(|error| io_error(stream, "look at its file", &error))?;
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
        // A copy: a slice would keep the whole piece of the file in memory as long as the record lives.
        data: Bytes::copy_from_slice(raw.data),
        time_ms: raw.time_ms,
    })
}
