//! Names of functions, of their instances, and of egresses.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use satchel_protocol::reqreply;
use serde::{Deserialize, Serialize};

/// A class of instances, `namespace/name`.
///
/// As a constant, a name of another form does not compile:
///
/// ```
/// use satchel_sdk::FunctionType;
///
/// const GREETER: FunctionType = FunctionType::new("example/greeter");
///
/// assert_eq!(GREETER.id("alice").to_string(), "example/greeter/alice");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionType(Name);

/// Name of an egress in the module file, `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EgressId(Name);

/// One virtual instance of a function: its type and its id.
///
/// With serde its form is the text `namespace/name/id`, so state and messages can hold addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Address {
    function_type: FunctionType,
    id: String,
}

/// Error of a text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A function type or egress must be two parts with one `/` between them.
    #[error("{0:?} is not a name of the form namespace/name")]
    Name(String),
    /// An address must have a function type and an id.
    #[error("{0:?} is not an address of the form namespace/name/id")]
    Address(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name {
    namespace: Cow<'static, str>,
    name: Cow<'static, str>,
}

impl FunctionType {
    /// The function type of a literal `namespace/name`.
    ///
    /// # Panics
    ///
    /// When the text has another form, which in a constant is a compile error. [`FromStr`] parses
    /// text of unknown form.
    pub const fn new(name: &'static str) -> Self {
        Self(Name::new(name))
    }

    /// The instance with this id.
    pub fn id(&self, id: impl Into<String>) -> Address {
        Address {
            function_type: self.clone(),
            id: id.into(),
        }
    }

    /// The part before the `/`.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The part after the `/`.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl EgressId {
    /// The egress of a literal `namespace/name`.
    ///
    /// # Panics
    ///
    /// When the text has another form, which in a constant is a compile error. [`FromStr`] parses
    /// text of unknown form.
    pub const fn new(name: &'static str) -> Self {
        Self(Name::new(name))
    }

    /// The part before the `/`.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The part after the `/`.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl EgressId {
    pub(crate) fn from_wire(namespace: String, name: String) -> Self {
        Self(Name {
            namespace: namespace.into(),
            name: name.into(),
        })
    }
}

impl Address {
    /// Class of this instance.
    pub fn function_type(&self) -> &FunctionType {
        &self.function_type
    }

    /// Id within the class.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn from_wire(address: reqreply::Address) -> Self {
        Self {
            function_type: FunctionType(Name {
                namespace: address.namespace.into(),
                name: address.r#type.into(),
            }),
            id: address.id,
        }
    }

    pub(crate) fn to_wire(&self) -> reqreply::Address {
        reqreply::Address {
            namespace: self.function_type.namespace().to_owned(),
            r#type: self.function_type.name().to_owned(),
            id: self.id.clone(),
        }
    }
}

impl Name {
    const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        let mut slash = None;
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'/' {
                assert!(slash.is_none(), "a name has one `/`: namespace/name");
                slash = Some(at);
            }
            at += 1;
        }
        let Some(slash) = slash else {
            panic!("a name has the form namespace/name")
        };
        assert!(
            slash > 0 && slash + 1 < bytes.len(),
            "neither part of namespace/name is empty"
        );
        let (namespace, rest) = name.split_at(slash);
        let (_, name) = rest.split_at(1);
        Self {
            namespace: Cow::Borrowed(namespace),
            name: Cow::Borrowed(name),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return None;
        }
        Some(Self {
            namespace: namespace.to_owned().into(),
            name: name.to_owned().into(),
        })
    }
}

/// Takes a literal. Panics as [`FunctionType::new`] does.
impl From<&'static str> for FunctionType {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

/// Takes a literal. Panics as [`EgressId::new`] does.
impl From<&'static str> for EgressId {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

/// Takes a literal `namespace/name/id`.
///
/// # Panics
///
/// When the text has another form. [`FromStr`] parses text of unknown form.
impl From<&'static str> for Address {
    fn from(address: &'static str) -> Self {
        match address.parse() {
            Ok(address) => address,
            Err(error) => panic!("{error}"),
        }
    }
}

impl From<&FunctionType> for FunctionType {
    fn from(function_type: &FunctionType) -> Self {
        function_type.clone()
    }
}

impl From<&EgressId> for EgressId {
    fn from(egress: &EgressId) -> Self {
        egress.clone()
    }
}

impl FromStr for FunctionType {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Name::parse(text)
            .map(Self)
            .ok_or_else(|| NameError::Name(text.to_owned()))
    }
}

impl FromStr for EgressId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Name::parse(text)
            .map(Self)
            .ok_or_else(|| NameError::Name(text.to_owned()))
    }
}

impl FromStr for Address {
    type Err = NameError;

    /// Parses `namespace/name/id`. Everything after the second `/` is the id.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::Address(text.to_owned());
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(name), Some(id))
                if !namespace.is_empty() && !name.is_empty() && !id.is_empty() =>
            {
                Ok(Self {
                    function_type: FunctionType(Name {
                        namespace: namespace.to_owned().into(),
                        name: name.to_owned().into(),
                    }),
                    id: id.to_owned(),
                })
            }
            _ => Err(error()),
        }
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for FunctionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EgressId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function_type, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_contain_slashes_and_a_name_may_not() {
        let address: Address = "example/greeter/a/b".parse().unwrap();
        assert_eq!(address, FunctionType::new("example/greeter").id("a/b"));
        assert_eq!(
            "a/b/c".parse::<FunctionType>().unwrap_err().to_string(),
            r#""a/b/c" is not a name of the form namespace/name"#
        );
    }

    #[test]
    fn incomplete_names_are_rejected() {
        for text in ["", "a", "a/", "/a", "/"] {
            assert_eq!(
                text.parse::<EgressId>(),
                Err(NameError::Name(text.to_owned()))
            );
        }
        for text in ["a/b", "a/b/", "/b/c", "a//c"] {
            assert_eq!(
                text.parse::<Address>(),
                Err(NameError::Address(text.to_owned()))
            );
        }
    }

    #[test]
    fn an_address_survives_the_wire_and_json() {
        let address = FunctionType::new("example/greeter").id("alice");
        assert_eq!(Address::from_wire(address.to_wire()), address);
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(json, r#""example/greeter/alice""#);
        assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
    }
}
