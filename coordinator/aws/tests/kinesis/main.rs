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
use satchel_aws::kinesis::{ExpiredPosition, KinesisError, KinesisOptions, Startup};
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
