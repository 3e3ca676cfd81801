//! From stream to stream: records in by the AWS SDK, handlers through Lambda's Invoke API, state in S3, leases in DynamoDB, greetings out on Kinesis.

use std::collections::BTreeMap;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use satchel::streams::Streams;
use satchel::streams::kinesis::{self, Options};
use satchel_testkit::{Dev, until};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;

const KEYS: usize = 20;

/// A Kinesis server of this process, with the two streams of the greeter.
struct Kinesis {
    endpoint: String,
    client: aws_sdk_kinesis::Client,
    _stop: watch::Sender<bool>,
    _server: JoinSet<()>,
}

impl Kinesis {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopping) = watch::channel(false);
        let options = Options {
            limit_throughput: false,
            ..Options::default()
        };
        let mut server = JoinSet::new();
        server.spawn(async move {
            let served = kinesis::serve(listener, Streams::ephemeral(), options, stopping);
            served.await.unwrap();
        });
        let client = aws_sdk_kinesis::Client::new(&sdk(&endpoint));
        for (stream, shards) in [("names", 2), ("greetings", 1)] {
            let made = client.create_stream().stream_name(stream);
            made.shard_count(shards).send().await.unwrap();
        }
        Self {
            endpoint,
            client,
            _stop: stop,
            _server: server,
        }
    }

    /// One record for each key, all or panic.
    async fn put(&self, round: usize) {
        let entries = (0..KEYS).map(|key| {
            let key = format!("key-{key}");
            let name = json!({"name": key, "round": round}).to_string();
            let entry = PutRecordsRequestEntry::builder()
                .partition_key(key)
                .data(Blob::new(name));
            entry.build().unwrap()
        });
        let put = self.client.put_records().stream_name("names");
        let put = put.set_records(Some(entries.collect())).send().await;
        assert_eq!(put.unwrap().failed_record_count(), Some(0));
    }

    /// The numbers that each key was greeted with, in order of the stream.
    async fn greetings(&self) -> BTreeMap<String, Vec<i64>> {
        let shards = self.client.list_shards().stream_name("greetings").send();
        let mut greeted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for shard in shards.await.unwrap().shards() {
            let iterator = self.client.get_shard_iterator().stream_name("greetings");
            let iterator = iterator
                .shard_id(shard.shard_id())
                .shard_iterator_type(ShardIteratorType::TrimHorizon);
            let mut next = iterator.send().await.unwrap().shard_iterator;
            while let Some(iterator) = next.take() {
                let read = self.client.get_records().shard_iterator(iterator);
                let read = read.send().await.unwrap();
                for record in read.records() {
                    let greeting: Value = serde_json::from_slice(record.data().as_ref()).unwrap();
                    let seen = greeting["seen"].as_i64().unwrap();
                    let key = record.partition_key().unwrap().to_owned();
                    greeted.entry(key).or_default().push(seen);
                }
                if !read.records().is_empty() {
                    next = read.next_shard_iterator;
                }
            }
        }
        greeted
    }
}

/// How often each key was counted, once nothing waits any more and all of it adds up to `total`.
async fn counted(app: &Dev, total: usize) -> BTreeMap<String, i64> {
    until("every record is counted", async || {
        let mut counts = BTreeMap::new();
        for key in (0..KEYS).map(|key| format!("key-{key}")) {
            let view = app.client.address(&format!("example/greeter/{key}")).await;
            if view.status != 200 {
                return None;
            }
            let seen = view.json()["state"][0]["value"].as_i64()?;
            counts.insert(key, seen);
        }
        (counts.values().sum::<i64>() >= total as i64).then_some(counts)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_stopped_owners_count_every_record_once_and_greet_for_each() {
    let kinesis = Kinesis::start().await;
    let aws = Aws::with_greeter().await;
    let greeter = example("greeter").join("module.yaml");
    std::fs::copy(greeter, aws.dir.path().join("module.yaml")).unwrap();
    let setup = aws
        .setup("2s")
        .env("AWS_ENDPOINT_URL_KINESIS", &kinesis.endpoint);
    let mut owner = setup.start().await;
    let mut rounds = 0;
    for takeover in 0..4 {
        let mut standby = setup.start_standby().await;
        for _ in 0..10 {
            kinesis.put(rounds).await;
            rounds += 1;
        }
        if takeover % 2 == 0 {
            owner.kill9().await;
        } else {
            let ended = owner.terminate().await;
            assert_eq!(ended.code, Some(0), "{}", ended.printed);
        }
        standby.is_ready().await;
        owner = standby;
    }
    kinesis.put(rounds).await;
    rounds += 1;
    let counts = counted(&owner, rounds * KEYS).await;
    assert!(
        counts.values().all(|seen| *seen == rounds as i64),
        "{rounds}: {counts:?}"
    );
    let expected: Vec<i64> = (1..=rounds as i64).collect();
    let greeted = until("every greeting is on the stream", async || {
        let mut greeted = kinesis.greetings().await;
        for numbers in greeted.values_mut() {
            // At least once: a takeover may repeat some.
            numbers.sort_unstable();
            numbers.dedup();
        }
        let whole = greeted.len() == KEYS && greeted.values().all(|all| *all == expected);
        whole.then_some(greeted)
    })
    .await;
    assert_eq!(greeted.len(), KEYS);
    drop(owner);
    aws.stop().await;
}
