//! Putting and getting records.

use std::time::Duration;

use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};

use crate::server::{Server, code, data};

const SHARD: &str = "shardId-000000000000";

pub(crate) async fn put_records_are_read_in_order_from_every_kind_of_iterator(server: &Server) {
    server.create("ordered", 1).await;
    let latest = server
        .iterator("ordered", SHARD, ShardIteratorType::Latest, None)
        .await;
    let mut numbers = Vec::new();
    for index in 0..5 {
        let (shard, number) = server
            .put("ordered", &format!("key {index}"), &format!("data {index}"))
            .await;
        assert_eq!(shard, SHARD);
        numbers.push(number);
    }
    let expected: Vec<_> = (0..5).map(|index| format!("data {index}")).collect();
    let earliest = server
        .iterator("ordered", SHARD, ShardIteratorType::TrimHorizon, None)
        .await;
    let all = server.read(earliest.clone(), 5).await;
    assert_eq!(data(&all), expected);
    let read: Vec<_> = all
        .iter()
        .map(|record| record.sequence_number.clone())
        .collect();
    assert_eq!(read, numbers);
    assert!(
        numbers
            .iter()
            .all(|number| (50..=130).contains(&number.len())),
        "{numbers:?}"
    );
    let keys: Vec<_> = all
        .iter()
        .map(|record| record.partition_key.as_deref().unwrap())
        .collect();
    assert_eq!(keys, ["key 0", "key 1", "key 2", "key 3", "key 4"]);
    assert!(
        all.iter()
            .all(|record| record.approximate_arrival_timestamp.is_some())
    );
    assert_eq!(data(&server.read(latest, 5).await), expected);
    for (kind, from) in [
        (ShardIteratorType::AtSequenceNumber, 3),
        (ShardIteratorType::AfterSequenceNumber, 4),
    ] {
        let iterator = server
            .iterator("ordered", SHARD, kind, Some(&numbers[3]))
            .await;
        assert_eq!(
            data(&server.read(iterator, 5 - from).await),
            expected[from..]
        );
    }
    let limited = server
        .client
        .get_records()
        .shard_iterator(earliest)
        .limit(2)
        .send()
        .await
        .unwrap();
    assert_eq!(data(&limited.records), expected[..2]);
    let rest = server.read(limited.next_shard_iterator.unwrap(), 3).await;
    assert_eq!(data(&rest), expected[2..]);
}

pub(crate) async fn a_time_between_two_records_finds_the_second(server: &Server) {
    server.create("timed", 1).await;
    server.put("timed", "key", "first").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let between = std::time::SystemTime::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.put("timed", "key", "second").await;
    let get = server
        .client
        .get_shard_iterator()
        .stream_name("timed")
        .shard_id(SHARD);
    let get = get.shard_iterator_type(ShardIteratorType::AtTimestamp);
    let got = get.timestamp(DateTime::from(between)).send().await.unwrap();
    assert_eq!(
        data(&server.read(got.shard_iterator.unwrap(), 1).await),
        ["second"]
    );
}

pub(crate) async fn a_time_after_the_last_record_finds_nothing(server: &Server) {
    server.create("before", 1).await;
    server.put("before", "key", "first").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let after = DateTime::from(std::time::SystemTime::now());
    let get = server
        .client
        .get_shard_iterator()
        .stream_name("before")
        .shard_id(SHARD);
    let get = get
        .shard_iterator_type(ShardIteratorType::AtTimestamp)
        .timestamp(after);
    let iterator = get.send().await.unwrap().shard_iterator.unwrap();
    let got = server.get(&iterator).await;
    assert_eq!(data(&got.records), Vec::<String>::new());
    assert_eq!(got.millis_behind_latest, Some(0));
    server.put("before", "key", "later").await;
    let later = server.read(got.next_shard_iterator.unwrap(), 1).await;
    assert_eq!(data(&later), ["later"]);
}

pub(crate) async fn records_go_to_the_shard_of_their_key_or_explicit_hash_key(server: &Server) {
    server.create("routed", 2).await;
    // The first bit of the MD5 of "a" is 0, that of "abc" is 1.
    let entry = |key: &str, hash_key: Option<&str>, data: &str| {
        let entry = PutRecordsRequestEntry::builder().partition_key(key);
        let entry = entry.set_explicit_hash_key(hash_key.map(str::to_owned));
        entry.data(Blob::new(data)).build().unwrap()
    };
    let put = server.client.put_records().stream_name("routed");
    let put = put
        .records(entry("a", None, "low"))
        .records(entry("abc", None, "high"))
        .records(entry(
            "a",
            Some("340282366920938463463374607431768211455"),
            "explicit",
        ));
    let put = put.send().await.unwrap();
    assert_eq!(put.failed_record_count, Some(0));
    let shards: Vec<_> = put
        .records
        .iter()
        .map(|record| record.shard_id.clone().unwrap())
        .collect();
    let [low, high] = ["shardId-000000000000", "shardId-000000000001"];
    assert_eq!(shards, [low, high, high]);
    assert_eq!(server.data("routed", low, 1).await, ["low"]);
    assert_eq!(server.data("routed", high, 2).await, ["high", "explicit"]);
}

pub(crate) async fn the_largest_record_is_accepted_and_a_larger_one_refused(server: &Server) {
    server.create("large", 1).await;
    let put = |bytes: usize| {
        let put = server
            .client
            .put_record()
            .stream_name("large")
            .partition_key("k");
        put.data(Blob::new(vec![7; bytes])).send()
    };
    put((1 << 20) - 1).await.unwrap();
    let code = code(put((1 << 20) + 1).await);
    assert!(
        ["ValidationException", "InvalidArgumentException"].contains(&code.as_str()),
        "{code}"
    );
    let iterator = server
        .iterator("large", SHARD, ShardIteratorType::TrimHorizon, None)
        .await;
    let read = server.read(iterator, 1).await;
    assert_eq!(read[0].data.as_ref().len(), (1 << 20) - 1);
}

pub(crate) async fn a_request_has_at_most_500_records(server: &Server) {
    server.create("many", 1).await;
    let entry = PutRecordsRequestEntry::builder()
        .partition_key("k")
        .data(Blob::new("x"));
    let entry = entry.build().unwrap();
    let put = |count: usize| {
        let put = server.client.put_records().stream_name("many");
        put.set_records(Some(vec![entry.clone(); count])).send()
    };
    let put_all = put(500).await.unwrap();
    assert_eq!(put_all.records.len(), 500);
    assert_eq!(code(put(501).await), "ValidationException");
    assert_eq!(server.data("many", SHARD, 500).await.len(), 500);
}

pub(crate) async fn a_missing_shard_is_refused(server: &Server) {
    server.create("positions", 2).await;
    let get = server.client.get_shard_iterator().stream_name("positions");
    let get = get.shard_id("shardId-000000000009");
    let unknown = get.shard_iterator_type(ShardIteratorType::Latest).send();
    assert_eq!(code(unknown.await), "ResourceNotFoundException");
}

pub(crate) async fn sequence_numbers_that_a_shard_never_assigned_are_refused(server: &Server) {
    server.create("numbers", 2).await;
    let get = server.client.get_shard_iterator().stream_name("numbers");
    let get = get.shard_id(SHARD).starting_sequence_number("77");
    let got = get.shard_iterator_type(ShardIteratorType::AfterSequenceNumber);
    assert_eq!(code(got.send().await), "InvalidArgumentException");
}

pub(crate) async fn an_invalid_iterator_is_refused(server: &Server) {
    let bad = server.client.get_records().shard_iterator("AAAA").send();
    assert_eq!(code(bad.await), "InvalidArgumentException");
}
