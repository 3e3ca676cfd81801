//! Records that are put into streams of a Kinesis server with every kind of fault.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use prost::Message;
use satchel_aws::egress::destination::{Delivery, Destination};
use satchel_aws::egress::kinesis::envelope::Envelope;
use satchel_aws::egress::kinesis::{KinesisSettings, ORDERING_MARGIN, Ordering};
use satchel_engine::output::Emission;
use satchel_protocol::egress::{KINESIS_RECORD_TYPENAME, KinesisEgressRecord};
use satchel_protocol::types::typed_value;

use crate::faulty::{Fault, Faulty};
use crate::outbox::{Outbox, access, emission};

const STREAM: &str = "alerts";

fn record(number: u64, stream: &str, key: &str, data: &str) -> Emission {
    let record = KinesisEgressRecord {
        partition_key: key.to_owned(),
        value_bytes: data.to_owned().into(),
        stream: stream.to_owned(),
        explicit_hash_key: String::new(),
    };
    emission(
        number,
        typed_value(KINESIS_RECORD_TYPENAME, record.encode_to_vec()),
    )
}

fn destination(delivery: Delivery, envelope: Envelope) -> Destination {
    let settings = KinesisSettings {
        request_timeout: Duration::from_secs(1),
        envelope,
        ..KinesisSettings::default()
    };
    Destination::Kinesis(settings, delivery)
}

async fn client(server: &Faulty) -> Client {
    Client::new(&access(&server.endpoint).load().await.unwrap())
}

async fn create(client: &Client) {
    let creating = client.create_stream().stream_name(STREAM).shard_count(3);
    creating.send().await.unwrap();
}

/// Content of the stream, by key, in order.
async fn read(client: &Client) -> BTreeMap<String, Vec<String>> {
    let numbered = read_numbered(client).await.into_iter();
    let data = |(_, data)| data;
    numbered
        .map(|(key, records)| (key, records.into_iter().map(data).collect()))
        .collect()
}

/// Sequence number and data of each record of the stream, by key, in order.
async fn read_numbered(client: &Client) -> BTreeMap<String, Vec<(String, String)>> {
    let mut read: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let shards = client
        .list_shards()
        .stream_name(STREAM)
        .send()
        .await
        .unwrap();
    for shard in shards.shards() {
        let iterator = client
            .get_shard_iterator()
            .stream_name(STREAM)
            .shard_id(shard.shard_id())
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await
            .unwrap();
        let mut iterator = iterator.shard_iterator;
        while let Some(at) = iterator {
            let page = client
                .get_records()
                .shard_iterator(at)
                .send()
                .await
                .unwrap();
            for record in page.records() {
                let key = record.partition_key().unwrap_or_default().to_owned();
                let data = String::from_utf8(record.data().as_ref().to_vec()).unwrap();
                let sequence = record.sequence_number().to_owned();
                read.entry(key).or_default().push((sequence, data));
            }
            iterator = page.next_shard_iterator;
            if page.records.is_empty() && page.millis_behind_latest == Some(0) {
                break;
            }
        }
    }
    read
}

/// Key and data of a record: twenty keys with the same data, in which each text occurs twice.
fn data_of(number: u64) -> (String, String) {
    let (key, index) = (number % 20, number / 20);
    (format!("key-{key}"), format!("{:04}", index / 2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_arrives_in_the_order_of_its_key_despite_faults() {
    use Fault::{After, Before, Cut, Late, None, Part, Throttle};
    let faults = vec![
        None, Part, After, None, Part, Cut, Throttle, Before, Late, Part, None, After,
    ];
    let server = Faulty::start(faults).await;
    let client = client(&server).await;
    create(&client).await;
    let mut outbox = Outbox::default();
    let to = destination(Delivery::AtLeastOnce, Envelope::None);
    let mut running = outbox.start(&server.endpoint, to);
    for number in 1..=400 {
        let key = format!("key-{}", number % 20);
        let data = format!("{number:04}");
        outbox.emit(&running, record(number, STREAM, &key, &data));
    }
    outbox.emit(&running, record(401, STREAM, "", "no key"));
    outbox.until(&mut running, 0).await;
    let read = read(&client).await;
    assert_eq!(read.len(), 20);
    for (key, data) in read {
        assert!(data.is_sorted(), "{key}: {data:?}");
        let mut distinct = data.clone();
        distinct.dedup();
        assert_eq!(distinct.len(), 20, "{key}: {data:?}");
    }
    assert_eq!(outbox.refused()[&401], "it has no partition key");
    assert!(running.retried() > 0);
    running.kill().await;
}

/// Emits 200 records in four lives of the process. Each life ends midway, at another distance from
/// the last commit.
async fn read_after_crashes(envelope: Envelope) -> BTreeMap<String, Vec<String>> {
    use Fault::{After, Before, Cut, Late, None, Part, Throttle};
    let faults = vec![
        None, Part, After, Throttle, None, Cut, Part, Late, Before, None, After,
    ];
    let server = Faulty::start(faults).await;
    let client = client(&server).await;
    create(&client).await;
    let mut outbox = Outbox::default();
    let mut number = 0;
    for left in [15, 30, 45, 0] {
        let to = destination(Delivery::ExactlyOnce, envelope);
        let mut running = outbox.start(&server.endpoint, to);
        for _ in 0..50 {
            let (key, data) = data_of(number);
            number += 1;
            outbox.emit(&running, record(number, STREAM, &key, &data));
        }
        // Acknowledgements before this commit are durable, later ones are not.
        outbox.until(&mut running, left + 10).await;
        outbox.commit();
        outbox.until(&mut running, left).await;
        running.kill().await;
    }
    read(&client).await
}

fn expected() -> BTreeMap<String, Vec<String>> {
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..200 {
        let (key, data) = data_of(number);
        expected.entry(key).or_default().push(data);
    }
    expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_records_are_put_exactly_once_despite_lost_responses_and_crashes() {
    assert_eq!(read_after_crashes(Envelope::None).await, expected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_with_an_envelope_are_recognized_by_their_ids() {
    let read = read_after_crashes(Envelope::Json).await;
    let mut ids = Vec::new();
    for data in read.values().flatten() {
        let value: serde_json::Value = serde_json::from_str(data).unwrap();
        ids.push(value["id"].as_str().unwrap().to_owned());
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((count, ids.len()), (200, 200));
}

/// An owner dies while its request is in flight, once after Kinesis took the records and once
/// before.
async fn assert_exactly_once_after_a_death_in_doubt(envelope: Envelope) {
    let server = Faulty::start(vec![Fault::Late, Fault::Before]).await;
    let client = client(&server).await;
    create(&client).await;
    let mut outbox = Outbox::default();
    let to = destination(Delivery::ExactlyOnce, envelope);
    let mut running = outbox.start(&server.endpoint, to.clone());
    outbox.until_marked(&mut running, "since").await;
    outbox.emit(&running, record(1, STREAM, "key", "same"));
    server.until_effects(1).await;
    running.kill().await;

    // The next owner must put the same bytes twice more, and finds one of the three.
    let mut running = outbox.start(&server.endpoint, to.clone());
    outbox.emit(&running, record(2, STREAM, "key", "same"));
    outbox.emit(&running, record(3, STREAM, "key", "same"));
    outbox.until(&mut running, 2).await;
    outbox.commit();
    running.kill().await;

    let mut running = outbox.start(&server.endpoint, to);
    outbox.until(&mut running, 0).await;
    running.kill().await;
    let read = read(&client).await;
    assert_eq!(read["key"].len(), 3, "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_a_dead_owner_put_is_found_by_its_bytes_and_not_put_again() {
    assert_exactly_once_after_a_death_in_doubt(Envelope::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_a_dead_owner_put_is_found_by_its_id_and_not_put_again() {
    assert_exactly_once_after_a_death_in_doubt(Envelope::Json).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_were_dropped_with_a_hold_are_not_waited_for() {
    let server = Faulty::start(vec![]).await;
    let client = client(&server).await;
    create(&client).await;
    let to = destination(Delivery::ExactlyOnce, Envelope::None);
    let mut outbox = Outbox::default();
    let mut running = outbox.start(&server.endpoint, to.clone());
    outbox.emit(&running, record(1, STREAM, "key", "first"));
    outbox.until(&mut running, 0).await;
    running.kill().await;
    // The acknowledgement was not durable, so the record is in doubt for the next owner.
    let mut running = outbox.start_held(&server.endpoint, to);
    outbox.drop_all();
    outbox.emit(&running, record(2, STREAM, "key", "second"));
    outbox.until(&mut running, 0).await;
    running.kill().await;
    let expected = vec!["first".to_owned(), "second".to_owned()];
    assert_eq!(read(&client).await["key"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_with_a_shorter_timeout_waits_for_the_requests_of_one_with_a_longer() {
    // The request of the first owner lands while the second one waits, later than the second one's
    // own timeout.
    let server = Faulty::start(vec![Fault::Delayed]).await;
    let client = client(&server).await;
    create(&client).await;
    let patient = Destination::Kinesis(
        KinesisSettings {
            request_timeout: Duration::from_secs(20),
            ..KinesisSettings::default()
        },
        Delivery::ExactlyOnce,
    );
    let mut outbox = Outbox::default();
    let mut running = outbox.start(&server.endpoint, patient);
    outbox.until_marked(&mut running, "since").await;
    outbox.emit(&running, record(1, STREAM, "key", "same"));
    server.until_delayed(1).await;
    running.kill().await;
    let to = destination(Delivery::ExactlyOnce, Envelope::None);
    let mut running = outbox.start(&server.endpoint, to);
    outbox.until(&mut running, 0).await;
    running.kill().await;
    server.until_landed(1).await;
    assert_eq!(read(&client).await["key"], ["same"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_stream_is_scanned_from_its_beginning() {
    let server = Faulty::start(vec![Fault::None, Fault::After]).await;
    let client = client(&server).await;
    create(&client).await;
    let to = destination(Delivery::ExactlyOnce, Envelope::None);
    let mut outbox = Outbox::default();
    let mut running = outbox.start(&server.endpoint, to);
    outbox.emit(&running, record(1, STREAM, "key", "same"));
    outbox.until(&mut running, 0).await;
    let deleting = client.delete_stream().stream_name(STREAM);
    deleting.send().await.unwrap();
    // Sequence numbers distinguish streams of one name by the second of their creation.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    create(&client).await;
    // Kinesis takes the record but reports a failure. The known position belongs to the deleted
    // stream.
    outbox.emit(&running, record(2, STREAM, "key", "same"));
    outbox.until(&mut running, 0).await;
    running.kill().await;
    assert_eq!(read(&client).await["key"], ["same"]);
}

/// Emits 60 records of three keys to an egress with a strict order, and returns what the stream
/// holds then. Checks that each record was put with the number of one before it.
async fn read_strictly_ordered(
    delivery: Delivery,
    faults: Vec<Fault>,
) -> BTreeMap<String, Vec<(String, String)>> {
    let server = Faulty::start(faults).await;
    let client = client(&server).await;
    create(&client).await;
    let settings = KinesisSettings {
        request_timeout: Duration::from_secs(1),
        ordering: Ordering::Strict,
        ..KinesisSettings::default()
    };
    let mut outbox = Outbox::taken_over_ago(ORDERING_MARGIN);
    let to = Destination::Kinesis(settings, delivery);
    let mut running = outbox.start(&server.endpoint, to);
    for number in 1..=60 {
        let key = format!("key-{}", number % 3);
        outbox.emit(
            &running,
            record(number, STREAM, &key, &format!("{number:04}")),
        );
    }
    outbox.until(&mut running, 0).await;
    running.kill().await;
    let read = read_numbered(&client).await;
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let singles = server.singles();
    assert!(singles.len() >= 60, "each record is put on its own");
    for (key, before) in singles {
        let Some(before) = before else {
            assert_eq!(
                last.get(&key),
                None,
                "only the first record of a key has none before it"
            );
            continue;
        };
        assert!(read[&key].iter().any(|(sequence, _)| *sequence == before));
        let last = last.entry(key).or_default();
        assert!((last.len(), &*last) <= (before.len(), &before));
        *last = before;
    }
    assert_eq!(last.len(), 3);
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_ordered_records_are_put_behind_the_one_before_them() {
    use Fault::{After, Before, Cut, None, Throttle};
    let faults = vec![
        None, None, None, After, None, Cut, Throttle, Before, None, After,
    ];
    for (key, records) in read_strictly_ordered(Delivery::AtLeastOnce, faults).await {
        let mut data: Vec<&str> = records.iter().map(|(_, data)| &**data).collect();
        assert!(data.is_sorted(), "{key}: {data:?}");
        data.dedup();
        assert_eq!(data.len(), 20, "{key}: {data:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_ordered_records_can_be_put_exactly_once() {
    use Fault::{After, Cut, None, Throttle};
    let faults = vec![None, None, None, None, After, None, Throttle, None, Cut];
    for (key, records) in read_strictly_ordered(Delivery::ExactlyOnce, faults).await {
        let data: Vec<&str> = records.iter().map(|(_, data)| &**data).collect();
        assert!(
            data.is_sorted_by(|one, other| one < other),
            "{key}: {data:?}"
        );
        assert_eq!(data.len(), 20, "{key}: {data:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_record_is_not_taken_for_an_equal_one_that_died() {
    let server = Faulty::start(vec![]).await;
    let client = client(&server).await;
    create(&client).await;
    let mut outbox = Outbox::default();
    let to = destination(Delivery::ExactlyOnce, Envelope::None);
    let mut running = outbox.start(&server.endpoint, to.clone());
    outbox.emit(&running, record(1, STREAM, "key", "same"));
    outbox.until(&mut running, 0).await;
    outbox.commit();
    running.kill().await;
    // The next owner inherits one that was never put, and knows the other one from its marks.
    outbox.inherit(record(2, STREAM, "key", "same"));
    let mut running = outbox.start(&server.endpoint, to);
    outbox.until(&mut running, 0).await;
    running.kill().await;
    assert_eq!(read(&client).await["key"], ["same", "same"]);
}
