//! Byte layout of a stream's segments, versions 1 and 2. Numbers are little-endian.
//!
//! ```text
//! head   0  magic "SATCHSTR"          8
//!        8  version                   u32
//!       12  check of the above        u32   XXH3-64, low half
//!       16  acknowledged end          u64   everything before this offset was acknowledged
//!       24  check of the above        u64   XXH3-64
//! frames, each:
//!        0  length of the payload     u32
//!        4  check of offset, length   u32   XXH3-64 of both, low half: valid at one offset
//!        8  check of the payload      u64   XXH3-64
//!       16  payload
//!
//! payload, version 2:
//!           kind                      u8    1 records, 2 change, 3 checkpoint, 4 continued
//!           count of the first entry  u64   counts all numbered entries, over shards and segments
//!   records number of records         u32
//!           length of producer        u16   0: none
//!           producer                  bytes
//!           producer's number         u64   only with a producer
//!           records, each: time u64, shard u32, length of key u16, key, length of data u32, data
//!   change  count of the next entry   u64
//!           time                      u64
//!           description               JSON
//!   checkpoint: time u64, JSON of the segment's number, the first segment that is needed,
//!               the description and the producers
//!   continued:  nothing more; the stream continues in the next segment, which must exist
//!
//! payload, version 1 (streams of one shard that counted from 1):
//!           number of first record    u64
//!           number of records         u32
//!           producer as above
//!           records, each: time u64, length of key u16, key, length of data u32, data
//! ```
//!
//! A frame of records is what one append call wrote. It is therefore stored as a whole or not at
//! all, together with the producer's number.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::record::NewRecord;
use crate::shards::Description;

/// Length of a segment's head in bytes.
pub(crate) const HEAD_BYTES: usize = 32;
/// Offset of the acknowledged end.
pub(crate) const ACKNOWLEDGED_OFFSET: u64 = 16;
/// Length of a frame's head in bytes.
pub(crate) const FRAME_HEAD_BYTES: usize = 16;
/// Maximum length of a frame's payload in bytes. It bounds the memory of readers.
pub(crate) const PAYLOAD_MAX_BYTES: usize = 32 << 20;

/// Format of streams that had one shard.
pub(crate) const VERSION_PLAIN: u32 = 1;
/// Format of new segments.
pub(crate) const VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"SATCHSTR";

const KIND_RECORDS: u8 = 1;
const KIND_CHANGE: u8 = 2;
const KIND_CHECKPOINT: u8 = 3;
const KIND_CONTINUED: u8 = 4;

/// Encodes the head of a new segment in the format of `version`.
pub(crate) fn encode_head(version: u32) -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(MAGIC);
    head.put_u32_le(version);
    let check = xxh3_64(&head) as u32;
    head.put_u32_le(check);
    head.put_slice(&encode_acknowledged(HEAD_BYTES as u64));
    head.freeze()
}

/// Encodes the acknowledged end with its check.
pub(crate) fn encode_acknowledged(end: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(16);
    bytes.put_u64_le(end);
    let check = xxh3_64(&bytes);
    bytes.put_u64_le(check);
    bytes.freeze()
}

/// Decodes the head of a segment. Returns its version and the acknowledged end.
pub(crate) fn decode_head(head: &[u8; HEAD_BYTES]) -> Result<(u32, u64), String> {
    let mut rest = &head[..];
    if &head[..8] != MAGIC {
        return Err("the file is not a stream".to_owned());
    }
    rest.advance(8);
    let version = rest.get_u32_le();
    if rest.get_u32_le() != xxh3_64(&head[..12]) as u32 {
        return Err("the head of the file does not match its checksum".to_owned());
    }
    if ![VERSION_PLAIN, VERSION].contains(&version) {
        return Err(format!(
            "the file has format version {version}; \
            this program knows {VERSION_PLAIN} and {VERSION}"
        ));
    }
    let end = rest.get_u64_le();
    if rest.get_u64_le() != xxh3_64(&head[16..24]) {
        return Err("the acknowledged end does not match its checksum".to_owned());
    }
    Ok((version, end))
}

/// Producer of an exactly-once append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    /// Its name.
    pub(crate) id: String,
    /// Number of this append.
    pub(crate) number: u64,
}

/// State of the whole stream at the start of a segment, so that no earlier segment must be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkpoint {
    /// Number of the segment that starts with this checkpoint.
    pub(crate) segment: u64,
    /// First segment that must still exist.
    pub(crate) first_segment: u64,
    /// Shards and settings.
    pub(crate) description: Description,
    /// Highest applied number of each producer.
    pub(crate) producers: BTreeMap<String, u64>,
}

/// A frame whose payload matches its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    version: u32,
    payload: Bytes,
}

/// Content of a frame.
#[derive(Debug)]
pub(crate) enum Content<'f> {
    /// The records of one append call.
    Records {
        /// The producer, if the append is exactly-once.
        producer: Option<Producer>,
        /// The records, at least one.
        records: Vec<RawRecord<'f>>,
    },
    /// A change of the description.
    Change {
        /// Count of the next entry in the stream.
        next: u64,
        /// Time of the change.
        time_ms: u64,
        /// Description from here on.
        description: Box<Description>,
    },
    /// The first frame of a segment.
    Checkpoint {
        /// Time of the last record before.
        time_ms: u64,
        /// State of the stream there.
        checkpoint: Box<Checkpoint>,
    },
    /// The last frame of a segment.
    Continued,
}

/// A record as stored in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRecord<'f> {
    /// Its count in the stream.
    pub(crate) count: u64,
    /// Its arrival time.
    pub(crate) time_ms: u64,
    /// Its shard; none in version 1.
    pub(crate) shard: Option<u32>,
    /// Its key, UTF-8.
    pub(crate) key: &'f [u8],
    /// Its data.
    pub(crate) data: &'f [u8],
}

/// Size of the frame of `records` in bytes.
pub(crate) fn frame_bytes(producer: Option<&Producer>, records: &[NewRecord]) -> usize {
    let producer = producer.map_or(0, |producer| producer.id.len() + 8);
    let record = |record: &NewRecord| 18 + record.key.len() + record.data.len();
    FRAME_HEAD_BYTES + 15 + producer + records.iter().map(record).sum::<usize>()
}

/// Appends the frame of one append call to `out`: the records with their shards and times. The
/// frame will be stored at `offset`. The caller has checked all lengths.
pub(crate) fn encode_records<'r>(
    offset: u64,
    first: u64,
    producer: Option<&Producer>,
    records: impl ExactSizeIterator<Item = (&'r NewRecord, u32, u64)>,
    out: &mut BytesMut,
) {
    encode_frame(offset, KIND_RECORDS, first, out, |out| {
        out.put_u32_le(records.len() as u32);
        match producer {
            None => out.put_u16_le(0),
            Some(producer) => {
                out.put_u16_le(producer.id.len() as u16);
                out.put_slice(producer.id.as_bytes());
                out.put_u64_le(producer.number);
            }
        }
        for (record, shard, time_ms) in records {
            out.put_u64_le(time_ms);
            out.put_u32_le(shard);
            out.put_u16_le(record.key.len() as u16);
            out.put_slice(record.key.as_bytes());
            out.put_u32_le(record.data.len() as u32);
            out.put_slice(&record.data);
        }
    });
}

/// Appends the frame of a change to `out`. The frame will be stored at `offset`.
pub(crate) fn encode_change(
    offset: u64,
    first: u64,
    next: u64,
    time_ms: u64,
    description: &Description,
    out: &mut BytesMut,
) {
    encode_frame(offset, KIND_CHANGE, first, out, |out| {
        out.put_u64_le(next);
        out.put_u64_le(time_ms);
        put_json(description, out);
    });
}

/// Appends the first frame of a segment, which follows its head, to `out`.
pub(crate) fn encode_checkpoint(
    first: u64,
    time_ms: u64,
    checkpoint: &Checkpoint,
    out: &mut BytesMut,
) {
    encode_frame(HEAD_BYTES as u64, KIND_CHECKPOINT, first, out, |out| {
        out.put_u64_le(time_ms);
        put_json(checkpoint, out);
    });
}

/// Appends the last frame of a segment to `out`.
pub(crate) fn encode_continued(offset: u64, first: u64, out: &mut BytesMut) {
    encode_frame(offset, KIND_CONTINUED, first, out, |_| {});
}

fn put_json(value: &impl Serialize, out: &mut BytesMut) {
    serde_json::to_writer(out.writer(), value)
        .expect("writing texts and numbers to memory cannot fail");
}

fn encode_frame(
    offset: u64,
    kind: u8,
    first: u64,
    out: &mut BytesMut,
    rest: impl FnOnce(&mut BytesMut),
) {
    let begin = out.len();
    out.put_bytes(0, FRAME_HEAD_BYTES);
    out.put_u8(kind);
    out.put_u64_le(first);
    rest(out);
    let payload_bytes = out.len() - begin - FRAME_HEAD_BYTES;
    let payload_check = xxh3_64(&out[begin + FRAME_HEAD_BYTES..]);
    let mut head = &mut out[begin..begin + FRAME_HEAD_BYTES];
    head.put_u32_le(payload_bytes as u32);
    head.put_u32_le(head_check(offset, payload_bytes as u32));
    head.put_u64_le(payload_check);
}

/// Decodes the head of the frame at `offset`. Returns the length of its payload, or nothing if the
/// bytes are no valid head for that offset.
pub(crate) fn decode_frame_head(offset: u64, head: &[u8]) -> Option<usize> {
    let mut rest = head.get(..FRAME_HEAD_BYTES)?;
    let payload_bytes = rest.get_u32_le();
    let valid = rest.get_u32_le() == head_check(offset, payload_bytes)
        && payload_bytes as usize <= PAYLOAD_MAX_BYTES;
    valid.then_some(payload_bytes as usize)
}

/// Decodes a whole frame, head and payload. Its head must be valid.
pub(crate) fn decode_frame(version: u32, mut frame: Bytes) -> Result<Frame, String> {
    frame.advance(8);
    let check = frame.get_u64_le();
    if xxh3_64(&frame) != check {
        return Err("the records do not match their checksum".to_owned());
    }
    Ok(Frame {
        version,
        payload: frame,
    })
}

impl Frame {
    /// Returns the count of the first entry in the frame, and its content.
    pub(crate) fn content(&self) -> Result<(u64, Content<'_>), String> {
        let read = match self.version {
            VERSION_PLAIN => decode_plain(&self.payload),
            _ => decode_payload(&self.payload)?,
        };
        read.ok_or_else(|| "the records do not fill their frame".to_owned())
    }
}

fn decode_plain(payload: &[u8]) -> Option<(u64, Content<'_>)> {
    let mut rest = payload;
    let first = rest.try_get_u64_le().ok()?;
    Some((first, decode_records(&mut rest, first, false)?))
}

fn decode_payload(payload: &[u8]) -> Result<Option<(u64, Content<'_>)>, String> {
    let mut rest = payload;
    let (Ok(kind), Ok(first)) = (rest.try_get_u8(), rest.try_get_u64_le()) else {
        return Ok(None);
    };
    let content = match kind {
        KIND_RECORDS => decode_records(&mut rest, first, true),
        KIND_CHANGE => match (rest.try_get_u64_le(), rest.try_get_u64_le()) {
            (Ok(next), Ok(time_ms)) => Some(Content::Change {
                next,
                time_ms,
                description: decode_json(rest)?,
            }),
            _ => None,
        },
        KIND_CHECKPOINT => match rest.try_get_u64_le() {
            Ok(time_ms) => Some(Content::Checkpoint {
                time_ms,
                checkpoint: decode_json(rest)?,
            }),
            Err(_) => None,
        },
        KIND_CONTINUED if rest.is_empty() => Some(Content::Continued),
        KIND_CONTINUED => None,
        kind => return Err(format!("this program does not know frames of kind {kind}")),
    };
    Ok(content.map(|content| (first, content)))
}

fn decode_json<T: for<'de> Deserialize<'de>>(text: &[u8]) -> Result<Box<T>, String> {
    let value = serde_json::from_slice(text);
    value.map_err(|error| format!("the description of the stream cannot be decoded: {error}"))
}

fn decode_records<'f>(rest: &mut &'f [u8], first: u64, sharded: bool) -> Option<Content<'f>> {
    let count = rest.try_get_u32_le().ok()?;
    let producer = match rest.try_get_u16_le().ok()? {
        0 => None,
        length => Some(Producer {
            id: std::str::from_utf8(take(rest, length.into())?)
                .ok()?
                .to_owned(),
            number: rest.try_get_u64_le().ok()?,
        }),
    };
    // Bounded by the bytes that are left, whatever the count says.
    let mut records = Vec::with_capacity((count as usize).min(rest.len() / 14));
    for step in 0..u64::from(count) {
        let time_ms = rest.try_get_u64_le().ok()?;
        let shard = match sharded {
            true => Some(rest.try_get_u32_le().ok()?),
            false => None,
        };
        let key_bytes = rest.try_get_u16_le().ok()?.into();
        let key = take(rest, key_bytes)?;
        let data_bytes = rest.try_get_u32_le().ok()? as usize;
        records.push(RawRecord {
            count: first.checked_add(step)?,
            time_ms,
            shard,
            key,
            data: take(rest, data_bytes)?,
        });
    }
    (rest.is_empty() && !records.is_empty()).then_some(Content::Records { producer, records })
}

fn take<'f>(rest: &mut &'f [u8], length: usize) -> Option<&'f [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn head_check(offset: u64, payload_bytes: u32) -> u32 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..].copy_from_slice(&payload_bytes.to_le_bytes());
    xxh3_64(&bytes) as u32
}

#[cfg(test)]
mod tests;
