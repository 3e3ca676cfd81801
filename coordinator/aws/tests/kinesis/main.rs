//! The Kinesis ingress with a real partition behind it, against local streams.
//!
//! `SATCHEL_TEST_KINESIS=kinesalite` runs the same tests against kinesalite, which needs Node.js.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod partition;
mod proxy;
mod server;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use satchel_aws::kinesis::aggregation::{UserRecord, aggregate};
use satchel_aws::kinesis::{Aggregation, ExpiredPosition, KinesisError, KinesisOptions, Startup};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_testkit::LONG;

use partition::Durable;
use proxy::Proxy;
use server::Server;
use stream::Stream;

fn options(stream: &Stream, startup: Startup) -> KinesisOptions {
    KinesisOptions {
        startup,
        read_interval: Duration::from_millis(20),
        list_interval: Duration::from_millis(200),
        ..KinesisOptions::new("example/in", stream.name.as_str())
    }
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_per_key_holds_across_splits_merges_and_crashes_without_loss_or_duplicates() {
    const KEYS: usize = 12;
    const RECORDS: usize = 120;
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "resharded", 2).await;
    let durable = Durable::default();
    let mut running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    let producers: Vec<_> = (0..KEYS)
        .map(|key| {
            let stream = stream.clone();
            tokio::spawn(async move {
                for number in 0..RECORDS {
                    let key = format!("key-{key}");
                    stream.put(&key, number.to_string().into_bytes()).await;
                }
            })
        })
        .collect();
    let produced = Arc::new(AtomicBool::new(false));
    let resharding = tokio::spawn({
        let (stream, produced) = (stream.clone(), produced.clone());
        async move {
            let mut changes = 0;
            while !produced.load(Ordering::Relaxed) || changes < 4 {
                if changes % 2 == 0 {
                    stream.split().await;
                } else {
                    stream.merge().await;
                }
                changes += 1;
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            changes
        }
    });
    for share in 1..=3 {
        let some = KEYS * RECORDS * share / 5;
        until("records arrive", || durable.count() >= some).await;
        running.crash().await;
        running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    }
    for producer in producers {
        producer.await.unwrap();
    }
    produced.store(true, Ordering::Relaxed);
    let changes = resharding.await.unwrap();
    until("all records arrive", || durable.count() >= KEYS * RECORDS).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let expected: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
    let received = durable.received_texts.lock().unwrap().clone();
    assert_eq!(received.len(), KEYS);
    for (key, texts) in received {
        assert_eq!(texts, expected, "{key}, after {changes} splits and merges");
    }
    running.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_starts_behind_existing_records_and_continues_after_a_crash() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "latest", 2).await;
    stream.put("a", "before").await;
    let durable = Durable::default();
    let running = durable.start(&stream.config, options(&stream, Startup::Latest));
    // It is not visible from outside when the start is resolved. All later records arrive.
    let mut probes = 0;
    while durable.count() == 0 {
        stream.put("probe", probes.to_string()).await;
        probes += 1;
        assert!(probes < 1_000, "nothing arrives");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stream.put("a", "1").await;
    let has = |text: &str| {
        let texts = durable.received_texts.lock().unwrap();
        texts
            .get("a")
            .is_some_and(|texts| texts.iter().any(|it| it == text))
    };
    until("the record arrives", || has("1")).await;
    running.crash().await;
    stream.put("a", "2").await;
    let running = durable.start(&stream.config, options(&stream, Startup::Latest));
    until("the record arrives", || has("2")).await;
    assert_eq!(durable.received_texts.lock().unwrap()["a"], ["1", "2"]);
    running.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregated_records_arrive_one_by_one_in_order_among_plain_ones() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "aggregated", 1).await;
    let user = |key: &str, text: &'static str| UserRecord {
        key: key.into(),
        explicit_hash_key: None,
        data: Bytes::from_static(text.as_bytes()),
    };
    stream.put("a", "1").await;
    let records = [user("a", "2"), user("b", "1"), user("a", "3")];
    stream.put("outer", aggregate(&records)).await;
    let durable = Durable::default();
    let running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    until("all records arrive", || durable.count() >= 4).await;
    running.crash().await;
    stream.put("a", "4").await;
    let running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    until("the last record arrives", || durable.count() >= 5).await;
    let received = durable.received_texts.lock().unwrap().clone();
    assert_eq!(received["a"], ["1", "2", "3", "4"]);
    assert_eq!(received["b"], ["1"]);
    running.crash().await;
}

fn user(key: &str, hash_key: Option<u128>) -> UserRecord {
    UserRecord {
        key: key.into(),
        explicit_hash_key: hash_key,
        data: Bytes::from(key.to_owned()),
    }
}

/// Hash key of a key, as Kinesis derives it.
fn hash_key(key: &str) -> u128 {
    satchel_local_streams::hash_key(key)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_records_of_a_public_librarys_aggregate_arrive_whatever_their_shards() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "foreign", 4).await;
    // As kinesis-aggregation does it: under the first key, with or without derived hash keys.
    let users = |name: &str, derive: bool| -> Vec<UserRecord> {
        let keys = (0..50).map(|number| format!("{name}-{number}"));
        keys.map(|key| user(&key, derive.then(|| hash_key(&key))))
            .collect()
    };
    for derive in [false, true] {
        let users = users(if derive { "derived" } else { "plain" }, derive);
        stream.put(&users[0].key, aggregate(&users)).await;
    }
    let durable = Durable::default();
    let running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    until("all records arrive", || durable.count() >= 100).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let received = durable.received_texts.lock().unwrap().clone();
    assert_eq!(received.len(), 100);
    for (key, texts) in received {
        assert_eq!(texts, [key]);
    }
    running.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_producer_library_sends_again_arrives_once_and_is_kept_on_demand() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "library", 2).await;
    let half = u128::MAX / 2;
    let keys = |of_first_half: bool| -> Vec<String> {
        let keys = (0..100).map(|number| format!("key-{number}"));
        keys.filter(|key| (hash_key(key) <= half) == of_first_half)
            .take(3)
            .collect()
    };
    let (own, foreign) = (keys(true), keys(false));
    let records: Vec<UserRecord> = own
        .iter()
        .chain(&foreign)
        .map(|key| user(key, None))
        .collect();
    // The library puts an aggregate at the hash key of its first record, and sees in the answer
    // that some of the others are in the wrong shard.
    let first = hash_key(&own[0]);
    stream.put_at(first, "a", aggregate(&records)).await;
    for key in &foreign {
        stream.put(key, key.clone()).await;
    }
    for (aggregation, copies) in [
        (Aggregation::Detect, 1),
        (Aggregation::Kpl, 1),
        (Aggregation::Keep, 2),
    ] {
        let durable = Durable::default();
        let options = KinesisOptions {
            aggregation,
            ..options(&stream, Startup::Earliest)
        };
        let running = durable.start(&stream.config, options);
        let expected = own.len() + copies * foreign.len();
        until("all records arrive", || durable.count() >= expected).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let received = durable.received_texts.lock().unwrap().clone();
        for key in &own {
            assert_eq!(received[key].len(), 1, "{aggregation:?}: {key}");
        }
        for key in &foreign {
            assert_eq!(received[key].len(), copies, "{aggregation:?}: {key}");
        }
        running.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_over_while_reading_is_paused() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "paused", 1).await;
    stream.put("a", "1").await;
    let durable = Durable::default();
    let running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    until("the first record arrives", || durable.count() == 1).await;
    running.pause(true);
    for number in 2..10 {
        stream.put("a", number.to_string()).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(durable.count(), 1);
    running.pause(false);
    until("the other records arrive", || durable.count() == 9).await;
    running.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_stops_the_ingress_by_name() {
    let server = Server::start().await;
    let mut stream = Stream::create(server.endpoint(), "there", 1).await;
    stream.name = "not-there".to_owned();
    let running = Durable::default().start(&stream.config, options(&stream, Startup::Latest));
    let error = running.stopped().await.unwrap_err();
    let expected = KinesisError::NoStream {
        ingress: "example/in".to_owned(),
        stream: "not-there".to_owned(),
    };
    assert_eq!(error, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_while_it_is_read_stops_the_ingress_by_name() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "deleted", 2).await;
    stream.put("a", "1").await;
    let durable = Durable::default();
    let running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    until("the record arrives", || durable.count() == 1).await;
    stream.delete().await;
    let error = running.stopped().await.unwrap_err();
    let expected = KinesisError::NoStream {
        ingress: "example/in".to_owned(),
        stream: "deleted".to_owned(),
    };
    assert_eq!(error, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_created_again_is_never_left_unread_in_silence() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "again", 1).await;
    let shard = ShardId {
        ingress: "example/in".into(),
        stream: "again".into(),
        shard: "shardId-000000000000".into(),
    };
    let durable = Durable::default();
    // As if a former stream of this name had been split and read to the end of its first shard.
    durable.put(shard.clone(), ShardPosition::End);
    let running = durable.start(&stream.config, options(&stream, Startup::Earliest));
    let error = running.stopped().await.unwrap_err();
    assert!(error.is_loss());
    assert_eq!(error, KinesisError::AnotherStream { shard });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_taken_away_for_good_stops_the_ingress_with_the_operation() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "forbidden", 1).await;
    let proxy = satchel_testkit::Proxy::start(server.endpoint()).await;
    let denied = Arc::new(AtomicBool::new(false));
    let is_denied = Arc::clone(&denied);
    proxy.decide_with(move |request| {
        let denied = is_denied.load(Ordering::Relaxed) && request.target.ends_with(".GetRecords");
        let body = r#"{"__type":"AccessDeniedException","message":"not authorized"}"#;
        denied.then(|| satchel_testkit::Fault::Answer(400, body.to_owned()))
    });
    let through = stream::config(&proxy.endpoint()).await;
    stream.put("a", "1").await;
    let durable = Durable::default();
    let running = durable.start(&through, options(&stream, Startup::Earliest));
    until("the record arrives", || durable.count() == 1).await;
    // A denial that passes does not matter.
    denied.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    denied.store(false, Ordering::Relaxed);
    stream.put("a", "2").await;
    until("the record arrives", || durable.count() == 2).await;
    denied.store(true, Ordering::Relaxed);
    let error = running.stopped().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, KinesisError::Refused { .. }), "{text}");
    assert_eq!(
        text,
        "ingress example/in: Kinesis denies access to the stream `forbidden`: Kinesis GetRecords: \
         AccessDeniedException: not authorized"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_position_stops_the_ingress_unless_it_may_continue_with_the_oldest_record() {
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "expired", 1).await;
    let first = stream.put("a", "1").await;
    let shard = ShardId {
        ingress: "example/in".into(),
        stream: "expired".into(),
        shard: "shardId-000000000000".into(),
    };
    // The number of a record that is not in the stream, as if the retention had deleted it.
    let forgotten = {
        let mut digits = first.into_bytes();
        let last = digits.last_mut().unwrap();
        *last = if *last == b'0' { b'1' } else { *last - 1 };
        String::from_utf8(digits).unwrap()
    };
    let position = ShardPosition::After {
        sequence: forgotten.parse().unwrap(),
        sub_sequence: 0,
    };
    let durable = Durable::default();
    durable.put(shard.clone(), position);
    let running = durable.start(&stream.config, options(&stream, Startup::Latest));
    let error = running.stopped().await.unwrap_err();
    assert!(error.is_loss());
    let expected = KinesisError::ExpiredPosition {
        shard,
        position: forgotten,
        retention_hours: 24,
    };
    assert_eq!(error, expected);
    let earliest = KinesisOptions {
        on_expired: ExpiredPosition::Earliest,
        ..options(&stream, Startup::Latest)
    };
    let running = durable.start(&stream.config, earliest);
    stream.put("a", "2").await;
    let last = || {
        let texts = durable.received_texts.lock().unwrap();
        texts
            .get("a")
            .is_some_and(|texts| texts.last().unwrap() == "2")
    };
    until("the newest record arrives", last).await;
    running.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_duplicated_despite_faults() {
    const KEYS: usize = 6;
    const RECORDS: usize = 60;
    let server = Server::start().await;
    let stream = Stream::create(server.endpoint(), "faulty", 2).await;
    let proxy = Proxy::start(server.endpoint()).await;
    let through_proxy = stream::config(&proxy.endpoint).await;
    let durable = Durable::default();
    let running = durable.start(&through_proxy, options(&stream, Startup::Earliest));
    for number in 0..RECORDS {
        for key in 0..KEYS {
            let data = number.to_string();
            stream.put(&format!("key-{key}"), data).await;
        }
        match number {
            20 => stream.split().await,
            40 => stream.merge().await,
            _ => {}
        }
    }
    until("all records arrive", || durable.count() >= KEYS * RECORDS).await;
    until("every fault strikes", || proxy.has_struck_all("GetRecords")).await;
    let expected: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
    let received = durable.received_texts.lock().unwrap().clone();
    assert_eq!(received.len(), KEYS);
    for (key, texts) in received {
        assert_eq!(texts, expected, "{key}");
    }
    running.crash().await;
}
