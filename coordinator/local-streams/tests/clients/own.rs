//! Scenarios for local streams only: throughput limits, other encodings and transports, and the end
//! of subscriptions.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType, StartingPosition};
use satchel_local_streams::kinesis::Options;
use satchel_local_streams::{NewRecord, ReadFrom, Streams};
use satchel_testkit::python_with;
use serde_json::{Value, json};

use crate::consumers::register;
use crate::server::{Server, code, data};

const SHARD: &str = "shardId-000000000000";

async fn limited() -> Server {
    Server::of(Streams::ephemeral(), Options::default()).await
}

#[tokio::test]
async fn a_throttled_shard_refuses_only_its_own_records() {
    let server = limited().await;
    server.create("limited", 2).await;
    let entry = |hash_key: &str, bytes: usize| {
        let entry = PutRecordsRequestEntry::builder()
            .partition_key("k")
            .explicit_hash_key(hash_key);
        entry.data(Blob::new(vec![7; bytes])).build().unwrap()
    };
    let last = u128::MAX.to_string();
    let put = server.client.put_records().stream_name("limited");
    let put = put
        .records(entry("0", 900_000))
        .records(entry("0", 900_000))
        .records(entry("0", 1))
        .records(entry(&last, 1));
    let put = put.send().await.unwrap();
    assert_eq!(put.failed_record_count, Some(1));
    let codes: Vec<_> = put
        .records
        .iter()
        .map(|record| record.error_code.as_deref())
        .collect();
    assert_eq!(
        codes,
        [
            None,
            None,
            Some("ProvisionedThroughputExceededException"),
            None
        ]
    );
    let refused = server
        .client
        .put_record()
        .stream_name("limited")
        .partition_key("k")
        .explicit_hash_key("0");
    let refused = refused.data(Blob::new("x")).send().await;
    assert_eq!(code(refused), "ProvisionedThroughputExceededException");
    let mut read = Vec::new();
    let mut iterator = server
        .iterator("limited", SHARD, ShardIteratorType::TrimHorizon, None)
        .await;
    while read.len() < 2 {
        let got = server.get(&iterator).await;
        read.extend(got.records);
        iterator = got.next_shard_iterator.unwrap();
    }
    assert_eq!(read.len(), 2, "what was refused is not there");
}

#[tokio::test]
async fn a_shard_is_polled_five_times_a_second() {
    let server = limited().await;
    server.create("polled", 1).await;
    let iterator = server
        .iterator("polled", SHARD, ShardIteratorType::TrimHorizon, None)
        .await;
    // 200 concurrent polls exceed the limit on any machine.
    let polls = (0..200).map(|_| server.client.get_records().shard_iterator(&iterator).send());
    let polls = futures::future::join_all(polls).await;
    let refused: Vec<_> = polls.into_iter().filter(Result::is_err).map(code).collect();
    assert!(!refused.is_empty());
    assert!(
        refused
            .iter()
            .all(|code| code == "ProvisionedThroughputExceededException"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_subscription_ends_after_its_duration_and_is_replaced_by_a_later_one() {
    let options = Options {
        subscription: Duration::from_secs(8),
        ..Options::default()
    };
    let server = Server::of(Streams::ephemeral(), options).await;
    let arn = server.create("lasting", 1).await;
    let consumer = register(&server, &arn, "reader").await;
    let subscribe = || {
        let position = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
        let subscribe = server
            .client
            .subscribe_to_shard()
            .consumer_arn(&consumer)
            .shard_id(SHARD);
        subscribe
            .starting_position(position.build().unwrap())
            .send()
    };
    let mut first = subscribe().await.unwrap().event_stream;
    assert_eq!(
        code(subscribe().await),
        "ResourceInUseException",
        "the first is not five seconds old"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut second = subscribe().await.unwrap().event_stream;
    while first.recv().await.unwrap().is_some() {}
    let mut events = 0;
    while second.recv().await.unwrap().is_some() {
        events += 1;
    }
    assert!(
        events >= 1,
        "empty events are sent while there are no records"
    );
    let deregister = server
        .client
        .deregister_stream_consumer()
        .consumer_arn(&consumer);
    deregister.send().await.unwrap();
    assert_eq!(code(subscribe().await), "ResourceNotFoundException");
}

/// Sends a request like the Java SDK does. The response has the same encoding.
async fn cbor(
    client: &reqwest::Client,
    server: &Server,
    operation: &str,
    body: Vec<u8>,
) -> (u16, Vec<u8>) {
    let request = client
        .post(&server.endpoint)
        .header("content-type", "application/x-amz-cbor-1.1");
    let request = request.header("x-amz-target", format!("Kinesis_20131202.{operation}"));
    let answer = request.body(body).send().await.unwrap();
    assert_eq!(
        answer.headers()["content-type"],
        "application/x-amz-cbor-1.1"
    );
    (
        answer.status().as_u16(),
        answer.bytes().await.unwrap().to_vec(),
    )
}

fn text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 256);
    out.extend_from_slice(&[0x78, text.len() as u8]);
    out.extend_from_slice(text.as_bytes());
}

fn contains(answer: &[u8], part: &[u8]) -> bool {
    answer.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn cbor_over_http_2_without_tls_holds_bytes_as_they_are() {
    let server = limited().await;
    server.create("binary", 1).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    // A map of indefinite length, as Jackson writes it.
    let mut put = vec![0xbf];
    text(&mut put, "StreamName");
    text(&mut put, "binary");
    text(&mut put, "PartitionKey");
    text(&mut put, "key");
    text(&mut put, "Data");
    put.extend_from_slice(&[0x44, 0xde, 0xad, 0xbe, 0xef, 0xff]);
    let (status, answer) = cbor(&client, &server, "PutRecord", put).await;
    assert_eq!(status, 200);
    assert!(contains(&answer, b"shardId-000000000000"));
    let iterator = server
        .iterator("binary", SHARD, ShardIteratorType::TrimHorizon, None)
        .await;
    let mut get = vec![0xa1];
    text(&mut get, "ShardIterator");
    text(&mut get, &iterator);
    let (status, answer) = cbor(&client, &server, "GetRecords", get).await;
    assert_eq!(status, 200);
    assert!(
        contains(&answer, &[0x44, 0xde, 0xad, 0xbe, 0xef]),
        "{answer:x?}"
    );
    // The arrival time: tag 1, milliseconds.
    assert!(contains(&answer, &[0xc1, 0x1b, 0, 0, 1]), "{answer:x?}");
    let (status, answer) = cbor(&client, &server, "PutRecord", vec![0xa0]).await;
    assert_eq!(status, 400);
    assert!(contains(&answer, b"ValidationException"));
    let (status, answer) = cbor(&client, &server, "PutRecord", vec![0xff]).await;
    assert_eq!(status, 400);
    assert!(contains(&answer, b"SerializationException"));
}

#[tokio::test]
async fn malformed_requests_are_refused_with_the_codes_of_aws() {
    let server = limited().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = async |target: &str, content_type: &str, body: &str| {
        let request = client
            .post(&server.endpoint)
            .header("content-type", content_type);
        let request = request.header("x-amz-target", target).body(body.to_owned());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(answer.headers().contains_key("x-amzn-requestid"));
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, body["__type"].clone())
    };
    let json_1_1 = "application/x-amz-json-1.1";
    for (target, content_type, body, status, code) in [
        (
            "Kinesis_20131202.Nothing",
            json_1_1,
            "{}",
            400,
            "UnknownOperationException",
        ),
        (
            "DynamoDB_20120810.PutItem",
            json_1_1,
            "{}",
            400,
            "UnknownOperationException",
        ),
        (
            "Kinesis_20131202.PutRecord",
            "text/plain",
            "{}",
            404,
            "UnknownOperationException",
        ),
        (
            "Kinesis_20131202.PutRecord",
            json_1_1,
            "{",
            400,
            "SerializationException",
        ),
        (
            "Kinesis_20131202.PutRecord",
            json_1_1,
            "[]",
            400,
            "SerializationException",
        ),
        (
            "Kinesis_20131202.PutRecord",
            json_1_1,
            "{\"Data\":7}",
            400,
            "SerializationException",
        ),
        (
            "Kinesis_20131202.PutRecord",
            json_1_1,
            "{}",
            400,
            "ValidationException",
        ),
        (
            "Kinesis_20131202.ListStreams",
            json_1_1,
            "{\"Limit\":0}",
            400,
            "ValidationException",
        ),
    ] {
        let answered = request(target, content_type, body).await;
        assert_eq!(answered, (status, json!(code)), "{target} {body}");
    }
}

#[tokio::test]
async fn records_and_consumers_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let streams = || Streams::durable(directory.path().to_owned());
    let server = Server::of(streams(), Options::default()).await;
    let arn = server.create("kept", 2).await;
    let consumer = register(&server, &arn, "reader").await;
    let (shard, number) = server.put("kept", "a", "before").await;
    drop(server);
    let server = Server::of(streams(), Options::default()).await;
    let shards = server.shards("kept").await;
    assert_eq!(shards.len(), 2);
    let iterator = server
        .iterator(
            "kept",
            &shard,
            ShardIteratorType::AtSequenceNumber,
            Some(&number),
        )
        .await;
    server.put("kept", "a", "after").await;
    assert_eq!(data(&server.read(iterator, 2).await), ["before", "after"]);
    let described = server
        .client
        .describe_stream_consumer()
        .consumer_arn(&consumer)
        .send()
        .await
        .unwrap();
    assert_eq!(
        described.consumer_description.unwrap().consumer_name,
        "reader"
    );
}

/// A minimal application: it answers each record of `names` on `greetings`, with the number of
/// records seen for that key.
async fn greet(streams: Streams) {
    let names = streams.stream("names").await.unwrap();
    let mut reader = names.read(ReadFrom::Earliest).await.unwrap();
    let mut seen: HashMap<String, u64> = HashMap::new();
    loop {
        for name in reader.follow(100, 1 << 20).await.unwrap() {
            let seen = seen.entry(name.key.clone()).or_default();
            *seen += 1;
            let greetings = streams.stream("greetings").await.unwrap();
            let greeting = NewRecord {
                key: name.key,
                explicit_hash_key: None,
                data: json!({ "seen": *seen }).to_string().into(),
                time_ms: name.time_ms,
            };
            greetings.append(greeting).await.unwrap();
        }
    }
}

#[tokio::test]
async fn boto3_puts_reads_splits_and_merges() {
    let streams = Streams::ephemeral();
    streams.stream("names").await.unwrap();
    let server = Server::of(streams.clone(), Options::default()).await;
    let greeting = tokio::spawn(greet(streams));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dev/kinesis_api/client.py");
    let endpoint = server.endpoint.clone();
    let output = tokio::task::spawn_blocking(move || {
        let python = python_with(&["boto3==1.44.5"]);
        Command::new(python)
            .arg("-B")
            .arg(script)
            .arg(endpoint)
            .output()
    });
    let output = output.await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", output.status);
    let greetings: HashMap<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(greetings.len(), 20);
    let thrice = json!([{"seen": 1}, {"seen": 2}, {"seen": 3}]);
    assert!(
        greetings.values().all(|greetings| *greetings == thrice),
        "{greetings:?}"
    );
    greeting.abort();
}

#[tokio::test]
async fn the_maximum_size_of_a_record_is_set_changed_and_enforced_up_to_ten_mebibytes() {
    let server = Server::local().await;
    let client = &server.client;
    let arn = server.create("sized", 1).await;
    let max_kib = async |stream: &str| {
        let described = client.describe_stream_summary().stream_name(stream);
        let described = described.send().await.unwrap();
        let summary = described.stream_description_summary.unwrap();
        summary.max_record_size_in_kib
    };
    let put = async |stream: &str, bytes: usize| {
        // The key counts, too.
        let data = Blob::new(vec![b'x'; bytes - 1]);
        let put = client.put_record().stream_name(stream).partition_key("k");
        put.data(data).send().await
    };
    let update = async |kib: i32| {
        let update = client.update_max_record_size().stream_arn(&arn);
        update.max_record_size_in_kib(kib).send().await
    };
    assert_eq!(max_kib("sized").await, Some(1_024));
    put("sized", 1 << 20).await.unwrap();
    assert_eq!(
        code(put("sized", (1 << 20) + 1).await),
        "ValidationException"
    );
    for wrong in [1_023, 10_241] {
        assert_eq!(code(update(wrong).await), "ValidationException", "{wrong}");
    }
    update(10_240).await.unwrap();
    assert_eq!(max_kib("sized").await, Some(10_240));
    put("sized", 10 << 20).await.unwrap();
    assert_eq!(
        code(put("sized", (10 << 20) + 1).await),
        "ValidationException"
    );
    let iterator = server
        .iterator("sized", SHARD, ShardIteratorType::TrimHorizon, None)
        .await;
    let records = server.read(iterator, 2).await;
    let sizes: Vec<usize> = records.iter().map(|it| it.data.as_ref().len()).collect();
    assert_eq!(sizes, [(1 << 20) - 1, (10 << 20) - 1]);
    // A record that fits no more stays, and new ones are refused.
    update(1_024).await.unwrap();
    assert_eq!(
        code(put("sized", (1 << 20) + 1).await),
        "ValidationException"
    );

    let create = client.create_stream().stream_name("large").shard_count(1);
    let create = create.max_record_size_in_kib(2_048);
    create.send().await.unwrap();
    server.active("large").await;
    assert_eq!(max_kib("large").await, Some(2_048));
    put("large", 2 << 20).await.unwrap();
    assert_eq!(
        code(put("large", (2 << 20) + 1).await),
        "ValidationException"
    );
}

#[tokio::test]
async fn a_maximum_size_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || {
        let streams = Streams::durable(dir.path().to_owned());
        let options = Options {
            limit_throughput: false,
            ..Options::default()
        };
        Server::of(streams, options).await
    };
    let server = open().await;
    let create = server.client.create_stream().stream_name("large");
    let create = create.shard_count(1).max_record_size_in_kib(4_096);
    create.send().await.unwrap();
    drop(server);
    let server = open().await;
    let described = server.client.describe_stream_summary().stream_name("large");
    let described = described.send().await.unwrap();
    let summary = described.stream_description_summary.unwrap();
    assert_eq!(summary.max_record_size_in_kib, Some(4_096));
}

#[tokio::test]
async fn a_token_of_a_listing_excludes_everything_that_selects_shards_anew() {
    use aws_sdk_kinesis::primitives::DateTime;
    use aws_sdk_kinesis::types::{ShardFilter, ShardFilterType};
    let server = Server::local().await;
    let client = &server.client;
    let arn = server.create("paged", 3).await;
    let first = client.list_shards().stream_name("paged").max_results(1);
    let token = first.send().await.unwrap().next_token.unwrap();
    let next = || client.list_shards().next_token(&token);
    let filter = ShardFilter::builder().r#type(ShardFilterType::AtLatest);
    let filter = filter.build().unwrap();
    for refused in [
        next().stream_name("paged"),
        next().stream_arn(arn),
        next().exclusive_start_shard_id(SHARD),
        next().shard_filter(filter),
        next().stream_creation_timestamp(DateTime::from_secs(1)),
    ] {
        assert_eq!(code(refused.send().await), "InvalidArgumentException");
    }
    let rest = next().send().await.unwrap();
    assert_eq!(rest.shards.unwrap().len(), 2);
}
