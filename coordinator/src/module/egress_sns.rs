//! `satchel.sns.v1/egress`: records become messages of a topic.

use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::sns::{PUBLICATION_BYTES_MAX_LARGE, SnsSettings};

use crate::module::aws;
use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::egress_sqs::{ATTRIBUTES, MESSAGE_GROUP, SELECTOR, attributes, check_group};
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::table::{Field, Form, Format, Kind};

/// The kind `satchel.sns.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "satchel.sns.v1/egress",
    summary: "Records as messages of an SNS topic, at least once, with the attributes of \
              `satchel.sqs.v1/egress`.",
    example: "kind: satchel.sns.v1/egress
spec:
  id: example/news
  topicArn: arn:aws:sns:eu-central-1:123456789012:news
  subject: Good news
",
    fields: &[
        ID,
        aws::REGION,
        aws::CREDENTIALS,
        Field::required(
            "topicArn",
            Form::Format(&TOPIC),
            "ARN of the topic. The name of a FIFO topic ends with `.fifo`.",
        ),
        MESSAGE_GROUP,
        Field::optional(
            "subject",
            SELECTOR,
            "no subject",
            "Source of the subject of emails.",
        ),
        ATTRIBUTES,
        Field::with_default(
            "maxMessageBytes",
            Form::Bytes(1_024, PUBLICATION_BYTES_MAX_LARGE as u64),
            "256KiB",
            "Maximum size of a message and of a request, attributes included. Raise it together \
             with the topic's own `MaximumMessageSize`.",
        ),
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

static TOPIC: Format = Format {
    name: "ARN of a topic",
    pattern: "arn:[^:]*:sns:[^:]+:[^:]+:[^:]+",
    check: |text| parse_arn(text).map(drop),
};

fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let settings = SnsSettings {
        topic_arn: fields.parsed("topicArn", parse_arn).unwrap_or_default(),
        message_group_id: fields.parsed("messageGroupId", str::parse),
        subject: fields.parsed("subject", str::parse),
        attributes: attributes(&mut fields),
        message_bytes_max: fields.bytes("maxMessageBytes") as usize,
    };
    check_group(&mut fields, settings.is_fifo(), "topic");
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access: aws::access(&mut fields),
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
