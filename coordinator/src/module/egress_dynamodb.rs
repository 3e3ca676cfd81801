//! `satchel.dynamodb.v1/egress`: records become items of a table, each once.
//!
//! ```yaml
//! kind: satchel.dynamodb.v1/egress
//! spec:
//!   id: example/orders
//!   table: orders
//!   partitionKey: {name: pk, from: /customer/id}
//!   sortKey: {name: sk, from: $id}   # if the table has one; `type: number` for numbers
//! ```

use satchel_aws::egress::content::Selector;
use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::dynamodb::{DynamoDbSettings, KeyAttribute};

use crate::module::aws::access;
use crate::module::fields::Fields;
use crate::module::kinesis::{EgressAdapter, EgressSpec, identifier};

/// Reads the spec.
pub(crate) fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let table = fields.text("table");
    let partition_key = fields
        .required("partitionKey")
        .map(|node| key(fields.inside(node, "partitionKey")));
    let sort_key = fields
        .optional("sortKey")
        .map(|node| key(fields.inside(node, "sortKey")));
    if let (Some(one), Some(other)) = (&partition_key, &sort_key)
        && one.name == other.name
    {
        fields.problem_with(
            "sortKey",
            format!("`{}` is the partition key already", one.name),
        );
    }
    fields.finish();
    let none = || KeyAttribute {
        name: String::new(),
        from: Selector::Id,
        is_number: false,
    };
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access,
            destination: Destination::DynamoDb(DynamoDbSettings {
                table,
                partition_key: partition_key.unwrap_or_else(none),
                sort_key,
            }),
        }),
    }
}

fn key(mut fields: Fields<'_, '_>) -> KeyAttribute {
    let name = fields.parsed("name", |text| match text.starts_with("satchel_") {
        true => Err(format!("`{text}` is reserved")),
        false => Ok(text.to_owned()),
    });
    let from = fields.parsed("from", str::parse);
    let node = fields.optional("type");
    let is_number = fields.parse_of("type", node, |text| match text {
        "string" => Ok(false),
        "number" => Ok(true),
        _ => Err(format!("`{text}` is none of string, number")),
    });
    fields.finish();
    KeyAttribute {
        name: name.unwrap_or_default(),
        from: from.unwrap_or(Selector::Id),
        is_number: is_number.unwrap_or_default(),
    }
}
