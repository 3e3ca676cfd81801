//! Streams of several files, and of the format from before streams had shards.

use std::path::Path;

use bytes::{BufMut, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::{data_from, open, read_all, record};
use crate::frame::{VERSION_PLAIN, encode_acknowledged, encode_head};
use crate::{Appended, ReadFrom, StreamError, Streams};

const DAY_MS: u64 = 86_400_000;

fn small(directory: &Path) -> Streams {
    Streams::with_segment_bytes(directory.to_owned(), 2_000)
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("names")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("segment")).collect();
    names.sort();
    names
}

/// Appends `count` records that arrive from `time_ms` on, and returns their data.
async fn fill(streams: &Streams, prefix: &str, count: u64, time_ms: u64) -> Vec<String> {
    let stream = streams.stream("names").await.unwrap();
    let mut data = Vec::new();
    for index in 0..count {
        let next = format!("{prefix}{index} {}", "x".repeat(200));
        let append =
            stream.append_from(prefix, index + 1, vec![record("k", &next, time_ms + index)]);
        assert!(matches!(append.await, Ok(Appended::New(_))));
        data.push(next);
    }
    data
}

#[tokio::test]
async fn a_stream_continues_in_new_files_and_is_read_across_them_from_any_position() {
    let directory = tempfile::tempdir().unwrap();
    let expected = fill(&small(directory.path()), "p", 40, 1_000).await;
    assert!(
        files(directory.path()).len() > 4,
        "{:?}",
        files(directory.path())
    );
    let stream = small(directory.path()).stream("names").await.unwrap();
    assert_eq!(data_from(&stream, ReadFrom::Earliest).await, expected);
    let records = read_all(&stream, ReadFrom::Earliest).await;
    for (index, record) in records.iter().enumerate() {
        let number = record.sequence_number;
        assert_eq!(
            data_from(&stream, ReadFrom::At(number)).await,
            expected[index..]
        );
        assert_eq!(
            data_from(&stream, ReadFrom::After(number)).await,
            expected[index + 1..]
        );
        let at_time = ReadFrom::AtTime(record.time_ms);
        assert_eq!(data_from(&stream, at_time).await, expected[index..]);
    }
    // The number of a producer stays known, although only the last file was read.
    let again = stream
        .append_from("p", 40, vec![record("k", "again", 0)])
        .await;
    assert_eq!(again, Ok(Appended::Known));
}

#[tokio::test]
async fn a_reader_follows_across_files_that_another_stream_object_started() {
    let directory = tempfile::tempdir().unwrap();
    let here = small(directory.path()).stream("names").await.unwrap();
    let mut reader = here.read(ReadFrom::Latest).await.unwrap();
    let expected = fill(&small(directory.path()), "p", 20, 1_000).await;
    let mut read = Vec::new();
    while read.len() < expected.len() {
        for record in reader.follow(3, usize::MAX).await.unwrap() {
            read.push(String::from_utf8(record.data.to_vec()).unwrap());
        }
    }
    assert_eq!(read, expected);
    here.append(record("k", "here", 0)).await.unwrap();
    assert_eq!(reader.follow(3, 100).await.unwrap()[0].data, "here");
}

#[tokio::test]
async fn files_with_only_expired_records_are_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let streams = small(directory.path());
    fill(&streams, "old", 30, DAY_MS).await;
    let stream = streams.stream("names").await.unwrap();
    let first = read_all(&stream, ReadFrom::Earliest).await[0].sequence_number;
    let before = files(directory.path());
    fill(&streams, "new", 10, 3 * DAY_MS).await;
    let after = files(directory.path());
    assert!(after[0] > before[2], "{before:?} {after:?}");
    let left = data_from(&stream, ReadFrom::Earliest).await;
    assert!(
        left[left.len() - 10..]
            .iter()
            .all(|data| data.starts_with("new")),
        "{left:?}"
    );
    assert!(left.len() < 30, "{}", left.len());
    for refused in [
        stream.read(ReadFrom::After(first)).await.unwrap_err(),
        stream
            .read_shard(0, ReadFrom::After(first))
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(refused, StreamError::Expired { .. }), "{refused}");
    }
    let reopened = small(directory.path()).stream("names").await.unwrap();
    assert_eq!(data_from(&reopened, ReadFrom::Earliest).await, left);
}

#[tokio::test]
async fn a_missing_file_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    fill(&small(directory.path()), "p", 40, 1_000).await;
    let names = files(directory.path());
    for missing in [&names[0], &names[2], &names[names.len() - 1]] {
        let path = directory.path().join("names").join(missing);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = small(directory.path()).stream("names").await.unwrap_err();
        assert!(refused.is_damage(), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(missing) && text.contains("missing"), "{text}");
        std::fs::write(&path, whole).unwrap();
    }
    small(directory.path()).stream("names").await.unwrap();
}

#[tokio::test]
async fn a_crash_between_two_files_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let expected = fill(&small(directory.path()), "p", 40, 1_000).await;
    let names = files(directory.path());
    // The continuation mark, 25 bytes at the end, is missing or incomplete.
    let path = directory.path().join("names").join(&names[1]);
    let whole = std::fs::read(&path).unwrap();
    for cut in [25, 24, 1] {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let stream = small(directory.path()).stream("names").await.unwrap();
        assert_eq!(
            data_from(&stream, ReadFrom::Earliest).await,
            expected,
            "{cut}"
        );
    }
    // The next file was started under its temporary name.
    std::fs::write(directory.path().join("names").join("unfinished"), "SATCH").unwrap();
    let more = fill(&small(directory.path()), "q", 20, 2_000).await;
    let stream = small(directory.path()).stream("names").await.unwrap();
    let all = [expected, more].concat();
    assert_eq!(data_from(&stream, ReadFrom::Earliest).await, all);
}

#[tokio::test]
async fn damage_in_a_file_before_the_last_is_found_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    fill(&small(directory.path()), "p", 40, 1_000).await;
    let name = &files(directory.path())[1];
    let path = directory.path().join("names").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let stream = small(directory.path()).stream("names").await;
    let refused = match stream {
        Err(refused) => refused,
        Ok(stream) => {
            let mut reader = stream.read(ReadFrom::Earliest).await.unwrap();
            reader.next(usize::MAX, usize::MAX).await.unwrap_err()
        }
    };
    assert!(refused.is_damage(), "{refused}");
    assert!(refused.to_string().contains(name), "{refused}");
}

/// Writes a file in the format from before streams had shards: the records of a producer, counted
/// from 1.
fn write_plain(directory: &Path, records: &[(&str, &str, u64)]) {
    let mut bytes = BytesMut::from(&encode_head(VERSION_PLAIN)[..]);
    for (index, (key, data, time_ms)) in records.iter().enumerate() {
        let mut payload = BytesMut::new();
        payload.put_u64_le(index as u64 + 1);
        payload.put_u32_le(1);
        payload.put_u16_le(6);
        payload.put_slice(b"outbox");
        payload.put_u64_le(index as u64 * 10);
        payload.put_u64_le(*time_ms);
        payload.put_u16_le(key.len() as u16);
        payload.put_slice(key.as_bytes());
        payload.put_u32_le(data.len() as u32);
        payload.put_slice(data.as_bytes());
        let mut head = BytesMut::new();
        head.put_u64_le(bytes.len() as u64);
        head.put_u32_le(payload.len() as u32);
        let check = xxh3_64(&head) as u32;
        bytes.put_u32_le(payload.len() as u32);
        bytes.put_u32_le(check);
        bytes.put_u64_le(xxh3_64(&payload));
        bytes.put_slice(&payload);
    }
    let end = encode_acknowledged(bytes.len() as u64);
    bytes[16..32].copy_from_slice(&end);
    std::fs::create_dir_all(directory.join("names")).unwrap();
    std::fs::write(directory.join("names").join("records"), bytes).unwrap();
}

#[tokio::test]
async fn a_stream_in_the_format_before_shards_is_read_and_continued() {
    let directory = tempfile::tempdir().unwrap();
    write_plain(
        directory.path(),
        &[("a", "one", 100), ("b", "two", 200), ("c", "three", 300)],
    );
    let stream = open(directory.path()).await;
    let known = stream
        .append_from("outbox", 20, vec![record("k", "again", 0)])
        .await;
    assert_eq!(known, Ok(Appended::Known));
    let four = stream.append(record("d", "four", 400)).await.unwrap();
    for stream in [stream, open(directory.path()).await] {
        let records = read_all(&stream, ReadFrom::Earliest).await;
        let numbers: Vec<_> = records
            .iter()
            .map(|record| record.sequence_number.to_string())
            .collect();
        assert_eq!(numbers, ["1", "2", "3", &four.to_string()]);
        assert!(records[2].sequence_number < four);
        let mut shard = stream
            .read_shard(0, ReadFrom::After("2".parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(shard.next(10, 1_000).await.unwrap(), records[2..]);
        assert_eq!(
            data_from(&stream, ReadFrom::AtTime(200)).await,
            ["two", "three", "four"]
        );
    }
}

#[tokio::test]
async fn a_file_in_the_format_before_shards_without_a_whole_head_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("names")).unwrap();
    let path = directory.path().join("names").join("records");
    std::fs::write(&path, &encode_head(VERSION_PLAIN)[..20]).unwrap();
    let stream = open(directory.path()).await;
    stream.append(record("k", "first", 0)).await.unwrap();
    assert_eq!(data_from(&stream, ReadFrom::Earliest).await, ["first"]);
    assert!(!path.exists());
}
