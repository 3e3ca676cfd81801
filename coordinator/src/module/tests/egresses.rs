//! The egresses to AWS services.

use satchel_aws::egress::content::Selector;
use satchel_aws::egress::destination::Destination;
use satchel_aws::egress::dynamodb::{DynamoDbSettings, KeyAttribute};
use satchel_aws::egress::eventbridge::EventBridgeSettings;
use satchel_aws::egress::lambda::LambdaSettings;
use satchel_aws::egress::sns::SnsSettings;
use satchel_aws::egress::sqs::SqsSettings;

use super::{parse, problems};
use crate::module::EgressAdapter;

const EGRESSES: &str = r#"kind: satchel.sqs.v1/egress
spec:
  id: example/tasks
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks.fifo
  messageGroupId: /customer/id
  attributes:
    - kind: /kind
    - team: payments
---
kind: satchel.sns.v1/egress
spec:
  id: example/news
  topicArn: arn:aws:sns:eu-central-1:123456789012:news
  subject: Good news
  maxMessageBytes: 1MiB
---
kind: satchel.eventbridge.v1/egress
spec:
  id: example/events
  source: shop
---
kind: satchel.dynamodb.v1/egress
spec:
  id: example/orders
  table: orders
  partitionKey: {name: pk, from: /customer/id}
  sortKey: {name: sk, from: /n, type: number}
---
kind: satchel.lambda.v1/egress
spec:
  id: example/notify
  functionName: notify
  qualifier: live
  envelope: json
"#;

#[test]
fn every_field_of_the_egresses_is_read() {
    let application = parse(EGRESSES).unwrap();
    let pointer = |text: &str| Selector::Pointer(text.to_owned());
    let constant = |text: &str| Selector::Constant(text.to_owned());
    let destinations: Vec<_> = application
        .egresses
        .iter()
        .map(|egress| match &egress.adapter {
            EgressAdapter::Aws(aws) => (egress.id.to_string(), aws.destination.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/tasks.fifo";
    let topic = "arn:aws:sns:eu-central-1:123456789012:news";
    let expected = [
        (
            "example/tasks",
            Destination::Sqs(SqsSettings {
                queue_url: queue.to_owned(),
                message_group_id: Some(pointer("/customer/id")),
                attributes: vec![
                    ("kind".to_owned(), pointer("/kind")),
                    ("team".to_owned(), constant("payments")),
                ],
            }),
        ),
        (
            "example/news",
            Destination::Sns(SnsSettings {
                topic_arn: topic.to_owned(),
                message_group_id: None,
                subject: Some(constant("Good news")),
                attributes: vec![],
                message_bytes_max: 1 << 20,
            }),
        ),
        (
            "example/events",
            Destination::EventBridge(EventBridgeSettings {
                event_bus: "default".to_owned(),
                source: constant("shop"),
                detail_type: Selector::Typename,
            }),
        ),
        (
            "example/orders",
            Destination::DynamoDb(DynamoDbSettings {
                table: "orders".to_owned(),
                partition_key: KeyAttribute {
                    name: "pk".to_owned(),
                    from: pointer("/customer/id"),
                    is_number: false,
                },
                sort_key: Some(KeyAttribute {
                    name: "sk".to_owned(),
                    from: pointer("/n"),
                    is_number: true,
                }),
            }),
        ),
        (
            "example/notify",
            Destination::Lambda(LambdaSettings {
                function_name: "notify".to_owned(),
                qualifier: Some("live".to_owned()),
                envelope: true,
            }),
        ),
    ];
    let expected = expected.map(|(id, destination)| (id.to_owned(), destination));
    assert_eq!(destinations, expected);
    let summary = [
        format!("egress example/tasks to the queue {queue}"),
        format!("egress example/news to the topic {topic}"),
        "egress example/events to the event bus default".to_owned(),
        "egress example/orders to the table orders".to_owned(),
        "egress example/notify to the function notify".to_owned(),
    ];
    assert_eq!(application.summary(), summary);
}

#[test]
fn what_a_service_does_not_allow_is_refused_with_its_line() {
    let found = problems(
        r#"kind: satchel.sqs.v1/egress
spec:
  id: example/a
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks.fifo
  attributes:
    - satchel-id: x
---
kind: satchel.sns.v1/egress
spec:
  id: example/b
  topicArn: news
  subject: $what
---
kind: satchel.eventbridge.v1/egress
spec:
  id: example/c
  source: aws.ec2
---
kind: satchel.dynamodb.v1/egress
spec:
  id: example/d
  table: orders
  partitionKey: {name: satchel_writer, from: /a}
  sortKey: {name: s, from: /b, type: bytes}
---
kind: satchel.lambda.v1/egress
spec:
  id: example/e
  functionName: notify
  envelope: xml
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/f
  delivery: exactly-twice
"#,
    );
    let expected = [
        "app/module.yaml:3: 'messageGroupId' of satchel.sqs.v1/egress: required for a FIFO queue: \
         write a JSON pointer (/customer/id), $id or a constant",
        "app/module.yaml:6: 'attributes': `satchel-id` is reserved, as is every name that begins \
         with `satchel-`",
        "app/module.yaml:11: 'topicArn' of satchel.sns.v1/egress: `news` is not the ARN of a \
         topic: write arn:aws:sns:<region>:<account>:<topic>",
        "app/module.yaml:12: 'subject' of satchel.sns.v1/egress: `$what` is not known: write $id, \
         $typename, $egress, a JSON pointer (/customer/id) or a constant",
        "app/module.yaml:17: 'source' of satchel.eventbridge.v1/egress: `aws.ec2` is reserved: \
         sources that begin with `aws.` belong to AWS",
        "app/module.yaml:23: 'name' of partitionKey: `satchel_writer` is reserved, as is every \
         name that begins with `satchel_`",
        "app/module.yaml:24: 'type' of sortKey: `bytes` is not one of string, number",
        "app/module.yaml:30: 'envelope' of satchel.lambda.v1/egress: `xml` is not one of none, \
         json",
        "app/module.yaml:35: 'delivery' of io.statefun.kinesis.v1/egress: `exactly-twice` is not \
         one of at-least-once, exactly-once, did you mean 'exactly-once'?",
    ];
    assert_eq!(found, expected);
}
