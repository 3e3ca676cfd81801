//! Values of requests and responses, in JSON 1.1 or CBOR 1.1. The members are the same, with two
//! differences, which follow the Java SDK:
//!
//! - Bytes are base64 in JSON.
//! - Times are seconds with a fraction in JSON, and milliseconds under tag 1 in CBOR.

mod cbor;
mod count;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Encoding of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Cbor,
}

impl Encoding {
    /// Encoding for the content type of a request.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/x-amz-json-1.1" | "application/json" => Some(Self::Json),
            "application/x-amz-cbor-1.1" => Some(Self::Cbor),
            _ => None,
        }
    }

    /// Content type of responses.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    /// Decodes a body. An empty body has no members.
    pub(super) fn decode(self, body: &Bytes) -> Result<Value, String> {
        if body.is_empty() {
            return Ok(Value::Map(Vec::new()));
        }
        match self {
            Self::Json => {
                count::check(count::in_json(body))?;
                let read = serde_json::from_slice::<serde_json::Value>(body);
                read.map(Value::from).map_err(|error| error.to_string())
            }
            Self::Cbor => {
                count::check(count::in_cbor(body))?;
                cbor::decode(body)
            }
        }
    }

    /// Encodes a body.
    pub(super) fn encode(self, value: &Value) -> Vec<u8> {
        match self {
            Self::Json => {
                serde_json::to_vec(value).expect("writing texts and numbers to memory cannot fail")
            }
            Self::Cbor => cbor::encode(value),
        }
    }
}

/// A value of a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Bytes),
    /// In milliseconds since the Unix epoch.
    Time(u64),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// A map of these members. Null members are omitted, as AWS does.
pub(super) fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    let present = members
        .into_iter()
        .filter(|(_, value)| *value != Value::Null);
    Value::Map(
        present
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// A list of these values.
pub(super) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::List(values.into_iter().collect())
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, T::into)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Self::Integer(number),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text),
            Json::Array(values) => Self::List(values.into_iter().map(Self::from).collect()),
            Json::Object(members) => Self::Map(
                members
                    .into_iter()
                    .map(|(name, value)| (name, Self::from(value)))
                    .collect(),
            ),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Integer(number) => to.serialize_i64(*number),
            Self::Float(number) => to.serialize_f64(*number),
            Self::Text(text) => to.serialize_str(text),
            Self::Bytes(bytes) => to.serialize_str(&STANDARD.encode(bytes)),
            Self::Time(time_ms) => to.serialize_f64(*time_ms as f64 / 1_000.0),
            Self::List(values) => to.collect_seq(values),
            Self::Map(members) => {
                let mut map = to.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}
