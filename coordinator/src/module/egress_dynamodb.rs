//! `satchel.dynamodb.v1/egress`: records become items of a table.

use satchel_aws::egress::content::Selector;
use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::dynamodb::{DynamoDbSettings, KeyAttribute};

use crate::module::aws;
use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::egress_sqs::SELECTOR;
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::table::{Field, Form, Format, Kind, Word};

/// The kind `satchel.dynamodb.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "satchel.dynamodb.v1/egress",
    summary: "Records as items of a DynamoDB table, each written exactly once. The fields of a \
              value that is a JSON object become attributes; any other value becomes the attribute \
              `value`. `satchel_writer`, `satchel_number` and `satchel_type` are Satchel's \
              attributes.",
    example: "kind: satchel.dynamodb.v1/egress
spec:
  id: example/orders
  table: orders
  partitionKey: {name: pk, from: /customer/id}
  sortKey: {name: sk, from: $id}
",
    fields: &[
        ID,
        aws::REGION,
        aws::CREDENTIALS,
        Field::required("table", Form::Text, "Name or ARN of the table."),
        Field::required(
            "partitionKey",
            Form::Mapping(KEY),
            "Partition key of the table.",
        ),
        Field::optional(
            "sortKey",
            Form::Mapping(KEY),
            "the table has no sort key",
            "Sort key of the table.",
        ),
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

const KEY: &[Field] = &[
    Field::required(
        "name",
        Form::Format(&ATTRIBUTE),
        "Name of the key's attribute.",
    ),
    Field::required("from", SELECTOR, "Source of the key's value."),
    Field::with_default(
        "type",
        Form::Choice(&[
            Word {
                word: "string",
                meaning: "A string.",
            },
            Word {
                word: "number",
                meaning: "A number.",
            },
        ]),
        "string",
        "Type of the key in the table.",
    ),
];

static ATTRIBUTE: Format = Format {
    name: "name of an attribute",
    pattern: r"[\s\S]+",
    check: |text| parse_attribute(text).map(drop),
};

fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let partition_key = key(fields.mapping("partitionKey"));
    let has_sort_key = fields.is_present("sortKey");
    let sort_key = has_sort_key.then(|| key(fields.mapping("sortKey")));
    if let Some(sort_key) = &sort_key
        && !sort_key.name.is_empty()
        && sort_key.name == partition_key.name
    {
        let message = format!("`{}` is the partition key already", sort_key.name);
        fields.problem_with("sortKey", message);
    }
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access: aws::access(&mut fields),
            destination: Destination::DynamoDb(DynamoDbSettings {
                table: fields.text("table"),
                partition_key,
                sort_key,
            }),
        }),
    }
}

fn key(mut fields: Fields<'_, '_>) -> KeyAttribute {
    let from = fields.parsed("from", str::parse);
    KeyAttribute {
        name: fields.parsed("name", parse_attribute).unwrap_or_default(),
        from: from.unwrap_or(Selector::Id),
        is_number: fields.choice("type") == "number",
    }
}

fn parse_attribute(text: &str) -> Result<String, String> {
    if text.starts_with("satchel_") {
        return Err(format!(
            "`{text}` is reserved, as is every name that begins with `satchel_`"
        ));
    }
    Ok(text.to_owned())
}
