//! `satchel.sqs.v1/ingress`: messages of a queue become messages of functions.

use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_aws::sqs::{SqsOptions, SqsSelector};
use satchel_engine::address::FunctionType;

use crate::module::aws;
use crate::module::egress_sqs::{QUEUE_URL, parse_url};
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::ingress::{
    FUNCTION, IngressAdapter, IngressSpec, VALUE_TYPE, parse_target, parse_value_type, targets,
};
use crate::module::table::{Field, Form, Format, Kind};

/// The kind `satchel.sqs.v1/ingress`.
pub(crate) static INGRESS: Kind = Kind {
    name: "satchel.sqs.v1/ingress",
    summary: "Messages of an SQS queue, each processed exactly once. A FIFO queue keeps the order \
              of each message group.",
    example: "kind: satchel.sqs.v1/ingress
spec:
  id: example/tasks
  queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks
  valueType: example/task
  targets: [example/worker]
  targetId: $attribute:customer
  visibilityTimeout: 1m
",
    fields: FIELDS,
    read: |fields, application| application.ingresses.push(ingress(fields)),
};

const FIELDS: &[Field] = &[
    ID,
    aws::REGION,
    aws::CREDENTIALS,
    QUEUE_URL,
    VALUE_TYPE,
    Field::optional(
        "targets",
        Form::List(&FUNCTION, 1),
        "required without `router`",
        "Functions that receive each message. Not allowed with `router`.",
    ),
    Field::optional(
        "targetId",
        Form::Format(&TARGET_ID),
        "the message group of a FIFO queue; required for any other queue without `router`",
        "Source of the id at each target: `$messageGroupId`, `$messageId`, `$attribute:<name>` or \
         a JSON pointer into the body, such as `/customer/id`. Not allowed with `router`.",
    ),
    Field::optional(
        "router",
        Form::Mapping(ROUTER),
        "the queue has `targets`",
        "A function that receives each message and sends it on, instead of `targets` and \
         `targetId`.",
    ),
    Field::with_default(
        "visibilityTimeout",
        // Long enough to be extended in time; SQS allows at most 12 hours.
        Form::Duration(Duration::from_secs(5), Duration::from_secs(12 * 60 * 60)),
        "30s",
        "Time for which SQS hides a received message from other receivers, in whole seconds. It is \
         extended for as long as the message is in progress.",
    ),
    Field::with_default(
        "deduplicationWindow",
        // No queue keeps a message for longer than 14 days.
        Form::Duration(
            Duration::from_secs(60),
            Duration::from_secs(14 * 24 * 60 * 60),
        ),
        "10m",
        "Time for which a message is still recognized after SQS has confirmed its deletion. At \
         least `visibilityTimeout`, which is the default where it is longer.",
    ),
    Field::with_default(
        "receivers",
        Form::Whole(1, 50),
        "2",
        "Number of requests that wait for messages in parallel.",
    ),
];

const ROUTER: &[Field] = &[
    Field::required("function", FUNCTION, "Function that receives each message."),
    Field::optional(
        "id",
        Form::Text,
        "the message group of a FIFO queue; the message's own id for any other queue",
        "Id of the function, the same for every message.",
    ),
];

static TARGET_ID: Format = Format {
    name: "source of an id",
    pattern: r"\$messageGroupId|\$messageId|\$attribute:[\s\S]+|/[\s\S]*",
    check: |text| text.parse::<SqsSelector>().map(drop),
};

/// A queue to receive from, and the targets of its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsIngress {
    /// Region and credentials.
    pub access: AwsAccess,
    /// The queue and the options of receiving.
    pub options: SqsOptions,
    /// Typename given to the bodies.
    pub value_type: String,
    /// Functions that receive each message; at least one. With `router`, that function alone.
    pub targets: Vec<FunctionType>,
    /// Source of the id at each of them.
    pub target_id: SqsSelector,
}

fn ingress(mut fields: Fields<'_, '_>) -> IngressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = aws::access(&mut fields);
    let queue_url = fields.parsed("queueUrl", parse_url).unwrap_or_default();
    let value_type = fields.parsed("valueType", parse_value_type);
    let is_fifo = queue_url.ends_with(".fifo");
    let (targets, target_id) = match fields.is_present("router") {
        true => {
            for name in ["targets", "targetId"] {
                if fields.is_present(name) {
                    fields.problem_with(name, "not allowed with 'router': remove one of the two");
                }
            }
            router(fields.mapping("router"), is_fifo)
        }
        false => (targets(&mut fields), target_id(&mut fields, is_fifo)),
    };
    let options = SqsOptions::new(id.to_string(), queue_url);
    let options = receiving(&mut fields, options);
    IngressSpec {
        source,
        id,
        adapter: IngressAdapter::Sqs(SqsIngress {
            access,
            options,
            value_type: value_type.unwrap_or_default(),
            targets,
            target_id,
        }),
    }
}

fn receiving(fields: &mut Fields<'_, '_>, options: SqsOptions) -> SqsOptions {
    let visibility = fields.duration("visibilityTimeout");
    if visibility.subsec_nanos() > 0 {
        fields.problem_with("visibilityTimeout", "SQS takes whole seconds only");
    }
    let window = fields.written_duration("deduplicationWindow");
    let default = fields.default_duration("deduplicationWindow");
    let window = window.unwrap_or(default.max(visibility));
    if window < visibility {
        fields.problem_with(
            "deduplicationWindow",
            "must not be shorter than visibilityTimeout: SQS can deliver a deleted message once \
             more when that timeout ends",
        );
    }
    SqsOptions {
        visibility,
        window,
        receivers: fields.whole("receivers") as usize,
        ..options
    }
}

fn target_id(fields: &mut Fields<'_, '_>, is_fifo: bool) -> SqsSelector {
    if !is_fifo {
        fields.require(
            "targetId",
            "required for a queue that is not a FIFO queue: write $attribute:<name>, a JSON \
             pointer (/customer/id), $messageGroupId or $messageId",
        );
    }
    let selector = fields.parsed("targetId", str::parse);
    selector.unwrap_or(SqsSelector::Group)
}

fn router(mut fields: Fields<'_, '_>, is_fifo: bool) -> (Vec<FunctionType>, SqsSelector) {
    let function = fields.parsed("function", parse_target);
    let selector = match fields.optional_text("id") {
        Some(id) => SqsSelector::Constant(id),
        None if is_fifo => SqsSelector::Group,
        None => SqsSelector::MessageId,
    };
    (function.into_iter().collect(), selector)
}
