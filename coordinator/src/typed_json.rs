//! Typed values as JSON text, for people and files.

use bytes::Bytes;
use satchel_protocol::types::BuiltIn;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Converts JSON text to the bytes of a value of `typename` (none: JSON). StateFun's built-in types
/// have their own encoding. Other values are the JSON text itself.
pub(crate) fn encode(typename: Option<&str>, json: &str) -> Result<Bytes, String> {
    let _: Value = serde_json::from_str(json).map_err(|error| format!("not JSON: {error}"))?;
    match typename {
        Some(bool::TYPENAME) => built_in::<bool>(json),
        Some(i32::TYPENAME) => built_in::<i32>(json),
        Some(i64::TYPENAME) => built_in::<i64>(json),
        Some(f32::TYPENAME) => built_in::<f32>(json),
        Some(f64::TYPENAME) => built_in::<f64>(json),
        Some(String::TYPENAME) => built_in::<String>(json),
        _ => Ok(Bytes::copy_from_slice(json.as_bytes())),
    }
}

/// Converts a value of `typename` to text to show: a built-in type becomes JSON, other values stay
/// as they are.
pub(crate) fn show(typename: Option<&str>, bytes: &Bytes) -> Bytes {
    let shown = match typename {
        Some(bool::TYPENAME) => json::<bool>(bytes),
        Some(i32::TYPENAME) => json::<i32>(bytes),
        Some(i64::TYPENAME) => json::<i64>(bytes),
        Some(f32::TYPENAME) => json::<f32>(bytes),
        Some(f64::TYPENAME) => json::<f64>(bytes),
        Some(String::TYPENAME) => json::<String>(bytes),
        _ => None,
    };
    shown.map_or_else(|| bytes.clone(), Bytes::from)
}

fn built_in<T: BuiltIn + DeserializeOwned>(json: &str) -> Result<Bytes, String> {
    let value: T = serde_json::from_str(json)
        .map_err(|error| format!("not a value of {}: {error}", T::TYPENAME))?;
    Ok(value.to_wire())
}

fn json<T: BuiltIn + Serialize>(bytes: &[u8]) -> Option<String> {
    serde_json::to_string(&T::from_wire(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_types_take_their_own_form_and_read_back() {
        let values = [
            ("io.statefun.types/bool", "true"),
            ("io.statefun.types/int", "-7"),
            ("io.statefun.types/long", "9007199254740993"),
            ("io.statefun.types/float", "1.5"),
            ("io.statefun.types/double", "0.1"),
            ("io.statefun.types/string", "\"ü\""),
        ];
        for (typename, json) in values {
            let wire = encode(Some(typename), json).unwrap();
            assert_ne!(wire, json.as_bytes(), "{typename}");
            assert_eq!(show(Some(typename), &wire), json.as_bytes(), "{typename}");
        }
    }

    #[test]
    fn other_types_are_the_json_text_as_written() {
        for typename in [None, Some("example/name")] {
            let wire = encode(typename, "{ \"a\": 1 }").unwrap();
            assert_eq!(wire, "{ \"a\": 1 }");
            assert_eq!(show(typename, &wire), wire);
        }
    }

    #[test]
    fn what_is_not_json_or_of_another_type_is_refused() {
        assert!(
            encode(None, "{name: x}")
                .unwrap_err()
                .starts_with("not JSON: ")
        );
        let refused = encode(Some("io.statefun.types/int"), "\"7\"").unwrap_err();
        assert!(
            refused.starts_with("not a value of io.statefun.types/int: "),
            "{refused}"
        );
    }
}
