//! The Kinesis kinds: streams that messages come from and records go to. In `dev` both are local streams.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use satchel_engine::address::FunctionType;

use crate::module::date::parse_date;
use crate::module::fields::Fields;
use crate::module::problem::Source;
use crate::module::secret::Secret;
use crate::module::yaml::{Node, Value};
use crate::streams::check_stream_name;

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
    /// Where Kinesis is.
    pub region: AwsRegion,
    /// Who asks.
    pub credentials: AwsCredentials,
    /// Where a shard that has no position yet is begun.
    pub startup: StartupPosition,
    /// At least one.
    pub streams: Vec<IngressStream>,
    /// `clientConfigProperties`, in order.
    pub client_properties: Vec<(String, String)>,
}

/// One stream of an ingress: the key of a record becomes the id of the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressStream {
    /// Where it is written.
    pub source: Source,
    /// The stream's name.
    pub stream: String,
    /// The typename given to the bytes of its records.
    pub value_type: String,
    /// The functions that get each record; at least one.
    pub targets: Vec<FunctionType>,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisEgress {
    /// Where Kinesis is.
    pub region: AwsRegion,
    /// Who asks.
    pub credentials: AwsCredentials,
    /// How many records may be on their way at once.
    pub outstanding_records_max: usize,
    /// `clientConfigProperties`, in order.
    pub client_properties: Vec<(String, String)>,
}

/// Which AWS region to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsRegion {
    /// What the environment says.
    Default,
    /// This one.
    Specific(String),
    /// A service at another place.
    CustomEndpoint {
        /// Its URL.
        endpoint: String,
        /// The region it says it is.
        region: String,
    },
}

/// Who asks AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsCredentials {
    /// What the environment says.
    Default,
    /// A key from the module file.
    Basic {
        /// `accessKeyId`.
        access_key_id: String,
        /// `secretAccessKey`.
        secret_access_key: Secret,
    },
    /// A profile of the AWS configuration files.
    Profile {
        /// `profileName`.
        name: String,
        /// `profilePath`: the file, if not the usual one.
        path: Option<PathBuf>,
    },
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
    let region = region(&mut fields);
    let credentials = credentials(&mut fields);
    let startup = match fields.optional("startupPosition") {
        Some(node) => startup(fields.inside(node, "startupPosition")),
        None => StartupPosition::Latest,
    };
    let streams = fields
        .list("streams")
        .iter()
        .map(|node| stream(fields.inside(node, "an element of streams")))
        .collect();
    let client_properties = client_properties(&mut fields);
    fields.finish();
    IngressSpec {
        source,
        id,
        adapter: IngressAdapter::Kinesis(KinesisIngress {
            region,
            credentials,
            startup,
            streams,
            client_properties,
        }),
    }
}

/// Reads the spec of an `io.statefun.kinesis.v1/egress`.
pub(crate) fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let region = region(&mut fields);
    let credentials = credentials(&mut fields);
    let outstanding_records_max = fields.whole("maxOutstandingRecords", 1_000, 1..=1_000_000);
    let client_properties = client_properties(&mut fields);
    fields.finish();
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Kinesis(KinesisEgress {
            region,
            credentials,
            outstanding_records_max: outstanding_records_max as usize,
            client_properties,
        }),
    }
}

fn identifier(fields: &mut Fields<'_, '_>) -> Identifier {
    let id = fields.parsed("id", str::parse);
    id.unwrap_or_else(|| Identifier {
        namespace: String::new(),
        name: String::new(),
    })
}

fn region(fields: &mut Fields<'_, '_>) -> AwsRegion {
    let Some(node) = fields.optional("awsRegion") else {
        return AwsRegion::Default;
    };
    let mut fields = fields.inside(node, "awsRegion");
    let kinds = ["default", "specific", "custom-endpoint"];
    let region = match variant(&mut fields, &kinds) {
        Some("specific") => AwsRegion::Specific(fields.text("id")),
        Some("custom-endpoint") => AwsRegion::CustomEndpoint {
            endpoint: fields
                .parsed("endpoint", parse_endpoint)
                .unwrap_or_default(),
            region: fields.text("id"),
        },
        Some(_) => AwsRegion::Default,
        None => return AwsRegion::Default,
    };
    fields.finish();
    region
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not a http:// or https:// URL")),
    }
}

fn credentials(fields: &mut Fields<'_, '_>) -> AwsCredentials {
    let Some(node) = fields.optional("awsCredentials") else {
        return AwsCredentials::Default;
    };
    let mut fields = fields.inside(node, "awsCredentials");
    let kinds = ["default", "basic", "profile"];
    let credentials = match variant(&mut fields, &kinds) {
        Some("basic") => AwsCredentials::Basic {
            access_key_id: fields.text("accessKeyId"),
            secret_access_key: Secret::new(fields.text("secretAccessKey")),
        },
        Some("profile") => AwsCredentials::Profile {
            name: fields.text("profileName"),
            path: fields.optional_text("profilePath").map(PathBuf::from),
        },
        Some(_) => AwsCredentials::Default,
        None => return AwsCredentials::Default,
    };
    fields.finish();
    credentials
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

/// Reads `type`, which says which other fields there are.
fn variant(fields: &mut Fields<'_, '_>, known: &[&'static str]) -> Option<&'static str> {
    fields.parsed("type", |text| {
        let kind = known.iter().copied().find(|kind| *kind == text);
        kind.ok_or_else(|| {
            let hint = crate::module::problem::hint(text, known.iter().copied());
            format!("`{text}` is none of {}{hint}", known.join(", "))
        })
    })
}

fn stream(mut fields: Fields<'_, '_>) -> IngressStream {
    let source = fields.source();
    let stream = fields.parsed("stream", |text| {
        check_stream_name(text).map(|()| text.to_owned())
    });
    let value_type = fields.parsed("valueType", |text| {
        let typename: Result<Identifier, String> = text.parse();
        typename
            .map(|_| text.to_owned())
            .map_err(|_| format!("`{text}` is not a typename: write `namespace/name`"))
    });
    let targets = fields
        .list("targets")
        .iter()
        .filter_map(|node| fields.parse_of("targets", Some(node), parse_target))
        .collect();
    fields.finish();
    IngressStream {
        source,
        stream: stream.unwrap_or_default(),
        value_type: value_type.unwrap_or_default(),
        targets,
    }
}

fn parse_target(text: &str) -> Result<FunctionType, String> {
    let function: FunctionType = text
        .parse()
        .map_err(|_| format!("`{text}` is not a function: write `namespace/name`"))?;
    if text.contains('*') {
        return Err(format!("`{text}` is not one function: a target has no `*`"));
    }
    Ok(function)
}

/// Reads `clientConfigProperties`: a list of mappings with one entry each, as in StateFun.
fn client_properties(fields: &mut Fields<'_, '_>) -> Vec<(String, String)> {
    let name = "clientConfigProperties";
    let mut properties = Vec::new();
    for node in fields.optional_list(name) {
        properties.extend(client_property(fields, name, node));
    }
    properties
}

fn client_property(
    fields: &mut Fields<'_, '_>,
    name: &str,
    node: &Node,
) -> Option<(String, String)> {
    match &node.value {
        Value::Map(entries) if entries.len() == 1 => {
            let value = fields.text_of(name, Some(&entries[0].value))?;
            Some((entries[0].key.clone(), value))
        }
        _ => {
            let message = format!("an element of '{name}' must be one `property: value`");
            fields.problem(node.line, message);
            None
        }
    }
}
