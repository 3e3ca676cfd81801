//! The table of the log in DynamoDB, against a real server process (moto), with a proxy between
//! them that injects faults.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::http::Method;
use satchel_aws::log_table::{
    DynamoLogTable, OnTableRequest, TableOperation, TableOutcome, TableRequest, unobserved,
};
use satchel_log::{Created, LogTable, StoreError};
use satchel_testkit::{Fault, Proxy};

use super::{SECRET, bytes, moto, noise, sdk};

const LOG: &str = "s3://bucket/root#0";

async fn table(name: &str) -> DynamoLogTable {
    let table = DynamoLogTable::new(&sdk(moto().endpoint()), name, unobserved());
    table.create().await.unwrap();
    table
}

/// An error as DynamoDB answers it.
fn refusal(code: &str) -> Fault {
    let body = format!("{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\"}}");
    Fault::Answer(400, body)
}

fn name(number: u64) -> String {
    format!("log/{number:020}")
}

#[tokio::test]
async fn an_item_is_created_once_and_reads_back() {
    let table = table("items").await;
    let (one, other) = (bytes("one"), bytes("other"));
    assert_eq!(table.get(LOG, &name(1)).await, Ok(None));
    let put = |content: &Bytes| table.put(LOG, "log/00000000000000000001", content.clone());
    assert_eq!(put(&one).await, Ok(Created::Stored));
    assert_eq!(put(&one).await, Ok(Created::Exists), "a repeated request");
    assert_eq!(put(&other).await, Ok(Created::Exists));
    assert_eq!(table.get(LOG, &name(1)).await, Ok(Some(one.clone())));
    assert_eq!(table.get("another#0", &name(1)).await, Ok(None));
    assert_eq!(table.delete_exactly(LOG, &name(1), &other).await, Ok(()));
    assert_eq!(table.get(LOG, &name(1)).await, Ok(Some(one.clone())));
    assert_eq!(table.delete_exactly(LOG, &name(1), &one).await, Ok(()));
    assert_eq!(table.get(LOG, &name(1)).await, Ok(None));
    assert_eq!(
        table.delete_exactly(LOG, &name(1), &one).await,
        Ok(()),
        "none"
    );
}

#[tokio::test]
async fn of_many_writers_of_a_number_one_succeeds() {
    let table = table("racing").await;
    for number in 1..=5 {
        let name = name(number);
        let writers = (0..8u8).map(|writer| table.put(LOG, &name, Bytes::from(vec![writer])));
        let answers = futures::future::join_all(writers).await;
        let won = |answer: &&Result<Created, StoreError>| **answer == Ok(Created::Stored);
        assert_eq!(answers.iter().filter(won).count(), 1, "{answers:?}");
        let winner = answers
            .iter()
            .position(|answer| *answer == Ok(Created::Stored));
        let winner = u8::try_from(winner.unwrap()).unwrap();
        assert_eq!(
            table.get(LOG, &name).await,
            Ok(Some(Bytes::from(vec![winner])))
        );
    }
}

#[tokio::test]
async fn items_are_read_in_order_and_in_pages_and_deleted_in_batches() {
    let table = table("ranges").await;
    for number in [3, 1, 2, 10, 9, 100] {
        table.put(LOG, &name(number), noise(3_000)).await.unwrap();
    }
    table
        .put(LOG, "epochs/00000000000000000001", bytes("claim"))
        .await
        .unwrap();
    table
        .put("another#0", &name(5), bytes("foreign"))
        .await
        .unwrap();
    let read = async |first, last, max| {
        let page = table
            .query(LOG, &name(first), &name(last), max)
            .await
            .unwrap();
        let numbers = page.items.iter().map(|(name, content)| {
            assert_eq!(*content, noise(3_000));
            name["log/".len()..].parse::<u64>().unwrap()
        });
        (numbers.collect::<Vec<_>>(), page.more)
    };
    assert_eq!(
        read(0, u64::MAX, 100).await,
        (vec![1, 2, 3, 9, 10, 100], false)
    );
    assert_eq!(read(2, 10, 100).await, (vec![2, 3, 9, 10], false));
    let (numbers, more) = read(2, 10, 3).await;
    assert_eq!((numbers, more), (vec![2, 3, 9], true));
    assert_eq!(read(11, 99, 100).await, (vec![], false));

    let names: Vec<String> = (1..=40).map(name).collect();
    table.delete(LOG, &names).await.unwrap();
    assert_eq!(read(0, u64::MAX, 100).await, (vec![100], false));
    assert_eq!(table.delete(LOG, &[]).await, Ok(()));
}

#[tokio::test]
async fn a_page_ends_at_a_megabyte_and_the_next_one_continues() {
    let table = table("pages").await;
    for number in 1..=8 {
        table
            .put(LOG, &name(number), noise(300 << 10))
            .await
            .unwrap();
    }
    let mut from = 0;
    let mut numbers = Vec::new();
    loop {
        let page = table
            .query(LOG, &name(from), &name(u64::MAX), 1_000)
            .await
            .unwrap();
        let found = page
            .items
            .iter()
            .map(|(name, _)| name["log/".len()..].parse::<u64>());
        numbers.extend(found.map(Result::unwrap));
        from = numbers.last().unwrap() + 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn throttling_and_silence_may_pass_and_a_missing_table_is_final() {
    table("faults").await;
    let proxy = Proxy::start(moto().endpoint()).await;
    let requests: Arc<Mutex<Vec<TableRequest>>> = Arc::default();
    let seen = requests.clone();
    let on_request: OnTableRequest = Arc::new(move |request| seen.lock().unwrap().push(request));
    let sdk = sdk(&proxy.endpoint());
    let table = DynamoLogTable::new(&sdk, "faults", on_request.clone());
    let put = async || {
        let error = table.put(LOG, &name(1), bytes("x")).await.unwrap_err();
        assert!(!error.to_string().contains(SECRET), "{error}");
        error
    };
    for code in [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
    ] {
        proxy.fail_next(Method::POST, "/", refusal(code));
        let error = put().await;
        assert!(
            matches!(error, StoreError::Unavailable { .. }),
            "{code}: {error}"
        );
    }
    for fault in [Fault::error(500, "InternalServerError"), Fault::LoseRequest] {
        proxy.fail_next(Method::POST, "/", fault);
        let error = put().await;
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    assert_eq!(table.get(LOG, &name(1)).await, Ok(None));
    proxy.fail_next(Method::POST, "/", Fault::LoseAnswer);
    let error = put().await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert_eq!(
        table.get(LOG, &name(1)).await,
        Ok(Some(bytes("x"))),
        "it took effect"
    );
    assert_eq!(
        table.put(LOG, &name(1), bytes("y")).await,
        Ok(Created::Exists)
    );

    let absent = DynamoLogTable::new(&sdk, "no-such-table", on_request);
    let error = absent.put(LOG, &name(1), bytes("x")).await.unwrap_err();
    assert!(matches!(error, StoreError::Fatal { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("no-such-table") && text.contains("there is no such table"),
        "{text}"
    );

    let requests = requests.lock().unwrap();
    let outcomes = requests
        .iter()
        .map(|one| (one.operation, one.outcome, one.units));
    let (puts, gets) = (TableOperation::PutItem, TableOperation::GetItem);
    let unavailable = (puts, TableOutcome::Unavailable, 0);
    let mut expected = vec![unavailable; 4];
    expected.extend([
        (gets, TableOutcome::Done, 1),
        unavailable,
        (gets, TableOutcome::Done, 1),
        (puts, TableOutcome::Refused, 1),
        (puts, TableOutcome::Fatal, 0),
    ]);
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_table_with_other_keys_is_not_taken_for_one_of_logs() {
    let client = aws_sdk_dynamodb::Client::new(&sdk(moto().endpoint()));
    let key = aws_sdk_dynamodb::types::KeySchemaElement::builder()
        .attribute_name("pk")
        .key_type(aws_sdk_dynamodb::types::KeyType::Hash);
    let attribute = aws_sdk_dynamodb::types::AttributeDefinition::builder()
        .attribute_name("pk")
        .attribute_type(aws_sdk_dynamodb::types::ScalarAttributeType::S);
    let made = client
        .create_table()
        .table_name("leases")
        .billing_mode(aws_sdk_dynamodb::types::BillingMode::PayPerRequest)
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.build().unwrap());
    made.send().await.unwrap();
    let table = DynamoLogTable::new(&sdk(moto().endpoint()), "leases", unobserved());
    let refused = table.create().await.unwrap_err().to_string();
    assert!(refused.contains("not a table of logs"), "{refused}");
}
