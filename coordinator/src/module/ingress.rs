//! Declarations and readers that the ingress kinds share.

use satchel_engine::address::FunctionType;

use crate::module::fields::Fields;
use crate::module::identifier::Identifier;
use crate::module::ingress_kafka::KafkaIngress;
use crate::module::ingress_kinesis::KinesisIngress;
use crate::module::ingress_sqs::SqsIngress;
use crate::module::ingress_stream::IngressStream;
use crate::module::playground::PlaygroundIngress;
use crate::module::problem::Source;
use crate::module::table::{Field, Form, Format};

/// The field `valueType` of every ingress.
pub(crate) const VALUE_TYPE: Field = Field::required(
    "valueType",
    Form::Format(&TYPENAME),
    "Typename that the bytes have for the functions.",
);

/// One function.
pub(crate) const FUNCTION: Form = Form::Format(&FUNCTION_TYPE);

static TYPENAME: Format = Format {
    name: "typename",
    pattern: r"[\s\S]+/[^/]+",
    check: |text| parse_value_type(text).map(drop),
};

static FUNCTION_TYPE: Format = Format {
    name: "function",
    pattern: r"[^*]+/(\.{0,2}[^/*.][^/*]*|\.{3,}[^/*]*)",
    check: |text| parse_target(text).map(drop),
};

/// An ingress of a module file.
#[derive(Debug, Clone, PartialEq)]
pub struct IngressSpec {
    /// Position in the module file.
    pub source: Source,
    /// Id of the ingress, which is part of the identity of its positions.
    pub id: Identifier,
    /// Source of its messages.
    pub adapter: IngressAdapter,
}

/// Source of an ingress's messages.
#[derive(Debug, Clone, PartialEq)]
pub enum IngressAdapter {
    /// `io.statefun.kafka.v1/ingress`.
    Kafka(KafkaIngress),
    /// `io.statefun.kinesis.v1/ingress`.
    Kinesis(KinesisIngress),
    /// `io.statefun.playground.v1/ingress`.
    Playground(PlaygroundIngress),
    /// `satchel.sqs.v1/ingress`.
    Sqs(SqsIngress),
}

impl IngressAdapter {
    /// Streams or topics that the ingress reads; none for a queue or a port.
    pub fn streams(&self) -> &[IngressStream] {
        match self {
            Self::Kafka(kafka) => &kafka.topics,
            Self::Kinesis(kinesis) => &kinesis.streams,
            Self::Playground(_) | Self::Sqs(_) => &[],
        }
    }
}

/// Reads a typename for bytes.
pub(crate) fn parse_value_type(text: &str) -> Result<String, String> {
    let typename: Result<Identifier, String> = text.parse();
    typename
        .map(|_| text.to_owned())
        .map_err(|_| format!("`{text}` is not a typename: write `namespace/name`"))
}

/// Reads `targets`, which is required where there is no `router`.
pub(crate) fn targets(fields: &mut Fields<'_, '_>) -> Vec<FunctionType> {
    fields.require("targets", "required without 'router'");
    let nodes = fields.list("targets").iter();
    nodes
        .filter_map(|node| fields.parse_of("targets", Some(node), parse_target))
        .collect()
}

/// Refusal of a function whose name would leave its segment of an endpoint's URL, if `text` is one.
pub(crate) fn named_like_a_path(text: &str) -> Option<String> {
    let (_, name) = text.rsplit_once('/')?;
    (!FunctionType::is_segment(name))
        .then(|| format!("`{text}` is not a function: no function is named `{name}`"))
}

/// Reads one function.
pub(crate) fn parse_target(text: &str) -> Result<FunctionType, String> {
    let function: FunctionType = text.parse().map_err(|_| {
        named_like_a_path(text)
            .unwrap_or_else(|| format!("`{text}` is not a function: write `namespace/name`"))
    })?;
    if text.contains('*') {
        return Err(format!("`{text}` is not one function: a target has no `*`"));
    }
    Ok(function)
}
