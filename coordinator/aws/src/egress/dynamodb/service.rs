//! Adapter of DynamoDB.

use std::collections::HashMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use satchel_engine::output::Emission;
use serde_json::Value;

use super::DynamoDbSettings;
use crate::egress::content::Content;
use crate::egress::failure;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use satchel_engine::sink::delivery::{Limits, Outcome, Record, Request};

/// Maximum size of an item in bytes, names included.
const ITEM_BYTES_MAX: usize = 400 << 10;

const REQUESTS_IN_FLIGHT: usize = 32;

const WRITER: &str = "satchel_writer";
const NUMBER: &str = "satchel_number";
const TYPENAME: &str = "satchel_type";
const TRACEPARENT: &str = "satchel_traceparent";
const VALUE: &str = "value";

/// Puts items.
#[derive(Debug, Clone)]
pub struct DynamoDbService {
    client: Client,
    settings: DynamoDbSettings,
    table: Arc<str>,
    writer: String,
}

impl DynamoDbService {
    /// Uses the DynamoDB of `config`. `writer` is the permanent name of root, partition and egress.
    pub fn new(config: &SdkConfig, settings: DynamoDbSettings, writer: String) -> Self {
        Self {
            client: Client::new(&with_timeout(config, REQUEST_TIMEOUT)),
            table: settings.table.as_str().into(),
            settings,
            writer,
        }
    }
}

/// An item to put.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    attributes: HashMap<String, AttributeValue>,
    key: String,
    bytes: usize,
}

impl Item {
    fn of(emission: &Emission, settings: &DynamoDbSettings, writer: &str) -> Result<Self, String> {
        let content = Content::of(emission)?;
        let mut attributes = HashMap::new();
        match content.value() {
            Some(Value::Object(fields)) => {
                for (name, value) in fields {
                    attributes.insert(name.clone(), attribute(value));
                }
            }
            Some(value) => {
                attributes.insert(VALUE.to_owned(), attribute(value));
            }
            None => {
                let blob = Blob::new(emission.value.value.clone());
                attributes.insert(VALUE.to_owned(), AttributeValue::B(blob));
            }
        }
        let mut key = String::new();
        for part in std::iter::once(&settings.partition_key).chain(&settings.sort_key) {
            let text = part.from.select(emission, &content)?;
            if part.is_number && !is_number(&text) {
                let name = &part.name;
                return Err(format!(
                    "its key {name:?} is {text:?}, which is not a number"
                ));
            }
            // A length prefix distinguishes ("a", "bc") from ("ab", "c").
            key.push_str(&format!("{}:{text}", text.len()));
            let value = match part.is_number {
                true => AttributeValue::N(text),
                false => AttributeValue::S(text),
            };
            attributes.insert(part.name.clone(), value);
        }
        let text = |text: &str| AttributeValue::S(text.to_owned());
        attributes.insert(WRITER.to_owned(), text(writer));
        attributes.insert(TYPENAME.to_owned(), text(content.typename()));
        let number = AttributeValue::N(emission.number.to_string());
        attributes.insert(NUMBER.to_owned(), number);
        if let Some(trace) = emission.trace {
            attributes.insert(TRACEPARENT.to_owned(), text(&trace.to_string()));
        }
        let sizes = attributes.iter();
        let bytes = sizes
            .map(|(name, value)| name.len() + bytes_of(value))
            .sum();
        if bytes > ITEM_BYTES_MAX {
            return Err(format!(
                "the item has {bytes} bytes, and {ITEM_BYTES_MAX} are allowed"
            ));
        }
        Ok(Self {
            attributes,
            key,
            bytes,
        })
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// JSON as a DynamoDB attribute.
fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(items) => AttributeValue::L(items.iter().map(attribute).collect()),
        Value::Object(fields) => AttributeValue::M(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), attribute(value)))
                .collect(),
        ),
    }
}

/// Approximate size as DynamoDB counts it.
fn bytes_of(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::L(items) => 3 + items.iter().map(|item| 1 + bytes_of(item)).sum::<usize>(),
        AttributeValue::M(fields) => {
            let fields = fields.iter();
            3 + fields
                .map(|(name, value)| 1 + name.len() + bytes_of(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}

impl Service for DynamoDbService {
    type Payload = Item;

    fn limits(&self) -> Limits {
        Limits {
            records_per_request: 1,
            bytes_per_request: ITEM_BYTES_MAX,
            requests_in_flight: REQUESTS_IN_FLIGHT,
            records_in_flight: REQUESTS_IN_FLIGHT,
        }
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Item>, String> {
        let item = Item::of(&emission, &self.settings, &self.writer)?;
        Ok(Record {
            number: emission.number,
            destination: Arc::clone(&self.table),
            key: Some(Arc::from(item.key.as_str())),
            bytes: item.bytes,
            payload: item,
        })
    }

    async fn deliver(&self, request: &Request<Item>) -> Answer {
        let mut outcomes = Vec::with_capacity(request.records.len());
        for record in &request.records {
            let number = AttributeValue::N(record.number.to_string());
            let answer = self
                .client
                .put_item()
                .table_name(&*request.destination)
                .set_item(Some(record.payload.attributes.clone()))
                .condition_expression(
                    "attribute_not_exists(#key) OR attribute_not_exists(#writer) \
                    OR #writer <> :writer OR #number < :number",
                )
                .expression_attribute_names("#key", &self.settings.partition_key.name)
                .expression_attribute_names("#writer", WRITER)
                .expression_attribute_names("#number", NUMBER)
                .expression_attribute_values(":writer", AttributeValue::S(self.writer.clone()))
                .expression_attribute_values(":number", number)
                .send()
                .await;
            match answer {
                Ok(_) => outcomes.push(Outcome::Delivered),
                Err(error) if is_superseded(error.as_service_error()) => {
                    outcomes.push(Outcome::Delivered);
                }
                Err(error) => outcomes.extend(failure::outcomes(&error, 1)),
            }
        }
        Answer::of(outcomes)
    }
}

/// True if the condition failed: the item of the key is from this record, or from a later one of
/// the same writer.
fn is_superseded(error: Option<&aws_sdk_dynamodb::operation::put_item::PutItemError>) -> bool {
    error.is_some_and(|error| error.is_conditional_check_failed_exception())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::content::tests::emission;
    use crate::egress::dynamodb::KeyAttribute;

    fn settings() -> DynamoDbSettings {
        DynamoDbSettings {
            table: "orders".into(),
            partition_key: KeyAttribute {
                name: "pk".into(),
                from: "/customer".parse().unwrap(),
                is_number: false,
            },
            sort_key: Some(KeyAttribute {
                name: "sk".into(),
                from: "/n".parse().unwrap(),
                is_number: true,
            }),
        }
    }

    #[test]
    fn an_item_has_the_fields_of_the_value_its_key_and_its_writer() {
        let value = b"{\"customer\":\"c\",\"n\":7,\"tags\":[\"x\",null],\"in\":{\"a\":true}}";
        let item = Item::of(&emission(3, "example/o", value), &settings(), "w").unwrap();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |text: &str| AttributeValue::N(text.to_owned());
        let inner = HashMap::from([("a".to_owned(), AttributeValue::Bool(true))]);
        let expected = [
            ("customer", text("c")),
            ("n", number("7")),
            (
                "tags",
                AttributeValue::L(vec![text("x"), AttributeValue::Null(true)]),
            ),
            ("in", AttributeValue::M(inner)),
            ("pk", text("c")),
            ("sk", number("7")),
            ("satchel_writer", text("w")),
            ("satchel_number", number("3")),
            ("satchel_type", text("example/o")),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(item.attributes, HashMap::from(expected));
        assert_eq!(item.key, "1:c1:7");
    }

    #[test]
    fn a_value_without_its_key_or_too_large_is_refused() {
        let refused = |value: &[u8]| {
            Item::of(&emission(3, "example/o", value), &settings(), "w").unwrap_err()
        };
        assert_eq!(refused(b"{\"n\":7}"), "there is no /customer in it");
        assert_eq!(
            refused(b"{\"customer\":\"c\",\"n\":\"x\"}"),
            "its key \"sk\" is \"x\", which is not a number"
        );
        let large = format!(
            "{{\"customer\":\"c\",\"n\":7,\"x\":\"{}\"}}",
            "x".repeat(ITEM_BYTES_MAX)
        );
        assert!(refused(large.as_bytes()).contains("and 409600 are allowed"));
        assert_eq!(
            refused(b"\xff"),
            "it is not JSON, so there is no /customer in it"
        );
    }
}
