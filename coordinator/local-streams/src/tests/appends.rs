use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::{data_from, open, ordinal, ordinals, read_all, record};
use crate::record::KEY_MAX_BYTES;
use crate::{Appended, DATA_MAX_BYTES, NewRecord, ReadFrom, Record, StreamError, Streams};

#[tokio::test]
async fn appended_records_are_read_in_order_from_any_position() {
    let directory = tempfile::tempdir().unwrap();
    let durable = Streams::durable(directory.path().join("made/when/needed"));
    for streams in [durable, Streams::ephemeral()] {
        let stream = streams.stream("names").await.unwrap();
        let mut numbers = Vec::new();
        for (index, time_ms) in [(1, 100), (2, 200), (3, 150), (4, 300)] {
            let appended = stream
                .append(record(&format!("k{index}"), &format!("d{index}"), time_ms))
                .await
                .unwrap();
            assert_eq!(ordinal(appended), index);
            numbers.push(appended);
        }
        let expected: Vec<Record> = [(1, 100), (2, 200), (3, 200), (4, 300)]
            .map(|(index, time_ms)| Record {
                sequence_number: numbers[index - 1],
                key: format!("k{index}"),
                data: format!("d{index}").into(),
                time_ms,
            })
            .into();
        assert_eq!(read_all(&stream, ReadFrom::Earliest).await, expected);
        let places = [
            (ReadFrom::At(numbers[2]), 2),
            (ReadFrom::After(numbers[2]), 3),
            (ReadFrom::After(numbers[3]), 4),
            (ReadFrom::AtTime(0), 0),
            (ReadFrom::AtTime(200), 1),
            (ReadFrom::AtTime(201), 3),
            (ReadFrom::AtTime(301), 4),
            (ReadFrom::Latest, 4),
        ];
        for (from, skipped) in places {
            assert_eq!(
                read_all(&stream, from).await,
                expected[skipped..],
                "{from:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_number_that_was_never_assigned_is_refused_by_name() {
    let stream = Streams::ephemeral().stream("names").await.unwrap();
    stream.append(record("k", "d", 0)).await.unwrap();
    let elsewhere = Streams::ephemeral().stream("longer").await.unwrap();
    let records = vec![record("k", "d", 0); 2];
    let number = elsewhere.append_all(records).await.unwrap()[1];
    let refused = stream.read(ReadFrom::After(number)).await.unwrap_err();
    let expected = StreamError::UnknownPosition {
        stream: "names".to_owned(),
        sequence_number: number.to_string(),
    };
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn a_follower_gets_records_that_are_appended_while_it_waits() {
    let stream = Streams::ephemeral().stream("names").await.unwrap();
    stream.append(record("k", "before", 0)).await.unwrap();
    let mut reader = stream.read(ReadFrom::Latest).await.unwrap();
    let following = tokio::spawn(async move { reader.follow(10, 1_000).await });
    tokio::task::yield_now().await;
    stream.append(record("k", "after", 0)).await.unwrap();
    let followed = following.await.unwrap().unwrap();
    assert_eq!(followed.len(), 1);
    assert_eq!(followed[0].data, "after");
}

#[tokio::test]
async fn a_reader_follows_the_appends_of_another_stream_object() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (open(directory.path()).await, open(directory.path()).await);
    let mut reader = here.read(ReadFrom::Earliest).await.unwrap();
    there.append(record("k", "from there", 0)).await.unwrap();
    let followed = reader.follow(10, 1_000).await.unwrap();
    assert_eq!(followed.len(), 1);
    assert_eq!(followed[0].data, "from there");
}

#[tokio::test]
async fn two_stream_objects_over_one_directory_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let writers = [open(directory.path()).await, open(directory.path()).await];
    let tasks: Vec<_> = (0..60_u64)
        .map(|index| {
            let writer = writers[index as usize % 2].clone();
            tokio::spawn(async move {
                let data = format!("d{index}");
                let appended = writer.append(record("k", &data, index)).await;
                (appended.unwrap(), data)
            })
        })
        .collect();
    let mut acknowledged = BTreeMap::new();
    for task in tasks {
        let (number, data) = task.await.unwrap();
        assert_eq!(acknowledged.insert(number, data), None);
    }
    let expected: Vec<String> = acknowledged.into_values().collect();
    assert_eq!(expected.len(), 60);
    // A third stream object reads what both wrote, in the acknowledged order.
    let third = open(directory.path()).await;
    assert_eq!(data_from(&third, ReadFrom::Earliest).await, expected);
    for writer in &writers {
        assert_eq!(data_from(writer, ReadFrom::Earliest).await, expected);
    }
}

#[tokio::test]
async fn a_producer_is_exactly_once_across_resends_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let send = |stream: &crate::Stream, number, data: &str| {
        stream.append_from(
            "outbox-0",
            number,
            vec![record("k", data, 0), record("k", "and", 0)],
        )
    };
    let stream = open(directory.path()).await;
    let first = send(&stream, 3, "three").await;
    assert_eq!(ordinals(first), Ok(Some(vec![1, 2])));
    assert_eq!(send(&stream, 3, "three").await, Ok(Appended::Known));
    let (again, later) = (send(&stream, 2, "two"), send(&stream, 7, "seven"));
    assert_eq!(again.await, Ok(Appended::Known));
    assert_eq!(ordinals(later.await), Ok(Some(vec![3, 4])));
    drop(stream);

    let reopened = open(directory.path()).await;
    assert_eq!(send(&reopened, 7, "seven").await, Ok(Appended::Known));
    let other = reopened.append_from("outbox-1", 7, vec![record("k", "other", 0)]);
    assert_eq!(ordinals(other.await), Ok(Some(vec![5])));
    assert_eq!(
        data_from(&reopened, ReadFrom::Earliest).await,
        ["three", "and", "seven", "and", "other"]
    );
}

#[tokio::test]
async fn numbered_records_are_stored_once_however_calls_group_them() {
    let dir = tempfile::tempdir().unwrap();
    let stream = open(dir.path()).await;
    let numbered = |numbers: std::ops::RangeInclusive<u64>| {
        let record = |number: u64| (number, record("k", &number.to_string(), 0));
        numbers.map(record).collect::<Vec<_>>()
    };
    let first = stream.append_numbered("p", numbered(1..=3));
    assert_eq!(ordinals(first.await), Ok(Some(vec![1, 2, 3])));

    // Its owner dies before it learns so. The next one groups what it still has in another way, and
    // another process may be between them.
    let stream = open(dir.path()).await;
    let known = stream.append_numbered("p", numbered(2..=3));
    let other = stream.append_numbered("q", numbered(2..=2));
    let overlapping = stream.append_numbered("p", numbered(3..=5));
    let single = stream.append_from("p", 5, vec![record("k", "again", 0)]);
    assert_eq!(ordinals(known.await), Ok(None));
    assert_eq!(ordinals(other.await), Ok(Some(vec![4])));
    assert_eq!(ordinals(overlapping.await), Ok(Some(vec![5, 6])));
    assert_eq!(ordinals(single.await), Ok(None));
    let data = data_from(&stream, ReadFrom::Earliest).await;
    assert_eq!(data, ["1", "2", "3", "2", "4", "5"]);

    let unordered = numbered(7..=8).into_iter().rev().collect();
    let refused = stream.append_numbered("p", unordered).await;
    assert!(
        matches!(refused, Err(StreamError::InvalidRecord(_))),
        "{refused:?}"
    );
    let none = stream.append_numbered("p", Vec::new()).await;
    assert!(
        matches!(none, Err(StreamError::InvalidRecord(_))),
        "{none:?}"
    );
}

#[tokio::test]
async fn another_process_sees_the_numbers_of_a_producer() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (open(directory.path()).await, open(directory.path()).await);
    let send =
        |stream: &crate::Stream| stream.append_from("outbox-0", 1, vec![record("k", "once", 0)]);
    assert_eq!(ordinals(send(&here).await), Ok(Some(vec![1])));
    assert_eq!(send(&there).await, Ok(Appended::Known));
    assert_eq!(data_from(&there, ReadFrom::Earliest).await, ["once"]);
}

#[tokio::test]
async fn wrong_names_long_keys_and_long_data_are_refused_and_a_record_may_have_no_key() {
    let streams = Streams::ephemeral();
    for name in ["", ".", "..", "a/b", "ü", &"x".repeat(129)] {
        let refused = streams.stream(name).await.unwrap_err();
        assert!(matches!(refused, StreamError::InvalidName(_)), "{refused}");
    }
    let stream = streams.stream("names").await.unwrap();
    let long = NewRecord {
        key: "k".to_owned(),
        explicit_hash_key: None,
        data: vec![0; DATA_MAX_BYTES + 1].into(),
        time_ms: 0,
    };
    for wrong in [record(&"k".repeat(KEY_MAX_BYTES + 1), "d", 0), long] {
        let refused = stream.append(wrong).await.unwrap_err();
        assert!(
            matches!(refused, StreamError::InvalidRecord(_)),
            "{refused}"
        );
    }
    let largest = NewRecord {
        key: "ü".repeat(KEY_MAX_BYTES / 2),
        explicit_hash_key: None,
        data: vec![7; DATA_MAX_BYTES].into(),
        time_ms: 0,
    };
    stream.append(largest.clone()).await.unwrap();
    let read = read_all(&stream, ReadFrom::Earliest).await;
    assert_eq!(read.len(), 1);
    assert_eq!((&read[0].key, &read[0].data), (&largest.key, &largest.data));
    stream.append(record("", "without a key", 0)).await.unwrap();
    let read = read_all(&stream, ReadFrom::Earliest).await;
    assert_eq!(
        (read[1].key.as_str(), &read[1].data[..]),
        ("", &b"without a key"[..])
    );
}

#[tokio::test]
async fn concurrent_appends_are_stored_once_and_in_the_acknowledged_order() {
    let directory = tempfile::tempdir().unwrap();
    let stream = open(directory.path()).await;
    let tasks: Vec<_> = (0..500)
        .map(|index| {
            let stream = stream.clone();
            tokio::spawn(async move {
                let data = index.to_string();
                (stream.append(record("k", &data, 0)).await.unwrap(), data)
            })
        })
        .collect();
    let mut acknowledged = BTreeMap::new();
    for task in tasks {
        let (number, data) = task.await.unwrap();
        acknowledged.insert(number, data);
    }
    let expected: Vec<String> = acknowledged.into_values().collect();
    assert_eq!(expected.iter().collect::<HashSet<_>>().len(), 500);
    assert_eq!(data_from(&stream, ReadFrom::Earliest).await, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Compares random append calls, resends and reopenings with a plain list.
    #[test]
    fn a_stream_holds_what_a_list_would(
        steps in prop::collection::vec((0..4_u8, 0..3_usize, 1..4_usize, 1..9_u64), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut stream = open(directory.path()).await;
            let mut expected: Vec<String> = Vec::new();
            let mut applied = [0_u64; 3];
            for (step, (action, producer, count, number)) in steps.into_iter().enumerate() {
                let records: Vec<_> = (0..count)
                    .map(|index| record("k", &format!("{step}-{index}"), step as u64))
                    .collect();
                let data = (0..count).map(|index| format!("{step}-{index}"));
                match action {
                    0 => stream = open(directory.path()).await,
                    1 => {
                        stream.append(records[0].clone()).await.unwrap();
                        expected.extend(data.take(1));
                    }
                    _ => {
                        let sent = stream.append_from(&format!("p{producer}"), number, records);
                        let known = sent.await.unwrap() == Appended::Known;
                        assert_eq!(known, number <= applied[producer]);
                        if !known {
                            applied[producer] = number;
                            expected.extend(data);
                        }
                    }
                }
            }
            assert_eq!(data_from(&stream, ReadFrom::Earliest).await, expected);
            let half = expected.len() / 2;
            if let Some(record) = read_all(&stream, ReadFrom::Earliest).await.get(half) {
                let rest = data_from(&stream, ReadFrom::At(record.sequence_number)).await;
                assert_eq!(rest, expected[half..]);
            }
        });
    }
}
