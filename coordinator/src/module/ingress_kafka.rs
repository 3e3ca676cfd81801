//! `io.statefun.kafka.v1/ingress`: records of topics become messages of functions.
//!
//! In `dev` the topics are local streams.

use std::collections::HashSet;

use satchel_aws::kinesis::ExpiredPosition;

use crate::module::date::parse_date;
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::ingress::{IngressAdapter, IngressSpec, VALUE_TYPE};
use crate::module::ingress_kinesis::StartupPosition;
use crate::module::ingress_stream::{DATE, IngressStream, RECORD_ID, ROUTER, TARGETS, stream};
use crate::module::kafka::{ADDRESS, KafkaProperties, connection, properties_field};
use crate::module::pairs::pairs;
use crate::module::table::{Field, Form, Format, Kind, Pairs, Tagged, Variant, Word};

/// The kind `io.statefun.kafka.v1/ingress`.
pub(crate) static INGRESS: Kind = Kind {
    name: "io.statefun.kafka.v1/ingress",
    summary: "Records of Kafka topics, each processed exactly once and in order per partition. \
              Satchel keeps the offsets itself, and only informs the consumer group. With \
              `satchel dev` the topics are local streams.",
    example: "kind: io.statefun.kafka.v1/ingress
spec:
  id: example/names
  address: kafka:9092
  consumerGroupId: greeter
  startupPosition: {type: earliest}
  topics:
    - topic: names
      valueType: example/name
      targets: [example/greeter]
",
    fields: &[
        ID,
        ADDRESS,
        Field::optional(
            "consumerGroupId",
            Form::Text,
            "the property `group.id`",
            "Consumer group that is informed of the offsets, and whose offsets the startup \
             position `group-offsets` takes. Takes precedence over the property `group.id`.",
        ),
        Field::required(
            "topics",
            Form::List(&Form::Mapping(TOPIC), 1),
            "Topics to read.",
        ),
        Field::with_default(
            "autoOffsetResetPosition",
            Form::Choice(&[
                Word {
                    word: "latest",
                    meaning: "After the records that are in the partition now.",
                },
                Word {
                    word: "earliest",
                    meaning: "The oldest record.",
                },
            ]),
            "latest",
            "First record to read where the startup position names an offset that does not exist.",
        ),
        Field::with_default(
            "startupPosition",
            Form::Tagged(&STARTUP),
            "latest",
            "First record to read of a partition that has no position yet. StateFun's \
             documentation names `group-offsets` as the default; its releases start with `latest`.",
        ),
        Field::with_default(
            "onExpiredPosition",
            Form::Choice(&[
                Word {
                    word: "stop",
                    meaning: "Stop with an error that names the topic.",
                },
                Word {
                    word: "earliest",
                    meaning: "Log it and continue with the oldest record that is left.",
                },
            ]),
            "stop",
            "Reaction when the topic no longer holds records that were not read yet.",
        )
        .extension(),
        properties_field("Properties of the consumer, as `property: value`."),
    ],
    read: |fields, application| application.ingresses.push(ingress(fields)),
};

const TOPIC: &[Field] = &[
    Field::required("topic", Form::Format(&TOPIC_NAME), "Name of the topic."),
    VALUE_TYPE,
    TARGETS,
    RECORD_ID,
    ROUTER,
];

static STARTUP: Tagged = Tagged {
    title: "Kafka startup position",
    untagged: None,
    variants: &[
        Variant {
            word: "latest",
            fields: &[],
            meaning: "After the records that are in the partition now.",
        },
        Variant {
            word: "earliest",
            fields: &[],
            meaning: "The oldest record.",
        },
        Variant {
            word: "group-offsets",
            fields: &[],
            meaning: "The offsets that the consumer group has committed. Requires \
                      `consumerGroupId`.",
        },
        Variant {
            word: "specific-offsets",
            fields: &[Field::required(
                "offsets",
                Form::Pairs(&Pairs {
                    key: Some(&PARTITION),
                    value: Form::Whole(0, i64::MAX as u64),
                    element_max: Some(1),
                    len_max: None,
                }),
                "Offset of the first record, as `topic/partition: offset`. A partition that is \
                 not listed starts at `autoOffsetResetPosition`.",
            )],
            meaning: "The records at `offsets`.",
        },
        Variant {
            word: "date",
            fields: &[DATE],
            meaning: "The first record at or after `date`.",
        },
    ],
};

static TOPIC_NAME: Format = Format {
    name: "name of a topic",
    pattern: r"[A-Za-z0-9_.\-]{1,249}",
    check: check_topic,
};

static PARTITION: Format = Format {
    name: "`topic/partition`",
    pattern: r"[A-Za-z0-9_.\-]{1,249}/[0-9]{1,10}",
    check: |text| parse_partition(text).map(drop),
};

/// Topics to read, and the targets of their records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaIngress {
    /// Brokers to connect to first, `host:port` with commas between them.
    pub address: String,
    /// Consumer group that is informed of the offsets.
    pub consumer_group_id: Option<String>,
    /// At least one.
    pub topics: Vec<IngressStream>,
    /// First record to read where the startup position names an offset that does not exist.
    pub auto_offset_reset: AutoOffsetReset,
    /// First record to read of a partition that has no position yet.
    pub startup: KafkaStartup,
    /// Reaction when the topic no longer holds records that were not read.
    pub on_expired: ExpiredPosition,
    /// Properties of the consumer, in order. `address` and `consumer_group_id` take precedence.
    pub properties: KafkaProperties,
}

/// First record to read where a startup position names an offset that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoOffsetReset {
    /// After the records that are in the partition now.
    Latest,
    /// The oldest record.
    Earliest,
}

/// First record to read of a partition that has no position yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaStartup {
    /// After the records that are in the partition now.
    Latest,
    /// The oldest record.
    Earliest,
    /// The offset that the consumer group has committed.
    GroupOffsets,
    /// These offsets, at most one for each partition.
    SpecificOffsets(Vec<PartitionOffset>),
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Date(u64),
}

/// Offset of the first record to read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: u32,
    /// Offset of the first record.
    pub offset: u64,
}

impl KafkaIngress {
    /// Startup position of the local streams that stand for the topics in `dev`. They have neither
    /// groups nor offsets, so `autoOffsetResetPosition` holds for positions that name one.
    pub fn local_startup(&self) -> StartupPosition {
        match (&self.startup, self.auto_offset_reset) {
            (KafkaStartup::Date(ms), _) => StartupPosition::Date(*ms),
            (KafkaStartup::Earliest, _) => StartupPosition::Earliest,
            (KafkaStartup::Latest, _) => StartupPosition::Latest,
            (_, AutoOffsetReset::Earliest) => StartupPosition::Earliest,
            (_, AutoOffsetReset::Latest) => StartupPosition::Latest,
        }
    }
}

/// Reads the spec of an `io.statefun.kafka.v1/ingress`.
fn ingress(mut fields: Fields<'_, '_>) -> IngressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let (address, properties) = connection(&mut fields);
    let topics = fields.list("topics").iter();
    let topics = topics.map(|node| {
        let fields = fields.element("topics", node, TOPIC);
        stream(fields, "topic", check_topic)
    });
    let topics: Vec<IngressStream> = topics.collect();
    let group = fields.optional_text("consumerGroupId");
    let group = group.or_else(|| properties.get("group.id").map(str::to_owned));
    let startup = startup(&mut fields, &topics);
    if startup == KafkaStartup::GroupOffsets && group.is_none() {
        fields.require(
            "consumerGroupId",
            "required by the startup position `group-offsets`",
        );
    }
    IngressSpec {
        source,
        id,
        adapter: IngressAdapter::Kafka(KafkaIngress {
            address,
            consumer_group_id: group,
            topics,
            auto_offset_reset: match fields.choice("autoOffsetResetPosition") {
                "earliest" => AutoOffsetReset::Earliest,
                _ => AutoOffsetReset::Latest,
            },
            startup,
            on_expired: match fields.choice("onExpiredPosition") {
                "earliest" => ExpiredPosition::Earliest,
                _ => ExpiredPosition::Stop,
            },
            properties,
        }),
    }
}

fn startup(fields: &mut Fields<'_, '_>, topics: &[IngressStream]) -> KafkaStartup {
    let (kind, mut fields) = fields.tagged("startupPosition");
    match kind {
        "earliest" => KafkaStartup::Earliest,
        "group-offsets" => KafkaStartup::GroupOffsets,
        "specific-offsets" => KafkaStartup::SpecificOffsets(offsets(&mut fields, topics)),
        "date" => {
            let date = fields.parsed("date", parse_date);
            KafkaStartup::Date(date.unwrap_or_default())
        }
        _ => KafkaStartup::Latest,
    }
}

fn offsets(fields: &mut Fields<'_, '_>, topics: &[IngressStream]) -> Vec<PartitionOffset> {
    let name = "offsets";
    let mut seen = HashSet::new();
    let mut offsets = Vec::new();
    for pair in pairs(fields, name, "topic/partition: offset") {
        let offset = fields.parse_of(name, Some(pair.value), parse_offset);
        let problem = match parse_partition(pair.name) {
            Ok((topic, _)) if !topics.iter().any(|read| read.stream == topic) => {
                format!(
                    "`{}`: this ingress does not read the topic {topic}",
                    pair.name
                )
            }
            Ok(_) if !seen.insert(pair.name) => format!("`{}` appears twice", pair.name),
            Ok((topic, partition)) => {
                offsets.extend(offset.map(|offset| PartitionOffset {
                    topic: topic.to_owned(),
                    partition,
                    offset,
                }));
                continue;
            }
            Err(message) => message,
        };
        fields.problem(pair.line, format!("'{name}' of startupPosition: {problem}"));
    }
    offsets
}

fn parse_offset(text: &str) -> Result<u64, String> {
    let offset = text
        .parse()
        .ok()
        .filter(|offset| *offset <= i64::MAX as u64);
    offset.ok_or_else(|| format!("`{text}` is not an offset: write a whole number from 0"))
}

fn parse_partition(text: &str) -> Result<(&str, u32), String> {
    let parsed = text.rsplit_once('/').and_then(|(topic, partition)| {
        let number = partition.parse().ok().filter(|n| *n <= i32::MAX as u32)?;
        let is_decimal = partition.bytes().all(|digit| digit.is_ascii_digit());
        (is_decimal && check_topic(topic).is_ok()).then_some((topic, number))
    });
    parsed
        .ok_or_else(|| format!("`{text}` is not a partition: write topic/number, such as names/0"))
}

/// Checks the name of a topic, as brokers do.
fn check_topic(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let valid = (1..=249).contains(&name.len()) && name.chars().all(allowed);
    match valid && name != "." && name != ".." {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is not the name of a topic: write 1 to 249 letters, digits, `_`, `.` or `-`"
        )),
    }
}
