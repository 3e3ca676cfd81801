//! Enhanced fan-out.

use std::time::Duration;

use aws_sdk_kinesis::types::{
    Record, ShardIteratorType, StartingPosition, SubscribeToShardEventStream,
};

use crate::server::{Server, code, data};

const SHARD: &str = "shardId-000000000000";

/// Registers a consumer and waits until it is active. Returns its ARN.
pub(crate) async fn register(server: &Server, stream_arn: &str, name: &str) -> String {
    let register = server
        .client
        .register_stream_consumer()
        .stream_arn(stream_arn);
    register.consumer_name(name).send().await.unwrap();
    loop {
        let describe = server
            .client
            .describe_stream_consumer()
            .stream_arn(stream_arn);
        let described = describe.consumer_name(name).send().await.unwrap();
        let described = described.consumer_description.unwrap();
        if described.consumer_status.as_str() == "ACTIVE" {
            return described.consumer_arn;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn position(kind: ShardIteratorType) -> StartingPosition {
    StartingPosition::builder().r#type(kind).build().unwrap()
}

pub(crate) async fn consumers_are_registered_described_listed_and_deregistered(server: &Server) {
    let arn = server.create("consumed", 1).await;
    let consumer = register(server, &arn, "one").await;
    assert!(
        consumer.starts_with(&format!("{arn}/consumer/one:")),
        "{consumer}"
    );
    let again = server
        .client
        .register_stream_consumer()
        .stream_arn(&arn)
        .consumer_name("one");
    assert_eq!(code(again.send().await), "ResourceInUseException");
    register(server, &arn, "two").await;
    let listed = server
        .client
        .list_stream_consumers()
        .stream_arn(&arn)
        .send()
        .await
        .unwrap();
    let mut names: Vec<_> = listed
        .consumers()
        .iter()
        .map(|consumer| consumer.consumer_name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);
    let deregister = server
        .client
        .deregister_stream_consumer()
        .consumer_arn(&consumer);
    deregister.send().await.unwrap();
    loop {
        let described = server
            .client
            .describe_stream_consumer()
            .consumer_arn(&consumer)
            .send()
            .await;
        if let Err(error) = described {
            assert_eq!(code::<(), _>(Err(error)), "ResourceNotFoundException");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn a_subscription_delivers_existing_and_new_records(server: &Server) {
    let arn = server.create("pushed", 1).await;
    let consumer = register(server, &arn, "reader").await;
    server.put("pushed", "a", "before").await;
    let subscribe = server
        .client
        .subscribe_to_shard()
        .consumer_arn(&consumer)
        .shard_id(SHARD);
    let subscribe = subscribe.starting_position(position(ShardIteratorType::TrimHorizon));
    let mut events = subscribe.send().await.unwrap().event_stream;
    let mut records: Vec<Record> = Vec::new();
    let mut continuation = String::new();
    while records.len() < 2 {
        let event = events
            .recv()
            .await
            .unwrap()
            .expect("the subscription is open");
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
            panic!("{event:?}");
        };
        if !event.records.is_empty() && records.is_empty() {
            server.put("pushed", "a", "after").await;
        }
        if !event.records.is_empty() {
            continuation = event.continuation_sequence_number;
        }
        records.extend(event.records);
    }
    assert_eq!(data(&records), ["before", "after"]);
    assert_eq!(continuation, records[1].sequence_number);
}

pub(crate) async fn a_subscription_to_a_shard_that_is_split_ends_with_its_children(
    server: &Server,
) {
    let arn = server.create("pushed-split", 1).await;
    let consumer = register(server, &arn, "reader").await;
    let subscribe = server
        .client
        .subscribe_to_shard()
        .consumer_arn(&consumer)
        .shard_id(SHARD);
    let subscribe = subscribe.starting_position(position(ShardIteratorType::Latest));
    let mut events = subscribe.send().await.unwrap().event_stream;
    server.put("pushed-split", "a", "last").await;
    let split = server
        .client
        .split_shard()
        .stream_name("pushed-split")
        .shard_to_split(SHARD);
    split.new_starting_hash_key("5").send().await.unwrap();
    let (mut records, mut children) = (Vec::new(), Vec::new());
    while let Some(event) = events.recv().await.unwrap() {
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
            panic!("{event:?}");
        };
        records.extend(event.records);
        children.extend(event.child_shards.unwrap_or_default());
    }
    assert_eq!(data(&records), ["last"]);
    let children: Vec<_> = children
        .iter()
        .map(|child| child.shard_id.as_str())
        .collect();
    assert_eq!(children, ["shardId-000000000001", "shardId-000000000002"]);
}
