//! `satchel.sqs.v1/egress`: records become messages of a queue.
//!
//! ```yaml
//! kind: satchel.sqs.v1/egress
//! spec:
//!   id: example/tasks
//!   queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks.fifo
//!   messageGroupId: /customer/id     # FIFO queues: a JSON pointer, $id, $typename or a constant
//!   attributes:                      # at most seven
//!     - kind: /kind
//! ```

use satchel_aws::egress::content::Selector;
use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::sqs::SqsSettings;

use crate::module::aws::access;
use crate::module::fields::Fields;
use crate::module::kinesis::{EgressAdapter, EgressSpec, identifier};
use crate::module::yaml::Value;

/// A message has ten at most, and up to three are ours.
const ATTRIBUTES_MAX: usize = 7;

/// Reads the spec.
pub(crate) fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let queue_url = fields.parsed("queueUrl", parse_url).unwrap_or_default();
    let message_group_id = selector(&mut fields, "messageGroupId");
    let attributes = attributes(&mut fields);
    let settings = SqsSettings {
        queue_url,
        message_group_id,
        attributes,
    };
    check_group(
        &mut fields,
        settings.is_fifo(),
        settings.message_group_id.is_some(),
        "queue",
    );
    fields.finish();
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access,
            destination: Destination::Sqs(settings),
        }),
    }
}

/// Reads a field that says where something comes from, if it is there.
pub(crate) fn selector(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Selector> {
    let node = fields.optional(name);
    fields.parse_of(name, node, str::parse)
}

/// A FIFO queue or topic, which its name says, needs a message group.
pub(crate) fn check_group(fields: &mut Fields<'_, '_>, fifo: bool, grouped: bool, what: &str) {
    if fifo && !grouped {
        fields.problem_with(
            "messageGroupId",
            format!(
                "a FIFO {what} needs it: write a JSON pointer (/customer/id), $id or a constant"
            ),
        );
    }
    if !fifo && grouped {
        fields.problem_with(
            "messageGroupId",
            format!("the {what} is not a FIFO {what}, whose name ends with .fifo"),
        );
    }
}

/// Reads `attributes`: a list of mappings with one entry each.
pub(crate) fn attributes(fields: &mut Fields<'_, '_>) -> Vec<(String, Selector)> {
    let name = "attributes";
    let mut attributes: Vec<(String, Selector)> = Vec::new();
    for node in fields.optional_list(name) {
        let Value::Map(entries) = &node.value else {
            let message = format!("an element of '{name}' must be one `attribute: where from`");
            fields.problem(node.line, message);
            continue;
        };
        for entry in entries {
            if let Err(message) = check_name(&entry.key, &attributes) {
                fields.problem(entry.line, format!("'{name}': {message}"));
            }
            let from = fields.parse_of(name, Some(&entry.value), str::parse);
            attributes.extend(from.map(|from| (entry.key.clone(), from)));
        }
    }
    if attributes.len() > ATTRIBUTES_MAX {
        let count = attributes.len();
        fields.problem_with(
            name,
            format!("{count} are too many: a message has ten, and up to three are Satchel's"),
        );
    }
    attributes
}

fn check_name(name: &str, before: &[(String, Selector)]) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) {
        return Err(format!("`{name}` is not the name of an attribute"));
    }
    if ["aws.", "amazon.", "satchel-"]
        .iter()
        .any(|taken| lower.starts_with(taken))
    {
        return Err(format!("`{name}` is reserved"));
    }
    match before.iter().any(|(other, _)| other == name) {
        true => Err(format!("`{name}` is there twice")),
        false => Ok(()),
    }
}

/// The URL of a queue.
pub(crate) fn parse_url(text: &str) -> Result<String, String> {
    let place = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match place.and_then(|place| place.split_once('/')) {
        Some((host, queue)) if !host.is_empty() && !queue.is_empty() => Ok(text.to_owned()),
        _ => Err(format!(
            "`{text}` is not the URL of a queue: write https://sqs.<region>.amazonaws.com/<account>/<queue>"
        )),
    }
}
