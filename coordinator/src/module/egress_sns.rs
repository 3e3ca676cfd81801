//! `satchel.sns.v1/egress`: records become messages of a topic.
//!
//! ```yaml
//! kind: satchel.sns.v1/egress
//! spec:
//!   id: example/news
//!   topicArn: arn:aws:sns:eu-central-1:123456789012:news
//!   subject: Good news               # of mails: a JSON pointer, $id, $typename or a constant
//!   attributes:
//!     - kind: /kind
//! ```

use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::sns::SnsSettings;

use crate::module::aws::access;
use crate::module::egress_sqs::{attributes, check_group, selector};
use crate::module::fields::Fields;
use crate::module::kinesis::{EgressAdapter, EgressSpec, identifier};

/// Reads the spec.
pub(crate) fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let settings = SnsSettings {
        topic_arn: fields.parsed("topicArn", parse_arn).unwrap_or_default(),
        message_group_id: selector(&mut fields, "messageGroupId"),
        subject: selector(&mut fields, "subject"),
        attributes: attributes(&mut fields),
    };
    check_group(
        &mut fields,
        settings.is_fifo(),
        settings.message_group_id.is_some(),
        "topic",
    );
    fields.finish();
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access,
            destination: Destination::Sns(settings),
        }),
    }
}

fn parse_arn(text: &str) -> Result<String, String> {
    match text.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "sns", region, account, topic]
            if !region.is_empty() && !account.is_empty() && !topic.is_empty() =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "`{text}` is not the ARN of a topic: write arn:aws:sns:<region>:<account>:<topic>"
        )),
    }
}
