//! `satchel.sqs.v1/ingress`: messages of a queue become messages of functions.
//!
//! ```yaml
//! kind: satchel.sqs.v1/ingress
//! spec:
//!   id: example/tasks
//!   queueUrl: https://sqs.eu-central-1.amazonaws.com/123456789012/tasks.fifo
//!   valueType: example/task
//!   targets: [example/worker]
//!   targetId: $messageGroupId    # or $attribute:<name>, $messageId, a JSON pointer; a FIFO queue's group if it is absent
//!   visibilityTimeout: 30s
//!   deduplicationWindow: 10m     # for how long after its deletion a message is still known
//!   receivers: 2                 # how many requests wait for messages at once
//! ```
//!
//! Instead of `targets` and `targetId`, `router: {function: …, id: …}` names one function that sends each message on.

use std::ops::RangeInclusive;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_aws::sqs::{SqsOptions, SqsSelector};
use satchel_engine::address::FunctionType;

use crate::module::aws::access;
use crate::module::egress_sqs::parse_url;
use crate::module::fields::Fields;
use crate::module::kinesis::{
    IngressAdapter, IngressSpec, identifier, parse_target, parse_value_type, targets,
};

/// Long enough to be extended in time, and what SQS allows is 12 hours.
const VISIBILITIES: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(12 * 60 * 60);

/// No queue keeps a message for longer than 14 days.
const WINDOWS: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(14 * 24 * 60 * 60);

const RECEIVERS_MAX: u64 = 50;

/// A queue to receive from, with what its messages become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsIngress {
    /// Where SQS is, and who asks.
    pub access: AwsAccess,
    /// The queue, and how it is received from.
    pub options: SqsOptions,
    /// The typename given to the bodies.
    pub value_type: String,
    /// The functions that get each message; at least one. With `router` it is that function alone.
    pub targets: Vec<FunctionType>,
    /// What becomes the id of the address at each of them.
    pub target_id: SqsSelector,
}

/// Reads the spec.
pub(crate) fn ingress(mut fields: Fields<'_, '_>) -> IngressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let queue_url = fields.parsed("queueUrl", parse_url).unwrap_or_default();
    let value_type = fields.parsed("valueType", parse_value_type);
    let is_fifo = queue_url.ends_with(".fifo");
    let (targets, target_id) = match fields.optional("router") {
        Some(node) => {
            for name in ["targets", "targetId"] {
                if fields.optional(name).is_some() {
                    fields.problem_with(name, "a router decides that: leave it out");
                }
            }
            router(fields.inside(node, "router"), is_fifo)
        }
        None => (targets(&mut fields), target_id(&mut fields, is_fifo)),
    };
    let defaults = SqsOptions::new(id.to_string(), queue_url);
    let visibility = fields.optional_duration("visibilityTimeout", VISIBILITIES);
    let visibility = visibility.unwrap_or(defaults.visibility);
    if visibility.subsec_nanos() > 0 {
        fields.problem_with("visibilityTimeout", "SQS counts whole seconds");
    }
    let window = fields.optional_duration("deduplicationWindow", WINDOWS);
    let window = window.unwrap_or(defaults.window.max(visibility));
    if window < visibility {
        fields.problem_with(
            "deduplicationWindow",
            "it must not be shorter than visibilityTimeout: a deleted message may come once more when that is over",
        );
    }
    let receivers = fields.whole("receivers", defaults.receivers as u64, 1..=RECEIVERS_MAX);
    fields.finish();
    IngressSpec {
        source,
        id,
        adapter: IngressAdapter::Sqs(SqsIngress {
            access,
            options: SqsOptions {
                visibility,
                window,
                receivers: receivers as usize,
                ..defaults
            },
            value_type: value_type.unwrap_or_default(),
            targets,
            target_id,
        }),
    }
}

fn target_id(fields: &mut Fields<'_, '_>, is_fifo: bool) -> SqsSelector {
    let node = fields.optional("targetId");
    if node.is_none() && !is_fifo {
        fields.problem_with(
            "targetId",
            "a queue that is no FIFO queue needs it: write $attribute:<name>, a JSON pointer (/customer/id), $messageGroupId or $messageId",
        );
    }
    let selector = fields.parse_of("targetId", node, str::parse);
    selector.unwrap_or(SqsSelector::Group)
}

/// Reads `router`: a function that gets each message, at the id that is given, or else at the message's group or own id.
fn router(mut fields: Fields<'_, '_>, is_fifo: bool) -> (Vec<FunctionType>, SqsSelector) {
    let function = fields.parsed("function", parse_target);
    let id = fields.optional_text("id");
    fields.finish();
    let selector = match id {
        Some(id) => SqsSelector::Constant(id),
        None if is_fifo => SqsSelector::Group,
        None => SqsSelector::MessageId,
    };
    (function.into_iter().collect(), selector)
}
