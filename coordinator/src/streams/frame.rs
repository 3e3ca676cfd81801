//! The bytes of a stream's file, version 1. Numbers are little endian.
//!
//! ```text
//! head   0  magic "SATCHSTR"          8
//!        8  version                   u32
//!       12  check of the above        u32   XXH3-64, low half
//!       16  acknowledged end          u64   everything before this offset was acknowledged
//!       24  check of the above        u64   XXH3-64
//! frames, each:
//!        0  length of the payload     u32
//!        4  check of offset, length   u32   XXH3-64 of both, low half: a frame is valid at its own place only
//!        8  check of the payload      u64   XXH3-64
//!       16  payload:
//!           number of first record    u64
//!           number of records         u32
//!           length of producer        u16   0: none
//!           producer                  bytes
//!           producer's number         u64   only with a producer
//!           records, each: time u64, length of key u16, key, length of data u32, data
//! ```
//!
//! A frame is what one append call wrote, so that it is there as a whole or not at all, together with the producer's number.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use crate::streams::record::{NewRecord, Record, SequenceNumber};

/// The length of the head of a file.
pub(crate) const HEAD_BYTES: usize = 32;
/// Where the acknowledged end stands.
pub(crate) const ACKNOWLEDGED_OFFSET: u64 = 16;
/// The length of a frame without its payload.
pub(crate) const FRAME_HEAD_BYTES: usize = 16;
/// No frame is longer, so that a reader's memory is bounded.
pub(crate) const PAYLOAD_MAX_BYTES: usize = 32 << 20;

const MAGIC: &[u8; 8] = b"SATCHSTR";
const VERSION: u32 = 1;

/// The first 16 bytes of every file of this version.
pub(crate) fn encode_head() -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(MAGIC);
    head.put_u32_le(VERSION);
    let check = xxh3_64(&head) as u32;
    head.put_u32_le(check);
    head.put_slice(&encode_acknowledged(HEAD_BYTES as u64));
    head.freeze()
}

/// The acknowledged end with its check.
pub(crate) fn encode_acknowledged(end: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(16);
    bytes.put_u64_le(end);
    let check = xxh3_64(&bytes);
    bytes.put_u64_le(check);
    bytes.freeze()
}

/// Reads the head of a file: the acknowledged end.
pub(crate) fn decode_head(head: &[u8; HEAD_BYTES]) -> Result<u64, String> {
    let mut rest = &head[..];
    if &head[..8] != MAGIC {
        return Err("the file is not a stream".to_owned());
    }
    rest.advance(8);
    let version = rest.get_u32_le();
    if rest.get_u32_le() != xxh3_64(&head[..12]) as u32 {
        return Err("the head of the file does not match its checksum".to_owned());
    }
    if version != VERSION {
        return Err(format!(
            "the file has format version {version}, this program knows {VERSION}"
        ));
    }
    let end = rest.get_u64_le();
    if rest.get_u64_le() != xxh3_64(&head[16..24]) {
        return Err("the acknowledged end does not match its checksum".to_owned());
    }
    Ok(end)
}

/// Who appended, if it is to be exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    /// Its name.
    pub(crate) id: String,
    /// The number of this append.
    pub(crate) number: u64,
}

/// What one append call wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Who wrote it.
    pub(crate) producer: Option<Producer>,
    /// The records, at least one.
    pub(crate) records: Vec<Record>,
}

/// How many bytes the frame of `records` takes.
pub(crate) fn frame_bytes(producer: Option<&Producer>, records: &[NewRecord]) -> usize {
    let producer = producer.map_or(0, |producer| producer.id.len() + 8);
    let record = |record: &NewRecord| 14 + record.key.len() + record.data.len();
    FRAME_HEAD_BYTES + 14 + producer + records.iter().map(record).sum::<usize>()
}

/// Writes the frame that is to stand at `offset` to the end of `out`. Lengths were checked before.
pub(crate) fn encode_frame(
    offset: u64,
    first: SequenceNumber,
    producer: Option<&Producer>,
    records: &[NewRecord],
    time_min_ms: u64,
    out: &mut BytesMut,
) {
    let begin = out.len();
    out.put_bytes(0, FRAME_HEAD_BYTES);
    out.put_u64_le(first.get());
    out.put_u32_le(records.len() as u32);
    match producer {
        None => out.put_u16_le(0),
        Some(producer) => {
            out.put_u16_le(producer.id.len() as u16);
            out.put_slice(producer.id.as_bytes());
            out.put_u64_le(producer.number);
        }
    }
    let mut time_ms = time_min_ms;
    for record in records {
        time_ms = time_ms.max(record.time_ms);
        out.put_u64_le(time_ms);
        out.put_u16_le(record.key.len() as u16);
        out.put_slice(record.key.as_bytes());
        out.put_u32_le(record.data.len() as u32);
        out.put_slice(&record.data);
    }
    let payload_bytes = out.len() - begin - FRAME_HEAD_BYTES;
    let payload_check = xxh3_64(&out[begin + FRAME_HEAD_BYTES..]);
    let mut head = &mut out[begin..begin + FRAME_HEAD_BYTES];
    head.put_u32_le(payload_bytes as u32);
    head.put_u32_le(head_check(offset, payload_bytes as u32));
    head.put_u64_le(payload_check);
}

/// Reads the head of the frame at `offset`: the length of its payload, unless the bytes are no head of a frame there.
pub(crate) fn decode_frame_head(offset: u64, head: &[u8]) -> Option<usize> {
    let mut rest = head.get(..FRAME_HEAD_BYTES)?;
    let payload_bytes = rest.get_u32_le();
    let valid = rest.get_u32_le() == head_check(offset, payload_bytes)
        && payload_bytes as usize <= PAYLOAD_MAX_BYTES;
    valid.then_some(payload_bytes as usize)
}

/// Reads a whole frame, head and payload, whose head is valid.
pub(crate) fn decode_frame(mut frame: Bytes) -> Result<Frame, String> {
    frame.advance(8);
    let check = frame.get_u64_le();
    if xxh3_64(&frame) != check {
        return Err("the records do not match their checksum".to_owned());
    }
    decode_payload(frame).ok_or_else(|| "the records do not fill their frame".to_owned())
}

fn decode_payload(mut rest: Bytes) -> Option<Frame> {
    let first = SequenceNumber::new(rest.try_get_u64_le().ok()?)?;
    let count = rest.try_get_u32_le().ok()?;
    let producer = match rest.try_get_u16_le().ok()? {
        0 => None,
        length => Some(Producer {
            id: take_text(&mut rest, length)?,
            number: rest.try_get_u64_le().ok()?,
        }),
    };
    let mut records = Vec::new();
    for step in 0..count {
        let time_ms = rest.try_get_u64_le().ok()?;
        let key_bytes = rest.try_get_u16_le().ok()?;
        let key = take_text(&mut rest, key_bytes)?;
        let data_bytes = rest.try_get_u32_le().ok()? as usize;
        if rest.len() < data_bytes {
            return None;
        }
        records.push(Record {
            sequence_number: first.plus(step.into()),
            key,
            // A copy: a slice would keep the whole piece of the file in memory as long as the record lives.
            data: Bytes::copy_from_slice(&rest.split_to(data_bytes)),
            time_ms,
        });
    }
    (rest.is_empty() && !records.is_empty()).then_some(Frame { producer, records })
}

fn take_text(rest: &mut Bytes, length: u16) -> Option<String> {
    if rest.len() < length.into() {
        return None;
    }
    let bytes = rest.split_to(length.into());
    String::from_utf8(bytes.to_vec()).ok()
}

fn head_check(offset: u64, payload_bytes: u32) -> u32 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..].copy_from_slice(&payload_bytes.to_le_bytes());
    xxh3_64(&bytes) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new_record() -> impl Strategy<Value = NewRecord> {
        let data = prop::collection::vec(any::<u8>(), 0..60);
        ("\\PC{1,9}", data, 0..1_000_u64).prop_map(|(key, data, time_ms)| NewRecord {
            key,
            data: data.into(),
            time_ms,
        })
    }

    fn producer() -> impl Strategy<Value = Option<Producer>> {
        prop::option::of(
            ("[a-z]{1,9}", any::<u64>()).prop_map(|(id, number)| Producer { id, number }),
        )
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_as_it_was_written(
            producer in producer(),
            records in prop::collection::vec(new_record(), 1..5),
            offset: u64,
            first in 1..u64::MAX / 2,
        ) {
            let first = SequenceNumber::new(first).unwrap();
            let mut out = BytesMut::new();
            encode_frame(offset, first, producer.as_ref(), &records, 500, &mut out);
            prop_assert_eq!(out.len(), frame_bytes(producer.as_ref(), &records));
            let out = out.freeze();
            let payload_bytes = decode_frame_head(offset, &out);
            prop_assert_eq!(payload_bytes, Some(out.len() - FRAME_HEAD_BYTES));
            let mut time_ms = 500;
            let records = records.into_iter().enumerate().map(|(step, record)| {
                time_ms = record.time_ms.max(time_ms);
                Record { sequence_number: first.plus(step as u64), key: record.key, data: record.data, time_ms }
            }).collect();
            prop_assert_eq!(decode_frame(out), Ok(Frame { producer, records }));
        }

        #[test]
        fn every_changed_byte_of_a_frame_is_detected(
            producer in producer(),
            records in prop::collection::vec(new_record(), 1..4),
            flip in 1..=255_u8,
        ) {
            let mut out = BytesMut::new();
            encode_frame(77, SequenceNumber::FIRST, producer.as_ref(), &records, 0, &mut out);
            for place in 0..out.len() {
                let mut changed = out.clone();
                changed[place] ^= flip;
                let head = decode_frame_head(77, &changed);
                let undetected = head.is_some() && decode_frame(changed.freeze()).is_ok();
                prop_assert!(!undetected, "byte {}", place);
            }
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 16..200)) {
            prop_assert_eq!(decode_frame_head(0, &bytes), None);
            let _ = decode_payload(Bytes::from(bytes.clone()));
            prop_assert!(decode_frame(Bytes::from(bytes)).is_err());
        }
    }

    #[test]
    fn a_frame_at_another_place_is_no_frame() {
        let record = NewRecord {
            key: "k".to_owned(),
            data: Bytes::new(),
            time_ms: 0,
        };
        let mut out = BytesMut::new();
        encode_frame(32, SequenceNumber::FIRST, None, &[record], 0, &mut out);
        assert_eq!(decode_frame_head(33, &out), None);
    }

    #[test]
    fn every_changed_byte_of_a_head_is_detected() {
        let head: [u8; HEAD_BYTES] = encode_head().as_ref().try_into().unwrap();
        assert_eq!(decode_head(&head), Ok(32));
        for place in 0..HEAD_BYTES {
            let mut changed = head;
            changed[place] ^= 1;
            assert!(decode_head(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_its_version() {
        let mut head: [u8; HEAD_BYTES] = encode_head().as_ref().try_into().unwrap();
        head[8] = 2;
        let check = (xxh3_64(&head[..12]) as u32).to_le_bytes();
        head[12..16].copy_from_slice(&check);
        let refused = decode_head(&head).unwrap_err();
        assert_eq!(
            refused,
            "the file has format version 2, this program knows 1"
        );
    }
}
