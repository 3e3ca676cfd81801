//! Typed messages, which a function receives, sends and keeps.

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::{self, BuiltIn, JSON_TYPENAME};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// A value with one typename and one wire form.
///
/// [`#[derive(Message)]`](derive@crate::Message) on a struct implements it. So do StateFun's
/// built-in types (`bool`, `i32`, `i64`, `f32`, `f64`, [`String`]), [`Json`], and the records of
/// [`egress`](crate::egress).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "not a message",
    note = "`#[derive(Message)]` with `#[message(typename = \"namespace/name\")]` makes it one",
    note = "the built-in numbers are `i32`, `i64`, `f32` and `f64`"
)]
pub trait Typed: Sized + Send + Sync + 'static {
    /// Name of the type on the wire, `namespace/name`.
    const TYPENAME: &'static str;

    /// Encodes the value.
    ///
    /// # Errors
    ///
    /// When the value has no wire form, such as a JSON map whose keys are not text.
    fn encode(&self) -> Result<Bytes, Error>;

    /// Decodes the wire form.
    ///
    /// # Errors
    ///
    /// When the bytes are not of this type.
    fn decode(bytes: &Bytes) -> Result<Self, Error>;

    /// Decodes JSON of no declared type (typename `satchel/json`). `None` if this type has no JSON
    /// form.
    fn from_json(json: &[u8]) -> Option<Result<Self, Error>> {
        let _ = json;
        None
    }
}

/// A message of a function: one [`Typed`] value, or an enum of several, distinguished by typename.
///
/// ```
/// use satchel_sdk::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[message(typename = "shop/deposited")]
/// struct Deposited { amount: i64 }
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[message(typename = "shop/withdrawn")]
/// struct Withdrawn { amount: i64, reason: String }
///
/// #[derive(Message)]
/// enum AccountMessage {
///     Deposited(Deposited),
///     Withdrawn(Withdrawn),
/// }
///
/// assert_eq!(AccountMessage::typenames(), ["shop/deposited", "shop/withdrawn"]);
/// ```
///
/// # JSON of no declared type
///
/// A message of typename `satchel/json`, such as a request to `/call` without a type, is decoded as
/// JSON of the function's message. An enum decodes it as the variant marked `#[message(json)]`.
/// Without such a variant, the JSON must fit exactly one variant; otherwise the error says why.
pub trait Message: Sized + Send + 'static {
    /// Typenames that [`Self::from_typed_value`] accepts besides `satchel/json`. Empty if it takes
    /// every typename.
    fn typenames() -> Vec<&'static str>;

    /// Encodes the value with its typename.
    ///
    /// # Errors
    ///
    /// [`MessageError::Encode`].
    fn to_typed_value(&self) -> Result<TypedValue, MessageError>;

    /// Decodes a value by its typename.
    ///
    /// # Errors
    ///
    /// Every [`MessageError`] but [`MessageError::Encode`].
    fn from_typed_value(value: TypedValue) -> Result<Self, MessageError>;
}

/// Any JSON value, under the typename `satchel/json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json<T>(
    /// The value.
    pub T,
);

/// Error of decoding or encoding a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The function does not accept messages of this typename.
    #[error("unknown typename {found:?}: expected {}", list(expected))]
    UnknownTypename {
        /// Typename of the message.
        found: String,
        /// Typenames that the function accepts.
        expected: Vec<&'static str>,
    },
    /// The message has a typename and no value.
    #[error("the message of typename {typename:?} has no value")]
    NoValue {
        /// Typename of the message.
        typename: String,
    },
    /// The bytes are not of the type that the typename names.
    #[error("the message is not a {typename}")]
    Decode {
        /// Typename of the message, or the one tried for JSON of no declared type.
        typename: String,
        /// Error of the codec.
        source: Error,
    },
    /// JSON of no declared type fits none or several of the messages of an enum.
    #[error("the JSON {0}; send it with its typename instead")]
    UndecidedJson(String),
    /// The value has no wire form.
    #[error("a {typename} cannot be written")]
    Encode {
        /// Typename of the value.
        typename: String,
        /// Error of the codec.
        source: Error,
    },
}

impl<T: Typed> Message for T {
    fn typenames() -> Vec<&'static str> {
        vec![T::TYPENAME]
    }

    fn to_typed_value(&self) -> Result<TypedValue, MessageError> {
        self.encode()
            .map(|bytes| types::typed_value(T::TYPENAME, bytes))
            .map_err(|source| MessageError::Encode {
                typename: T::TYPENAME.to_owned(),
                source,
            })
    }

    fn from_typed_value(value: TypedValue) -> Result<Self, MessageError> {
        let read = if !value.has_value {
            return Err(MessageError::NoValue {
                typename: value.typename,
            });
        } else if value.typename == T::TYPENAME {
            Some(T::decode(&value.value))
        } else if value.typename == JSON_TYPENAME {
            T::from_json(&value.value)
        } else {
            None
        };
        match read {
            Some(read) => read.map_err(|source| MessageError::Decode {
                typename: T::TYPENAME.to_owned(),
                source,
            }),
            None => Err(MessageError::UnknownTypename {
                found: value.typename,
                expected: Self::typenames(),
            }),
        }
    }
}

/// A value of any type, undecoded, for functions that forward messages.
impl Message for TypedValue {
    fn typenames() -> Vec<&'static str> {
        Vec::new()
    }

    fn to_typed_value(&self) -> Result<TypedValue, MessageError> {
        Ok(self.clone())
    }

    fn from_typed_value(value: TypedValue) -> Result<Self, MessageError> {
        Ok(value)
    }
}

impl<T> Typed for Json<T>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    const TYPENAME: &'static str = JSON_TYPENAME;

    fn encode(&self) -> Result<Bytes, Error> {
        json_to_bytes(&self.0)
    }

    fn decode(bytes: &Bytes) -> Result<Self, Error> {
        json_from_bytes(bytes).map(Self)
    }
}

macro_rules! built_in {
    ($($type:ty),+) => {$(
        impl Typed for $type {
            const TYPENAME: &'static str = <$type as BuiltIn>::TYPENAME;

            fn encode(&self) -> Result<Bytes, Error> {
                Ok(self.to_wire())
            }

            fn decode(bytes: &Bytes) -> Result<Self, Error> {
                Ok(Self::from_wire(bytes)?)
            }

            fn from_json(json: &[u8]) -> Option<Result<Self, Error>> {
                Some(json_from_bytes(json))
            }
        }
    )+};
}

built_in!(bool, i32, i64, f32, f64, String);

pub(crate) fn json_to_bytes(value: &impl Serialize) -> Result<Bytes, Error> {
    Ok(serde_json::to_vec(value)?.into())
}

pub(crate) fn json_from_bytes<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    Ok(serde_json::from_slice(json)?)
}

fn list(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [name] => (*name).to_owned(),
        [names @ .., last] => format!("{} or {last}", names.join(", ")),
    }
}

/// Support for the code that `#[derive(Message)]` generates. Not for other use.
#[doc(hidden)]
pub mod derived {
    pub use bytes::Bytes;
    use satchel_protocol::prost;
    pub use satchel_protocol::reqreply::TypedValue;
    use satchel_protocol::types::JSON_TYPENAME;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{MessageError, json_from_bytes, json_to_bytes};
    use crate::Error;

    pub fn encode_json(value: &impl Serialize) -> Result<Bytes, Error> {
        json_to_bytes(value)
    }

    pub fn decode_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
        json_from_bytes(json)
    }

    pub fn encode_protobuf(value: &impl prost::Message) -> Bytes {
        value.encode_to_vec().into()
    }

    pub fn decode_protobuf<T: prost::Message + Default>(bytes: &Bytes) -> Result<T, Error> {
        Ok(T::decode(bytes.clone())?)
    }

    pub fn encode_bytes(value: &impl AsRef<[u8]>) -> Bytes {
        Bytes::copy_from_slice(value.as_ref())
    }

    pub fn decode_bytes<T: From<Bytes>>(bytes: &Bytes) -> T {
        bytes.clone().into()
    }

    /// Rejects at compile time an enum with two messages of the same typename.
    pub const fn assert_distinct(typenames: &[&str]) {
        let mut left = 0;
        while left < typenames.len() {
            let mut right = left + 1;
            while right < typenames.len() {
                assert!(
                    !same(typenames[left].as_bytes(), typenames[right].as_bytes()),
                    "two variants of this enum of messages have one typename"
                );
                right += 1;
            }
            left += 1;
        }
    }

    const fn same(left: &[u8], right: &[u8]) -> bool {
        if left.len() != right.len() {
            return false;
        }
        let mut at = 0;
        while at < left.len() {
            if left[at] != right[at] {
                return false;
            }
            at += 1;
        }
        true
    }

    /// True for JSON of no declared type.
    pub fn is_json(value: &TypedValue) -> bool {
        value.typename == JSON_TYPENAME
    }

    /// Results of decoding one piece of JSON as each variant of an enum.
    pub struct JsonTrial<T> {
        fits: Vec<(&'static str, T)>,
        misfits: Vec<String>,
    }

    impl<T> Default for JsonTrial<T> {
        fn default() -> Self {
            Self {
                fits: Vec::new(),
                misfits: Vec::new(),
            }
        }
    }

    impl<T> JsonTrial<T> {
        /// Adds the result of decoding the JSON as one variant.
        pub fn note(&mut self, typename: &'static str, read: Option<Result<T, Error>>) {
            match read {
                Some(Ok(value)) => self.fits.push((typename, value)),
                Some(Err(error)) => self.misfits.push(format!("not {typename} ({error})")),
                None => self
                    .misfits
                    .push(format!("not {typename} (it has no JSON form)")),
            }
        }

        /// Returns the one variant that fits.
        pub fn finish(mut self) -> Result<T, MessageError> {
            match self.fits.len() {
                1 => Ok(self.fits.remove(0).1),
                0 => Err(MessageError::UndecidedJson(format!(
                    "fits no message of the function: {}",
                    self.misfits.join(", ")
                ))),
                _ => {
                    let names: Vec<_> = self.fits.iter().map(|(name, _)| *name).collect();
                    Err(MessageError::UndecidedJson(format!(
                        "fits several messages of the function: {}",
                        names.join(", ")
                    )))
                }
            }
        }
    }
}
