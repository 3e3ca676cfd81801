//! Conversion of typed values to text or JSON for services.
//!
//! | value | text (SQS, SNS) | JSON (EventBridge, Lambda, DynamoDB) |
//! |---|---|---|
//! | JSON text, whatever the typename | unchanged | unchanged |
//! | `io.statefun.types/string` | the string | the string |
//! | the other `io.statefun.types/…` | the number, `true`, `false` | the same |
//! | all else | base64 | `{"typename":…,"base64":…}` |
//!
//! Fields of a service, such as a message group or a key, are constants or come from the value
//! through a [`Selector`].

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_engine::output::Emission;
use satchel_protocol::types::BuiltIn;
use serde_json::{Value, json};

/// A value as services accept it.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    typename: String,
    /// The value as JSON, if it can be read.
    value: Option<Value>,
    text: String,
    is_base64: bool,
}

impl Content {
    /// Converts the value of a record.
    ///
    /// # Errors
    ///
    /// The bytes do not match their built-in typename.
    pub fn of(emission: &Emission) -> Result<Self, String> {
        let typename = emission.value.typename.clone();
        let bytes = &emission.value.value;
        if let Some(value) = built_in(&typename, bytes) {
            let value = value.map_err(|error| format!("it is not a {typename}: {error}"))?;
            let text = match &value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            return Ok(Self {
                typename,
                value: Some(value),
                text,
                is_base64: false,
            });
        }
        let text = std::str::from_utf8(bytes).ok();
        let json = text.and_then(|text| Some((text, serde_json::from_str(text).ok()?)));
        Ok(match json {
            Some((text, value)) => Self {
                typename,
                value: Some(value),
                text: text.to_owned(),
                is_base64: false,
            },
            None => Self {
                typename,
                value: None,
                text: STANDARD.encode(bytes),
                is_base64: true,
            },
        })
    }

    /// The value as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True if the text is base64.
    pub fn is_base64(&self) -> bool {
        self.is_base64
    }

    /// Its typename.
    pub fn typename(&self) -> &str {
        &self.typename
    }

    /// The value as JSON, if it can be read.
    pub fn value(&self) -> Option<&Value> {
        self.value.as_ref()
    }

    /// The value as JSON text. A value that was JSON already is unchanged, byte for byte.
    pub fn json(&self) -> String {
        match &self.value {
            None => json!({"typename": self.typename, "base64": self.text}).to_string(),
            // A string's text is not its JSON.
            Some(value @ Value::String(_)) => value.to_string(),
            Some(_) => self.text.clone(),
        }
    }
}

/// Checks the size of a record, which its message calls `what`.
pub(super) fn check_size(what: &str, bytes: usize, bytes_max: usize) -> Result<(), String> {
    match bytes > bytes_max {
        true => Err(format!(
            "{what} has {bytes} bytes, and {bytes_max} are allowed"
        )),
        false => Ok(()),
    }
}

/// Decodes the value of one of StateFun's built-in types.
fn built_in(typename: &str, bytes: &[u8]) -> Option<Result<Value, String>> {
    fn read<T: BuiltIn + Into<Value>>(bytes: &[u8]) -> Result<Value, String> {
        let value = T::from_wire(bytes).map_err(|error| error.to_string())?;
        Ok(value.into())
    }
    Some(match typename {
        bool::TYPENAME => read::<bool>(bytes),
        i32::TYPENAME => read::<i32>(bytes),
        i64::TYPENAME => read::<i64>(bytes),
        f32::TYPENAME => read::<f32>(bytes),
        f64::TYPENAME => read::<f64>(bytes),
        String::TYPENAME => read::<String>(bytes),
        _ => return None,
    })
}

/// Source of a service's field.
///
/// `/customer/id` is a JSON pointer into the value, `$id` the record's id (the same whenever it is
/// sent again), `$typename` its typename, and `$egress` the egress. Any other text is a constant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// A constant.
    Constant(String),
    /// A JSON pointer (RFC 6901) to a string, a number or a boolean.
    Pointer(String),
    /// The record's id.
    Id,
    /// The value's typename.
    Typename,
    /// The egress's id.
    Egress,
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "$id" => Self::Id,
            "$typename" => Self::Typename,
            "$egress" => Self::Egress,
            text if text.starts_with('$') => {
                return Err(format!(
                    "`{text}` is not known: write $id, $typename, $egress, \
                    a JSON pointer (/customer/id) or a constant"
                ));
            }
            text if text.starts_with('/') => Self::Pointer(text.to_owned()),
            text => Self::Constant(text.to_owned()),
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant(text) | Self::Pointer(text) => text,
            Self::Id => "$id",
            Self::Typename => "$typename",
            Self::Egress => "$egress",
        })
    }
}

impl Selector {
    /// Text of the field for this record.
    ///
    /// # Errors
    ///
    /// The value lacks the field.
    pub fn select(&self, emission: &Emission, content: &Content) -> Result<String, String> {
        match self {
            Self::Constant(text) => Ok(text.clone()),
            Self::Id => Ok(emission.id.to_string()),
            Self::Typename => Ok(content.typename.clone()),
            Self::Egress => Ok(emission.egress.to_string()),
            Self::Pointer(pointer) => {
                let value = content
                    .value
                    .as_ref()
                    .ok_or_else(|| format!("it is not JSON, so there is no {pointer} in it"))?;
                match value.pointer(pointer) {
                    Some(Value::String(text)) if text.is_empty() => {
                        Err(format!("{pointer} is an empty text"))
                    }
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
                    Some(_) => Err(format!(
                        "{pointer} is neither a text nor a number nor a truth value"
                    )),
                    None => Err(format!("there is no {pointer} in it")),
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use satchel_engine::message::MessageId;
    use satchel_protocol::types::typed_value;

    use super::*;

    /// An emitted record. Its id is sixteen bytes of its number.
    pub(in crate::egress) fn emission(number: u64, typename: &str, value: &[u8]) -> Emission {
        Emission {
            number,
            id: MessageId([number as u8; 16]),
            egress: "example/out".into(),
            value: typed_value(typename, value.to_vec()),
            trace: None,
        }
    }

    fn both(typename: &str, value: &[u8]) -> (String, String) {
        let content = Content::of(&emission(1, typename, value)).unwrap();
        (content.text().to_owned(), content.json())
    }

    fn pair(text: &str, json: &str) -> (String, String) {
        (text.to_owned(), json.to_owned())
    }

    #[test]
    fn values_become_text_and_json() {
        let json = "{\"b\": 1.50,\"a\":2}";
        assert_eq!(both("satchel/json", json.as_bytes()), pair(json, json));
        assert_eq!(both("example/order", json.as_bytes()), pair(json, json));
        let string = both("io.statefun.types/string", &"h\"i".to_owned().to_wire());
        assert_eq!(string, pair("h\"i", "\"h\\\"i\""));
        assert_eq!(
            both("io.statefun.types/long", &7_i64.to_wire()),
            pair("7", "7")
        );
        assert_eq!(
            both("example/bytes", b"\xff"),
            pair(
                "/w==",
                "{\"base64\":\"/w==\",\"typename\":\"example/bytes\"}"
            )
        );
        let broken = Content::of(&emission(1, "io.statefun.types/int", b"\xff\xff"));
        assert!(
            broken
                .unwrap_err()
                .starts_with("it is not a io.statefun.types/int: ")
        );
    }

    #[test]
    fn fields_are_constants_or_come_from_the_record() {
        let value = b"{\"customer\":{\"id\":\"c1\",\"n\":3,\"none\":\"\"},\"list\":[true]}";
        let emission = emission(1, "example/order", value);
        let content = Content::of(&emission).unwrap();
        let select = |text: &str| {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.to_string(), text);
            selector.select(&emission, &content)
        };
        assert_eq!(select("alerts").unwrap(), "alerts");
        assert_eq!(select("/customer/id").unwrap(), "c1");
        assert_eq!(select("/customer/n").unwrap(), "3");
        assert_eq!(select("/list/0").unwrap(), "true");
        assert_eq!(select("$id").unwrap(), "01".repeat(16));
        assert_eq!(select("$typename").unwrap(), "example/order");
        assert_eq!(select("$egress").unwrap(), "example/out");
        assert_eq!(
            select("/nothing").unwrap_err(),
            "there is no /nothing in it"
        );
        assert_eq!(
            select("/customer/none").unwrap_err(),
            "/customer/none is an empty text"
        );
        assert_eq!(
            select("/customer").unwrap_err(),
            "/customer is neither a text nor a number nor a truth value"
        );
        assert!("$what".parse::<Selector>().is_err());
    }
}
