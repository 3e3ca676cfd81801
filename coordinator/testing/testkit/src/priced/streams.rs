//! Streams from the other side of the application: producers and consumers whose requests are not
//! on the bill.

use satchel_local_streams::{NewRecord, ReadFrom, Reader};

use super::PricedCloud;
use crate::client::Record;

/// Maximum number and bytes of the records of one read.
const READ_MAX: (usize, usize) = (10_000, 16 << 20);

/// Reader of all records of a stream, in the order of their arrival.
#[derive(Debug)]
pub struct PricedFollower {
    reader: Reader,
}

impl PricedFollower {
    /// Waits for the next records.
    ///
    /// # Panics
    ///
    /// When the stream cannot be read.
    pub async fn next(&mut self) -> Vec<Record> {
        let records = self.reader.follow(READ_MAX.0, READ_MAX.1).await;
        shown(records.expect("the stream can be read"))
    }

    /// Records that arrived since the last call.
    ///
    /// # Panics
    ///
    /// When the stream cannot be read.
    pub async fn read_new(&mut self) -> Vec<Record> {
        let mut all = Vec::new();
        loop {
            let records = self.reader.next(READ_MAX.0, READ_MAX.1).await;
            let records = records.expect("the stream can be read");
            if records.is_empty() {
                return all;
            }
            all.extend(shown(records));
        }
    }
}

fn shown(records: Vec<satchel_local_streams::Record>) -> Vec<Record> {
    let records = records.into_iter().map(|record| Record {
        sequence_number: record.sequence_number.to_string(),
        key: record.key,
        time_ms: record.time_ms,
        data: record.data,
    });
    records.collect()
}

impl PricedCloud {
    /// Creates a stream.
    ///
    /// # Panics
    ///
    /// When there is one.
    pub async fn create_stream(&self, name: &str, shards: usize) {
        let (streams, name) = (self.streams.clone(), name.to_owned());
        let create = async move { streams.create(&name, shards, false).await.map(drop) };
        let created = self.runtime.spawn(create).await;
        created.expect("the runtime runs").expect("a new stream");
    }

    /// Puts records, each a key and its data.
    ///
    /// # Panics
    ///
    /// When the stream does not exist, or does not take them.
    pub async fn put_all(&self, stream: &str, records: Vec<(String, Vec<u8>)>) {
        let (streams, name) = (self.streams.clone(), stream.to_owned());
        let time_ms = calendar_ms();
        let records = records.into_iter().map(move |(key, data)| NewRecord {
            key,
            explicit_hash_key: None,
            data: data.into(),
            time_ms,
        });
        let records: Vec<NewRecord> = records.collect();
        let put = async move { streams.existing(&name).await?.append_all(records).await };
        let put = self.runtime.spawn(put).await;
        put.expect("the runtime runs").expect("the records fit");
    }

    /// Returns a reader that starts at the oldest record of a stream.
    ///
    /// # Panics
    ///
    /// When the stream does not exist.
    pub async fn follow(&self, stream: &str) -> PricedFollower {
        let (streams, name) = (self.streams.clone(), stream.to_owned());
        let open = async move {
            streams
                .existing(&name)
                .await?
                .read(ReadFrom::Earliest)
                .await
        };
        let opened = self.runtime.spawn(open).await;
        PricedFollower {
            reader: opened.expect("the runtime runs").expect("a stream"),
        }
    }
}

fn calendar_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}
