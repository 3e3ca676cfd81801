//! One state of one address as a line of NDJSON, without loss of a byte.
//!
//! ```text
//! {"address":"example/greeter/alice","state":"seen",
//!  "typename":"io.statefun.types/long","expires_at_ms":null,"value":3}
//! ```
//!
//! (The example is one line.) `value` holds JSON where encoding it again gives the stored bytes: a
//! value of a built-in type in its JSON form, and JSON text as it is if it has no blanks around its
//! parts. Every other value is in `base64`. If the namespace or the name contains a `/`, both and
//! the id also have fields of their own.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::StoredState;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::typed_json::{encode, show};

/// Prefix of the names of StateFun's built-in types.
pub(super) const BUILT_IN: &str = "io.statefun.types/";

/// One state of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLine {
    /// Address that has the state.
    pub address: Address,
    /// Name of the state.
    pub name: Arc<str>,
    /// Typename, expiry and bytes.
    pub state: StoredState,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    address: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    state: Cow<'a, str>,
    typename: Cow<'a, str>,
    #[serde(default)]
    expires_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl StateLine {
    /// Returns the line without its line feed.
    pub fn to_json(&self) -> String {
        let address = self.address.to_string();
        let function = &self.address.function;
        let apart = parse_address(&address).as_ref() != Ok(&self.address);
        let part = |part| apart.then_some(Cow::Borrowed(part));
        let value = lossless(&self.state.typename, &self.state.value);
        let fields = Fields {
            namespace: part(function.namespace()),
            name: part(function.name()),
            id: part(&self.address.id),
            address: Cow::Owned(address),
            state: Cow::Borrowed(&self.name),
            typename: Cow::Borrowed(&self.state.typename),
            expires_at_ms: self.state.expires_at_ms,
            base64: value.is_none().then(|| STANDARD.encode(&self.state.value)),
            value,
        };
        serde_json::to_string(&fields).expect("texts and numbers are always JSON")
    }

    /// Parses a line.
    ///
    /// # Errors
    /// Says what is wrong with the line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let fields: Fields<'_> = serde_json::from_slice(line).map_err(|error| {
            // The text has only one line, and the caller knows its number.
            let text = error.to_string();
            text.replace(" at line 1 column", " at column")
        })?;
        let typename = &fields.typename;
        for (field, text) in [("state", &fields.state), ("typename", typename)] {
            if text.is_empty() {
                return Err(format!("`{field}` is empty"));
            }
        }
        let value = match (&fields.value, &fields.base64) {
            (Some(json), None) if typename.starts_with(BUILT_IN) => {
                encode(Some(typename), json.get()).map_err(|error| format!("`value`: {error}"))?
            }
            (Some(json), None) => Bytes::copy_from_slice(json.get().as_bytes()),
            (None, Some(base64)) => STANDARD
                .decode(base64)
                .map_err(|error| format!("`base64`: {error}"))?
                .into(),
            _ => return Err("the line needs either `value` or `base64`".to_owned()),
        };
        Ok(Self {
            address: fields.read_address()?,
            name: fields.state.as_ref().into(),
            state: StoredState {
                typename: typename.as_ref().into(),
                expires_at_ms: fields.expires_at_ms,
                value,
            },
        })
    }
}

impl Fields<'_> {
    fn read_address(&self) -> Result<Address, String> {
        let address = match (&self.namespace, &self.name, &self.id) {
            (None, None, None) => return parse_address(&self.address),
            (Some(namespace), Some(name), Some(id))
                if !namespace.is_empty() && !name.is_empty() =>
            {
                Address::new(FunctionType::new(namespace, name), id.as_ref())
            }
            _ => return Err("`namespace`, `name` and `id` come together or not at all".to_owned()),
        };
        if !FunctionType::is_segment(address.function.name()) {
            return Err(format!(
                "`name`: no function is named `{}`",
                address.function.name()
            ));
        }
        if address.to_string() != self.address {
            return Err(format!(
                "`address` is {:?}, but `namespace`, `name` and `id` give {:?}",
                self.address,
                address.to_string()
            ));
        }
        Ok(address)
    }
}

/// Parses `namespace/name/id`. The id is everything after the second `/`.
///
/// # Errors
/// Says how to write an address.
pub fn parse_address(text: &str) -> Result<Address, String> {
    let mut parts = text.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(name), Some(id))
            if !namespace.is_empty() && !name.is_empty() && FunctionType::is_segment(name) =>
        {
            Ok(Address::new(FunctionType::new(namespace, name), id))
        }
        _ => Err(format!(
            "`{text}` is not an address: write namespace/name/id, such as example/greeter/alice"
        )),
    }
}

/// Returns the value as JSON, if parsing it gives the same bytes again.
pub(super) fn lossless(typename: &str, bytes: &Bytes) -> Option<Box<RawValue>> {
    let json = if typename.starts_with(BUILT_IN) {
        let shown = show(Some(typename), bytes);
        let json = String::from_utf8(shown.to_vec()).ok()?;
        let again = encode(Some(typename), &json).ok()?;
        (again == *bytes).then_some(json)?
    } else {
        let json = std::str::from_utf8(bytes).ok()?;
        is_compact(json).then(|| json.to_owned())?
    };
    RawValue::from_string(json).ok()
}

/// Returns whether there is no blank outside of strings. JSON tools would not keep such blanks.
fn is_compact(json: &str) -> bool {
    let mut in_string = false;
    let mut escaped = false;
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\r' | b'\n' if !in_string => return false,
            _ => {}
        }
    }
    true
}

/// Deserializes a field that is present. `null` is a value like any other.
fn present<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(source).map(Some)
}

#[cfg(test)]
mod tests;
