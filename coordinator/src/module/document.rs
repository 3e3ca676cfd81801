//! The documents of a module file: which kinds there are, and StateFun's legacy form with a single root.

use crate::module::Application;
use crate::module::egress_dynamodb;
use crate::module::egress_eventbridge;
use crate::module::egress_lambda;
use crate::module::egress_sns;
use crate::module::egress_sqs;
use crate::module::endpoint;
use crate::module::fields::{Fields, Reading};
use crate::module::http_endpoint;
use crate::module::ingress_sqs;
use crate::module::kinesis;
use crate::module::problem::hint;
use crate::module::yaml::{Entry, Node, Value};

/// Every kind that a module file may have.
pub(crate) const KINDS: [&str; 11] = [
    "satchel.endpoints.v1/lambda",
    "io.statefun.endpoints.v2/http",
    "io.statefun.endpoints.v1/http",
    "io.statefun.kinesis.v1/ingress",
    "io.statefun.kinesis.v1/egress",
    "satchel.sqs.v1/ingress",
    "satchel.sqs.v1/egress",
    "satchel.sns.v1/egress",
    "satchel.eventbridge.v1/egress",
    "satchel.dynamodb.v1/egress",
    "satchel.lambda.v1/egress",
];

/// What StateFun 3.0 called some kinds.
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

/// Reads one document into `application`.
pub(crate) fn read(reading: &mut Reading, document: &Node, application: &mut Application) {
    if document.get("version").is_some() || document.get("module").is_some() {
        return read_legacy(reading, document, application);
    }
    let mut fields = Fields::of(reading, document, "a module document");
    let kind_node = fields.required("kind");
    let kind = fields.parse_of("kind", kind_node, parse_kind);
    let spec = fields.required("spec");
    fields.finish();
    if let (Some(kind), Some(spec)) = (kind, spec) {
        read_component(reading, kind, spec, application);
    }
}

fn parse_kind(text: &str) -> Result<&'static str, String> {
    let kind = KINDS.into_iter().find(|kind| *kind == text);
    kind.ok_or_else(|| match hint(text, KINDS) {
        hint if hint.is_empty() => {
            format!("unknown kind '{text}', the kinds are {}", KINDS.join(", "))
        }
        hint => format!("unknown kind '{text}'{hint}"),
    })
}

fn read_component(reading: &mut Reading, kind: &str, spec: &Node, application: &mut Application) {
    let fields = Fields::of(reading, spec, kind);
    match kind {
        "satchel.endpoints.v1/lambda" => application.endpoints.push(endpoint::lambda(fields)),
        "io.statefun.endpoints.v2/http" => application.endpoints.push(http_endpoint::v2(fields)),
        "io.statefun.endpoints.v1/http" => application.endpoints.push(http_endpoint::v1(fields)),
        "io.statefun.kinesis.v1/ingress" => application.ingresses.push(kinesis::ingress(fields)),
        "io.statefun.kinesis.v1/egress" => application.egresses.push(kinesis::egress(fields)),
        "satchel.sqs.v1/ingress" => application.ingresses.push(ingress_sqs::ingress(fields)),
        "satchel.sqs.v1/egress" => application.egresses.push(egress_sqs::egress(fields)),
        "satchel.sns.v1/egress" => application.egresses.push(egress_sns::egress(fields)),
        "satchel.eventbridge.v1/egress" => {
            application
                .egresses
                .push(egress_eventbridge::egress(fields));
        }
        "satchel.dynamodb.v1/egress" => application.egresses.push(egress_dynamodb::egress(fields)),
        "satchel.lambda.v1/egress" => application.egresses.push(egress_lambda::egress(fields)),
        _ => unreachable!("only kinds of KINDS are asked for"),
    }
}

/// Reads the form of StateFun 3.0: `version`, `module.meta.type` and lists of components under `module.spec`.
fn read_legacy(reading: &mut Reading, document: &Node, application: &mut Application) {
    let mut root = Fields::of(reading, document, "a module of StateFun 3.0");
    root.parsed("version", |text| match text {
        "3.0" => Ok(()),
        _ => Err(format!(
            "`{text}` is not supported: the form with `version` and `module` is that of 3.0"
        )),
    });
    let module = root.required("module");
    let components = module.map(|node| legacy_components(root.inside(node, "module")));
    root.finish();
    for (kind, spec) in components.into_iter().flatten() {
        read_component(reading, kind, &spec, application);
    }
}

fn legacy_components(mut module: Fields<'_, '_>) -> Vec<(&'static str, Node)> {
    if let Some(node) = module.required("meta") {
        let mut meta = module.inside(node, "meta of the module");
        meta.parsed("type", |text| {
            if text.eq_ignore_ascii_case("remote") {
                return Ok(());
            }
            Err(format!("`{text}` is not supported, only `remote` is"))
        });
        meta.finish();
    }
    let mut components = Vec::new();
    if let Some(node) = module.required("spec") {
        let mut spec = module.inside(node, "spec of the module");
        for (list, element) in [
            ("endpoints", "endpoint"),
            ("ingresses", "ingress"),
            ("egresses", "egress"),
        ] {
            for node in spec.optional_list(list) {
                let outer = spec.inside(node, &format!("an element of {list}"));
                components.extend(legacy_component(outer, element));
            }
        }
        spec.finish();
    }
    module.finish();
    components
}

/// Reads `endpoint|ingress|egress: {meta, spec}` into a kind of today and its spec.
fn legacy_component(
    mut outer: Fields<'_, '_>,
    element: &'static str,
) -> Option<(&'static str, Node)> {
    let node = outer.required(element);
    let component = node.and_then(|node| {
        let mut inner = outer.inside(node, element);
        let meta = inner.required("meta");
        let spec = inner.required("spec");
        let head = meta.map(|node| legacy_meta(inner.inside(node, "meta"), element));
        inner.finish();
        let (kind, id) = head?;
        let mut spec = spec?.clone();
        if let (Value::Map(entries), Some(id)) = (&mut spec.value, id) {
            entries.retain(|entry| entry.key != "id");
            entries.push(id);
        }
        Some((kind?, spec))
    });
    outer.finish();
    component
}

fn legacy_meta(mut meta: Fields<'_, '_>, element: &str) -> (Option<&'static str>, Option<Entry>) {
    let is_endpoint = element == "endpoint";
    let kind_field = if is_endpoint { "kind" } else { "type" };
    let kind = meta.parsed(kind_field, |text| {
        let today = LEGACY_KINDS.iter().find(|(legacy, _)| *legacy == text);
        parse_kind(today.map_or(text, |(_, today)| today))
    });
    let id = match is_endpoint {
        true => None,
        false => meta.required("id").map(|node| Entry {
            key: "id".to_owned(),
            line: node.line,
            value: node.clone(),
        }),
    };
    meta.finish();
    (kind, id)
}
