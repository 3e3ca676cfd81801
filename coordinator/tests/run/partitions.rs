//! An application of several partitions in production: all logs move together at a handover.

use satchel_testkit::Client;
use serde_json::json;

use super::*;

const PEOPLE: usize = 12;

/// Greets each person under a key that is used once, and checks the number of greetings.
async fn greet_all(client: &Client, key: &str, seen: usize) {
    for person in 0..PEOPLE {
        let address = format!("example/greeter/person-{person}");
        let request = client.to_call(&address).json(&json!({"name": "you"}));
        let reply = request.key(key).send_until_answered().await;
        assert_eq!((reply.status, &reply.json()["seen"]), (200, &json!(seen)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_partitions_are_taken_over_by_a_standby_and_by_the_next_owner() {
    let aws = Aws::with_greeter().await;
    let setup = aws.setup("2s").env("SATCHEL_PARTITIONS", "4");
    let mut owner = setup.start().await;
    greet_all(&owner.client, "first", 1).await;
    let mut standby = setup.start_standby().await;
    owner.kill9().await;
    standby.is_ready().await;
    // The answers are remembered in each partition.
    greet_all(&standby.client, "first", 1).await;
    greet_all(&standby.client, "second", 2).await;

    let mut next = setup.start_standby().await;
    let ended = standby.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    next.is_ready().await;
    greet_all(&next.client, "second", 2).await;
    greet_all(&next.client, "third", 3).await;
    let partitions = next.client.admin(reqwest::Method::GET, "/api/partitions");
    let partitions = partitions.await.json();
    let processed = partitions["partitions"].as_array().unwrap().iter();
    let processed: u64 = processed.map(|it| it["processed"].as_u64().unwrap()).sum();
    assert_eq!(processed, PEOPLE as u64, "{partitions}");
    assert_eq!(next.terminate().await.code, Some(0));
    aws.stop().await;
}
