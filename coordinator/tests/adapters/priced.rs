//! The stand-ins with latency and a bill, used through the adapters and clients that use AWS.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, DeleteRequest, KeySchemaElement, KeyType,
    Put, ScalarAttributeType, TransactWriteItem, WriteRequest,
};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use satchel::store::S3Store;
use satchel::store::s3::S3Options;
use satchel_aws::lease::{Condition, LeaseItem, LeaseTable, MemberItem, PeerPort, Write};
use satchel_log::{Created, ObjectStore};
use satchel_testkit::{Latency, PricedCloud, PricedOptions, PricedService, Throttle};

const TABLE: &str = "log";

fn sdk(cloud: &PricedCloud, service: PricedService) -> SdkConfig {
    let credentials = Credentials::new("AKIDOFTHETEST", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(cloud.endpoint(service))
        .build()
}

fn store(cloud: &PricedCloud) -> S3Store {
    let sdk = sdk(cloud, PricedService::S3);
    S3Store::with_config(&sdk, cloud.bucket(), S3Options::default())
}

fn dynamodb(cloud: &PricedCloud) -> Client {
    let config = aws_sdk_dynamodb::config::Builder::from(&sdk(cloud, PricedService::DynamoDb))
        .retry_config(aws_config::retry::RetryConfig::disabled());
    Client::from_conf(config.build())
}

/// A table with the key of a log: text and binary.
async fn log_table(client: &Client) {
    let attribute = |name, kind| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute.attribute_type(kind).build().unwrap()
    };
    let key = |name, kind| {
        let key = KeySchemaElement::builder().attribute_name(name);
        key.key_type(kind).build().unwrap()
    };
    let table = client.create_table().table_name(TABLE);
    let table = table
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("sk", ScalarAttributeType::B))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .billing_mode(BillingMode::PayPerRequest);
    table.send().await.unwrap();
}

fn key(number: u64) -> HashMap<String, AttributeValue> {
    let number = Blob::new(number.to_be_bytes());
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S("shop#0".to_owned())),
        ("sk".to_owned(), AttributeValue::B(number)),
    ])
}

fn item(number: u64, bytes: usize) -> HashMap<String, AttributeValue> {
    let mut item = key(number);
    let content = Blob::new(vec![number as u8; bytes]);
    item.insert("body".to_owned(), AttributeValue::B(content));
    item
}

/// Creates a commit. Returns false if its number is taken.
async fn create(client: &Client, number: u64, bytes: usize) -> bool {
    let put = client.put_item().table_name(TABLE);
    let put = put.set_item(Some(item(number, bytes)));
    match put
        .condition_expression("attribute_not_exists(pk)")
        .send()
        .await
    {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), Some("ConditionalCheckFailedException"));
            false
        }
    }
}

#[tokio::test]
async fn the_object_store_works_on_the_stand_in_as_on_s3() {
    let cloud = PricedCloud::start(PricedOptions::new());
    let store = store(&cloud);
    let body = Bytes::from_static(b"0123456789");
    let name = |number: usize| format!("log/{number:04}");
    assert_eq!(
        store.create(&name(0), body.clone()).await.unwrap(),
        Created::Stored
    );
    let other = Bytes::from_static(b"other");
    assert_eq!(
        store.create(&name(0), other.clone()).await.unwrap(),
        Created::Exists
    );
    assert_eq!(store.get(&name(0)).await.unwrap(), Some(body.clone()));
    assert_eq!(store.get("log/none").await.unwrap(), None);
    let part = store.get_range(&name(0), 2..5).await.unwrap();
    assert_eq!(part, Some(Bytes::from_static(b"234")));
    let beyond = store.get_range(&name(0), 50..60).await.unwrap();
    assert_eq!(beyond, Some(Bytes::new()));

    for number in 1..1_100 {
        store.create(&name(number), Bytes::new()).await.unwrap();
    }
    let listed = store.list("log/", None, 5_000).await.unwrap();
    let names: Vec<String> = (0..1_100).map(name).collect();
    let keys: Vec<&String> = listed.iter().map(|object| &object.key).collect();
    assert_eq!(keys, names.iter().collect::<Vec<_>>(), "two pages");
    let after = store.list("log/", Some(&name(1_097)), 10).await.unwrap();
    assert_eq!(after.len(), 2);

    store.delete_exactly(&name(0), &other).await.unwrap();
    assert!(
        store.get(&name(0)).await.unwrap().is_some(),
        "it is another object"
    );
    store.delete_exactly(&name(0), &body).await.unwrap();
    assert_eq!(store.get(&name(0)).await.unwrap(), None);
    store.delete(&names).await.unwrap();
    assert_eq!(store.list("", None, 10).await.unwrap(), []);

    let large = Bytes::from(vec![7; 17 << 20]);
    assert_eq!(
        store.create("large", large.clone()).await.unwrap(),
        Created::Stored
    );
    assert_eq!(
        store.create("large", large.clone()).await.unwrap(),
        Created::Exists
    );
    assert_eq!(store.get("large").await.unwrap(), Some(large));

    let bill = cloud.bill();
    let requests = |operation| bill.of(PricedService::S3, operation).requests;
    assert_eq!(requests("PutObject"), 1_101);
    assert_eq!(requests("UploadPart"), 3);
    assert_eq!(requests("DeleteObjects"), 2);
    assert_eq!(bill.stored_bytes, 17 << 20);
}

#[tokio::test]
async fn a_lease_is_acquired_renewed_and_lost_on_the_stand_in() {
    let cloud = PricedCloud::start(PricedOptions::new());
    let table = LeaseTable::new(&sdk(&cloud, PricedService::DynamoDb), "leases", "shop");
    table.create().await.unwrap();
    assert_eq!(table.read().await.unwrap(), None);
    let item = |owner: &str, epoch, counter| LeaseItem {
        owner: owner.to_owned(),
        epoch,
        counter,
        lease_ms: 10_000,
        released: false,
        address: None,
        peer: None,
    };
    let write = |item, condition| Write { item, condition };
    let first = write(item("a", 1, 0), Condition::Absent);
    assert!(table.write(&first).await.unwrap());
    assert!(!table.write(&first).await.unwrap());
    let mine = Condition::Mine {
        owner: "a".to_owned(),
        epoch: 1,
    };
    let renewal = write(item("a", 1, 1), mine.clone());
    assert!(table.write(&renewal).await.unwrap());
    assert!(
        !table.write(&renewal).await.unwrap(),
        "the counter must grow"
    );
    let unmoved = Condition::Unmoved {
        owner: "a".to_owned(),
        epoch: 1,
        counter: 1,
    };
    assert!(table.write(&write(item("b", 2, 0), unmoved)).await.unwrap());
    assert!(!table.write(&write(item("a", 1, 2), mine)).await.unwrap());
    assert_eq!(table.read().await.unwrap(), Some(item("b", 2, 0)));
    let writes = cloud.bill().of(PricedService::DynamoDb, "PutItem");
    assert_eq!((writes.requests, writes.refused), (6, 3));
    assert_eq!(writes.write_units, 6.0, "a failed condition costs as much");
}

#[tokio::test]
async fn the_item_of_a_process_is_renewed_ended_once_and_expires() {
    let cloud = PricedCloud::start(PricedOptions::new());
    let table = LeaseTable::new(&sdk(&cloud, PricedService::DynamoDb), "leases", "shop");
    table.create().await.unwrap();
    table.expire_members().await.unwrap();
    table.expire_members().await.unwrap();
    let bill = cloud.bill();
    let set = bill.of(PricedService::DynamoDb, "UpdateTimeToLive");
    assert_eq!((set.requests, set.refused), (1, 0));

    let member = |id: &str, counter, left| MemberItem {
        id: id.to_owned(),
        peer: PeerPort {
            address: "10.0.0.7:8082".to_owned(),
            key: "ab".repeat(32),
        },
        software: "0.1.0".to_owned(),
        counter,
        renewal_ms: 10_000,
        left,
        congested: false,
    };
    let read = async || table.read_member("shop", &"ab".repeat(32)).await.unwrap();
    // An item that was deleted meanwhile is not made again to say that the process has ended.
    let end = member("a", u64::MAX, true);
    assert_eq!(table.end_member("shop", &end).await, Ok(false));
    assert_eq!(read().await, None);

    assert_eq!(
        table.write_member("shop", &member("a", 1, false)).await,
        Ok(true)
    );
    assert_eq!(
        table.write_member("shop", &member("a", 2, false)).await,
        Ok(true)
    );
    let foreign = member("b", u64::MAX, true);
    assert_eq!(table.end_member("shop", &foreign).await, Ok(false));
    assert_eq!(read().await, Some(member("a", 2, false)));
    assert_eq!(table.end_member("shop", &end).await, Ok(true));
    // A renewal that was on its way.
    assert_eq!(
        table.write_member("shop", &member("a", 3, false)).await,
        Ok(false)
    );
    assert_eq!(read().await, Some(end));
}

#[tokio::test]
async fn commits_are_created_once_queried_in_pages_and_deleted_in_batches() {
    let cloud = PricedCloud::start(PricedOptions::new());
    let client = dynamodb(&cloud);
    log_table(&client).await;
    for number in 0..30 {
        assert!(create(&client, number, 100_000).await);
    }
    assert!(!create(&client, 7, 1).await);
    let mut found = Vec::new();
    let mut from = None;
    let mut pages = 0;
    loop {
        let query = client.query().table_name(TABLE).consistent_read(true);
        let query = query
            .key_condition_expression("pk = :log AND sk >= :first")
            .expression_attribute_values(":log", AttributeValue::S("shop#0".to_owned()))
            .expression_attribute_values(":first", key(5)["sk"].clone())
            .set_exclusive_start_key(from);
        let page = query.send().await.unwrap();
        found.extend(page.items().iter().map(|item| item["sk"].clone()));
        pages += 1;
        from = page.last_evaluated_key().cloned();
        if from.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (5..30).map(|number| key(number)["sk"].clone()).collect();
    assert_eq!((found, pages), (expected, 3), "a page has 1 MB");
    let newest = client.query().table_name(TABLE).scan_index_forward(false);
    let newest = newest
        .key_condition_expression("pk = :log")
        .expression_attribute_values(":log", AttributeValue::S("shop#0".to_owned()))
        .limit(1);
    let newest = newest.send().await.unwrap();
    assert_eq!(newest.items()[0]["sk"], key(29)["sk"]);

    let deletes = (0..25).map(|number| {
        let delete = DeleteRequest::builder().set_key(Some(key(number)));
        let delete = delete.build().unwrap();
        WriteRequest::builder().delete_request(delete).build()
    });
    let batch = client.batch_write_item();
    let batch = batch.request_items(TABLE, deletes.collect());
    batch.send().await.unwrap();
    let bill = cloud.bill();
    let of = |operation| bill.of(PricedService::DynamoDb, operation);
    // An item of 100,022 bytes has 98 units, and its deletion costs as many.
    assert_eq!(of("BatchWriteItem").write_units, 25.0 * 98.0);
    assert_eq!(of("PutItem").write_units, 31.0 * 98.0);
    assert_eq!(bill.item_bytes, 5 * 100_022);
}

#[tokio::test]
async fn a_transaction_takes_effect_as_a_whole_or_not_at_all() {
    let cloud = PricedCloud::start(PricedOptions::new());
    let client = dynamodb(&cloud);
    log_table(&client).await;
    assert!(create(&client, 1, 10).await);
    let transact = async |numbers: [u64; 2]| {
        let puts = numbers.map(|number| {
            let put = Put::builder().table_name(TABLE);
            let put = put
                .set_item(Some(item(number, 10)))
                .condition_expression("attribute_not_exists(pk)");
            TransactWriteItem::builder()
                .put(put.build().unwrap())
                .build()
        });
        let request = client.transact_write_items();
        request
            .set_transact_items(Some(puts.to_vec()))
            .send()
            .await
            .map(drop)
    };
    let refused = transact([2, 1]).await.unwrap_err().into_service_error();
    assert_eq!(refused.code(), Some("TransactionCanceledException"));
    let get = client.get_item().table_name(TABLE).set_key(Some(key(2)));
    assert_eq!(get.send().await.unwrap().item, None);
    transact([2, 3]).await.unwrap();
    let get = client.get_item().table_name(TABLE).set_key(Some(key(2)));
    assert_eq!(get.send().await.unwrap().item, Some(item(2, 10)));
}

#[tokio::test]
async fn throttling_and_latency_are_as_configured_and_what_is_unknown_is_refused_by_name() {
    let options = PricedOptions::new()
        .latency_of(PricedService::DynamoDb, "PutItem", Latency::fixed(20.0))
        .latency_of(PricedService::DynamoDb, "Query", Latency::NONE);
    let cloud = PricedCloud::start(options);
    let client = dynamodb(&cloud);
    log_table(&client).await;
    let begun = Instant::now();
    assert!(create(&client, 1, 10).await);
    assert!(begun.elapsed() >= Duration::from_millis(20));

    cloud.set_throttle(PricedService::DynamoDb, Throttle::share(1.0));
    let put = client.put_item().table_name(TABLE);
    let refused = put.set_item(Some(item(2, 10))).send().await.unwrap_err();
    assert_eq!(
        refused.code(),
        Some("ProvisionedThroughputExceededException")
    );
    cloud.set_throttle(PricedService::DynamoDb, Throttle::NONE);
    let puts = cloud.bill().of(PricedService::DynamoDb, "PutItem");
    assert_eq!((puts.requests, puts.throttled), (1, 1));

    let scan = client.scan().table_name(TABLE).send().await.unwrap_err();
    let message = scan.message().unwrap_or_default();
    assert!(message.contains("the operation Scan"), "{message}");
    let indexed = client.query().table_name(TABLE).index_name("by-owner");
    let indexed = indexed
        .key_condition_expression("pk = :log")
        .expression_attribute_values(":log", AttributeValue::S("shop#0".to_owned()));
    let refused = indexed.send().await.unwrap_err();
    let message = refused.message().unwrap_or_default();
    assert!(message.contains("the field IndexName"), "{message}");

    cloud.set_throttle(PricedService::S3, Throttle::share(1.0));
    let error = store(&cloud).get("log/1").await.unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains("SlowDown"),
        "{error}"
    );
}
