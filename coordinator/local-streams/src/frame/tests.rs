use proptest::prelude::*;

use super::*;
use crate::shards::ChangeContext;

fn new_record() -> impl Strategy<Value = NewRecord> {
    let data = prop::collection::vec(any::<u8>(), 0..60);
    ("\\PC{1,9}", data, 0..1_000_u64).prop_map(|(key, data, time_ms)| NewRecord {
        key,
        explicit_hash_key: None,
        data: data.into(),
        time_ms,
    })
}

fn producer() -> impl Strategy<Value = Option<Producer>> {
    prop::option::of(("[a-z]{1,9}", any::<u64>()).prop_map(|(id, number)| Producer { id, number }))
}

fn placed(records: &[NewRecord]) -> impl ExactSizeIterator<Item = (&NewRecord, u32, u64)> {
    let place = |(index, record)| (record, index as u32, 500 + index as u64);
    records.iter().enumerate().map(place)
}

fn read(offset: u64, bytes: Bytes) -> Result<Frame, String> {
    let head = decode_frame_head(offset, &bytes);
    assert_eq!(head, Some(bytes.len() - FRAME_HEAD_BYTES));
    decode_frame(VERSION, bytes)
}

proptest! {
    #[test]
    fn a_frame_reads_back_as_it_was_written(
        producer in producer(),
        records in prop::collection::vec(new_record(), 1..5),
        offset: u64,
        first in 1..u64::MAX / 2,
    ) {
        let mut out = BytesMut::new();
        encode_records(offset, first, producer.as_ref(), placed(&records), &mut out);
        prop_assert_eq!(out.len(), frame_bytes(producer.as_ref(), &records));
        let frame = read(offset, out.freeze()).unwrap();
        let (read_first, content) = frame.content().unwrap();
        let Content::Records { producer: read_producer, records: raw } = content else { panic!() };
        prop_assert_eq!((read_first, read_producer), (first, producer));
        let expected: Vec<_> = placed(&records).map(|(record, shard, time_ms)| RawRecord {
            count: first + u64::from(shard),
            time_ms,
            shard: Some(shard),
            key: record.key.as_bytes(),
            data: &record.data,
        }).collect();
        prop_assert_eq!(raw, expected);
    }

    #[test]
    fn every_changed_byte_of_a_frame_is_detected(
        producer in producer(),
        records in prop::collection::vec(new_record(), 1..4),
        flip in 1..=255_u8,
    ) {
        let mut out = BytesMut::new();
        encode_records(77, 1, producer.as_ref(), placed(&records), &mut out);
        for offset in 0..out.len() {
            let mut changed = out.clone();
            changed[offset] ^= flip;
            let head = decode_frame_head(77, &changed);
            let undetected = head.is_some() && decode_frame(VERSION, changed.freeze()).is_ok();
            prop_assert!(!undetected, "byte {}", offset);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 16..200)) {
        prop_assert_eq!(decode_frame_head(0, &bytes), None);
        for version in [VERSION_PLAIN, VERSION] {
            let payload = Bytes::from(bytes.clone());
            let _ = Frame { version, payload }.content().is_ok();
        }
        prop_assert!(decode_frame(VERSION, Bytes::from(bytes)).is_err());
    }
}

#[test]
fn a_frame_at_another_place_is_no_frame() {
    let mut out = BytesMut::new();
    encode_continued(32, 1, &mut out);
    assert_eq!(decode_frame_head(33, &out), None);
}

#[test]
fn changes_and_beginnings_read_back() {
    let mut context = ChangeContext {
        now_ms: 1_700_000_000_000,
        next: 1,
    };
    let written = Description::new(3, true, &mut context);
    let mut out = BytesMut::new();
    encode_change(5, 1, context.next, 9, &written, &mut out);
    let frame = read(5, out.freeze()).unwrap();
    let Ok((
        1,
        Content::Change {
            next: 4,
            time_ms: 9,
            description,
        },
    )) = frame.content()
    else {
        panic!("{:?}", frame.content());
    };
    assert_eq!(*description, written);
    let written = Checkpoint {
        segment: 7,
        first_segment: 5,
        description: written,
        producers: BTreeMap::from([("outbox".to_owned(), 12)]),
    };
    let mut out = BytesMut::new();
    encode_checkpoint(4, 9, &written, &mut out);
    let frame = read(HEAD_BYTES as u64, out.freeze()).unwrap();
    let Ok((
        4,
        Content::Checkpoint {
            time_ms: 9,
            checkpoint,
        },
    )) = frame.content()
    else {
        panic!("{:?}", frame.content());
    };
    assert_eq!(*checkpoint, written);
}

#[test]
fn every_changed_byte_of_a_head_is_detected() {
    for version in [VERSION_PLAIN, VERSION] {
        let head: [u8; HEAD_BYTES] = encode_head(version).as_ref().try_into().unwrap();
        assert_eq!(decode_head(&head), Ok((version, 32)));
        for offset in 0..HEAD_BYTES {
            let mut changed = head;
            changed[offset] ^= 1;
            assert!(decode_head(&changed).is_err(), "byte {offset}");
        }
    }
}

#[test]
fn a_newer_format_is_refused_by_its_version() {
    let head: [u8; HEAD_BYTES] = encode_head(3).as_ref().try_into().unwrap();
    let refused = decode_head(&head).unwrap_err();
    assert_eq!(
        refused,
        "the file has format version 3; this program knows 1 and 2"
    );
}
