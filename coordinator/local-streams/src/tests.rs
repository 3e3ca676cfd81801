//! Streams over real files and sockets.

mod appends;
mod damage;
mod processes;
mod routes;
mod segments;
mod sharding;

use std::path::Path;

use bytes::Bytes;

use crate::{Appended, NewRecord, ReadFrom, Record, SequenceNumber, Stream, StreamError, Streams};

fn record(key: &str, data: &str, time_ms: u64) -> NewRecord {
    NewRecord {
        key: key.to_owned(),
        explicit_hash_key: None,
        data: Bytes::copy_from_slice(data.as_bytes()),
        time_ms,
    }
}

/// Ordinal of a record in a stream that was created with one shard, from 1. The creation of the
/// shard takes a count too.
fn ordinal(number: SequenceNumber) -> u64 {
    number.count() - 1
}

/// Result of an append call, with ordinals instead of numbers.
fn ordinals(appended: Result<Appended, StreamError>) -> Result<Option<Vec<u64>>, StreamError> {
    Ok(match appended? {
        Appended::New(numbers) => Some(numbers.into_iter().map(ordinal).collect()),
        Appended::Known => None,
    })
}

async fn open(directory: &Path) -> Stream {
    let streams = Streams::durable(directory.to_owned());
    streams.stream("names").await.unwrap()
}

/// All present records from a position.
async fn read_all(stream: &Stream, from: ReadFrom) -> Vec<Record> {
    let mut reader = stream.read(from).await.unwrap();
    let mut all = Vec::new();
    loop {
        // Few at a time, so that frames are read in chunks too.
        let records = reader.next(2, usize::MAX).await.unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records);
    }
}

/// Data of all present records from a position.
async fn data_from(stream: &Stream, from: ReadFrom) -> Vec<String> {
    let records = read_all(stream, from).await;
    let text = |record: Record| String::from_utf8(record.data.to_vec()).unwrap();
    records.into_iter().map(text).collect()
}
