//! Function types and addresses.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use satchel_protocol::reqreply;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Namespace whose addresses stand for callers outside. No function may live in it.
pub const RESERVED_NAMESPACE: &str = "satchel";

/// Maximum length of an id that a request, a record or an effect may name, in bytes. An id is in
/// every message, timer and state of its instance, and in each of their changes.
pub const ID_BYTES_MAX: usize = 8 << 10;

/// Class of instances, written `namespace/name`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionType(Arc<Name>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name {
    namespace: Box<str>,
    name: Box<str>,
}

/// The text is not a function type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a function type: expected `namespace/name`, \
     both parts not empty and the name without `/` and neither `.` nor `..`"
)]
pub struct InvalidFunctionType(pub String);

impl FunctionType {
    /// Creates the function type `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(Arc::new(Name {
            namespace: namespace.into(),
            name: name.into(),
        }))
    }

    /// True if `name` is neither `.` nor `..`. In the path of an endpoint's URL, these would be no
    /// segment of their own, but an instruction to leave one.
    pub fn is_segment(name: &str) -> bool {
        !matches!(name, "." | "..")
    }

    /// The part before the last `/`.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The part after the last `/`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns whether `text` names this function type, written `namespace/name`.
    pub fn is_called(&self, text: &str) -> bool {
        text.rsplit_once('/') == Some((self.namespace(), self.name()))
    }
}

impl std::str::FromStr for FunctionType {
    type Err = InvalidFunctionType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && Self::is_segment(name) =>
            {
                Ok(Self::new(namespace, name))
            }
            _ => Err(InvalidFunctionType(text.to_owned())),
        }
    }
}

impl fmt::Display for FunctionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.namespace, self.0.name)
    }
}

impl fmt::Debug for FunctionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A function type and an id: one virtual instance. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Class of the instance.
    pub function: FunctionType,
    /// Id of the instance within its class.
    pub id: Arc<str>,
}

impl Address {
    /// Creates the address of instance `id` of `function`.
    pub fn new(function: FunctionType, id: impl Into<Arc<str>>) -> Self {
        Self {
            function,
            id: id.into(),
        }
    }

    /// Checks the length of the id.
    ///
    /// # Errors
    ///
    /// The id is too long.
    pub fn check_id(&self) -> Result<(), IdTooLong> {
        if self.id.len() <= ID_BYTES_MAX {
            return Ok(());
        }
        Err(IdTooLong {
            function: self.function.clone(),
            bytes: self.id.len(),
        })
    }

    /// Hash that never changes between versions. Partitions and buckets are ranges of it.
    pub fn stable_hash(&self) -> u64 {
        stable_hash(&self.function, &self.id)
    }

    /// Converts the address to its wire form.
    pub fn to_wire(&self) -> reqreply::Address {
        reqreply::Address {
            namespace: self.function.namespace().to_owned(),
            r#type: self.function.name().to_owned(),
            id: self.id.as_ref().to_owned(),
        }
    }
}

/// The id of an address is longer than [`ID_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the id of an instance of {function} has {bytes} bytes; at most {ID_BYTES_MAX} are allowed"
)]
pub struct IdTooLong {
    function: FunctionType,
    bytes: usize,
}

/// Computes the stable hash of the address with this function and id.
pub(crate) fn stable_hash(function: &FunctionType, id: &str) -> u64 {
    let parts = [function.namespace(), "/", function.name(), "/", id];
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    // Most addresses are short, and hashing a short one in one piece is much cheaper.
    let mut whole = [0; 256];
    if length > whole.len() {
        let mut hasher = Xxh3::new();
        parts.iter().for_each(|part| hasher.update(part.as_bytes()));
        return hasher.digest();
    }
    let mut at = 0;
    for part in parts {
        whole[at..at + part.len()].copy_from_slice(part.as_bytes());
        at += part.len();
    }
    xxh3_64(&whole[..length])
}

impl From<&reqreply::Address> for Address {
    fn from(wire: &reqreply::Address) -> Self {
        Self::new(
            FunctionType::new(&wire.namespace, &wire.r#type),
            wire.id.as_str(),
        )
    }
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
        self.id.hash(state);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.id)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_segment_of_a_path_is_refused() {
        for text in ["example/.", "example/..", "a/b/.."] {
            let refused = text.parse::<FunctionType>().unwrap_err().to_string();
            assert!(
                refused.contains(text) && refused.contains("`..`"),
                "{refused}"
            );
        }
        for text in ["example/...", "example/.a", "../a"] {
            assert_eq!(text.parse::<FunctionType>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_hash_of_an_address_never_changes_however_long_it_is() {
        for length in [0, 1, 40, 230, 240, 250, 300, 1000] {
            let address = Address::new(FunctionType::new("example", "greeter"), "k".repeat(length));
            let mut whole = Xxh3::new();
            whole.update(address.to_string().as_bytes());
            assert_eq!(address.stable_hash(), whole.digest(), "{length}");
        }
        let alice = Address::new(FunctionType::new("example", "greeter"), "alice");
        assert_eq!(alice.stable_hash(), STABLE);
    }

    /// The value in every earlier version.
    const STABLE: u64 = 7_624_533_197_027_847_696;
}
