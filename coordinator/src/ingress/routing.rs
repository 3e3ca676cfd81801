//! Routing of records to their targets. The id of the address is the record's key, a field of its
//! data, or a constant.

use bytes::Bytes;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::input::Unroutable;
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::typed_value;

use crate::module::RecordId;

/// Conversion of the records of one stream to messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Typename of the messages.
    pub value_type: String,
    /// Functions that receive each record.
    pub targets: Vec<FunctionType>,
    /// Source of the address's id.
    pub id: RecordId,
}

impl Routing {
    /// Converts a record to messages.
    ///
    /// # Errors
    ///
    /// [`Unroutable`] if there is no id: the key is empty, or the data is not JSON with an id at
    /// the pointer.
    pub fn route(&self, key: &str, data: &Bytes) -> Result<Vec<(Address, TypedValue)>, Unroutable> {
        let value = || typed_value(self.value_type.clone(), data.clone());
        let id = self.id.of(key, data).map_err(|reason| Unroutable {
            value: value(),
            reason,
        })?;
        let targets = self.targets.iter();
        Ok(targets
            .map(|target| (Address::new(target.clone(), id.as_str()), value()))
            .collect())
    }
}

impl RecordId {
    fn of(&self, key: &str, data: &[u8]) -> Result<String, String> {
        match self {
            Self::Key if key.is_empty() => {
                Err("the record has no key, which is the id of its target address".to_owned())
            }
            Self::Key => Ok(key.to_owned()),
            Self::Pointer(pointer) => pointed(pointer, data),
            Self::Constant(id) => Ok(id.clone()),
        }
    }
}

/// Returns the id at a JSON pointer: a text that is not empty, or an integer.
pub(super) fn pointed(pointer: &str, data: &[u8]) -> Result<String, String> {
    use serde_json::Value;
    let document: Value = serde_json::from_slice(data).map_err(|error| {
        format!(
            "the record is not JSON ({error}), so the id of its target address is missing \
             ({pointer})"
        )
    })?;
    match document.pointer(pointer) {
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        Some(other) => {
            let what = match other {
                Value::Null => "null",
                Value::Bool(_) => "a boolean",
                Value::Number(_) => "a number that is not an integer, or too large",
                Value::String(_) => "an empty text",
                Value::Array(_) => "a list",
                Value::Object(_) => "an object",
            };
            Err(format!(
                "{pointer} of the record is {what}; it must be the id of the target address"
            ))
        }
        None => Err(format!(
            "the record has no {pointer}, which is the id of its target address"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing() -> Routing {
        Routing {
            value_type: "example/name".to_owned(),
            targets: vec![
                "example/greeter".parse().unwrap(),
                "example/counter".parse().unwrap(),
            ],
            id: RecordId::Key,
        }
    }

    #[test]
    fn the_key_is_the_id_at_every_target() {
        let data = Bytes::from_static(b"{}");
        let messages = routing().route("bob", &data).unwrap();
        let addresses: Vec<_> = messages
            .iter()
            .map(|(address, _)| address.to_string())
            .collect();
        assert_eq!(addresses, ["example/greeter/bob", "example/counter/bob"]);
        assert!(
            messages
                .iter()
                .all(|(_, value)| *value == typed_value("example/name", data.clone()))
        );
    }

    #[test]
    fn a_record_without_a_key_is_unroutable_with_its_reason() {
        let unroutable = routing().route("", &Bytes::from_static(b"{}")).unwrap_err();
        assert!(unroutable.reason.contains("no key"));
        assert_eq!(unroutable.value.value, "{}");
    }

    fn id_by_pointer(pointer: &str, data: &'static str) -> Result<String, String> {
        let routing = Routing {
            id: RecordId::Pointer(pointer.to_owned()),
            ..routing()
        };
        let routed = routing.route("key", &Bytes::from_static(data.as_bytes()));
        match routed {
            Ok(messages) => {
                assert_eq!(messages.len(), 2);
                Ok(messages[0].0.id.to_string())
            }
            Err(unroutable) => {
                assert_eq!(unroutable.value.value, data);
                Err(unroutable.reason)
            }
        }
    }

    #[test]
    fn the_id_is_found_in_the_data_by_a_json_pointer() {
        let data = r#"{"customer": {"id": "c-7"}, "orders": [{"number": 12}], "a/b": -3}"#;
        assert_eq!(id_by_pointer("/customer/id", data).unwrap(), "c-7");
        assert_eq!(id_by_pointer("/orders/0/number", data).unwrap(), "12");
        assert_eq!(id_by_pointer("/a~1b", data).unwrap(), "-3");
    }

    #[test]
    fn data_without_an_id_is_unroutable_with_its_reason() {
        for (data, why) in [
            ("plain", "is not JSON"),
            (r#"{"other": 1}"#, "has no /id"),
            (r#"{"id": ""}"#, "is an empty text"),
            (r#"{"id": null}"#, "is null"),
            (r#"{"id": 1.5}"#, "not an integer"),
            (r#"{"id": {}}"#, "is an object"),
        ] {
            let reason = id_by_pointer("/id", data).unwrap_err();
            assert!(reason.contains(why), "{data}: {reason}");
        }
    }

    #[test]
    fn with_a_constant_id_one_instance_sees_every_record_with_or_without_a_key() {
        let routing = Routing {
            id: RecordId::Constant("main".to_owned()),
            ..routing()
        };
        for key in ["", "bob"] {
            let messages = routing.route(key, &Bytes::from_static(b"{}")).unwrap();
            assert_eq!(messages[0].0.to_string(), "example/greeter/main");
        }
    }
}
