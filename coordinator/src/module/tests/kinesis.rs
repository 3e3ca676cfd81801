//! The Kinesis kinds.

use std::path::PathBuf;
use std::time::Duration;

use satchel_aws::egress::destination::Delivery;
use satchel_aws::egress::kinesis::Ordering;
use satchel_aws::egress::kinesis::envelope::Envelope;
use satchel_aws::kinesis::{Aggregation, ExpiredPosition};

use super::{function, id, parse, source};
use crate::module::{
    AwsAccess, AwsCredentials, AwsRegion, Consumer, EgressAdapter, EgressSpec, IngressAdapter,
    IngressSpec, IngressStream, KinesisEgress, KinesisIngress, RecordId, Secret, StartupPosition,
};

const KINESIS: &str = r#"
kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: f}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: com.example/in
  awsRegion: {type: custom-endpoint, endpoint: "http://localhost:4567", id: us-west-1}
  awsCredentials: {type: basic, accessKeyId: "${KEY}", secretAccessKey: "${SECRET}"}
  startupPosition: {type: date, date: 2020-02-01 04:15:00.000 Z}
  streams:
    - stream: names
      valueType: com.example/name
      targets:
        - example/greeter
        - example/counter
  clientConfigProperties:
    - SocketTimeout: 9999
    - MaxConnections: 15
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: com.example/out
  awsRegion: {type: specific, id: us-west-2}
  awsCredentials: {type: profile, profileName: john, profilePath: /path/to/config}
  maxOutstandingRecords: 9
  delivery: exactly-once
  envelope: json
  ordering: strict
  maxRecordBytes: 10MiB
  requestTimeout: 2s
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: com.example/defaults
"#;

#[test]
fn every_field_of_the_kinesis_kinds_is_read() {
    let application = parse(KINESIS).unwrap();
    let ingress = IngressSpec {
        source: source(7),
        id: id("com.example", "in"),
        adapter: IngressAdapter::Kinesis(KinesisIngress {
            access: AwsAccess {
                region: AwsRegion::CustomEndpoint {
                    endpoint: "http://localhost:4567".to_owned(),
                    region: "us-west-1".to_owned(),
                },
                credentials: AwsCredentials::Basic {
                    access_key_id: "AKIA".to_owned(),
                    secret_access_key: Secret::new("s3cr3t-value"),
                },
            },
            startup: StartupPosition::Date(1_580_530_500_000),
            streams: vec![IngressStream {
                source: source(12),
                stream: "names".to_owned(),
                value_type: "com.example/name".to_owned(),
                targets: vec![function("example/greeter"), function("example/counter")],
                id: RecordId::Key,
            }],
            on_expired: ExpiredPosition::Stop,
            aggregation: Aggregation::Detect,
            consumer: Consumer::Polling,
        }),
    };
    let out = EgressSpec {
        source: source(23),
        id: id("com.example", "out"),
        adapter: EgressAdapter::Kinesis(KinesisEgress {
            access: AwsAccess {
                region: AwsRegion::Specific("us-west-2".to_owned()),
                credentials: AwsCredentials::Profile {
                    name: "john".to_owned(),
                    path: Some(PathBuf::from("/path/to/config")),
                },
            },
            outstanding_records_max: 9,
            delivery: Delivery::ExactlyOnce,
            envelope: Envelope::Json,
            ordering: Ordering::Strict,
            record_bytes_max: 10 << 20,
            request_timeout: Duration::from_secs(2),
        }),
    };
    let defaults = EgressSpec {
        source: source(35),
        id: id("com.example", "defaults"),
        adapter: EgressAdapter::Kinesis(KinesisEgress {
            access: AwsAccess::default(),
            outstanding_records_max: 1_000,
            delivery: Delivery::AtLeastOnce,
            envelope: Envelope::None,
            ordering: Ordering::Coarse,
            record_bytes_max: 1 << 20,
            request_timeout: Duration::from_secs(5),
        }),
    };
    let warnings = application.warnings.iter().map(ToString::to_string);
    let warnings: Vec<String> = warnings.collect();
    let without = |line: u32, property: &str| {
        format!(
            "app/module.yaml:{line}: the property `{property}` of 'clientConfigProperties' has no \
             effect: it belongs to the client of Java; `aws.endpoint` and `aws.region` have one"
        )
    };
    assert_eq!(
        warnings,
        [without(18, "SocketTimeout"), without(19, "MaxConnections")]
    );
    assert_eq!(application.ingresses, vec![ingress]);
    assert_eq!(application.egresses, vec![out, defaults]);
}

#[test]
fn what_satchel_adds_to_a_kinesis_ingress_is_read() {
    let application = parse(
        r#"
kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: handler}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: com.example/in
  awsCredentials:
    type: assume-role
    roleArn: arn:aws:iam::123456789012:role/reader
    externalId: x
  onExpiredPosition: earliest
  aggregation: keep
  consumer: {type: fan-out, name: my-consumer}
  streams:
    - stream: orders
      valueType: com.example/order
      id: /customer/id
      targets: [example/customer]
    - stream: events
      valueType: com.example/event
      router: {function: example/router, id: main}
    - stream: others
      valueType: com.example/event
      router: {function: example/router}
"#,
    )
    .unwrap();
    let IngressAdapter::Kinesis(kinesis) = &application.ingresses[0].adapter else {
        panic!("it is one of Kinesis");
    };
    assert_eq!(
        kinesis.access.credentials,
        AwsCredentials::AssumeRole {
            role_arn: "arn:aws:iam::123456789012:role/reader".to_owned(),
            session_name: None,
            external_id: Some("x".to_owned()),
        }
    );
    assert_eq!(kinesis.on_expired, ExpiredPosition::Earliest);
    assert_eq!(kinesis.aggregation, Aggregation::Keep);
    let name = Some("my-consumer".to_owned());
    assert_eq!(kinesis.consumer, Consumer::FanOut { name });
    let routes: Vec<_> = kinesis
        .streams
        .iter()
        .map(|stream| (stream.targets.clone(), stream.id.clone()))
        .collect();
    let router = || vec![function("example/router")];
    assert_eq!(
        routes,
        [
            (
                vec![function("example/customer")],
                RecordId::Pointer("/customer/id".to_owned())
            ),
            (router(), RecordId::Constant("main".to_owned())),
            (router(), RecordId::Key),
        ]
    );
}

#[test]
fn a_secret_access_key_is_not_shown_when_debugged() {
    let application = parse(KINESIS).unwrap();
    let shown = format!("{application:?}");
    assert!(shown.contains("secret_access_key: (hidden)"), "{shown}");
    assert!(!shown.contains("s3cr3t-value"), "{shown}");
}
