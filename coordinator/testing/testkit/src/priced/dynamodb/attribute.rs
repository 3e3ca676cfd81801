//! Values of attributes: their JSON, order and size.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Refused;

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Text(String),
    Number(i128),
    Binary(Vec<u8>),
    Bool(bool),
    Null,
    List(Vec<Attribute>),
    Map(Item),
    TextSet(BTreeSet<String>),
}

/// Attributes of an item, by name.
pub(super) type Item = BTreeMap<String, Attribute>;

impl Attribute {
    pub(super) fn from_json(value: &Value) -> Result<Self, Refused> {
        let malformed = || Refused::invalid(format!("not the value of an attribute: {value}"));
        let fields = value.as_object().ok_or_else(malformed)?;
        let mut fields = fields.iter();
        let (Some((kind, value)), None) = (fields.next(), fields.next()) else {
            return Err(malformed());
        };
        let text = || value.as_str().ok_or_else(malformed);
        Ok(match kind.as_str() {
            "S" => Self::Text(text()?.to_owned()),
            "N" => {
                Self::Number(text()?.parse().map_err(|_| {
                    Refused::unknown(format!("numbers that are not whole: {value}"))
                })?)
            }
            "B" => Self::Binary(STANDARD.decode(text()?).map_err(|_| malformed())?),
            "BOOL" => Self::Bool(value.as_bool().ok_or_else(malformed)?),
            "NULL" => Self::Null,
            "L" => {
                let values = value.as_array().ok_or_else(malformed)?;
                Self::List(
                    values
                        .iter()
                        .map(Self::from_json)
                        .collect::<Result<_, _>>()?,
                )
            }
            "M" => Self::Map(item(value.as_object().ok_or_else(malformed)?)?),
            "SS" => {
                let values = value.as_array().ok_or_else(malformed)?.iter();
                let texts = values.map(|value| value.as_str().map(str::to_owned));
                Self::TextSet(texts.collect::<Option<_>>().ok_or_else(malformed)?)
            }
            other => return Err(Refused::unknown(format!("the type {other}"))),
        })
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!({"S": text}),
            Self::Number(number) => json!({"N": number.to_string()}),
            Self::Binary(bytes) => json!({"B": STANDARD.encode(bytes)}),
            Self::Bool(value) => json!({"BOOL": value}),
            Self::Null => json!({"NULL": true}),
            Self::List(values) => {
                let values: Vec<Value> = values.iter().map(Self::to_json).collect();
                json!({"L": values})
            }
            Self::Map(values) => json!({"M": item_to_json(values)}),
            Self::TextSet(values) => json!({"SS": values}),
        }
    }

    /// Size in bytes, as DynamoDB counts it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            // Two digits to a byte, and one byte more.
            Self::Number(number) => number.to_string().len().div_ceil(2) + 1,
            Self::Binary(bytes) => bytes.len(),
            Self::Bool(_) | Self::Null => 1,
            Self::List(values) => 3 + values.iter().map(|value| value.bytes() + 1).sum::<usize>(),
            Self::Map(values) => 3 + item_bytes(values) + values.len(),
            Self::TextSet(values) => values.iter().map(String::len).sum(),
        }
    }

    /// Order of two values of one type that has an order; else `None`.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Number(one), Self::Number(other)) => Some(one.cmp(other)),
            (Self::Binary(one), Self::Binary(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }

    /// True if the value begins with another of its type.
    pub(super) fn begins_with(&self, beginning: &Self) -> bool {
        match (self, beginning) {
            (Self::Text(text), Self::Text(beginning)) => text.starts_with(beginning.as_str()),
            (Self::Binary(bytes), Self::Binary(beginning)) => bytes.starts_with(beginning),
            _ => false,
        }
    }
}

/// Attributes of a JSON object.
pub(super) fn item(fields: &Map<String, Value>) -> Result<Item, Refused> {
    let attributes = fields.iter();
    attributes
        .map(|(name, value)| Ok((name.clone(), Attribute::from_json(value)?)))
        .collect()
}

pub(super) fn item_to_json(item: &Item) -> Value {
    let fields = item.iter();
    let fields = fields.map(|(name, value)| (name.clone(), value.to_json()));
    Value::Object(fields.collect())
}

/// Size of an item in bytes, as DynamoDB counts it.
pub(super) fn item_bytes(item: &Item) -> usize {
    item.iter()
        .map(|(name, value)| name.len() + value.bytes())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_json_and_have_the_size_that_dynamodb_bills() {
        for (json, bytes) in [
            (json!({"S": "abc"}), 3),
            (json!({"N": "-12345"}), 4),
            (json!({"B": "AQIDBA=="}), 4),
            (json!({"BOOL": true}), 1),
            (json!({"NULL": true}), 1),
            (json!({"L": [{"S": "a"}, {"N": "1"}]}), 8),
            (json!({"M": {"k": {"S": "v"}}}), 6),
            (json!({"SS": ["a", "bc"]}), 3),
        ] {
            let value = Attribute::from_json(&json).unwrap();
            assert_eq!((value.to_json(), value.bytes()), (json, bytes));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (json, named) in [
            (json!({"N": "1.5"}), "not whole"),
            (json!({"NS": ["1"]}), "the type NS"),
            (json!({"S": "a", "N": "1"}), "not the value"),
        ] {
            let refused = Attribute::from_json(&json).unwrap_err();
            assert!(refused.message.contains(named), "{refused:?}");
        }
    }
}
