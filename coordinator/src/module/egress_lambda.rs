//! `satchel.lambda.v1/egress`: records are handed to another function, asynchronously.
//!
//! ```yaml
//! kind: satchel.lambda.v1/egress
//! spec:
//!   id: example/notify
//!   functionName: notify
//!   qualifier: live                  # a version or an alias; default: none
//!   envelope: json                   # tells id and typename too; default: none
//! ```

use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::lambda::LambdaSettings;

use crate::module::aws::access;
use crate::module::fields::Fields;
use crate::module::kinesis::{EgressAdapter, EgressSpec, identifier};

/// Reads the spec.
pub(crate) fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let function_name = fields.text("functionName");
    let qualifier = fields.optional_text("qualifier");
    let node = fields.optional("envelope");
    let envelope = fields.parse_of("envelope", node, |text| match text {
        "none" => Ok(false),
        "json" => Ok(true),
        _ => Err(format!("`{text}` is none of none, json")),
    });
    fields.finish();
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access,
            destination: Destination::Lambda(LambdaSettings {
                function_name,
                qualifier,
                envelope: envelope.unwrap_or_default(),
            }),
        }),
    }
}
