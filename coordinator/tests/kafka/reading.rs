//! Reading: what becomes of records without a key, tombstones, headers, aborted and compacted
//! records, added partitions, and what the retention deletes.

use reqwest::Method;
use satchel_kafka::rdkafka::producer::Producer as _;
use satchel_testkit::{LONG, until};
use serde_json::json;

use super::client::{Sent, committed_when, produce, producer, send, sent, sorted, values};
use super::{EARLIEST, World, egress, ingress, prints, stopped};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_tombstones_and_headers_reach_functions_and_what_has_no_key_is_a_dead_letter() {
    let world = World::start().await;
    world.kafka.create("names", 1, &[]);
    world.kafka.create("greetings", 1, &[]);
    let keyless = Sent {
        key: None,
        ..sent("", "keyless")
    };
    let tombstone = Sent {
        value: None,
        ..sent("ann", "")
    };
    let traced = Sent {
        header: Some(("traceparent", TRACE.to_owned())),
        ..sent("ann", "traced")
    };
    let records = [sent("ann", "hello"), keyless, tombstone, traced];
    produce(&world.kafka, "names", &records);
    let documents = ingress(EARLIEST) + &egress("");
    let app = world.setup(&documents).start().await;
    let got = committed_when(&world.kafka, "greetings", 3).await;
    let traced = format!("traced #3{TRACE} traceparent={TRACE}");
    assert_eq!(values(&got), ["hello #1", "nothing #2", &traced]);
    assert!(got.iter().all(|got| got.key.as_deref() == Some("ann")));
    let headers: Vec<_> = got.iter().map(|got| got.headers.clone()).collect();
    assert_eq!(
        headers,
        [vec![], vec![], vec![format!("traceparent: {TRACE}")]]
    );
    let letters = until("there is a dead letter", async || {
        let letters = app.client.dead_letters().await;
        (!letters.is_empty()).then_some(letters)
    });
    let letters = letters.await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = letters[0].to_string();
    for part in ["has no key", "example/names:names/0 1"] {
        assert!(letter.contains(part), "{part}: {letter}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_records_are_not_read_and_gaps_in_the_offsets_lose_nothing() {
    let world = World::start().await;
    let compacted = [
        "cleanup.policy=compact",
        "segment.ms=100",
        "min.cleanable.dirty.ratio=0.01",
    ];
    world.kafka.create("names", 1, &compacted);
    world.kafka.create("greetings", 1, &[]);
    let transactional = producer(&world.kafka, &[("transactional.id", "the-test")]);
    transactional.init_transactions(LONG).unwrap();
    for (number, commits) in [(1, true), (2, false), (3, true)] {
        transactional.begin_transaction().unwrap();
        for key in ["ann", "bob"] {
            send(&transactional, "names", &sent(key, &format!("{number}")));
        }
        transactional.flush(LONG).unwrap();
        match commits {
            true => transactional.commit_transaction(LONG).unwrap(),
            false => transactional.abort_transaction(LONG).unwrap(),
        }
    }
    let documents = ingress(EARLIEST) + &egress("");
    let mut app = world.setup(&documents).start().await;
    let got = committed_when(&world.kafka, "greetings", 4).await;
    assert_eq!(sorted(&got), ["1 #1", "1 #1", "3 #2", "3 #2"]);
    app.terminate().await;
    // Read on after the last marker of a transaction, which has an offset of its own.
    produce(&world.kafka, "names", &[sent("ann", "4")]);
    app.restart().await;
    let got = committed_when(&world.kafka, "greetings", 5).await;
    assert_eq!(sorted(&got), ["1 #1", "1 #1", "3 #2", "3 #2", "4 #3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_are_read_from_their_beginning() {
    let world = World::start().await;
    world.kafka.create("names", 1, &[]);
    world.kafka.create("greetings", 1, &[]);
    let quickly = "  properties:\n    - partition.discovery.interval.ms: 200\n";
    let documents = ingress(quickly) + &egress("");
    let app = world.setup(&documents).start().await;
    // The default startup position is `latest`, so this is read once the first partition is.
    prints(&app, "reading partition").await;
    produce(&world.kafka, "names", &[sent("ann", "first")]);
    world.kafka.add_partitions("names", 3);
    let in_partition = |partition: i32, key: &str| Sent {
        partition: Some(partition),
        ..sent(key, "added")
    };
    let records = [in_partition(1, "bob"), in_partition(2, "eve")];
    produce(&world.kafka, "names", &records);
    let got = committed_when(&world.kafka, "greetings", 3).await;
    assert_eq!(sorted(&got), ["added #1", "added #1", "first #1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_the_retention_passed_stops_the_ingress_by_name_unless_it_may_go_on() {
    let world = World::start().await;
    world.kafka.create("names", 1, &[]);
    world.kafka.create("greetings", 1, &[]);
    produce(&world.kafka, "names", &[sent("ann", "0"), sent("ann", "1")]);
    let documents = ingress(EARLIEST) + &egress("");
    let setup = world.setup(&documents);
    let mut app = setup.start().await;
    committed_when(&world.kafka, "greetings", 2).await;
    app.terminate().await;
    let more: Vec<Sent> = (2..6)
        .map(|number| sent("ann", &number.to_string()))
        .collect();
    produce(&world.kafka, "names", &more);
    world.kafka.delete_records("names", 0, 4);

    app.restart().await;
    let source = stopped(&app).await;
    assert_eq!(source["id"], "example/names");
    assert_eq!(source["source"], "topic names");
    assert_eq!(source["problem"], "lost");
    let reason = "partition example/names:names/0 was read up to offset 2, and its oldest record \
                  has offset 4";
    prints(&app, reason).await;
    let reply = app.client.admin(Method::GET, "/readyz").await;
    assert_eq!(reply.status, 200, "one source stops alone");
    app.terminate().await;

    let tolerant = ingress(&format!("{EARLIEST}  onExpiredPosition: earliest\n")) + &egress("");
    world.module(&tolerant);
    app.restart().await;
    let got = committed_when(&world.kafka, "greetings", 4).await;
    assert_eq!(values(&got), ["0 #1", "1 #2", "4 #3", "5 #4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_missing_or_made_anew_stops_alone_by_name() {
    let world = World::start().await;
    world.kafka.create("greetings", 1, &[]);
    let documents = ingress(EARLIEST) + &egress("");
    let mut app = world.setup(&documents).start().await;
    let source = stopped(&app).await;
    assert_eq!(source["problem"], "missing");
    let resume = "/api/ingresses/example/names/resume";
    world.kafka.create("names", 1, &[]);
    produce(&world.kafka, "names", &[sent("ann", "0"), sent("ann", "1")]);
    let resumed = app.client.admin(Method::POST, resume).await;
    assert_eq!(resumed.json(), json!({"resumed": 1}));
    committed_when(&world.kafka, "greetings", 2).await;
    app.terminate().await;

    world.kafka.delete("names");
    world.kafka.create("names", 1, &[]);
    app.restart().await;
    let source = stopped(&app).await;
    assert_eq!(source["problem"], "lost");
    let reason = "was read up to offset 2, and ends at offset 0: the topic was deleted and created \
                  again";
    prints(&app, reason).await;
}
