//! A stream of a stand-in, as its producers and operators use it.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{Shard, StreamStatus};
use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
use satchel_aws::secret::Secret;

/// A stream.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) config: SdkConfig,
    client: Client,
}

impl Stream {
    /// Creates a stream and waits until it is active.
    pub(crate) async fn create(endpoint: &str, name: &str, shards: i32) -> Self {
        let config = config(endpoint).await;
        let client = Client::new(&config);
        let create = client.create_stream().stream_name(name);
        create.shard_count(shards).send().await.unwrap();
        let stream = Self {
            name: name.to_owned(),
            config,
            client,
        };
        stream.active().await;
        stream
    }

    /// Puts a record. Returns its sequence number.
    pub(crate) async fn put(&self, key: &str, data: impl Into<Vec<u8>>) -> String {
        let data = Blob::new(data);
        let put = self.client.put_record().stream_name(&self.name);
        let put = put.partition_key(key).data(data).send().await;
        put.unwrap().sequence_number
    }

    /// Puts a record with this hash key.
    pub(crate) async fn put_at(&self, hash_key: u128, key: &str, data: impl Into<Vec<u8>>) {
        let put = self.client.put_record().stream_name(&self.name);
        let put = put.partition_key(key).data(Blob::new(data));
        let put = put.explicit_hash_key(hash_key.to_string()).send().await;
        put.unwrap();
    }

    /// Deletes the stream.
    pub(crate) async fn delete(&self) {
        let delete = self.client.delete_stream().stream_name(&self.name);
        delete.send().await.unwrap();
    }

    /// Splits the first open shard in the middle.
    pub(crate) async fn split(&self) {
        let open = self.open().await;
        let (first, last) = range(&open[0]);
        let split = self.client.split_shard().stream_name(&self.name);
        let split = split.shard_to_split(open[0].shard_id());
        let middle = (first + (last - first) / 2).to_string();
        split.new_starting_hash_key(middle).send().await.unwrap();
        self.active().await;
    }

    /// Merges the first two open shards, which are adjacent.
    pub(crate) async fn merge(&self) {
        let open = self.open().await;
        let merge = self.client.merge_shards().stream_name(&self.name);
        let merge = merge.shard_to_merge(open[0].shard_id());
        let merge = merge.adjacent_shard_to_merge(open[1].shard_id());
        merge.send().await.unwrap();
        self.active().await;
    }

    /// Open shards, in the order of their hash keys.
    async fn open(&self) -> Vec<Shard> {
        let list = self.client.list_shards().stream_name(&self.name);
        let mut shards = list.send().await.unwrap().shards.unwrap();
        shards.retain(|shard| {
            let range = shard.sequence_number_range().unwrap();
            range.ending_sequence_number().is_none()
        });
        shards.sort_by_key(range);
        shards
    }

    async fn active(&self) {
        loop {
            let describe = self.client.describe_stream_summary();
            let described = describe.stream_name(&self.name).send().await.unwrap();
            let summary = described.stream_description_summary.unwrap();
            if summary.stream_status == StreamStatus::Active {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn range(shard: &Shard) -> (u128, u128) {
    let range = shard.hash_key_range().unwrap();
    let first = range.starting_hash_key().parse().unwrap();
    (first, range.ending_hash_key().parse().unwrap())
}

/// Configuration for the stand-in at `endpoint`.
pub(crate) async fn config(endpoint: &str) -> SdkConfig {
    let access = AwsAccess {
        region: AwsRegion::CustomEndpoint {
            endpoint: endpoint.to_owned(),
            region: "us-east-1".to_owned(),
        },
        credentials: AwsCredentials::Basic {
            access_key_id: "test".to_owned(),
            secret_access_key: Secret::new("test"),
        },
    };
    access.load().await.unwrap()
}
