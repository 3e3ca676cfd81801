//! The Kinesis kinds: streams that messages come from and records go to. In `dev` both are local streams.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_aws::egress::destination::{AwsEgress, Delivery, Destination};
use satchel_aws::egress::kinesis::envelope::Envelope;
use satchel_aws::egress::kinesis::{KinesisSettings, RECORD_BYTES_MAX, RECORD_BYTES_MAX_LARGE};
use satchel_aws::kinesis::ExpiredPosition;
use satchel_engine::address::FunctionType;

use crate::module::aws::{access, client_properties, variant};
use crate::module::date::parse_date;
use crate::module::fields::Fields;
use crate::module::ingress_sqs::SqsIngress;
use crate::module::problem::Source;
use crate::streams::check_stream_name;

/// How long a request may take that puts records, if the module file does not say it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What it may say: a new owner waits this long, and more, before it looks for records in doubt.
const REQUEST_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// An ingress of a module file.
#[derive(Debug, Clone, PartialEq)]
pub struct IngressSpec {
    /// Where it is written.
    pub source: Source,
    /// Its id, which is part of the identity of its positions.
    pub id: Identifier,
    /// What it reads.
    pub adapter: IngressAdapter,
}

/// What an ingress reads.
#[derive(Debug, Clone, PartialEq)]
pub enum IngressAdapter {
    /// `io.statefun.kinesis.v1/ingress`.
    Kinesis(KinesisIngress),
    /// `satchel.sqs.v1/ingress`.
    Sqs(SqsIngress),
}

/// An egress of a module file.
#[derive(Debug, Clone, PartialEq)]
pub struct EgressSpec {
    /// Where it is written.
    pub source: Source,
    /// Its id, by which functions name it.
    pub id: Identifier,
    /// What it writes.
    pub adapter: EgressAdapter,
}

/// What an egress writes.
#[derive(Debug, Clone, PartialEq)]
pub enum EgressAdapter {
    /// `io.statefun.kinesis.v1/egress`.
    Kinesis(KinesisEgress),
    /// `satchel.sqs.v1/egress`, `satchel.sns.v1/egress`, and so on.
    Aws(AwsEgress),
}

/// `namespace/name` of an ingress or egress.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier {
    /// The part before the last `/`.
    pub namespace: String,
    /// The part after the last `/`.
    pub name: String,
}

/// Streams to read, with what their records become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisIngress {
    /// Where Kinesis is, and who asks.
    pub access: AwsAccess,
    /// Where a shard that has no position yet is begun.
    pub startup: StartupPosition,
    /// At least one.
    pub streams: Vec<IngressStream>,
    /// `onExpiredPosition`: what to do when the stream has forgotten what was not read yet.
    pub on_expired: ExpiredPosition,
    /// `consumer`: how records are got.
    pub consumer: Consumer,
    /// `clientConfigProperties`, in order.
    pub client_properties: Vec<(String, String)>,
}

/// How records are got from Kinesis. Local streams have no such choice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Consumer {
    /// By asking again and again, within the five reads a second that a shard allows all its readers together.
    #[default]
    Polling,
    /// By enhanced fan-out: pushed, with a throughput of its own.
    FanOut {
        /// `name`: under which the consumer is registered; one of the application's own if none is given.
        name: Option<String>,
    },
}

/// One stream of an ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressStream {
    /// Where it is written.
    pub source: Source,
    /// The stream's name.
    pub stream: String,
    /// The typename given to the bytes of its records.
    pub value_type: String,
    /// The functions that get each record; at least one. With `router` it is that function alone.
    pub targets: Vec<FunctionType>,
    /// What becomes the id of the address at each of them.
    pub id: RecordId,
}

/// What of a record becomes the id of an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecordId {
    /// Its key, as in StateFun.
    #[default]
    Key,
    /// What this JSON pointer (RFC 6901) points at in its data: a text that is not empty, or a whole number.
    Pointer(String),
    /// Always this: one instance sees every record, and may send it on.
    Constant(String),
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisEgress {
    /// Where Kinesis is, and who asks.
    pub access: AwsAccess,
    /// How many records may be on their way at once.
    pub outstanding_records_max: usize,
    /// How often a record may be in its stream.
    pub delivery: Delivery,
    /// Whether the records' ids are put around them.
    pub envelope: Envelope,
    /// What the streams take as one record, its key included.
    pub record_bytes_max: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// `clientConfigProperties`, in order.
    pub client_properties: Vec<(String, String)>,
}

/// Where a shard that has no position yet is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartupPosition {
    /// After what is in it now.
    Latest,
    /// At its oldest record.
    Earliest,
    /// At the first record from this time on, in milliseconds since the Unix epoch.
    Date(u64),
}

impl FromStr for Identifier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("`{text}` is not an id: write `namespace/name`")),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Reads the spec of an `io.statefun.kinesis.v1/ingress`.
pub(crate) fn ingress(mut fields: Fields<'_, '_>) -> IngressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let startup = match fields.optional("startupPosition") {
        Some(node) => startup(fields.inside(node, "startupPosition")),
        None => StartupPosition::Latest,
    };
    let streams = fields
        .list("streams")
        .iter()
        .map(|node| stream(fields.inside(node, "an element of streams")))
        .collect();
    let on_expired = fields.optional("onExpiredPosition");
    let on_expired = fields.parse_of("onExpiredPosition", on_expired, parse_on_expired);
    let consumer = match fields.optional("consumer") {
        Some(node) => consumer(fields.inside(node, "consumer")),
        None => Consumer::Polling,
    };
    let client_properties = client_properties(&mut fields);
    fields.finish();
    IngressSpec {
        source,
        id,
        adapter: IngressAdapter::Kinesis(KinesisIngress {
            access,
            startup,
            streams,
            on_expired: on_expired.unwrap_or_default(),
            consumer,
            client_properties,
        }),
    }
}

/// Reads the spec of an `io.statefun.kinesis.v1/egress`.
pub(crate) fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let outstanding_records_max = fields.whole("maxOutstandingRecords", 1_000, 1..=1_000_000);
    let (delivery, envelope) = (delivery(&mut fields), envelope(&mut fields));
    let sizes = 1_024..=RECORD_BYTES_MAX_LARGE as u64;
    let record_bytes_max = fields.bytes("maxRecordBytes", RECORD_BYTES_MAX as u64, sizes);
    let request_timeout = fields.optional_duration("requestTimeout", REQUEST_TIMEOUTS);
    let client_properties = client_properties(&mut fields);
    fields.finish();
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Kinesis(KinesisEgress {
            access,
            outstanding_records_max: outstanding_records_max as usize,
            delivery,
            envelope,
            record_bytes_max: record_bytes_max as usize,
            request_timeout: request_timeout.unwrap_or(REQUEST_TIMEOUT),
            client_properties,
        }),
    }
}

impl KinesisEgress {
    /// The egress to real Kinesis.
    pub fn to_aws(&self) -> AwsEgress {
        let settings = KinesisSettings {
            outstanding_records_max: self.outstanding_records_max,
            record_bytes_max: self.record_bytes_max,
            request_timeout: self.request_timeout,
            envelope: self.envelope,
        };
        AwsEgress {
            access: self.access.clone(),
            destination: Destination::Kinesis(settings, self.delivery),
        }
    }
}

fn delivery(fields: &mut Fields<'_, '_>) -> Delivery {
    let node = fields.optional("delivery");
    let delivery = fields.parse_of("delivery", node, |text| match text {
        "at-least-once" => Ok(Delivery::AtLeastOnce),
        "exactly-once" => Ok(Delivery::ExactlyOnce),
        _ => Err(format!("`{text}` is none of at-least-once, exactly-once")),
    });
    delivery.unwrap_or_default()
}

fn envelope(fields: &mut Fields<'_, '_>) -> Envelope {
    let node = fields.optional("envelope");
    let envelope = fields.parse_of("envelope", node, |text| match text {
        "none" => Ok(Envelope::None),
        "json" => Ok(Envelope::Json),
        _ => Err(format!("`{text}` is none of none, json")),
    });
    envelope.unwrap_or_default()
}

/// Reads `id`.
pub(crate) fn identifier(fields: &mut Fields<'_, '_>) -> Identifier {
    let id = fields.parsed("id", str::parse);
    id.unwrap_or_else(|| Identifier {
        namespace: String::new(),
        name: String::new(),
    })
}

fn startup(mut fields: Fields<'_, '_>) -> StartupPosition {
    let position = match variant(&mut fields, &["latest", "earliest", "date"]) {
        Some("earliest") => StartupPosition::Earliest,
        Some("date") => {
            let date = fields.parsed("date", parse_date);
            StartupPosition::Date(date.unwrap_or_default())
        }
        Some(_) => StartupPosition::Latest,
        None => return StartupPosition::Latest,
    };
    fields.finish();
    position
}

fn stream(mut fields: Fields<'_, '_>) -> IngressStream {
    let source = fields.source();
    let stream = fields.parsed("stream", |text| {
        check_stream_name(text).map(|()| text.to_owned())
    });
    let value_type = fields.parsed("valueType", parse_value_type);
    let (targets, id) = match fields.optional("router") {
        Some(node) => {
            for name in ["targets", "id"] {
                if fields.optional(name).is_some() {
                    fields.problem_with(name, "a router decides that: leave it out");
                }
            }
            router(fields.inside(node, "router"))
        }
        None => (targets(&mut fields), record_id(&mut fields)),
    };
    fields.finish();
    IngressStream {
        source,
        stream: stream.unwrap_or_default(),
        value_type: value_type.unwrap_or_default(),
        targets,
        id,
    }
}

/// The typename that bytes are given.
pub(crate) fn parse_value_type(text: &str) -> Result<String, String> {
    let typename: Result<Identifier, String> = text.parse();
    typename
        .map(|_| text.to_owned())
        .map_err(|_| format!("`{text}` is not a typename: write `namespace/name`"))
}

/// Reads `targets`.
pub(crate) fn targets(fields: &mut Fields<'_, '_>) -> Vec<FunctionType> {
    let nodes = fields.list("targets").iter();
    nodes
        .filter_map(|node| fields.parse_of("targets", Some(node), parse_target))
        .collect()
}

/// Reads `id`, which is absent for the record's key, or a JSON pointer into the record's data.
fn record_id(fields: &mut Fields<'_, '_>) -> RecordId {
    let node = fields.optional("id");
    let id = fields.parse_of("id", node, |text| match text {
        "key" => Ok(RecordId::Key),
        _ => parse_pointer(text).map(RecordId::Pointer),
    });
    id.unwrap_or_default()
}

fn parse_pointer(text: &str) -> Result<String, String> {
    let is_pointer = text.starts_with('/')
        && text
            .split('~')
            .skip(1)
            .all(|rest| rest.starts_with(['0', '1']));
    is_pointer.then(|| text.to_owned()).ok_or_else(|| {
        format!("`{text}` is neither `key` nor a JSON pointer: write it as /customer/id (RFC 6901)")
    })
}

/// Reads `router`: a function that gets each record and sends it on, at the id that is given, or else at the record's key.
fn router(mut fields: Fields<'_, '_>) -> (Vec<FunctionType>, RecordId) {
    let function = fields.parsed("function", parse_target);
    let id = fields.optional_text("id");
    fields.finish();
    let id = id.map_or(RecordId::Key, RecordId::Constant);
    (function.into_iter().collect(), id)
}

fn parse_on_expired(text: &str) -> Result<ExpiredPosition, String> {
    match text {
        "stop" => Ok(ExpiredPosition::Stop),
        "earliest" => Ok(ExpiredPosition::Earliest),
        _ => Err(format!("`{text}` is neither stop nor earliest")),
    }
}

fn consumer(mut fields: Fields<'_, '_>) -> Consumer {
    let consumer = match variant(&mut fields, &["polling", "fan-out"]) {
        Some("fan-out") => {
            let name = fields.optional("name");
            Consumer::FanOut {
                name: fields.parse_of("name", name, parse_consumer_name),
            }
        }
        Some(_) => Consumer::Polling,
        None => return Consumer::Polling,
    };
    fields.finish();
    consumer
}

fn parse_consumer_name(text: &str) -> Result<String, String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let is_name = text.len() <= 128 && text.chars().all(allowed);
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        format!("`{text}` is no name of a consumer: up to 128 letters, digits, `_`, `.` and `-`")
    })
}

/// One function.
pub(crate) fn parse_target(text: &str) -> Result<FunctionType, String> {
    let function: FunctionType = text
        .parse()
        .map_err(|_| format!("`{text}` is not a function: write `namespace/name`"))?;
    if text.contains('*') {
        return Err(format!("`{text}` is not one function: a target has no `*`"));
    }
    Ok(function)
}
