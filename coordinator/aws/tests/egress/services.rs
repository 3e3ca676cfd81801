//! Egresses to SQS, SNS, EventBridge and DynamoDB, against moto.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use satchel_aws::egress::destination::Destination;
use satchel_aws::egress::dynamodb::{DynamoDbSettings, KeyAttribute};
use satchel_aws::egress::eventbridge::EventBridgeSettings;
use satchel_aws::egress::sns::{PUBLICATION_BYTES_MAX, SnsSettings};
use satchel_aws::egress::sqs::SqsSettings;
use satchel_protocol::types::typed_value;
use satchel_testkit::Moto;

use crate::outbox::{Outbox, access, emission};

async fn config(moto: &Moto) -> SdkConfig {
    access(moto.endpoint()).load().await.unwrap()
}

async fn queue(sqs: &aws_sdk_sqs::Client, name: &str) -> (String, String) {
    let mut creating = sqs.create_queue().queue_name(name);
    if name.ends_with(".fifo") {
        creating = creating.attributes(QueueAttributeName::FifoQueue, "true");
    }
    let url = creating.send().await.unwrap().queue_url.unwrap();
    let attributes = sqs
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .unwrap();
    let arn = attributes.attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
    (url, arn)
}

/// Receives and deletes everything in a queue: body, group, and the attribute `satchel-type`.
async fn drain(sqs: &aws_sdk_sqs::Client, url: &str) -> Vec<(String, String, String)> {
    let mut drained = Vec::new();
    loop {
        let answer = sqs
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .send()
            .await
            .unwrap();
        if answer.messages().is_empty() {
            return drained;
        }
        for message in answer.messages() {
            let group = message
                .attributes()
                .and_then(|all| all.get(&MessageSystemAttributeName::MessageGroupId))
                .cloned();
            let typename = message
                .message_attributes()
                .and_then(|all| all.get("satchel-type"))
                .and_then(|typename| typename.string_value().map(str::to_owned));
            drained.push((
                message.body().unwrap().to_owned(),
                group.unwrap_or_default(),
                typename.unwrap_or_default(),
            ));
            sqs.delete_message()
                .queue_url(url)
                .receipt_handle(message.receipt_handle().unwrap())
                .send()
                .await
                .unwrap();
        }
    }
}

fn order(number: u64) -> String {
    format!("{{\"customer\":\"c{}\",\"n\":{number}}}", number % 3)
}

/// Delivers 30 orders and one record that is not an order, with a crash after the first ten.
async fn deliver(moto: &Moto, destination: Destination) -> Outbox {
    let mut outbox = Outbox::default();
    let mut running = outbox.start(moto.endpoint(), destination.clone());
    for number in 1..=10 {
        let value = typed_value("example/order", order(number).into_bytes());
        outbox.emit(&running, emission(number, value));
    }
    outbox.until(&mut running, 0).await;
    running.kill().await;
    let mut running = outbox.start(moto.endpoint(), destination);
    for number in 11..=30 {
        let value = typed_value("example/order", order(number).into_bytes());
        outbox.emit(&running, emission(number, value));
    }
    outbox.emit(
        &running,
        emission(31, typed_value("example/bytes", &b"\xff"[..])),
    );
    outbox.until(&mut running, 0).await;
    running.kill().await;
    outbox
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_queue_has_each_record_once_in_the_order_of_its_group() {
    let moto = Moto::start();
    let sqs = aws_sdk_sqs::Client::new(&config(&moto).await);
    let (url, _) = queue(&sqs, "orders.fifo").await;
    let settings = SqsSettings {
        queue_url: url.clone(),
        message_group_id: Some("/customer".parse().unwrap()),
        attributes: vec![],
    };
    let outbox = deliver(&moto, Destination::Sqs(settings)).await;
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (body, group, typename) in drain(&sqs, &url).await {
        assert_eq!(typename, "example/order");
        groups.entry(group).or_default().push(body);
    }
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 1..=30 {
        let group = format!("c{}", number % 3);
        expected.entry(group).or_default().push(order(number));
    }
    assert_eq!(groups, expected);
    let reason = "it is not JSON, so there is no /customer in it";
    assert_eq!(outbox.refused()[&31], reason);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_a_topic_and_a_bus_get_every_record() {
    let moto = Moto::start();
    let config = config(&moto).await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let (plain, _) = queue(&sqs, "plain").await;
    let settings = SqsSettings {
        queue_url: plain.clone(),
        message_group_id: None,
        attributes: vec![("egress".to_owned(), "$egress".parse().unwrap())],
    };
    deliver(&moto, Destination::Sqs(settings)).await;
    let bodies = |drained: Vec<(String, String, String)>| {
        let mut bodies: Vec<_> = drained.into_iter().map(|(body, ..)| body).collect();
        // Ten may have been sent again.
        bodies.sort();
        bodies.dedup();
        bodies
    };
    let mut expected: Vec<_> = (1..=30).map(order).chain(["/w==".to_owned()]).collect();
    expected.sort();
    assert_eq!(bodies(drain(&sqs, &plain).await), expected);

    let sns = aws_sdk_sns::Client::new(&config);
    let topic = sns.create_topic().name("news").send().await.unwrap();
    let topic = topic.topic_arn.unwrap();
    let (behind, behind_arn) = queue(&sqs, "behind-news").await;
    sns.subscribe()
        .topic_arn(&topic)
        .protocol("sqs")
        .endpoint(&behind_arn)
        .attributes("RawMessageDelivery", "true")
        .send()
        .await
        .unwrap();
    let settings = SnsSettings {
        topic_arn: topic,
        message_group_id: None,
        subject: Some("News".parse().unwrap()),
        attributes: vec![],
        message_bytes_max: PUBLICATION_BYTES_MAX,
    };
    deliver(&moto, Destination::Sns(settings)).await;
    assert_eq!(bodies(drain(&sqs, &behind).await), expected);

    let events = aws_sdk_eventbridge::Client::new(&config);
    let (caught, caught_arn) = queue(&sqs, "caught").await;
    let rule = events
        .put_rule()
        .name("all")
        .event_pattern("{\"source\":[\"shop\"]}");
    rule.send().await.unwrap();
    let target = aws_sdk_eventbridge::types::Target::builder()
        .id("1")
        .arn(&caught_arn)
        .build()
        .unwrap();
    events
        .put_targets()
        .rule("all")
        .targets(target)
        .send()
        .await
        .unwrap();
    let settings = EventBridgeSettings {
        event_bus: "default".to_owned(),
        source: "shop".parse().unwrap(),
        detail_type: "$typename".parse().unwrap(),
    };
    deliver(&moto, Destination::EventBridge(settings)).await;
    let mut details: Vec<String> = drain(&sqs, &caught)
        .await
        .into_iter()
        .map(|(body, ..)| {
            let event: serde_json::Value = serde_json::from_str(&body).unwrap();
            format!("{} {}", event["detail-type"], event["detail"])
        })
        .collect();
    details.sort();
    details.dedup();
    let mut expected: Vec<String> = (1..=30)
        .map(|number| format!("\"example/order\" {}", order(number)))
        .collect();
    let binary = "\"example/bytes\" {\"base64\":\"/w==\",\"typename\":\"example/bytes\"}";
    expected.push(binary.to_owned());
    expected.sort();
    assert_eq!(details, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_has_the_last_record_of_each_key_and_a_late_resend_changes_nothing() {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
        ScalarAttributeType,
    };
    let moto = Moto::start();
    let dynamodb = aws_sdk_dynamodb::Client::new(&config(&moto).await);
    let key = KeySchemaElement::builder()
        .attribute_name("pk")
        .key_type(KeyType::Hash);
    let definition = AttributeDefinition::builder()
        .attribute_name("pk")
        .attribute_type(ScalarAttributeType::S);
    dynamodb
        .create_table()
        .table_name("orders")
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.build().unwrap())
        .attribute_definitions(definition.build().unwrap())
        .send()
        .await
        .unwrap();
    let settings = DynamoDbSettings {
        table: "orders".to_owned(),
        partition_key: KeyAttribute {
            name: "pk".to_owned(),
            from: "/customer".parse().unwrap(),
            is_number: false,
        },
        sort_key: None,
    };
    // The late outbox sends the first ten again, after later records of their keys.
    let destination = Destination::DynamoDb(settings);
    deliver(&moto, destination.clone()).await;
    let mut late = Outbox::default();
    let mut running = late.start(moto.endpoint(), destination);
    for number in 1..=10 {
        let value = typed_value("example/order", order(number).into_bytes());
        late.emit(&running, emission(number, value));
    }
    late.until(&mut running, 0).await;
    running.kill().await;
    let items = dynamodb.scan().table_name("orders").send().await.unwrap();
    let number = |value: &AttributeValue| value.as_n().unwrap().clone();
    let items: BTreeMap<String, (String, String)> = items
        .items()
        .iter()
        .map(|item| {
            let key = item["pk"].as_s().unwrap().clone();
            (key, (number(&item["n"]), number(&item["satchel_number"])))
        })
        .collect();
    let expected = [("c0", 30), ("c1", 28), ("c2", 29)];
    let expected =
        expected.map(|(key, number)| (key.to_owned(), (number.to_string(), number.to_string())));
    assert_eq!(items, BTreeMap::from(expected));
}
