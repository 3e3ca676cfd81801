//! `io.statefun.kinesis.v1/ingress`: records of streams become messages of functions.
//!
//! In `dev` the streams are local.

use satchel_aws::config::AwsAccess;
use satchel_aws::kinesis::{Aggregation, ExpiredPosition};
use satchel_engine::address::FunctionType;

use crate::module::aws::{self, client_properties};
use crate::module::date::parse_date;
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::ingress::{
    FUNCTION, IngressAdapter, IngressSpec, VALUE_TYPE, parse_target, parse_value_type, targets,
};
use crate::module::problem::Source;
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
    Field::optional(
        "targets",
        Form::List(&FUNCTION, 1),
        "required without `router`",
        "Functions that receive each record. Not allowed with `router`.",
    ),
    Field::with_default(
        "id",
        Form::Format(&RECORD_ID),
        "key",
        "Source of the id at each target: `key` for the record's partition key, or a JSON pointer \
         into its data, such as `/customer/id`, to a text that is not empty or a whole number. Not \
         allowed with `router`.",
    )
    .extension(),
    Field::optional(
        "router",
        Form::Mapping(ROUTER),
        "the stream has `targets`",
        "A function that receives each record and sends it on, instead of `targets` and `id`.",
    )
    .extension(),
];

const ROUTER: &[Field] = &[
    Field::required("function", FUNCTION, "Function that receives each record.").extension(),
    Field::optional(
        "id",
        Form::Text,
        "the record's partition key",
        "Id of the function, the same for every record.",
    )
    .extension(),
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
            fields: &[Field::required(
                "date",
                Form::Format(&DATE),
                "Time, such as `2026-02-01 04:15:00.000 +0100`. `Z` is UTC.",
            )],
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

static RECORD_ID: Format = Format {
    name: "`key` or a JSON pointer",
    pattern: r"key|/[\s\S]*",
    check: |text| parse_record_id(text).map(drop),
};

static DATE: Format = Format {
    name: "date `yyyy-MM-dd HH:mm:ss.SSS Z`",
    pattern: r" *[0-9]{4}-[0-9]{2}-[0-9]{2} +[0-9:]{8}\.[0-9]{3} +(Z|[+\-][0-9]{4}) *",
    check: |text| parse_date(text).map(drop),
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

/// One stream of an ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressStream {
    /// Position in the module file.
    pub source: Source,
    /// Name of the stream.
    pub stream: String,
    /// Typename given to the bytes of its records.
    pub value_type: String,
    /// Functions that receive each record; at least one. With `router`, that function alone.
    pub targets: Vec<FunctionType>,
    /// Source of the id at each of them.
    pub id: RecordId,
}

/// Source of the id of a record's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecordId {
    /// The record's partition key, as in StateFun.
    #[default]
    Key,
    /// JSON pointer (RFC 6901) into the record's data, to a text that is not empty or a whole
    /// number.
    Pointer(String),
    /// The same id for every record: one instance receives them all, and may send them on.
    Constant(String),
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
    let streams = streams.map(|node| stream(fields.element("streams", node, STREAM)));
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

fn stream(mut fields: Fields<'_, '_>) -> IngressStream {
    let source = fields.source();
    let stream = fields.parsed("stream", |text| {
        check_stream_name(text).map(|()| text.to_owned())
    });
    let value_type = fields.parsed("valueType", parse_value_type);
    let (targets, id) = match fields.is_present("router") {
        true => {
            for name in ["targets", "id"] {
                if fields.is_present(name) {
                    fields.problem_with(name, "not allowed with 'router': remove one of the two");
                }
            }
            router(fields.mapping("router"))
        }
        false => {
            let id = fields.parsed("id", parse_record_id);
            (targets(&mut fields), id.unwrap_or_default())
        }
    };
    IngressStream {
        source,
        stream: stream.unwrap_or_default(),
        value_type: value_type.unwrap_or_default(),
        targets,
        id,
    }
}

fn parse_record_id(text: &str) -> Result<RecordId, String> {
    let is_pointer = text.starts_with('/')
        && text
            .split('~')
            .skip(1)
            .all(|rest| rest.starts_with(['0', '1']));
    match text {
        "key" => Ok(RecordId::Key),
        _ if is_pointer => Ok(RecordId::Pointer(text.to_owned())),
        _ => Err(format!(
            "`{text}` is neither `key` nor a JSON pointer: write it as /customer/id (RFC 6901)"
        )),
    }
}

fn router(mut fields: Fields<'_, '_>) -> (Vec<FunctionType>, RecordId) {
    let function = fields.parsed("function", parse_target);
    let id = fields.optional_text("id");
    let id = id.map_or(RecordId::Key, RecordId::Constant);
    (function.into_iter().collect(), id)
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
