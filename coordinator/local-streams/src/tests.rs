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

/// How many records of a stream that was created with one shard come before it, plus one: its shard's creation counts too.
fn ordinal(number: SequenceNumber) -> u64 {
    number.count() - 1
}

/// What became of an append call, with ordinals.
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

/// Everything from a place on that is there now.
async fn read_all(stream: &Stream, from: ReadFrom) -> Vec<Record> {
    let mut reader = stream.read(from).await.unwrap();
    let mut all = Vec::new();
    loop {
        // Few at a time, so that frames are read in pieces too.
        let records = reader.next(2, usize::MAX).await.unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records);
    }
}

/// The data of everything from a place on that is there now.
async fn data_from(stream: &Stream, from: ReadFrom) -> Vec<String> {
    let records = read_all(stream, from).await;
    let text = |record: Record| String::from_utf8(record.data.to_vec()).unwrap();
    records.into_iter().map(text).collect()
}
