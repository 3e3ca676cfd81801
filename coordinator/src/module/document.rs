//! The documents of a module file, and StateFun's legacy form with a single root.

use crate::module::Application;
use crate::module::egress_dynamodb;
use crate::module::egress_eventbridge;
use crate::module::egress_kafka;
use crate::module::egress_kinesis;
use crate::module::egress_lambda;
use crate::module::egress_sns;
use crate::module::egress_sqs;
use crate::module::endpoint;
use crate::module::fields::{Fields, Reading};
use crate::module::http_endpoint;
use crate::module::ingress_kafka;
use crate::module::ingress_kinesis;
use crate::module::ingress_sqs;
use crate::module::playground;
use crate::module::problem::hint;
use crate::module::table::{Field, Form, Format, Kind};
use crate::module::yaml::{Entry, Node, Value};

/// Every kind of document, in the order of messages and of the reference.
pub(crate) static KINDS: [&Kind; 15] = [
    &endpoint::LAMBDA,
    &http_endpoint::V2,
    &http_endpoint::V1,
    &ingress_kafka::INGRESS,
    &egress_kafka::EGRESS,
    &ingress_kinesis::INGRESS,
    &egress_kinesis::EGRESS,
    &playground::INGRESS,
    &playground::EGRESS,
    &ingress_sqs::INGRESS,
    &egress_sqs::EGRESS,
    &egress_sns::EGRESS,
    &egress_eventbridge::EGRESS,
    &egress_dynamodb::EGRESS,
    &egress_lambda::EGRESS,
];

/// Kinds under the names that StateFun 3.0 gave them.
const LEGACY_KINDS: [(&str, &str); 5] = [
    ("http", "io.statefun.endpoints.v1/http"),
    ("io.statefun.kafka/ingress", "io.statefun.kafka.v1/ingress"),
    ("io.statefun.kafka/egress", "io.statefun.kafka.v1/egress"),
    (
        "io.statefun.kinesis/ingress",
        "io.statefun.kinesis.v1/ingress",
    ),
    (
        "io.statefun.kinesis/egress",
        "io.statefun.kinesis.v1/egress",
    ),
];

/// Fields of a document.
pub(crate) const DOCUMENT: &[Field] = &[
    Field::required("kind", Form::Format(&KIND), "Kind of the document."),
    Field::required("spec", Form::AnyMapping, "Fields of the kind."),
];

/// Fields of a module of StateFun 3.0.
pub(crate) const LEGACY: &[Field] = &[
    Field::required("version", Form::Format(&VERSION), "Always `3.0`."),
    Field::required(
        "module",
        Form::Mapping(
            const {
                &[
                    Field::required(
                        "meta",
                        Form::Mapping(
                            const {
                                &[Field::required(
                                    "type",
                                    Form::Format(&MODULE_TYPE),
                                    "Always `remote`.",
                                )]
                            },
                        ),
                        "Type of the module.",
                    ),
                    Field::required(
                        "spec",
                        Form::Mapping(
                            const {
                                &[
                                    Field::optional(
                                        "endpoints",
                                        Form::List(const { &Form::Mapping(ENDPOINT) }, 0),
                                        "none",
                                        "Endpoints.",
                                    ),
                                    Field::optional(
                                        "ingresses",
                                        Form::List(const { &Form::Mapping(INGRESS) }, 0),
                                        "none",
                                        "Ingresses.",
                                    ),
                                    Field::optional(
                                        "egresses",
                                        Form::List(const { &Form::Mapping(EGRESS) }, 0),
                                        "none",
                                        "Egresses.",
                                    ),
                                ]
                            },
                        ),
                        "Components of the module.",
                    ),
                ]
            },
        ),
        "The module.",
    ),
];

const ENDPOINT: &[Field] = &[Field::required(
    "endpoint",
    Form::Mapping(
        const {
            &[
                Field::required(
                    "meta",
                    Form::Mapping(
                        const {
                            &[Field::required(
                                "kind",
                                Form::Format(&KIND),
                                "Kind of the endpoint: `http`, or a kind of today.",
                            )]
                        },
                    ),
                    "Kind of the endpoint.",
                ),
                SPEC,
            ]
        },
    ),
    "An endpoint.",
)];
const INGRESS: &[Field] = &[Field::required(
    "ingress",
    Form::Mapping(&[META, SPEC]),
    "An ingress.",
)];
const EGRESS: &[Field] = &[Field::required(
    "egress",
    Form::Mapping(&[META, SPEC]),
    "An egress.",
)];

const META: Field = Field::required(
    "meta",
    Form::Mapping(
        const {
            &[
                Field::required(
                    "type",
                    Form::Format(&KIND),
                    "Kind of the component, such as `io.statefun.kinesis/ingress`, or a kind of \
                     today.",
                ),
                Field::required("id", Form::Text, "Id of the component, `namespace/name`."),
            ]
        },
    ),
    "Kind and id of the component.",
);
const SPEC: Field = Field::required(
    "spec",
    Form::AnyMapping,
    "Fields of the kind, without `id`.",
);

static KIND: Format = Format {
    name: "kind",
    pattern: r"http|[A-Za-z0-9.\-]+/[a-z]+",
    check: |text| parse_legacy_kind(text).map(drop),
};

static VERSION: Format = Format {
    name: "version",
    pattern: "3\\.0",
    check: parse_version,
};

static MODULE_TYPE: Format = Format {
    name: "type of a module",
    pattern: "[rR][eE][mM][oO][tT][eE]",
    check: parse_module_type,
};

/// Reads one document into `application`.
pub(crate) fn read(reading: &mut Reading, document: &Node, application: &mut Application) {
    if document.get("version").is_some() || document.get("module").is_some() {
        return read_legacy(reading, document, application);
    }
    let mut fields = Fields::of(reading, document, "a module document", DOCUMENT);
    let kind = fields.parsed("kind", parse_kind);
    let spec = fields.raw("spec");
    if let (Some(kind), Some(spec)) = (kind, spec) {
        read_component(reading, kind, spec, application);
    }
}

fn parse_kind(text: &str) -> Result<&'static Kind, String> {
    let kind = KINDS.into_iter().find(|kind| kind.name == text);
    kind.ok_or_else(|| {
        if let Some(instead) = instead_of(text) {
            return format!("unknown kind '{text}': {instead}");
        }
        let names = KINDS.map(|kind| kind.name);
        match hint(text, names) {
            hint if hint.is_empty() => {
                format!("unknown kind '{text}'; known kinds: {}", names.join(", "))
            }
            hint => format!("unknown kind '{text}'{hint}"),
        }
    })
}

/// Names what to write instead of a kind that StateFun had or that its users may expect.
fn instead_of(text: &str) -> Option<String> {
    let legacy = LEGACY_KINDS.iter().find(|(legacy, _)| *legacy == text);
    if let Some((_, today)) = legacy {
        return Some(format!(
            "that is its name in a module of StateFun 3.0; write `{today}`"
        ));
    }
    let former = match text {
        "statefun.kafka.io/routable-protobuf-ingress" => "io.statefun.kafka.v1/ingress",
        "statefun.kafka.io/generic-egress" => "io.statefun.kafka.v1/egress",
        "statefun.kinesis.io/routable-protobuf-ingress" => "io.statefun.kinesis.v1/ingress",
        "statefun.kinesis.io/generic-egress" => "io.statefun.kinesis.v1/egress",
        _ => "",
    };
    if !former.is_empty() {
        return Some(format!("that is its name in StateFun 2; write `{former}`"));
    }
    if text.starts_with("io.statefun.transports.") {
        let place = "a transport is a field of `io.statefun.endpoints.v2/http`";
        return Some(format!(
            "{place}; write `transport: {{type: {text}}}` there"
        ));
    }
    if text.contains("embedded") || text.contains("datastream") {
        return Some(
            "functions and connectors inside of Flink cannot run here; serve the functions over \
             HTTP, and name them in `io.statefun.endpoints.v2/http`"
                .to_owned(),
        );
    }
    // Another version of a kind that there is, such as `io.statefun.kafka.v2/ingress`.
    let family = |name: &str| {
        let (before, after) = name.rsplit_once(".v")?;
        let (version, kind) = after.split_once('/')?;
        let is_version = version.bytes().all(|digit| digit.is_ascii_digit());
        (is_version && !version.is_empty()).then(|| (before.to_owned(), kind.to_owned()))
    };
    let wanted = family(text)?;
    let same = KINDS
        .iter()
        .filter(|kind| family(kind.name) == Some(wanted.clone()));
    let names: Vec<String> = same.map(|kind| format!("`{}`", kind.name)).collect();
    let names = names.join(" or ");
    (!names.is_empty()).then(|| format!("there is no such version; write {names}"))
}

fn parse_legacy_kind(text: &str) -> Result<&'static Kind, String> {
    let today = LEGACY_KINDS.iter().find(|(legacy, _)| *legacy == text);
    parse_kind(today.map_or(text, |(_, today)| today))
}

fn read_component(
    reading: &mut Reading,
    kind: &'static Kind,
    spec: &Node,
    application: &mut Application,
) {
    let fields = Fields::of(reading, spec, kind.name, kind.fields);
    (kind.read)(fields, application);
}

/// Reads the form of StateFun 3.0: `version`, `module.meta.type` and lists of components under
/// `module.spec`.
fn read_legacy(reading: &mut Reading, document: &Node, application: &mut Application) {
    if let Some(spec) = document.get("spec") {
        // StateFun's own page about Kafka has it there.
        let message = "'spec' of a module of StateFun 3.0 stands below 'module': indent it";
        return reading.problem(spec.line, message);
    }
    let mut root = Fields::of(reading, document, "a module of StateFun 3.0", LEGACY);
    root.parsed("version", parse_version);
    let components = legacy_components(root.mapping("module"));
    for (kind, spec) in components {
        read_component(reading, kind, &spec, application);
    }
}

fn parse_version(text: &str) -> Result<(), String> {
    match text {
        "3.0" => Ok(()),
        _ => Err(format!(
            "`{text}` is not supported: the form with `version` and `module` is that of 3.0; for \
             later versions write documents with `kind` and `spec`"
        )),
    }
}

fn parse_module_type(text: &str) -> Result<(), String> {
    match text.eq_ignore_ascii_case("remote") {
        true => Ok(()),
        false => Err(format!("`{text}` is not supported, only `remote` is")),
    }
}

fn legacy_components(mut module: Fields<'_, '_>) -> Vec<(&'static Kind, Node)> {
    module.mapping("meta").parsed("type", parse_module_type);
    let mut spec = module.mapping("spec");
    let mut found = Vec::new();
    for (list, element, table) in [
        ("endpoints", "endpoint", ENDPOINT),
        ("ingresses", "ingress", INGRESS),
        ("egresses", "egress", EGRESS),
    ] {
        for node in spec.list(list) {
            let mut outer = spec.element(list, node, table);
            found.extend(legacy_component(outer.mapping(element), element));
        }
    }
    found
}

/// Reads `meta` and `spec` of a component as a kind of today and its spec.
fn legacy_component(mut component: Fields<'_, '_>, element: &str) -> Option<(&'static Kind, Node)> {
    let spec = component.raw("spec").cloned();
    let mut meta = component.mapping("meta");
    let (kind, id) = match element {
        "endpoint" => (meta.parsed("kind", parse_legacy_kind), None),
        _ => (meta.parsed("type", parse_legacy_kind), meta.raw("id")),
    };
    let mut spec = spec?;
    if let (Value::Map(entries), Some(id)) = (&mut spec.value, id) {
        entries.retain(|entry| entry.key != "id");
        entries.push(Entry {
            key: "id".to_owned(),
            line: id.line,
            value: id.clone(),
        });
    }
    Some((kind?, spec))
}
