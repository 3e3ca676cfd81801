//! `io.statefun.kinesis.v1/ingress`: records of streams become messages of functions.
//!
//! In `dev` the streams are local.

use satchel_aws::config::AwsAccess;
use satchel_aws::kinesis::{Aggregation, ExpiredPosition};

use crate::module::aws;
use crate::module::date::{parse_date, parse_rfc3339};
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
    Field::optional(
        "streamArn",
        Form::Format(&STREAM_ARN),
        "no effect",
        "ARN of the stream, a field of StateFun's fork for Flink 2. Accepted with a warning: the \
         stream is found by its name, in the region of `awsRegion`.",
    )
    .extension(),
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
        Variant {
            word: "at-timestamp",
            fields: &[Field::required(
                "timestamp",
                Form::Format(&TIMESTAMP),
                "Time of RFC 3339, such as `2026-02-01T04:15:00.000+01:00`.",
            )],
            meaning: "The same, as StateFun's fork for Flink 2 writes it.",
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

static STREAM_ARN: Format = Format {
    name: "ARN of a stream",
    pattern: r"arn:[^\s]+:stream/[A-Za-z0-9_.\-]{1,128}",
    check: |text| parse_arn(text).map(drop),
};

static TIMESTAMP: Format = Format {
    name: "time of RFC 3339",
    pattern: r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\.[0-9]+)?([Zz]|[+\-][0-9]{2}:[0-9]{2})",
    check: |text| parse_timestamp(text).map(drop),
};

/// Name of a stream.
pub(crate) static STREAM_NAME: Format = Format {
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
        let mut fields = fields.element("streams", node, STREAM);
        check_stream_arn(&mut fields);
        stream(fields, "stream", check_stream_name)
    });
    let streams = streams.collect();
    IngressSpec {
        source,
        id,
        adapter: IngressAdapter::Kinesis(KinesisIngress {
            access: aws::access_with_properties(&mut fields),
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
        }),
    }
}

/// Checks that the ARN of a stream, if there is one, names the same stream.
fn check_stream_arn(fields: &mut Fields<'_, '_>) {
    let Some(by_arn) = fields.parsed("streamArn", parse_arn) else {
        return;
    };
    let why = "the stream is found by its name, in the region of 'awsRegion'";
    fields.warn_of("streamArn", why);
    let same = |name: &str| match name == by_arn {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is not the stream of 'streamArn', {by_arn}"
        )),
    };
    fields.parsed("stream", same);
}

fn parse_arn(text: &str) -> Result<String, String> {
    let name = text
        .starts_with("arn:")
        .then(|| text.rsplit_once(":stream/"));
    let name = name.flatten().map(|(_, name)| name.to_owned());
    name.filter(|name| check_stream_name(name).is_ok())
        .ok_or_else(|| {
            format!(
                "`{text}` is not the ARN of a stream: write \
             arn:aws:kinesis:<region>:<account>:stream/<name>"
            )
        })
}

fn parse_timestamp(text: &str) -> Result<u64, String> {
    parse_rfc3339(text).ok_or_else(|| {
        format!("`{text}` is not a time since 1970: write it as 2026-02-01T04:15:00.000+00:00")
    })
}

fn startup(fields: &mut Fields<'_, '_>) -> StartupPosition {
    let (kind, mut fields) = fields.tagged("startupPosition");
    match kind {
        "earliest" => StartupPosition::Earliest,
        "date" => {
            let date = fields.parsed("date", parse_date);
            StartupPosition::Date(date.unwrap_or_default())
        }
        "at-timestamp" => {
            let time = fields.parsed("timestamp", parse_timestamp);
            StartupPosition::Date(time.unwrap_or_default())
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
