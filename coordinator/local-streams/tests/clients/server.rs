//! The three servers, and client calls that the scenarios share.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{Record, Shard, ShardIteratorType};
use satchel_local_streams::Streams;
use satchel_local_streams::kinesis::{self, Options};
use satchel_testkit::{Kinesalite, KinesisLocal};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Local streams.
    Local,
    /// A stand-in for Kinesis.
    StandIn(&'static str),
}

pub(crate) const KINESALITE: Which = Which::StandIn("kinesalite");
pub(crate) const KINESIS_LOCAL: Which = Which::StandIn("kinesis-local");

/// A running server and its client.
pub(crate) struct Server {
    pub(crate) which: Which,
    pub(crate) client: Client,
    pub(crate) endpoint: String,
    _running: Running,
}

#[allow(dead_code, reason = "servers stop when they are dropped")]
enum Running {
    Local(watch::Sender<bool>),
    Kinesalite(Kinesalite),
    KinesisLocal(KinesisLocal),
}

impl Server {
    /// Serves local streams that end with the test. Throughput is not limited, because the
    /// scenarios test other things.
    pub(crate) async fn local() -> Self {
        let options = Options {
            limit_throughput: false,
            ..Options::default()
        };
        Self::of(Streams::ephemeral(), options).await
    }

    /// Serves the given local streams.
    pub(crate) async fn of(streams: Streams, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(kinesis::serve(listener, streams, options, stopping));
        Self::new(Which::Local, endpoint, Running::Local(stop))
    }

    pub(crate) fn kinesalite() -> Self {
        let running = Kinesalite::start();
        Self::new(
            KINESALITE,
            running.endpoint().to_owned(),
            Running::Kinesalite(running),
        )
    }

    pub(crate) fn kinesis_local() -> Self {
        let running = KinesisLocal::start();
        Self::new(
            KINESIS_LOCAL,
            running.endpoint().to_owned(),
            Running::KinesisLocal(running),
        )
    }

    fn new(which: Which, endpoint: String, running: Running) -> Self {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(&endpoint)
            .build();
        Self {
            which,
            client: Client::from_conf(config),
            endpoint,
            _running: running,
        }
    }

    /// Creates a stream and waits until it is active. Returns its ARN.
    pub(crate) async fn create(&self, stream: &str, shards: i32) -> String {
        let create = self
            .client
            .create_stream()
            .stream_name(stream)
            .shard_count(shards);
        create.send().await.unwrap();
        self.active(stream).await
    }

    /// Waits until a stream is active. Returns its ARN.
    pub(crate) async fn active(&self, stream: &str) -> String {
        loop {
            let describe = self.client.describe_stream_summary().stream_name(stream);
            let described = describe.send().await.unwrap();
            let summary = described.stream_description_summary.unwrap();
            if summary.stream_status.as_str() == "ACTIVE" {
                return summary.stream_arn;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts one record. Returns its shard and sequence number.
    pub(crate) async fn put(&self, stream: &str, key: &str, data: &str) -> (String, String) {
        let put = self
            .client
            .put_record()
            .stream_name(stream)
            .partition_key(key);
        let put = put.data(Blob::new(data)).send().await.unwrap();
        (put.shard_id, put.sequence_number)
    }

    /// Puts one record with an explicit hash key. Returns its shard and sequence number.
    pub(crate) async fn put_at(
        &self,
        stream: &str,
        hash_key: &str,
        data: &str,
    ) -> (String, String) {
        let put = self
            .client
            .put_record()
            .stream_name(stream)
            .partition_key("key");
        let put = put.explicit_hash_key(hash_key).data(Blob::new(data));
        let put = put.send().await.unwrap();
        (put.shard_id, put.sequence_number)
    }

    /// All shards of a stream.
    pub(crate) async fn shards(&self, stream: &str) -> Vec<Shard> {
        let listed = self
            .client
            .list_shards()
            .stream_name(stream)
            .send()
            .await
            .unwrap();
        listed.shards.unwrap()
    }

    pub(crate) async fn iterator(
        &self,
        stream: &str,
        shard: &str,
        kind: ShardIteratorType,
        number: Option<&str>,
    ) -> String {
        let get = self
            .client
            .get_shard_iterator()
            .stream_name(stream)
            .shard_id(shard);
        let get = get.shard_iterator_type(kind);
        let got = get
            .set_starting_sequence_number(number.map(str::to_owned))
            .send()
            .await;
        got.unwrap().shard_iterator.unwrap()
    }

    pub(crate) async fn get(&self, iterator: &str) -> GetRecordsOutput {
        self.client
            .get_records()
            .shard_iterator(iterator)
            .send()
            .await
            .unwrap()
    }

    /// Reads until there are `count` records. With a count of 0, reads once.
    pub(crate) async fn read(&self, mut iterator: String, count: usize) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let got = self.get(&iterator).await;
            records.extend(got.records);
            if records.len() >= count {
                return records;
            }
            iterator = got.next_shard_iterator.expect("the shard is open");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Data of the first `count` records of a shard.
    pub(crate) async fn data(&self, stream: &str, shard: &str, count: usize) -> Vec<String> {
        let iterator = self
            .iterator(stream, shard, ShardIteratorType::TrimHorizon, None)
            .await;
        data(&self.read(iterator, count).await)
    }
}

/// Data of records, as strings.
pub(crate) fn data(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8(record.data.as_ref().to_vec()).unwrap();
    records.iter().map(text).collect()
}

/// Error code of a refused request.
pub(crate) fn code<T: std::fmt::Debug, E: ProvideErrorMetadata>(
    outcome: Result<T, SdkError<E>>,
) -> String {
    match outcome {
        Ok(accepted) => panic!("the request was not refused: {accepted:?}"),
        Err(error) => error.code().unwrap_or("none").to_owned(),
    }
}
