//! `satchel.lambda.v1/egress`: records invoke another Lambda function, asynchronously.

use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::lambda::LambdaSettings;

use crate::module::aws;
use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::table::{Field, Form, Kind, Word};

/// The kind `satchel.lambda.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "satchel.lambda.v1/egress",
    summary: "Records as asynchronous invocations of another Lambda function, at least once and in \
              no order.",
    example: "kind: satchel.lambda.v1/egress
spec:
  id: example/notify
  functionName: notify
  envelope: json
",
    fields: &[
        ID,
        aws::REGION,
        aws::CREDENTIALS,
        Field::required("functionName", Form::Text, "Name or ARN of the function."),
        Field::optional(
            "qualifier",
            Form::Text,
            "the unpublished version, `$LATEST`",
            "Version or alias of the function.",
        ),
        Field::with_default(
            "envelope",
            Form::Choice(&[
                Word {
                    word: "none",
                    meaning: "The value of the record alone, as JSON.",
                },
                Word {
                    word: "json",
                    meaning: "`{\"satchel\":1,\"id\":…,\"typename\":…,\"data\":…}`, or `base64` in \
                              place of `data` where the value is not JSON.",
                },
            ]),
            "none",
            "Envelope around the value of each record.",
        ),
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    EgressSpec {
        source: fields.source(),
        id: identifier(&mut fields),
        adapter: EgressAdapter::Aws(AwsEgress {
            access: aws::access(&mut fields),
            destination: Destination::Lambda(LambdaSettings {
                function_name: fields.text("functionName"),
                qualifier: fields.optional_text("qualifier"),
                envelope: fields.choice("envelope") == "json",
            }),
        }),
    }
}
