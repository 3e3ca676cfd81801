//! StateFun's built-in types: `bool`, `int`, `long`, `float`, `double` and `string`.
//!
//! Each is a protobuf message with one field. A zero value encodes to zero bytes, so
//! [`typed_value`] always sets `has_value`.

use bytes::Bytes;
use prost::Message;
use serde::de::DeserializeOwned;

use crate::reqreply::TypedValue;

/// Generated wrapper messages, package `io.statefun.sdk.types`.
#[allow(
    missing_docs,
    reason = "generated; the .proto text documents the messages"
)]
pub mod wrappers {
    include!(concat!(env!("OUT_DIR"), "/io.statefun.sdk.types.rs"));
}

/// Typename of JSON text. Requests without a typename of their own get it.
pub const JSON_TYPENAME: &str = "satchel/json";

/// A Rust type with a StateFun built-in typename and its wire form.
pub trait BuiltIn: Sized {
    /// StateFun's typename for it, such as `io.statefun.types/int`.
    const TYPENAME: &'static str;

    /// Encodes the value. The wire form of a zero value is empty.
    fn to_wire(&self) -> Bytes;

    /// Decodes the wire form.
    ///
    /// # Errors
    ///
    /// When the bytes are not the wrapper message of this type.
    fn from_wire(bytes: &[u8]) -> Result<Self, prost::DecodeError>;
}

macro_rules! built_in {
    ($type:ty, $typename:literal, $wrapper:ident) => {
        impl BuiltIn for $type {
            const TYPENAME: &'static str = $typename;

            fn to_wire(&self) -> Bytes {
                wrappers::$wrapper {
                    value: self.clone(),
                }
                .encode_to_vec()
                .into()
            }

            fn from_wire(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
                wrappers::$wrapper::decode(bytes).map(|wrapper| wrapper.value)
            }
        }
    };
}

built_in!(bool, "io.statefun.types/bool", BooleanWrapper);
built_in!(i32, "io.statefun.types/int", IntWrapper);
built_in!(i64, "io.statefun.types/long", LongWrapper);
built_in!(String, "io.statefun.types/string", StringWrapper);

/// Like `built_in`, for types with two zeros. Only the positive zero encodes to zero bytes: that is
/// protobuf's rule, and StateFun's SDKs follow it. prost leaves out the negative zero as well.
macro_rules! built_in_float {
    ($type:ty, $typename:literal, $wrapper:ident, $key:literal) => {
        impl BuiltIn for $type {
            const TYPENAME: &'static str = $typename;

            fn to_wire(&self) -> Bytes {
                if self.to_bits() == 0 {
                    return Bytes::new();
                }
                let mut wire = vec![$key];
                wire.extend_from_slice(&self.to_le_bytes());
                wire.into()
            }

            fn from_wire(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
                wrappers::$wrapper::decode(bytes).map(|wrapper| wrapper.value)
            }
        }
    };
}

// The keys are those of field 1 with the wire types of 4 and of 8 bytes.
built_in_float!(f32, "io.statefun.types/float", FloatWrapper, 0x0d);
built_in_float!(f64, "io.statefun.types/double", DoubleWrapper, 0x09);

/// Converts JSON to the wire form of a built-in type. `None` if `typename` is not a built-in type.
///
/// # Errors
///
/// When the JSON text is not a value of that type.
pub fn built_in_from_json(typename: &str, json: &[u8]) -> Option<Result<Bytes, serde_json::Error>> {
    fn read<T: BuiltIn + DeserializeOwned>(json: &[u8]) -> Result<Bytes, serde_json::Error> {
        serde_json::from_slice::<T>(json).map(|value| value.to_wire())
    }
    let wire = match typename {
        bool::TYPENAME => read::<bool>(json),
        i32::TYPENAME => read::<i32>(json),
        i64::TYPENAME => read::<i64>(json),
        f32::TYPENAME => read::<f32>(json),
        f64::TYPENAME => read::<f64>(json),
        String::TYPENAME => read::<String>(json),
        _ => return None,
    };
    Some(wire)
}

/// A [`TypedValue`] that holds `value`, even if `value` has no bytes.
pub fn typed_value(typename: impl Into<String>, value: impl Into<Bytes>) -> TypedValue {
    TypedValue {
        typename: typename.into(),
        has_value: true,
        value: value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_value_is_zero_bytes_and_still_a_value() {
        assert_eq!(0_i32.to_wire(), Bytes::new());
        assert_eq!(false.to_wire(), Bytes::new());
        assert!(typed_value(i32::TYPENAME, 0_i32.to_wire()).has_value);
        assert_eq!(i32::from_wire(&[]).unwrap(), 0);
    }

    #[test]
    fn the_wire_form_is_that_of_the_statefun_sdks() {
        assert_eq!(&1_i32.to_wire()[..], &[0x0d, 1, 0, 0, 0]);
        assert_eq!(
            &(-2_i64).to_wire()[..],
            &[0x09, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
        );
        assert_eq!(&true.to_wire()[..], &[0x08, 1]);
        assert_eq!(&"ab".to_owned().to_wire()[..], &[0x0a, 2, b'a', b'b']);
        assert_eq!(&1.0_f32.to_wire()[..], &[0x0d, 0, 0, 0x80, 0x3f]);
        assert_eq!(f64::from_wire(&1.5_f64.to_wire()).unwrap(), 1.5);
    }

    #[test]
    fn a_negative_zero_keeps_its_sign() {
        assert_eq!(0.0_f64.to_wire(), Bytes::new());
        assert_eq!(
            &(-0.0_f64).to_wire()[..],
            &[0x09, 0, 0, 0, 0, 0, 0, 0, 0x80]
        );
        assert!(
            f32::from_wire(&(-0.0_f32).to_wire())
                .unwrap()
                .is_sign_negative()
        );
    }

    #[test]
    fn json_is_read_as_the_requested_built_in_type() {
        let wire = |typename, json: &str| {
            let wire = built_in_from_json(typename, json.as_bytes());
            wire.expect("a built-in type").map_err(|_| ())
        };
        assert_eq!(wire(bool::TYPENAME, "true"), Ok(true.to_wire()));
        assert_eq!(wire(i32::TYPENAME, "-7"), Ok((-7_i32).to_wire()));
        assert_eq!(wire(i64::TYPENAME, " 0 "), Ok(0_i64.to_wire()));
        assert_eq!(wire(f32::TYPENAME, "0.5"), Ok(0.5_f32.to_wire()));
        assert_eq!(wire(f64::TYPENAME, "1"), Ok(1.0_f64.to_wire()));
        let text = "ü\"".to_owned();
        assert_eq!(wire(String::TYPENAME, r#""ü\"""#), Ok(text.to_wire()));
        for (typename, json) in [
            (i32::TYPENAME, "2147483648"),
            (i64::TYPENAME, "1.5"),
            (bool::TYPENAME, "1"),
            (String::TYPENAME, "text"),
            (f64::TYPENAME, ""),
        ] {
            assert_eq!(wire(typename, json), Err(()), "{typename} {json}");
        }
        assert!(built_in_from_json("example/order", b"{}").is_none());
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(i32::from_wire(&[0x0d, 1]).is_err());
        assert!(String::from_wire(&[0x0a, 1, 0xff]).is_err());
    }
}
