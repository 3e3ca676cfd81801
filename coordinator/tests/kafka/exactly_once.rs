//! Exactly once from topic to topic, through the deaths of owners and of the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use satchel_kafka::rdkafka::producer::Producer as _;
use satchel_testkit::{LONG, until_true};

use super::client::{Got, committed, committed_when, producer, send, sent};
use super::{EARLIEST, EXACTLY_ONCE, World, egress, ingress};

const KEYS: usize = 50;

/// Checks that each record of each key was greeted once, in order.
fn all_are_greeted_once(got: &[Got], records: usize) {
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for got in got {
        let greeted = by_key.entry(got.key.as_deref().unwrap()).or_default();
        greeted.push(&got.value);
    }
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..records {
        let greeted = expected
            .entry(format!("key-{}", number % KEYS))
            .or_default();
        let count = greeted.len() + 1;
        greeted.push(format!("{number} #{count}"));
    }
    for (key, expected) in &expected {
        assert_eq!(by_key[key.as_str()], *expected, "{key}");
    }
    assert_eq!(got.len(), records);
}

/// Produces numbered records in the background until it is stopped. Returns their number.
struct Producing {
    stop: Arc<AtomicBool>,
    producing: tokio::task::JoinHandle<usize>,
}

impl Producing {
    fn begin(world: &World) -> Self {
        let producer = producer(&world.kafka, &[("message.timeout.ms", "0")]);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let producing = tokio::task::spawn_blocking(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let key = format!("key-{}", number % KEYS);
                    send(&producer, "names", &sent(&key, &number.to_string()));
                    number += 1;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            producer.flush(LONG).unwrap();
            number
        });
        Self { stop, producing }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.producing.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_record_is_greeted_once_through_deaths_of_owners_and_of_the_broker() {
    let world = World::start().await;
    world.kafka.create("names", 3, &[]);
    world.kafka.create("greetings", 2, &[]);
    let documents = ingress(EARLIEST) + &egress(EXACTLY_ONCE);
    let mut app = world.setup(&documents).start().await;
    let producing = Producing::begin(&world);
    let mut greeted = 0;
    for round in 0..6 {
        // Something was delivered since the last trouble, so that there is something to break.
        greeted = committed_when(&world.kafka, "greetings", greeted + 200)
            .await
            .len();
        match round % 3 {
            0 => app.restart().await,
            1 => {
                world.kafka.kill9();
                world.kafka.restart();
            }
            _ => {
                // Two owners for a moment: the former one is fenced, and ends.
                let mut former = app.overtake().await;
                assert_eq!(former.ended().await.code, Some(3));
            }
        }
    }
    let records = producing.end().await;
    let got = committed_when(&world.kafka, "greetings", records).await;
    all_are_greeted_once(&got, records);
    assert_eq!(
        world.kafka.transactional_ids().len(),
        1,
        "one for all owners"
    );
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    all_are_greeted_once(&committed(&world.kafka, "greetings"), records);
    eprintln!("{records} records, each greeted once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_fences_nobody() {
    let world = World::start().await;
    world.kafka.create("names", 1, &[]);
    world.kafka.create("greetings", 1, &[]);
    let documents = ingress(EARLIEST) + &egress(EXACTLY_ONCE);
    let original = world.setup(&documents).start().await;
    let greet = |value: &str| {
        super::client::produce(&world.kafka, "names", &[sent("ann", value)]);
    };
    greet("before");
    committed_when(&world.kafka, "greetings", 1).await;
    let root = original.setup().data_dir().join("state");
    let fork = satchel_testkit::Setup::of(world.dir.path().join("module.yaml"))
        .arg("--trace-messages=0")
        .arg("--kafka")
        .arg(format!("--restore={}", root.display()))
        .arg("--resume-io")
        .start()
        .await;
    // Both read the topic, and both write.
    greet("after");
    let got = committed_when(&world.kafka, "greetings", 3).await;
    let values = super::client::values(&got);
    assert_eq!(values, ["before #1", "after #2", "after #2"]);
    until_true("each has a name of its own", async || {
        world.kafka.transactional_ids().len() == 2
    })
    .await;
    for app in [&original, &fork] {
        assert!(!app.printed().contains("fenced"), "{}", app.printed());
    }
}
