//! Typed state: a declared struct whose fields are read and written.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use satchel_protocol::reqreply::from_function::persisted_value_mutation::MutationType;
use satchel_protocol::reqreply::from_function::{
    ExpirationSpec, PersistedValueMutation, PersistedValueSpec, expiration_spec::ExpireMode,
};
use satchel_protocol::reqreply::to_function::PersistedValue;
use satchel_protocol::types;

use crate::Error;
use crate::message::Typed;

/// State of each address of a function: a struct of [`Value`]s, with a derive.
///
/// ```
/// use satchel_sdk::{State, Value};
///
/// #[derive(State)]
/// struct Account {
///     balance: Value<i64>,
///     #[state(name = "last-login", expire_after_write = "30d")]
///     last_login: Value<String>,
///     #[state(expire_after_invoke = "1h")]
///     session: Value<String>,
/// }
/// # let _ = <Account as State>::specs();
/// ```
///
/// Each field is one state value. Its name is the field's, unless `name` gives another. Without an
/// expiration it is kept until it is cleared.
///
/// The declarations of the deployed version count. A changed expiration takes effect for values
/// that are written, or for `expire_after_invoke` whose address is invoked, from then on. A value
/// whose declaration was removed is kept, and is there again if the declaration returns. The type
/// of a value cannot change: the function would be suspended until a version with the former type
/// is deployed. Give the value another name instead.
///
/// `()` is the state of a function without state.
pub trait State: Sized + Send + 'static {
    /// Declarations, in order.
    fn specs() -> Vec<ValueSpec>;

    /// Takes the values out of the state that came with a batch.
    ///
    /// # Errors
    ///
    /// [`StateError`], when a stored value is of another type.
    fn load(values: &mut StoredValues) -> Result<Self, StateError>;

    /// Collects the changes since [`Self::load`].
    ///
    /// # Errors
    ///
    /// [`StateError::Encode`].
    fn changes(&self, changes: &mut Changes) -> Result<(), StateError>;
}

/// One declared state value of the address, absent until it is set.
///
/// Values are decoded before the function runs. Changed values are encoded after the last message
/// of the batch. So reading and writing cannot fail.
pub struct Value<T> {
    spec: ValueSpec,
    stored: Option<Bytes>,
    current: Option<T>,
    written: bool,
}

/// Declaration of one state value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueSpec {
    /// Name, unique within the function.
    pub name: &'static str,
    /// Typename of its type.
    pub typename: &'static str,
    /// Expiration of the value.
    pub expiration: Expiration,
}

/// Time after which the runtime clears a state value, by its own clock (StateFun's processing
/// time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiration {
    /// No expiration: the value stays until it is cleared.
    #[default]
    Never,
    /// This long after the value was last set.
    AfterWrite(Duration),
    /// This long after the last successful invocation of the address.
    AfterInvoke(Duration),
}

/// State that came with a batch, by name.
#[derive(Debug)]
pub struct StoredValues(HashMap<String, Option<Stored>>);

/// State changes of a batch.
#[derive(Debug, Default)]
pub struct Changes(Vec<PersistedValueMutation>);

/// Error of decoding or encoding the state of an address.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The stored value has another typename than the declared one.
    #[error("state {name:?} holds a {found}, but is declared as a {expected}")]
    Typename {
        /// Name of the state.
        name: &'static str,
        /// Stored typename.
        found: String,
        /// Declared typename.
        expected: &'static str,
    },
    /// The stored bytes are not of the declared type.
    #[error("state {name:?} is not a readable {typename}")]
    Decode {
        /// Name of the state.
        name: &'static str,
        /// Declared typename.
        typename: &'static str,
        /// Error of the codec.
        source: Error,
    },
    /// The new value has no wire form.
    #[error("state {name:?} cannot be written as a {typename}")]
    Encode {
        /// Name of the state.
        name: &'static str,
        /// Declared typename.
        typename: &'static str,
        /// Error of the codec.
        source: Error,
    },
}

#[derive(Debug)]
struct Stored {
    typename: String,
    bytes: Bytes,
}

impl<T: Typed> Value<T> {
    /// The value, if it is set.
    pub fn get(&self) -> Option<&T> {
        self.current.as_ref()
    }

    /// Mutable access to the value, if it is set.
    ///
    /// Counts as a write: an expiration after write starts anew.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.written |= self.current.is_some();
        self.current.as_mut()
    }

    /// A copy of the value, or the default if it is not set.
    pub fn get_or_default(&self) -> T
    where
        T: Clone + Default,
    {
        self.current.clone().unwrap_or_default()
    }

    /// Mutable access to the value, which is first set to its default if it is not set.
    ///
    /// Counts as a write: an expiration after write starts anew.
    pub fn get_mut_or_default(&mut self) -> &mut T
    where
        T: Default,
    {
        self.written = true;
        self.current.get_or_insert_with(T::default)
    }

    /// True if there is a value.
    pub fn is_set(&self) -> bool {
        self.current.is_some()
    }

    /// Sets the value.
    pub fn set(&mut self, value: T) {
        self.written = true;
        self.current = Some(value);
    }

    /// Removes the value.
    pub fn clear(&mut self) {
        self.take();
    }

    /// Removes and returns the value.
    pub fn take(&mut self) -> Option<T> {
        self.written = true;
        self.current.take()
    }

    fn load(spec: ValueSpec, values: &mut StoredValues) -> Result<Self, StateError> {
        let stored = match values.0.remove(spec.name).flatten() {
            Some(stored) if stored.typename != spec.typename => {
                return Err(StateError::Typename {
                    name: spec.name,
                    found: stored.typename,
                    expected: spec.typename,
                });
            }
            stored => stored.map(|stored| stored.bytes),
        };
        let current = stored
            .as_ref()
            .map(T::decode)
            .transpose()
            .map_err(|source| StateError::Decode {
                name: spec.name,
                typename: spec.typename,
                source,
            })?;
        Ok(Self {
            spec,
            stored,
            current,
            written: false,
        })
    }

    fn changes(&self, changes: &mut Changes) -> Result<(), StateError> {
        if !self.written {
            return Ok(());
        }
        let Some(current) = &self.current else {
            if self.stored.is_some() {
                changes.delete(self.spec.name);
            }
            return Ok(());
        };
        let bytes = current.encode().map_err(|source| StateError::Encode {
            name: self.spec.name,
            typename: self.spec.typename,
            source,
        })?;
        // Writing the same bytes again changes nothing but an expiration after write.
        let refreshes = matches!(self.spec.expiration, Expiration::AfterWrite(_));
        if refreshes || self.stored.as_ref() != Some(&bytes) {
            changes.modify(self.spec, bytes);
        }
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("name", &self.spec.name)
            .field("current", &self.current)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl State for () {
    fn specs() -> Vec<ValueSpec> {
        Vec::new()
    }

    fn load(_: &mut StoredValues) -> Result<Self, StateError> {
        Ok(())
    }

    fn changes(&self, _: &mut Changes) -> Result<(), StateError> {
        Ok(())
    }
}

impl ValueSpec {
    pub(crate) fn to_wire(self) -> PersistedValueSpec {
        let (mode, expire_after) = match self.expiration {
            Expiration::Never => (ExpireMode::None, Duration::ZERO),
            Expiration::AfterWrite(after) => (ExpireMode::AfterWrite, after),
            Expiration::AfterInvoke(after) => (ExpireMode::AfterInvoke, after),
        };
        PersistedValueSpec {
            state_name: self.name.to_owned(),
            expiration_spec: Some(ExpirationSpec {
                mode: mode.into(),
                expire_after_millis: i64::try_from(expire_after.as_millis()).unwrap_or(i64::MAX),
            }),
            type_typename: self.typename.to_owned(),
        }
    }
}

impl StoredValues {
    pub(crate) fn from_wire(values: Vec<PersistedValue>) -> Self {
        Self(
            values
                .into_iter()
                .map(|value| {
                    let stored = value
                        .state_value
                        .filter(|value| value.has_value)
                        .map(|value| Stored {
                            typename: value.typename,
                            bytes: value.value,
                        });
                    (value.state_name, stored)
                })
                .collect(),
        )
    }

    /// True if the request holds a state of this name, with or without a value.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl Changes {
    pub(crate) fn into_wire(self) -> Vec<PersistedValueMutation> {
        self.0
    }

    fn delete(&mut self, name: &str) {
        self.0.push(PersistedValueMutation {
            mutation_type: MutationType::Delete.into(),
            state_name: name.to_owned(),
            state_value: None,
        });
    }

    fn modify(&mut self, spec: ValueSpec, bytes: Bytes) {
        self.0.push(PersistedValueMutation {
            mutation_type: MutationType::Modify.into(),
            state_name: spec.name.to_owned(),
            state_value: Some(types::typed_value(spec.typename, bytes)),
        });
    }
}

/// Support for the code that `#[derive(State)]` generates. Not for other use.
#[doc(hidden)]
pub mod derived {
    use super::{Changes, Expiration, StateError, StoredValues, Value, ValueSpec};
    pub use crate::duration::duration_literal;
    use crate::message::Typed;

    /// Field of a state struct. Only [`Value`] implements it.
    #[diagnostic::on_unimplemented(
        message = "a field of a state struct is a `Value<T>`, and `T` is a message type",
        label = "not a `Value<T>` of a message type"
    )]
    pub trait Field: Sized {
        fn spec(name: &'static str, expiration: Expiration) -> ValueSpec;
        fn load(spec: ValueSpec, values: &mut StoredValues) -> Result<Self, StateError>;
        fn changes(&self, changes: &mut Changes) -> Result<(), StateError>;
    }

    impl<T: Typed> Field for Value<T> {
        fn spec(name: &'static str, expiration: Expiration) -> ValueSpec {
            ValueSpec {
                name,
                typename: T::TYPENAME,
                expiration,
            }
        }

        fn load(spec: ValueSpec, values: &mut StoredValues) -> Result<Self, StateError> {
            Self::load(spec, values)
        }

        fn changes(&self, changes: &mut Changes) -> Result<(), StateError> {
            self.changes(changes)
        }
    }
}
