//! Streams over real files and sockets.

mod appends;
mod damage;
mod processes;
mod routes;

use std::path::Path;

use bytes::Bytes;

use crate::streams::{NewRecord, ReadFrom, Record, SequenceNumber, Stream, Streams};

fn record(key: &str, data: &str, time_ms: u64) -> NewRecord {
    NewRecord {
        key: key.to_owned(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        time_ms,
    }
}

fn number(number: u64) -> SequenceNumber {
    SequenceNumber::new(number).unwrap()
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
