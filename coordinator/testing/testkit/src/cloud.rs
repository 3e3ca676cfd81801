//! The AWS services that `satchel run` uses, emulated on this machine. The same tests thereby run
//! against the interfaces of AWS and, with `satchel dev`, without them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType, StreamStatus};
use aws_sdk_kinesis::{Client, Config};
use tempfile::TempDir;

use crate::client::Record;
use crate::dev::{Dev, Setup};
use crate::waiting::EVERY;
use crate::{LONG, Moto, until_true};

/// Secret key that must not appear in any output.
const SECRET: &str = "the-secret-key-of-the-test";

/// Bucket that exists from the start.
const BUCKET: &str = "roots";

/// Emulated AWS services. [`Moto`] serves S3, DynamoDB and others. A `satchel dev` that runs only
/// handlers, as real processes, serves Kinesis and the Invoke API of Lambda. All of them start
/// empty and end when this is dropped.
#[derive(Debug)]
pub struct Cloud {
    moto: Moto,
    kinesis: String,
    lambda: String,
    client: Client,
    /// Contains an empty file that replaces the AWS configuration of this machine.
    empty: TempDir,
    roots: AtomicU32,
    _handlers: Dev,
}

impl Cloud {
    /// Starts all services with the Lambda functions of a module file. The executable `handler`
    /// serves each of them, with these environment variables.
    ///
    /// # Panics
    ///
    /// When an emulator does not start; with its output.
    pub async fn start(module: &Path, handler: &Path, environment: &[(&str, &str)]) -> Self {
        let moto = Moto::start();
        let bucket = format!("{}/{BUCKET}", moto.endpoint());
        let plain = reqwest::Client::builder().no_proxy().build();
        let plain = plain.expect("a client without TLS files can be made");
        let made = plain.put(bucket).send().await;
        assert!(made.is_ok_and(|answer| answer.status().is_success()));
        let empty = tempfile::tempdir().expect("a directory can be made");
        fs::write(empty.path().join("nothing"), "").expect("a file can be made");
        let functions = empty.path().join("functions.yaml");
        fs::write(&functions, functions_of(module, handler)).expect("a file can be made");
        let setup = Setup::of(functions)
            .arg("--ephemeral")
            .arg("--kinesis-api=127.0.0.1:0")
            .arg("--kinesis-unlimited")
            .arg("--lambda-api=127.0.0.1:0");
        let variables = environment.iter();
        let setup = variables.fold(setup, |setup, (name, value)| setup.env(name, *value));
        let handlers = setup.start().await;
        let printed = handlers.printed();
        let url = |name: &str| {
            let lines = printed.lines().map(str::trim);
            let mut urls =
                lines.filter_map(|line| line.strip_prefix(name)?.split_whitespace().next());
            let url = urls.find(|url| url.starts_with("http://"));
            url.expect("the banner names the URL").to_owned()
        };
        let kinesis = url("kinesis ");
        Self {
            lambda: url("Lambda "),
            client: client(&kinesis),
            kinesis,
            moto,
            empty,
            roots: AtomicU32::new(0),
            _handlers: handlers,
        }
    }

    /// The application of a module file as `satchel run` starts it here: state in S3 under a root
    /// of its own, and a lease in DynamoDB.
    pub fn setup(&self, module: impl AsRef<Path>) -> Setup {
        let setup = Setup::of(module.as_ref());
        let number = self.roots.fetch_add(1, Ordering::Relaxed);
        let root = format!("s3://{BUCKET}/root-{number}");
        let setup = setup
            .in_production(root)
            .env("SATCHEL_LEASE_TABLE", "leases")
            .env("SATCHEL_CREATE_LEASE_TABLE", "true")
            .env("SATCHEL_LEASE_TIME", "2s");
        let variables = self.environment().into_iter();
        variables.fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// Environment that directs every AWS client to the emulators and away from the AWS
    /// configuration of this machine.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let nothing = self.empty.path().join("nothing").display().to_string();
        vec![
            ("AWS_ENDPOINT_URL", self.moto.endpoint().to_owned()),
            ("AWS_ENDPOINT_URL_KINESIS", self.kinesis.clone()),
            ("AWS_ENDPOINT_URL_LAMBDA", self.lambda.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDOFTHETEST".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_CONFIG_FILE", nothing.clone()),
            ("AWS_SHARED_CREDENTIALS_FILE", nothing),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Base URL of S3, DynamoDB and the other services that moto emulates.
    pub fn moto(&self) -> &str {
        self.moto.endpoint()
    }

    /// Base URL of Kinesis.
    pub fn kinesis(&self) -> &str {
        &self.kinesis
    }

    /// Base URL of Lambda.
    pub fn lambda(&self) -> &str {
        &self.lambda
    }

    /// A client for Kinesis.
    pub fn kinesis_client(&self) -> &Client {
        &self.client
    }

    /// Creates a stream and waits until it is active.
    ///
    /// # Panics
    ///
    /// When the request is rejected.
    pub async fn create_stream(&self, name: &str, shards: i32) {
        let create = self.client.create_stream().stream_name(name);
        create.shard_count(shards).send().await.expect("a stream");
        self.stream_is_active(name).await;
    }

    /// Waits until no change of the stream is in progress.
    pub async fn stream_is_active(&self, name: &str) {
        until_true("the stream is active", async || {
            let describe = self.client.describe_stream_summary().stream_name(name);
            let described = describe.send().await.expect("it is described");
            let summary = described.stream_description_summary();
            summary.is_some_and(|summary| *summary.stream_status() == StreamStatus::Active)
        })
        .await;
    }

    /// Puts a record.
    ///
    /// # Panics
    ///
    /// When the record is rejected.
    pub async fn put(&self, stream: &str, key: &str, data: impl Into<Vec<u8>>) {
        self.put_all(stream, [(key.to_owned(), data.into())]).await;
    }

    /// Puts records, at most 500, in one request.
    ///
    /// # Panics
    ///
    /// When a record is rejected.
    pub async fn put_all(
        &self,
        stream: &str,
        records: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) {
        let entries = records.into_iter().map(|(key, data)| {
            let entry = PutRecordsRequestEntry::builder().partition_key(key);
            let entry = entry.data(Blob::new(data)).build();
            entry.expect("it has a key and data")
        });
        let put = self.client.put_records().stream_name(stream);
        let put = put.set_records(Some(entries.collect())).send().await;
        let put = put.expect("the records are accepted");
        assert_eq!(put.failed_record_count(), Some(0), "{put:?}");
    }

    /// Current records of a stream. Records of one key are in order.
    ///
    /// # Panics
    ///
    /// When the stream cannot be read.
    pub async fn records(&self, stream: &str) -> Vec<Record> {
        self.follow(stream).read_new().await
    }

    /// Waits until a stream contains `count` records, and returns them. Panics when there are more,
    /// or after [`LONG`].
    pub async fn records_when(&self, stream: &str, count: usize) -> Vec<Record> {
        let begun = Instant::now();
        let mut follower = self.follow(stream);
        let mut records = Vec::new();
        while records.len() < count {
            assert!(
                begun.elapsed() < LONG,
                "waited {LONG:?} until {stream} contains {count} records: {records:?}"
            );
            tokio::time::sleep(EVERY).await;
            records.extend(follower.read_new().await);
        }
        assert_eq!(records.len(), count, "{records:?}");
        records
    }

    /// Returns a reader that starts at the oldest record of a stream.
    pub fn follow(&self, stream: &str) -> Follower {
        Follower {
            client: self.client.clone(),
            stream: stream.to_owned(),
            shards: BTreeMap::new(),
        }
    }
}

/// Reader of a stream.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    stream: String,
    /// Next iterator of each shard; `None` at its end.
    shards: BTreeMap<String, Option<String>>,
}

impl Follower {
    /// Records that arrived since the last call. Records of one key are in order.
    ///
    /// # Panics
    ///
    /// When the stream cannot be read.
    pub async fn read_new(&mut self) -> Vec<Record> {
        let list = self.client.list_shards().stream_name(&self.stream);
        let listed = list.send().await.expect("the shards are listed");
        for shard in listed.shards() {
            if !self.shards.contains_key(shard.shard_id()) {
                let from = self.client.get_shard_iterator().stream_name(&self.stream);
                let from = from.shard_id(shard.shard_id());
                let from = from.shard_iterator_type(ShardIteratorType::TrimHorizon);
                let from = from.send().await.expect("a shard has a beginning");
                self.shards
                    .insert(shard.shard_id().to_owned(), from.shard_iterator);
            }
        }
        let mut arrived = Vec::new();
        // Ordered by name, so that parents are read before their children.
        for next in self.shards.values_mut() {
            while let Some(iterator) = next.clone() {
                let read = self.client.get_records().shard_iterator(iterator);
                let read = read.send().await.expect("a shard can be read");
                arrived.extend(read.records().iter().map(record));
                next.clone_from(&read.next_shard_iterator);
                if read.records().is_empty() && read.millis_behind_latest() == Some(0) {
                    break;
                }
            }
        }
        arrived
    }
}

fn record(record: &aws_sdk_kinesis::types::Record) -> Record {
    let arrival = record.approximate_arrival_timestamp();
    let time_ms = arrival.and_then(|time| u64::try_from(time.to_millis().ok()?).ok());
    Record {
        sequence_number: record.sequence_number().to_owned(),
        key: record.partition_key().unwrap_or_default().to_owned(),
        time_ms: time_ms.unwrap_or_default(),
        data: record.data().as_ref().to_vec().into(),
    }
}

fn client(endpoint: &str) -> Client {
    let key = Credentials::new("AKIDOFTHETEST", SECRET, None, None, "test");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(key)
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

/// The documents of a module file that describe Lambda functions, with `handler` as their
/// `dev.command`.
fn functions_of(module: &Path, handler: &Path) -> String {
    let text = fs::read_to_string(module);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", module.display()));
    let documents = text.split("\n---\n");
    let functions = documents.filter(|document| document.contains("satchel.endpoints.v1/lambda"));
    let run = serde_json::json!({"command": [handler]});
    let functions: Vec<String> = functions
        .map(|document| format!("{}\n  dev: {run}\n", document.trim_end()))
        .collect();
    assert!(
        !functions.is_empty(),
        "{} has no Lambda functions",
        module.display()
    );
    functions.join("---\n")
}
