//! `satchel.sqs.v1/egress`: records become messages of a queue.

use satchel_aws::egress::content::Selector;
use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::sqs::SqsSettings;

use crate::module::aws;
use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::table::{Field, Form, Format, Kind, Pairs};
use crate::module::yaml::Value;

/// SQS and SNS allow ten attributes in a message, and up to three are Satchel's.
const ATTRIBUTES_MAX: usize = 7;

/// The kind `satchel.sqs.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "satchel.sqs.v1/egress",
    summary: "Records as messages of an SQS queue, at least once. Each message has the attributes \
              `satchel-type` (typename) and `satchel-id` (id of the record, the same whenever it \
              is sent again), and `satchel-encoding` if its body is base64. In a FIFO queue the \
              record's id is also the deduplication id.",
    example: "kind: satchel.sqs.v1/egress
spec:
  id: example/tasks
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks.fifo
  messageGroupId: /customer/id
  attributes:
    - kind: /kind
",
    fields: &[
        ID,
        aws::REGION,
        aws::CREDENTIALS,
        QUEUE_URL,
        MESSAGE_GROUP,
        ATTRIBUTES,
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

/// The field `queueUrl`.
pub(crate) const QUEUE_URL: Field = Field::required(
    "queueUrl",
    Form::Format(&URL),
    "URL of the queue. The name of a FIFO queue ends with `.fifo`.",
);

/// The field `messageGroupId` of queues and topics.
pub(crate) const MESSAGE_GROUP: Field = Field::optional(
    "messageGroupId",
    SELECTOR,
    "not a FIFO queue or topic",
    "Source of the message group. Required for a FIFO queue or topic, and not allowed for any \
     other.",
);

/// The field `attributes` of queues and topics.
pub(crate) const ATTRIBUTES: Field = Field::optional(
    "attributes",
    Form::Pairs(
        const {
            &Pairs {
                key: Some(&ATTRIBUTE_NAME),
                value: SELECTOR,
                element_max: None,
                len_max: Some(ATTRIBUTES_MAX as u64),
            }
        },
    ),
    "no further attributes",
    "Further attributes of each message, as `name: source`; at most seven. A name does not begin \
     with `aws.`, `amazon.` or `satchel-`.",
);

/// The form of a field that is taken out of each record.
pub(crate) const SELECTOR: Form = Form::Format(&SOURCE);

static SOURCE: Format = Format {
    name: "source of a text",
    pattern: r"\$id|\$typename|\$egress|[^$][\s\S]*",
    check: |text| text.parse::<Selector>().map(drop),
};

static ATTRIBUTE_NAME: Format = Format {
    name: "name of an attribute",
    pattern: r"[A-Za-z0-9_.\-]{1,256}",
    check: |text| check_name(text, &[]),
};

static URL: Format = Format {
    name: "URL of a queue",
    pattern: r"https?://[^/]+/[\s\S]+",
    check: |text| parse_url(text).map(drop),
};

fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let settings = SqsSettings {
        queue_url: fields.parsed("queueUrl", parse_url).unwrap_or_default(),
        message_group_id: fields.parsed("messageGroupId", str::parse),
        attributes: attributes(&mut fields),
    };
    check_group(&mut fields, settings.is_fifo(), "queue");
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access: aws::access(&mut fields),
            destination: Destination::Sqs(settings),
        }),
    }
}

/// Checks that a FIFO queue or topic has a message group, and that no other has one.
pub(crate) fn check_group(fields: &mut Fields<'_, '_>, is_fifo: bool, what: &str) {
    if is_fifo {
        let message = format!(
            "required for a FIFO {what}: write a JSON pointer (/customer/id), $id or a constant"
        );
        fields.require("messageGroupId", &message);
    } else if fields.is_present("messageGroupId") {
        let message = format!("allowed only for a FIFO {what}, whose name ends with .fifo");
        fields.problem_with("messageGroupId", message);
    }
}

/// Reads `attributes`.
pub(crate) fn attributes(fields: &mut Fields<'_, '_>) -> Vec<(String, Selector)> {
    let name = "attributes";
    let mut attributes: Vec<(String, Selector)> = Vec::new();
    for node in fields.list(name) {
        let Value::Map(entries) = &node.value else {
            let message = format!("an element of '{name}' must be one `attribute: source`");
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
        let message = format!(
            "{} attributes are too many: the service allows ten in a message, and up to three are \
             Satchel's",
            attributes.len()
        );
        fields.problem_with(name, message);
    }
    attributes
}

fn check_name(name: &str, before: &[(String, Selector)]) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) {
        return Err(format!(
            "`{name}` is not the name of an attribute: write up to 256 letters, digits, `_`, `-` \
             or `.`"
        ));
    }
    if let Some(prefix) = ["aws.", "amazon.", "satchel-"]
        .iter()
        .find(|prefix| lower.starts_with(*prefix))
    {
        return Err(format!(
            "`{name}` is reserved, as is every name that begins with `{prefix}`"
        ));
    }
    match before.iter().any(|(other, _)| other == name) {
        true => Err(format!("the attribute `{name}` appears twice")),
        false => Ok(()),
    }
}

/// Reads the URL of a queue.
pub(crate) fn parse_url(text: &str) -> Result<String, String> {
    let place = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match place.and_then(|place| place.split_once('/')) {
        Some((host, queue)) if !host.is_empty() && !queue.is_empty() => Ok(text.to_owned()),
        _ => Err(format!(
            "`{text}` is not the URL of a queue: write \
             https://sqs.<region>.amazonaws.com/<account>/<queue>"
        )),
    }
}
