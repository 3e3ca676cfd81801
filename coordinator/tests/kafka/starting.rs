//! First records: every startup position, resolved once, and the consumer group that is informed.

use satchel_testkit::{until, until_true};

use super::client::{Sent, committed, committed_when, produce, sent, values};
use super::{World, egress, ingress, prints};

fn numbered(numbers: std::ops::Range<u64>) -> Vec<Sent> {
    numbers
        .map(|number| sent("ann", &number.to_string()))
        .collect()
}

/// A broker with ten records in `names`, of which a group has committed four.
async fn world() -> World {
    let world = World::start().await;
    world.kafka.create("names", 1, &[]);
    world.kafka.create("greetings", 1, &[]);
    produce(&world.kafka, "names", &numbered(0..4));
    let group = "  consumerGroupId: readers\n  startupPosition: {type: earliest}\n";
    let app = world.setup(&ingress(group)).start().await;
    until_true("the group is informed", async || {
        world.kafka.committed("readers", "names", 0) == Some(4)
    })
    .await;
    drop(app);
    produce(&world.kafka, "names", &numbered(4..10));
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_starts_where_the_module_file_says() {
    let world = world().await;
    let date = "2020-02-01 04:15:00.000 Z";
    let cases = [
        ("  startupPosition: {type: earliest}\n".to_owned(), 0),
        (
            "  consumerGroupId: readers\n  startupPosition: {type: group-offsets}\n".to_owned(),
            4,
        ),
        (
            "  startupPosition:\n    type: specific-offsets\n    offsets:\n      - names/0: 7\n"
                .to_owned(),
            7,
        ),
        (
            format!("  startupPosition: {{type: date, date: \"{date}\"}}\n"),
            0,
        ),
        (
            // No such group: the position of `autoOffsetResetPosition`.
            "  consumerGroupId: none\n  startupPosition: {type: group-offsets}\n  \
             autoOffsetResetPosition: earliest\n"
                .to_owned(),
            0,
        ),
    ];
    let mut greeted = 0;
    for (fields, first) in cases {
        let documents = ingress(&fields) + &egress("");
        let app = world.setup(&documents).start().await;
        greeted += 10 - first;
        let got = committed_when(&world.kafka, "greetings", greeted).await;
        let expected: Vec<String> = (first..10)
            .enumerate()
            .map(|(index, number)| format!("{number} #{}", index + 1))
            .collect();
        assert_eq!(
            values(&got)[greeted - expected.len()..],
            expected,
            "{fields}"
        );
        drop(app);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_latest_is_resolved_once_and_a_crash_does_not_move_it() {
    let world = world().await;
    let documents = ingress("  startupPosition: {type: latest}\n") + &egress("");
    let mut app = world.setup(&documents).start().await;
    prints(&app, "reading partition").await;
    app.kill9().await;
    produce(&world.kafka, "names", &numbered(10..12));
    app.restart().await;
    let got = committed_when(&world.kafka, "greetings", 2).await;
    assert_eq!(values(&got), ["10 #1", "11 #2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_only_informed_and_its_loss_changes_nothing() {
    let world = world().await;
    let group = "  consumerGroupId: others\n  startupPosition: {type: earliest}\n";
    let documents = ingress(group) + &egress("");
    let mut app = world.setup(&documents).start().await;
    let informed = until("the group is informed", async || {
        world.kafka.committed("others", "names", 0)
    });
    assert_eq!(informed.await, 10);
    app.kill9().await;
    produce(&world.kafka, "names", &numbered(10..11));
    // Another group, which has no offsets: reading continues where the state is.
    world.module(&(ingress(&group.replace("others", "third")) + &egress("")));
    app.restart().await;
    committed_when(&world.kafka, "greetings", 11).await;
    app.terminate().await;
    assert_eq!(committed(&world.kafka, "greetings").len(), 11);
}
