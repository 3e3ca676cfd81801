//! Throughput of the same function on topics and on local streams, in one run.
//!
//! ```text
//! cargo test --workspace --release --features satchel/kafka --test kafka -- --ignored --nocapture
//! ```

use std::time::{Duration, Instant};

use satchel_testkit::{Dev, until};

use super::client::{Sent, committed, produce, sent};
use super::{EARLIEST, World, egress, ingress};

fn records() -> usize {
    let set = std::env::var("KAFKA_THROUGHPUT_RECORDS");
    set.map_or(50_000, |records| records.parse().unwrap())
}

async fn delivered(app: &Dev) -> usize {
    let sample = "satchel_egress_acked_records_total{egress=\"example/greetings\"}";
    app.client.metric(sample).await.unwrap_or_default() as usize
}

/// Time from the first delivered record to the last one.
async fn time_of(app: &Dev, records: usize) -> Duration {
    let first = until("the first records are delivered", async || {
        let count = delivered(app).await;
        (count > 0).then(|| (Instant::now(), count))
    });
    let (begun, before) = first.await;
    until("all records are delivered", async || {
        (delivered(app).await >= records).then_some(())
    })
    .await;
    let measured = records - before;
    begun
        .elapsed()
        .mul_f64(records as f64 / measured.max(1) as f64)
}

/// Puts records into the local stream `names`, by several clients.
async fn put(app: &Dev, names: &[Sent]) {
    const CLIENTS: usize = 32;
    let putting: Vec<_> = names
        .chunks(names.len().div_ceil(CLIENTS))
        .map(|names| {
            let (client, names) = (app.client.clone(), names.to_vec());
            tokio::spawn(async move {
                for name in names {
                    let (key, value) = (name.key.unwrap(), name.value.unwrap());
                    client.put("names", &key, value).await;
                }
            })
        })
        .collect();
    for putting in putting {
        putting.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; see the command above"]
async fn throughput_on_topics_and_on_local_streams() {
    let records = records();
    let world = World::start().await;
    world.kafka.create("names", 4, &[]);
    world.kafka.create("greetings", 4, &[]);
    let names: Vec<Sent> = (0..records)
        .map(|number| sent(&format!("key-{}", number % 500), &number.to_string()))
        .collect();
    produce(&world.kafka, "names", &names);

    let local = {
        // The records are in the stream before it is read, as they are in the topic.
        let setup = satchel_testkit::Setup::of(world.module(&egress("")));
        let mut app = setup.start().await;
        put(&app, &names).await;
        app.terminate().await;
        world.module(&(ingress(EARLIEST) + &egress("")));
        app.restart().await;
        time_of(&app, records).await
    };
    eprintln!(
        "local streams: {:.0} records/s",
        records as f64 / local.as_secs_f64()
    );
    for (name, delivery) in [("at least once", ""), ("exactly once", super::EXACTLY_ONCE)] {
        let before = committed(&world.kafka, "greetings").len();
        let documents = ingress(EARLIEST) + &egress(delivery);
        let app = world.setup(&documents).start().await;
        let took = time_of(&app, records).await;
        drop(app);
        assert_eq!(committed(&world.kafka, "greetings").len(), before + records);
        let share = local.as_secs_f64() / took.as_secs_f64();
        let rate = records as f64 / took.as_secs_f64();
        eprintln!("topics, {name}: {rate:.0} records/s, {share:.2} of local streams");
    }
}
