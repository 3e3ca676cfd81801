//! `io.statefun.kinesis.v1/ingress`: records of streams become messages of functions.
//!
//! In `dev` the streams are local.

use satchel_aws::config::AwsAccess;
use satchel_aws::kinesis::{Aggregation, ExpiredPosition};

use crate::module::aws::{self, client_properties};
use crate::module::date::parse_date;
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::ingress::{IngressAdapter, IngressSpec, VALUE_TYPE};
use crate::module::ingress_stream::{DATE, IngressStream, RECORD_ID, ROUTER, TARGETS, stream};
use crate::module::table::{Field, Form, Format, Kind, Tagged, Variant, Word};
use crate::streams::check_stream_name;

/// The kind `io.statefun.kinesis.v1/ingress`.
pub(crate) static INGRESS: Kind = Kind {
    name: "io.statefun.kinesis.v1/ingress",
    summary: "Records of Kinesis streams, each processed exactly once and in order per shard. With \
              `satchel dev` the streams are local, unless `--kinesis-ingress` is given.",
    example: "kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  awsRegion: {type: specific, id: eu-central-1}
  startupPosition: {type: earliest}
  streams:
    - stream: names
      valueType: example/name
      targets: [example/greeter]
",
    fields: &[
        ID,
        aws::REGION,
        aws::CREDENTIALS,
        Field::with_default(
            "startupPosition",
            Form::Tagged(&STARTUP),
            "latest",
            "First record to read of a shard that has no position yet.",
        ),
        Field::required(
            "streams",
            Form::List(&Form::Mapping(STREAM), 1),
            "Streams to read.",
        ),
        Field::with_default(
            "onExpiredPosition",
            Form::Choice(&[
                Word {
                    word: "stop",
                    meaning: "Stop with an error that names the stream.",
                },
                Word {
                    word: "earliest",
                    meaning: "Log it and continue with the oldest record that is left.",
                },
            ]),
            "stop",
            "Reaction when the stream no longer holds records that were not read yet.",
        )
        .extension(),
        Field::with_default(
            "aggregation",
            Form::Choice(&[
                Word {
                    word: "detect",
                    meaning: "Drop them if the Kinesis Producer Library made the aggregate, which \
                              sends them to their own shard again; keep them otherwise.",
                },
                Word {
                    word: "kpl",
                    meaning: "Drop them, as the Kinesis Client Library does.",
                },
                Word {
                    word: "keep",
                    meaning: "Keep them.",
                },
            ]),
            "detect",
            "Treatment of records in aggregates (of the Kinesis Producer Library and libraries \
             like it) whose hash keys belong to another shard.",
        )
        .extension(),
        Field::with_default(
            "consumer",
            Form::Tagged(&CONSUMER),
            "polling",
            "Way of reading from Kinesis. Local streams ignore it.",
        )
        .extension(),
        aws::CLIENT_PROPERTIES,
    ],
    read: |fields, application| application.ingresses.push(ingress(fields)),
};

const STREAM: &[Field] = &[
    Field::required("stream", Form::Format(&STREAM_NAME), "Name of the stream."),
    VALUE_TYPE,
    TARGETS,
    RECORD_ID,
    ROUTER,
];

static STARTUP: Tagged = Tagged {
    title: "Startup position",
    untagged: None,
    variants: &[
        Variant {
            word: "latest",
            fields: &[],
            meaning: "After the records that are in the shard now.",
        },
        Variant {
            word: "earliest",
            fields: &[],
            meaning: "The oldest record.",
        },
        Variant {
            word: "date",
            fields: &[DATE],
            meaning: "The first record at or after `date`.",
        },
    ],
};

static CONSUMER: Tagged = Tagged {
    title: "Kinesis consumer",
    untagged: None,
    variants: &[
        Variant {
            word: "polling",
            fields: &[],
            meaning: "Requests, within the five reads per second that all readers of a shard \
                      share.",
        },
        Variant {
            word: "fan-out",
            fields: &[Field::optional(
                "name",
                Form::Format(&CONSUMER_NAME),
                "a name derived from the application",
                "Name under which the consumer is registered.",
            )],
            meaning: "Enhanced fan-out: records are pushed, with a throughput of their own.",
        },
    ],
};

static STREAM_NAME: Format = Format {
    name: "name of a stream",
    pattern: r"[A-Za-z0-9_.\-]{1,128}",
    check: check_stream_name,
};

static CONSUMER_NAME: Format = Format {
    name: "name of a consumer",
    pattern: r"[A-Za-z0-9_.\-]{1,128}",
    check: |text| parse_consumer_name(text).map(drop),
};

/// Streams to read, and the targets of their records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisIngress {
    /// Region and credentials.
    pub access: AwsAccess,
    /// First record to read of a shard that has no position yet.
    pub startup: StartupPosition,
    /// At least one.
    pub streams: Vec<IngressStream>,
    /// `onExpiredPosition`: reaction when the stream no longer holds records that were not read.
    pub on_expired: ExpiredPosition,
    /// Treatment of records in aggregates that belong to another shard.
    pub aggregation: Aggregation,
    /// Way of reading from Kinesis.
    pub consumer: Consumer,
    /// `clientConfigProperties`, in order.
    pub client_properties: Vec<(String, String)>,
}

/// Way of reading from Kinesis. Local streams have no such choice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Consumer {
    /// Requests, within the five reads per second that all readers of a shard share.
    #[default]
    Polling,
    /// Enhanced fan-out: records are pushed, with a throughput of their own.
    FanOut {
        /// Name under which the consumer is registered; without it, one of the application's own.
        name: Option<String>,
    },
}

/// First record to read of a shard that has no position yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartupPosition {
    /// After the records that are in the shard now.
    Latest,
    /// The oldest record.
    Earliest,
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Date(u64),
}

/// Reads the spec of an `io.statefun.kinesis.v1/ingress`.
fn ingress(mut fields: Fields<'_, '_>) -> IngressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let streams = fields.list("streams").iter();
    let streams = streams.map(|node| {
        let fields = fields.element("streams", node, STREAM);
        stream(fields, "stream", check_stream_name)
    });
    let streams = streams.collect();
    IngressSpec {
        source,
        id,
        adapter: IngressAdapter::Kinesis(KinesisIngress {
            access: aws::access(&mut fields),
            startup: startup(&mut fields),
            streams,
            on_expired: match fields.choice("onExpiredPosition") {
                "earliest" => ExpiredPosition::Earliest,
                _ => ExpiredPosition::Stop,
            },
            aggregation: match fields.choice("aggregation") {
                "kpl" => Aggregation::Kpl,
                "keep" => Aggregation::Keep,
                _ => Aggregation::Detect,
            },
            consumer: consumer(&mut fields),
            client_properties: client_properties(&mut fields),
        }),
    }
}

fn startup(fields: &mut Fields<'_, '_>) -> StartupPosition {
    let (kind, mut fields) = fields.tagged("startupPosition");
    match kind {
        "earliest" => StartupPosition::Earliest,
        "date" => {
            let date = fields.parsed("date", parse_date);
            StartupPosition::Date(date.unwrap_or_default())
        }
        _ => StartupPosition::Latest,
    }
}

fn consumer(fields: &mut Fields<'_, '_>) -> Consumer {
    let (kind, mut fields) = fields.tagged("consumer");
    match kind {
        "fan-out" => Consumer::FanOut {
            name: fields.parsed("name", parse_consumer_name),
        },
        _ => Consumer::Polling,
    }
}

fn parse_consumer_name(text: &str) -> Result<String, String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let is_name = text.len() <= 128 && text.chars().all(allowed);
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "`{text}` is not the name of a consumer: write up to 128 letters, digits, `_`, `.` \
             or `-`"
        )
    })
}
