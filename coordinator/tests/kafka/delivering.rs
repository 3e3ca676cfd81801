//! Delivery: records that no broker takes, topics that are missing, and the weaker guarantees.

use satchel_testkit::until;

use super::client::{Sent, committed_when, produce, sent, sorted};
use super::{EARLIEST, EXACTLY_ONCE, World, egress, ingress};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_broker_takes_is_a_dead_letter_by_name_and_holds_up_nothing() {
    for delivery in ["", EXACTLY_ONCE] {
        let world = World::start().await;
        world.kafka.create("names", 1, &[]);
        world
            .kafka
            .create("greetings", 1, &["max.message.bytes=100000"]);
        let records = [
            sent("ann", "one"),
            // Larger than the topic takes, and larger than the client takes.
            sent("ann", "large 200000"),
            sent("bob", "large 2000000"),
            sent("ann", "two"),
            sent("bob", "to not/a/topic"),
            sent("bob", "three"),
        ];
        produce(&world.kafka, "names", &records);
        let documents = ingress(EARLIEST) + &egress(delivery);
        let app = world.setup(&documents).start().await;
        let got = committed_when(&world.kafka, "greetings", 3).await;
        assert_eq!(sorted(&got), ["one #1", "three #3", "two #3"], "{delivery}");
        let letters = until("there are three dead letters", async || {
            let letters = app.client.dead_letters().await;
            (letters.len() == 3).then_some(letters)
        });
        let letters: Vec<String> = letters.await.iter().map(ToString::to_string).collect();
        for reason in [
            "topic greetings: Message production error: MessageSizeTooLarge",
            "topic greetings: it is larger than max.request.size",
            "is not the name of a topic",
        ] {
            let named = letters.iter().filter(|letter| letter.contains(reason));
            assert_eq!(named.count(), 1, "{reason}: {letters:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_for_a_topic_that_is_missing_wait_for_it_and_hold_up_no_other_topic() {
    for delivery in ["", EXACTLY_ONCE] {
        let world = World::start().await;
        world.kafka.create("names", 1, &[]);
        world.kafka.create("greetings", 1, &[]);
        let records = [sent("ann", "to later"), sent("ann", "two")];
        produce(&world.kafka, "names", &records);
        let documents = ingress(EARLIEST) + &egress(delivery);
        let app = world.setup(&documents).start().await;
        let got = committed_when(&world.kafka, "greetings", 1).await;
        assert_eq!(sorted(&got), ["two #2"]);
        world.kafka.create("later", 1, &[]);
        let got = committed_when(&world.kafka, "later", 1).await;
        assert_eq!(sorted(&got), ["to later #1"]);
        assert!(app.client.dead_letters().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_guarantee_delivers_in_order_while_the_broker_restarts() {
    for delivery in ["  deliverySemantic: {type: none}\n", "", EXACTLY_ONCE] {
        let world = World::start().await;
        world.kafka.create("names", 1, &[]);
        world.kafka.create("greetings", 1, &[]);
        let documents = ingress(EARLIEST) + &egress(delivery);
        let _app = world.setup(&documents).start().await;
        let records: Vec<Sent> = (0..100)
            .map(|number| sent("ann", &number.to_string()))
            .collect();
        let (first, rest) = records.split_at(50);
        produce(&world.kafka, "names", first);
        committed_when(&world.kafka, "greetings", 50).await;
        world.kafka.kill9();
        world.kafka.restart();
        produce(&world.kafka, "names", rest);
        let got = committed_when(&world.kafka, "greetings", 100).await;
        let expected: Vec<String> = (0..100)
            .map(|number| format!("{number} #{}", number + 1))
            .collect();
        assert_eq!(super::client::values(&got), expected, "{delivery}");
    }
}
