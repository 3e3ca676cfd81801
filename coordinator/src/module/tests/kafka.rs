//! The Kafka kinds.

use std::time::Duration;

use satchel_aws::kinesis::ExpiredPosition;

use super::{function, id, parse, problems, source};
use crate::module::{
    AutoOffsetReset, EgressAdapter, EgressSpec, IngressAdapter, IngressSpec, IngressStream,
    KafkaDelivery, KafkaEgress, KafkaIngress, KafkaProperties, KafkaStartup, PartitionOffset,
    RecordId, StartupPosition,
};

const ENDPOINT: &str = "kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: f}
---
";

fn kafka(spec: &str) -> KafkaIngress {
    let application = parse(&format!(
        "{ENDPOINT}kind: io.statefun.kafka.v1/ingress\n{spec}"
    ));
    let application = application.unwrap_or_else(|problems| panic!("{problems}"));
    match application.ingresses.into_iter().next().unwrap().adapter {
        IngressAdapter::Kafka(kafka) => kafka,
        other => panic!("{other:?}"),
    }
}

fn properties<const N: usize>(properties: [(&str, &str); N]) -> KafkaProperties {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    properties.map(owned).into_iter().collect()
}

#[test]
fn every_field_of_the_kafka_kinds_is_read() {
    let application = parse(&format!(
        r#"{ENDPOINT}kind: io.statefun.kafka.v1/ingress
spec:
  id: com.example/users
  address: kafka-1:9092, kafka-2:9093
  consumerGroupId: my-consumer-group
  autoOffsetResetPosition: earliest
  startupPosition:
    type: specific-offsets
    offsets:
      - messages/0: 91
      - messages/1: 11
  topics:
    - topic: messages
      valueType: com.example/User
      targets:
        - example/greeter
  onExpiredPosition: earliest
  properties:
    - security.protocol: SASL_SSL
    - sasl.jaas.config: password="${{SECRET}}";
---
kind: io.statefun.kafka.v1/egress
spec:
  id: example/output
  address: kafka:9092
  deliverySemantic: {{type: exactly-once, transactionTimeoutMillis: 100000}}
  properties:
    - foo.config: bar
"#
    ))
    .unwrap();
    let ingress = IngressSpec {
        source: source(6),
        id: id("com.example", "users"),
        adapter: IngressAdapter::Kafka(KafkaIngress {
            address: "kafka-1:9092,kafka-2:9093".to_owned(),
            consumer_group_id: Some("my-consumer-group".to_owned()),
            topics: vec![IngressStream {
                source: source(16),
                stream: "messages".to_owned(),
                value_type: "com.example/User".to_owned(),
                targets: vec![function("example/greeter")],
                id: RecordId::Key,
            }],
            auto_offset_reset: AutoOffsetReset::Earliest,
            startup: KafkaStartup::SpecificOffsets(
                [(0, 91), (1, 11)]
                    .map(|(partition, offset)| PartitionOffset {
                        topic: "messages".to_owned(),
                        partition,
                        offset,
                    })
                    .to_vec(),
            ),
            on_expired: ExpiredPosition::Earliest,
            properties: properties([
                ("security.protocol", "SASL_SSL"),
                ("sasl.jaas.config", "password=\"s3cr3t-value\";"),
            ]),
        }),
    };
    let egress = EgressSpec {
        source: source(27),
        id: id("example", "output"),
        adapter: EgressAdapter::Kafka(KafkaEgress {
            address: "kafka:9092".to_owned(),
            delivery: KafkaDelivery::ExactlyOnce {
                transaction_timeout: Duration::from_secs(100),
            },
            properties: properties([("foo.config", "bar")]),
        }),
    };
    let shown = format!("{application:?}");
    assert!(!shown.contains("s3cr3t-value"), "{shown}");
    assert_eq!(application.ingresses, [ingress]);
    assert_eq!(application.egresses, [egress]);
}

#[test]
fn brokers_and_group_may_stand_among_the_properties_and_their_fields_take_precedence() {
    const TOPICS: &str = "  topics: [{topic: t, valueType: a/b, targets: [example/f]}]\n";
    let properties = "  properties: [bootstrap.servers: \"one:1, two:2\", group.id: theirs]\n";
    let by_property = kafka(&format!("spec:\n  id: a/b\n{properties}{TOPICS}"));
    assert_eq!(by_property.address, "one:1,two:2");
    assert_eq!(by_property.consumer_group_id.as_deref(), Some("theirs"));
    let by_field = kafka(&format!(
        "spec:\n  id: a/b\n  address: three:3\n  consumerGroupId: ours\n{properties}{TOPICS}"
    ));
    assert_eq!(by_field.address, "three:3");
    assert_eq!(by_field.consumer_group_id.as_deref(), Some("ours"));
}

#[test]
fn local_streams_have_neither_groups_nor_offsets_so_the_reset_position_holds_there() {
    let startup = |startup: &str, reset: &str| {
        kafka(&format!(
            "spec:\n  id: a/b\n  address: k:1\n  consumerGroupId: g\n  \
             startupPosition: {startup}\n  \
             autoOffsetResetPosition: {reset}\n  topics: [{{topic: t, valueType: a/b, targets: \
             [example/f]}}]\n"
        ))
        .local_startup()
    };
    let offsets = "{type: specific-offsets, offsets: [t/0: 7]}";
    for (position, reset, local) in [
        ("{type: earliest}", "latest", StartupPosition::Earliest),
        ("{type: latest}", "earliest", StartupPosition::Latest),
        (
            "{type: group-offsets}",
            "earliest",
            StartupPosition::Earliest,
        ),
        (offsets, "latest", StartupPosition::Latest),
    ] {
        assert_eq!(startup(position, reset), local, "{position}");
    }
}

#[test]
fn problems_of_the_kafka_kinds_are_reported_with_their_lines() {
    let found = problems(&format!(
        r#"{ENDPOINT}kind: io.statefun.kafka.v1/ingress
spec:
  id: example/in
  adress: kafka:9092
  autoOffsetResetPosition: none
  startupPosition: {{type: group-offsets}}
  topics:
    - {{topic: "a*", valueType: t/t, targets: [example/a]}}
    - {{topics: b, valueType: t/t, targets: [example/a]}}
    - {{topic: c, valueType: t/t, targets: [example/a]}}
    - {{topic: c, valueType: t/t, targets: [example/a]}}
---
kind: io.statefun.kafka.v1/ingress
spec:
  id: example/offsets
  address: kafka
  startupPosition:
    type: specific-offsets
    offsets:
      - c/0: 1
      - c/0: 2
      - c: 3
      - d/0: 4
      - c/1: -5
  topics: [{{topic: c, valueType: t/t, targets: [example/a]}}]
---
kind: io.statefun.kafka.v1/egress
spec:
  id: example/out
  properties: [bootstrap.servers: "kafka:99999"]
  deliverySemantic: {{type: exactly-once, transactionTimeout: 1m, transactionTimeoutMillis: 10}}
---
kind: io.statefun.kafka.v1/egress
spec:
  id: example/none
  deliverySemantic: {{type: exactly_once}}
"#
    ));
    assert_eq!(
        found,
        [
            "app/module.yaml:6: 'address' of io.statefun.kafka.v1/ingress: required without the \
             property `bootstrap.servers`",
            "app/module.yaml:6: 'consumerGroupId' of io.statefun.kafka.v1/ingress: required by the \
             startup position `group-offsets`",
            "app/module.yaml:7: unknown field 'adress' in io.statefun.kafka.v1/ingress, did you \
             mean 'address'?",
            "app/module.yaml:8: 'autoOffsetResetPosition' of io.statefun.kafka.v1/ingress: `none` \
             is not one of latest, earliest",
            "app/module.yaml:11: 'topic' of an element of topics: `a*` is not the name of a topic: \
             write 1 to 249 letters, digits, `_`, `.` or `-`",
            "app/module.yaml:12: an element of topics needs the field 'topic'",
            "app/module.yaml:12: unknown field 'topics' in an element of topics, did you mean \
             'topic'?",
            "app/module.yaml:14: the topic of this ingress `c` is already declared at \
             app/module.yaml:13",
            "app/module.yaml:19: 'address' of io.statefun.kafka.v1/ingress: `kafka` is not the \
             address of a broker: write host:port, such as kafka:9092",
            "app/module.yaml:24: 'offsets' of startupPosition: `c/0` appears twice",
            "app/module.yaml:25: 'offsets' of startupPosition: `c` is not a partition: write \
             topic/number, such as names/0",
            "app/module.yaml:26: 'offsets' of startupPosition: `d/0`: this ingress does not read \
             the topic d",
            "app/module.yaml:27: 'offsets' of startupPosition: `-5` is not an offset: write a \
             whole number from 0",
            "app/module.yaml:33: 'properties' of io.statefun.kafka.v1/egress: \
             `bootstrap.servers`: `kafka:99999` is not the address of a broker: write host:port, \
             such as kafka:9092",
            "app/module.yaml:34: 'transactionTimeoutMillis' of deliverySemantic: 10 is not between \
             1000 and 86400000",
            "app/module.yaml:34: 'transactionTimeoutMillis' of deliverySemantic: stands beside \
             'transactionTimeout': remove one of the two",
            "app/module.yaml:38: 'address' of io.statefun.kafka.v1/egress: required without the \
             property `bootstrap.servers`",
            "app/module.yaml:39: 'type' of deliverySemantic: `exactly_once` is not one of \
             at-least-once, exactly-once, none, did you mean 'exactly-once'?",
        ]
    );
}

#[test]
fn the_form_of_statefun_3_0_has_kafka_too() {
    let application = parse(
        r#"
version: "3.0"
module:
  meta: {type: remote}
  spec:
    endpoints:
      - endpoint:
          meta: {kind: http}
          spec: {functions: com.example.fns/*, urlPathTemplate: "http://f:8000/statefun"}
    ingresses:
      - ingress:
          meta:
            type: io.statefun.kafka/ingress
            id: com.example/users
          spec:
            address: kafka-broker:9092
            consumerGroupId: my-consumer-group
            startupPosition:
              type: earliest
            topics:
              - topic: messages-1
                valueType: com.example/User
                targets:
                  - com.example.fns/greeter
    egresses:
      - egress:
          meta:
            type: io.statefun.kafka/egress
            id: example/output-messages
          spec:
            address: kafka-broker:9092
            deliverySemantic:
              type: exactly-once
              transactionTimeoutMillis: 100000
            properties:
              - foo.config: bar
"#,
    )
    .unwrap();
    assert_eq!(application.ingresses[0].id, id("com.example", "users"));
    let topics = application.ingresses[0].adapter.streams();
    assert_eq!(topics[0].stream, "messages-1");
    assert_eq!(application.egresses[0].id, id("example", "output-messages"));
    assert!(matches!(
        &application.egresses[0].adapter,
        EgressAdapter::Kafka(kafka) if kafka.properties.get("foo.config") == Some("bar")
    ));
}
