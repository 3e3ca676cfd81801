//! Conversion of records to items.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use satchel_engine::output::Emission;
use serde_json::{Value, json};

use super::DynamoDbSettings;
use crate::egress::content::Content;

/// Maximum size of an item in bytes, names included.
pub(super) const ITEM_BYTES_MAX: usize = 400 << 10;

pub(super) const WRITER: &str = "satchel_writer";
pub(super) const NUMBER: &str = "satchel_number";
const TYPENAME: &str = "satchel_type";
const TRACEPARENT: &str = "satchel_traceparent";
const VALUE: &str = "value";

/// An item to put.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its attributes.
    pub attributes: BTreeMap<String, Attribute>,
    /// Its key, as one text.
    pub key: String,
    /// Its size in bytes.
    pub bytes: usize,
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// `NULL`.
    Null,
    /// `BOOL`.
    Bool(bool),
    /// `N`.
    Number(String),
    /// `S`.
    Text(String),
    /// `B`.
    Binary(Bytes),
    /// `L`.
    List(Vec<Attribute>),
    /// `M`.
    Map(BTreeMap<String, Attribute>),
}

impl Item {
    /// Converts a record. `writer` is the permanent name of root, partition and egress.
    ///
    /// # Errors
    ///
    /// The record lacks a part of the key, or is too large.
    pub fn of(
        emission: &Emission,
        settings: &DynamoDbSettings,
        writer: &str,
    ) -> Result<Self, String> {
        let content = Content::of(emission)?;
        let mut attributes = BTreeMap::new();
        match content.value() {
            Some(Value::Object(fields)) => {
                for (name, value) in fields {
                    attributes.insert(name.clone(), Attribute::of(value));
                }
            }
            Some(value) => {
                attributes.insert(VALUE.to_owned(), Attribute::of(value));
            }
            None => {
                let bytes = emission.value.value.clone();
                attributes.insert(VALUE.to_owned(), Attribute::Binary(bytes));
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
                true => Attribute::Number(text),
                false => Attribute::Text(text),
            };
            attributes.insert(part.name.clone(), value);
        }
        let text = |text: &str| Attribute::Text(text.to_owned());
        attributes.insert(WRITER.to_owned(), text(writer));
        attributes.insert(TYPENAME.to_owned(), text(content.typename()));
        let number = Attribute::Number(emission.number.to_string());
        attributes.insert(NUMBER.to_owned(), number);
        if let Some(trace) = emission.trace {
            attributes.insert(TRACEPARENT.to_owned(), text(&trace.to_string()));
        }
        let sizes = attributes.iter();
        let bytes = sizes.map(|(name, value)| name.len() + value.bytes()).sum();
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

impl Attribute {
    /// Converts a JSON value.
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(fields) => Self::Map(
                fields
                    .iter()
                    .map(|(name, value)| (name.clone(), Self::of(value)))
                    .collect(),
            ),
        }
    }

    /// The attribute in DynamoDB's own JSON, such as `{"N":"7"}`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => json!({"NULL": true}),
            Self::Bool(value) => json!({"BOOL": value}),
            Self::Number(number) => json!({"N": number}),
            Self::Text(text) => json!({"S": text}),
            Self::Binary(bytes) => json!({"B": STANDARD.encode(bytes)}),
            Self::List(items) => json!({"L": items.iter().map(Self::to_json).collect::<Value>()}),
            Self::Map(fields) => {
                let fields = fields.iter();
                let fields = fields.map(|(name, value)| (name.clone(), value.to_json()));
                json!({"M": Value::Object(fields.collect())})
            }
        }
    }

    /// Approximate size as DynamoDB counts it.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Number(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::List(items) => 3 + items.iter().map(|item| 1 + item.bytes()).sum::<usize>(),
            Self::Map(fields) => {
                let fields = fields.iter();
                3 + fields
                    .map(|(name, value)| 1 + name.len() + value.bytes())
                    .sum::<usize>()
            }
            Self::Null | Self::Bool(_) => 1,
        }
    }
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
        let text = |text: &str| Attribute::Text(text.to_owned());
        let number = |text: &str| Attribute::Number(text.to_owned());
        let inner = BTreeMap::from([("a".to_owned(), Attribute::Bool(true))]);
        let expected = [
            ("customer", text("c")),
            ("n", number("7")),
            ("tags", Attribute::List(vec![text("x"), Attribute::Null])),
            ("in", Attribute::Map(inner)),
            ("pk", text("c")),
            ("sk", number("7")),
            ("satchel_writer", text("w")),
            ("satchel_number", number("3")),
            ("satchel_type", text("example/o")),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(item.attributes, BTreeMap::from(expected));
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
