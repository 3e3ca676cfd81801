//! The ingress from SQS.

use std::time::Duration;

use satchel_aws::sqs::{SqsOptions, SqsSelector};

use super::{parse, problems};
use crate::module::{AwsAccess, IngressAdapter, SqsIngress};

const ENDPOINT: &str = "kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: worker}
---
";

fn ingresses(text: &str) -> Vec<SqsIngress> {
    let application = parse(&format!("{ENDPOINT}{text}")).unwrap();
    let ingresses = application.ingresses.into_iter();
    ingresses
        .map(|ingress| match ingress.adapter {
            IngressAdapter::Sqs(sqs) => sqs,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn every_field_of_a_queue_is_read_and_a_fifo_queue_goes_by_its_groups() {
    let read = ingresses(
        r#"kind: satchel.sqs.v1/ingress
spec:
  id: example/tasks
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks
  valueType: example/task
  targets: [example/worker, example/auditor]
  targetId: $attribute:customer
  visibilityTimeout: 2m
  deduplicationWindow: 1h
  receivers: 8
---
kind: satchel.sqs.v1/ingress
spec:
  id: example/orders
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/orders.fifo
  valueType: example/order
  targets: [example/worker]
---
kind: satchel.sqs.v1/ingress
spec:
  id: example/events
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/events
  valueType: example/event
  router: {function: example/router}
  visibilityTimeout: 1h
---
kind: satchel.sqs.v1/ingress
spec:
  id: example/others
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/others
  valueType: example/event
  router: {function: example/router, id: main}
"#,
    );
    let queue = |ingress: &str, name: &str| {
        let url = format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{name}");
        SqsOptions::new(ingress, url)
    };
    let function = |name: &str| format!("example/{name}").parse().unwrap();
    let hour = Duration::from_secs(3_600);
    let expected = vec![
        SqsIngress {
            access: AwsAccess::default(),
            options: SqsOptions {
                visibility: Duration::from_secs(120),
                window: hour,
                receivers: 8,
                ..queue("example/tasks", "tasks")
            },
            value_type: "example/task".to_owned(),
            targets: vec![function("worker"), function("auditor")],
            target_id: SqsSelector::Attribute("customer".to_owned()),
        },
        SqsIngress {
            access: AwsAccess::default(),
            options: queue("example/orders", "orders.fifo"),
            value_type: "example/order".to_owned(),
            targets: vec![function("worker")],
            target_id: SqsSelector::Group,
        },
        SqsIngress {
            access: AwsAccess::default(),
            options: SqsOptions {
                visibility: hour,
                window: hour,
                ..queue("example/events", "events")
            },
            value_type: "example/event".to_owned(),
            targets: vec![function("router")],
            target_id: SqsSelector::MessageId,
        },
        SqsIngress {
            access: AwsAccess::default(),
            options: queue("example/others", "others"),
            value_type: "example/event".to_owned(),
            targets: vec![function("router")],
            target_id: SqsSelector::Constant("main".to_owned()),
        },
    ];
    assert_eq!(read, expected);
}

#[test]
fn what_a_queue_does_not_allow_is_refused_with_its_line() {
    let found = problems(
        r#"kind: satchel.sqs.v1/ingress
spec:
  id: example/a
  queueUrl: tasks
  valueType: example/task
  targets: [example/worker]
---
kind: satchel.sqs.v1/ingress
spec:
  id: example/b
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks
  valueType: task
  targets: [example/worker]
  targetId: customer
  visibilityTimeout: 1d
  receivers: 51
---
kind: satchel.sqs.v1/ingress
spec:
  id: example/c
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks
  valueType: example/task
  targets: [example/worker]
  router: {function: example/router}
  visibilityTimeout: 5500ms
  startupPosition: {type: earliest}
---
kind: satchel.sqs.v1/ingress
spec:
  id: example/d
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks.fifo
  valueType: example/task
  targets: [example/worker]
  visibilityTimeout: 5m
  deduplicationWindow: 1m
"#,
    );
    let expected = [
        "app/module.yaml:3: 'targetId' of satchel.sqs.v1/ingress: required for a queue that is not \
         a FIFO queue: write $attribute:<name>, a JSON pointer (/customer/id), $messageGroupId or \
         $messageId",
        "app/module.yaml:4: 'queueUrl' of satchel.sqs.v1/ingress: `tasks` is not the URL of a \
         queue: write https://sqs.<region>.amazonaws.com/<account>/<queue>",
        "app/module.yaml:12: 'valueType' of satchel.sqs.v1/ingress: `task` is not a typename: \
         write `namespace/name`",
        "app/module.yaml:14: 'targetId' of satchel.sqs.v1/ingress: `customer` is none of \
         $messageGroupId, $messageId, $attribute:<name> and a JSON pointer (/customer/id)",
        "app/module.yaml:15: 'visibilityTimeout' of satchel.sqs.v1/ingress: 24h is not between 5s \
         and 12h",
        "app/module.yaml:16: 'receivers' of satchel.sqs.v1/ingress: 51 is not between 1 and 50",
        "app/module.yaml:23: 'targets' of satchel.sqs.v1/ingress: not allowed with 'router': \
         remove one of the two",
        "app/module.yaml:25: 'visibilityTimeout' of satchel.sqs.v1/ingress: SQS takes whole \
         seconds only",
        "app/module.yaml:26: unknown field 'startupPosition' in satchel.sqs.v1/ingress; known \
         fields: id, awsRegion, awsCredentials, queueUrl, valueType, targets, targetId, router, \
         visibilityTimeout, deduplicationWindow, receivers",
        "app/module.yaml:35: 'deduplicationWindow' of satchel.sqs.v1/ingress: must not be shorter \
         than visibilityTimeout: SQS can deliver a deleted message once more when that timeout \
         ends",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_queue_needs_targets_that_are_served_and_appears_in_the_summary() {
    let queue = "kind: satchel.sqs.v1/ingress
spec:
  id: example/orders
  queueUrl: http://127.0.0.1:4566/123456789012/orders.fifo
  valueType: example/order
  targets: [example/worker]
";
    let application = parse(&format!("{ENDPOINT}{queue}")).unwrap();
    assert_eq!(
        application.summary()[1],
        "ingress example/orders from the queue http://127.0.0.1:4566/123456789012/orders.fifo (as \
         example/order) to example/worker"
    );
    assert_eq!(
        problems(queue),
        [
            "app/module.yaml:3: no endpoint serves the target `example/worker`: add it to the \
             'functions' of an endpoint"
        ]
    );
}
