//! Wire form of a request of the administration port to a partition in another process, and of its
//! answer.
//!
//! Both are JSON with a version, such as
//! `{"version":1,"content":{"list_timers":{"function":null,"limit":100}}}`. Another version, an
//! unknown kind of request and an unknown field are rejected: a process that ignored a condition of
//! a newer process would change more than its client asked for.
//!
//! A function can send a message to a name that contains `/`, so the parts of an address are
//! separate fields. Only empty parts are rejected: the engine also holds addresses that an earlier
//! version allowed, and they must stay visible.

mod answers;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::input::{Administration, DeadLetterChange, DeadLetterCursor, DeadLetterFilter};
use satchel_engine::message::MessageId;
use satchel_engine::output::Answer;
use satchel_protocol::reqreply::TypedValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::answers::AnswerForm;

/// Version of the wire form.
const VERSION: u64 = 1;

/// Error of a request or an answer that this version cannot decode.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// Another version.
    #[error("its version is {0}; this program reads version {VERSION}")]
    Version(u64),
    /// Invalid value of a field.
    #[error("its field `{field}` is invalid: {reason}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// Reason.
        reason: String,
    },
    /// Not JSON, or JSON of another shape.
    #[error("its JSON is invalid: {0}")]
    Json(#[from] serde_json::Error),
}

/// Encodes a request.
pub(crate) fn encode_request(administration: &Administration) -> Vec<u8> {
    encode(RequestForm::from(administration))
}

/// Decodes a request.
///
/// # Errors
///
/// The bytes are not a request of this version.
pub(crate) fn decode_request(bytes: &[u8]) -> Result<Administration, Malformed> {
    decode::<RequestForm>(bytes)?.try_into()
}

/// Encodes an answer.
pub(crate) fn encode_answer(answer: &Answer) -> Vec<u8> {
    encode(AnswerForm::from(answer))
}

/// Decodes an answer.
///
/// # Errors
///
/// The bytes are not an answer of this version.
pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Answer, Malformed> {
    decode::<AnswerForm>(bytes)?.try_into()
}

/// Version of any request or answer, whatever else that version contains.
#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

/// Request or answer of this version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    version: u64,
    content: T,
}

fn encode<T: Serialize>(content: T) -> Vec<u8> {
    let envelope = Envelope {
        version: VERSION,
        content,
    };
    serde_json::to_vec(&envelope).expect("texts and numbers are always JSON")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let AnyVersion { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let envelope: Envelope<T> = serde_json::from_slice(bytes)?;
    Ok(envelope.content)
}

/// Wire form of [`Administration`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RequestForm {
    Inspect(AddressForm),
    ShowMailbox {
        address: AddressForm,
        after: Option<u64>,
        limit: usize,
    },
    ListDeadLetters {
        filter: FilterForm,
        after: Option<String>,
        limit: usize,
    },
    RetryDeadLetter(String),
    DropDeadLetter(String),
    ChangeDeadLetters {
        change: ChangeForm,
        filter: FilterForm,
        cursor: Option<CursorForm>,
        limit: usize,
    },
    SetState {
        address: AddressForm,
        state: Arc<str>,
        value: ValueForm,
    },
    DeleteState {
        address: AddressForm,
        state: Arc<str>,
    },
    DropState {
        bucket: u64,
        function: FunctionForm,
        state: Arc<str>,
        limit: usize,
    },
    Resume(AddressForm),
    Skip(AddressForm),
    PauseIngress {
        ingress: Arc<str>,
        reason: Arc<str>,
    },
    ResumeIngress(Arc<str>),
    PauseFunction {
        function: FunctionForm,
        reason: Arc<str>,
    },
    ResumeFunction(FunctionForm),
    ListAddresses {
        bucket: u64,
        function: Option<Arc<str>>,
        prefix: Arc<str>,
        after: Option<AddressForm>,
        limit: usize,
    },
    ListTimers {
        function: Option<Arc<str>>,
        limit: usize,
    },
}

impl From<&Administration> for RequestForm {
    fn from(administration: &Administration) -> Self {
        match administration.clone() {
            Administration::Inspect(address) => Self::Inspect(address.into()),
            Administration::ShowMailbox {
                address,
                after,
                limit,
            } => Self::ShowMailbox {
                address: address.into(),
                after,
                limit,
            },
            Administration::ListDeadLetters {
                filter,
                after,
                limit,
            } => Self::ListDeadLetters {
                filter: filter.into(),
                after: after.map(|id| id.to_string()),
                limit,
            },
            Administration::RetryDeadLetter(id) => Self::RetryDeadLetter(id.to_string()),
            Administration::DropDeadLetter(id) => Self::DropDeadLetter(id.to_string()),
            Administration::ChangeDeadLetters {
                change,
                filter,
                cursor,
                limit,
            } => Self::ChangeDeadLetters {
                change: change.into(),
                filter: filter.into(),
                cursor: cursor.map(CursorForm::from),
                limit,
            },
            Administration::SetState {
                address,
                state,
                value,
            } => Self::SetState {
                address: address.into(),
                state,
                value: value.into(),
            },
            Administration::DeleteState { address, state } => Self::DeleteState {
                address: address.into(),
                state,
            },
            Administration::DropState {
                bucket,
                function,
                state,
                limit,
            } => Self::DropState {
                bucket: bucket.into(),
                function: function.into(),
                state,
                limit,
            },
            Administration::Resume(address) => Self::Resume(address.into()),
            Administration::Skip(address) => Self::Skip(address.into()),
            Administration::PauseIngress { ingress, reason } => {
                Self::PauseIngress { ingress, reason }
            }
            Administration::ResumeIngress(ingress) => Self::ResumeIngress(ingress),
            Administration::PauseFunction { function, reason } => Self::PauseFunction {
                function: function.into(),
                reason,
            },
            Administration::ResumeFunction(function) => Self::ResumeFunction(function.into()),
            Administration::ListAddresses {
                bucket,
                function,
                prefix,
                after,
                limit,
            } => Self::ListAddresses {
                bucket: bucket.into(),
                function,
                prefix,
                after: after.map(AddressForm::from),
                limit,
            },
            Administration::ListTimers { function, limit } => Self::ListTimers { function, limit },
        }
    }
}

impl TryFrom<RequestForm> for Administration {
    type Error = Malformed;

    fn try_from(form: RequestForm) -> Result<Self, Malformed> {
        Ok(match form {
            RequestForm::Inspect(address) => Self::Inspect(address.read("inspect")?),
            RequestForm::ShowMailbox {
                address,
                after,
                limit,
            } => Self::ShowMailbox {
                address: address.read("address")?,
                after,
                limit,
            },
            RequestForm::ListDeadLetters {
                filter,
                after,
                limit,
            } => Self::ListDeadLetters {
                filter: filter.into(),
                after: after.map(|id| message_id("after", &id)).transpose()?,
                limit,
            },
            RequestForm::RetryDeadLetter(id) => {
                Self::RetryDeadLetter(message_id("retry_dead_letter", &id)?)
            }
            RequestForm::DropDeadLetter(id) => {
                Self::DropDeadLetter(message_id("drop_dead_letter", &id)?)
            }
            RequestForm::ChangeDeadLetters {
                change,
                filter,
                cursor,
                limit,
            } => Self::ChangeDeadLetters {
                change: change.into(),
                filter: filter.into(),
                cursor: cursor.map(DeadLetterCursor::from),
                limit,
            },
            RequestForm::SetState {
                address,
                state,
                value,
            } => Self::SetState {
                address: address.read("address")?,
                state,
                value: value.read("value")?,
            },
            RequestForm::DeleteState { address, state } => Self::DeleteState {
                address: address.read("address")?,
                state,
            },
            RequestForm::DropState {
                bucket,
                function,
                state,
                limit,
            } => Self::DropState {
                bucket: number("bucket", bucket)?,
                function: function.read("function")?,
                state,
                limit,
            },
            RequestForm::Resume(address) => Self::Resume(address.read("resume")?),
            RequestForm::Skip(address) => Self::Skip(address.read("skip")?),
            RequestForm::PauseIngress { ingress, reason } => Self::PauseIngress { ingress, reason },
            RequestForm::ResumeIngress(ingress) => Self::ResumeIngress(ingress),
            RequestForm::PauseFunction { function, reason } => Self::PauseFunction {
                function: function.read("function")?,
                reason,
            },
            RequestForm::ResumeFunction(function) => {
                Self::ResumeFunction(function.read("resume_function")?)
            }
            RequestForm::ListAddresses {
                bucket,
                function,
                prefix,
                after,
                limit,
            } => Self::ListAddresses {
                bucket: number("bucket", bucket)?,
                function,
                prefix,
                after: after.map(|after| after.read("after")).transpose()?,
                limit,
            },
            RequestForm::ListTimers { function, limit } => Self::ListTimers { function, limit },
        })
    }
}

/// Wire form of [`FunctionType`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionForm {
    namespace: String,
    name: String,
}

impl From<FunctionType> for FunctionForm {
    fn from(function: FunctionType) -> Self {
        Self {
            namespace: function.namespace().to_owned(),
            name: function.name().to_owned(),
        }
    }
}

impl FunctionForm {
    fn read(self, field: &'static str) -> Result<FunctionType, Malformed> {
        let Self { namespace, name } = self;
        for (part, text) in [("namespace", &namespace), ("name", &name)] {
            if text.is_empty() {
                return Err(invalid(field, format!("the {part} is empty")));
            }
        }
        Ok(FunctionType::new(&namespace, &name))
    }
}

/// Wire form of [`Address`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressForm {
    function: FunctionForm,
    id: Arc<str>,
}

impl From<Address> for AddressForm {
    fn from(Address { function, id }: Address) -> Self {
        Self {
            function: function.into(),
            id,
        }
    }
}

impl AddressForm {
    fn read(self, field: &'static str) -> Result<Address, Malformed> {
        Ok(Address::new(self.function.read(field)?, self.id))
    }
}

/// Wire form of [`TypedValue`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueForm {
    typename: String,
    has_value: bool,
    base64: String,
}

impl From<TypedValue> for ValueForm {
    fn from(value: TypedValue) -> Self {
        Self {
            typename: value.typename,
            has_value: value.has_value,
            base64: STANDARD.encode(value.value),
        }
    }
}

impl ValueForm {
    fn read(self, field: &'static str) -> Result<TypedValue, Malformed> {
        Ok(TypedValue {
            typename: self.typename,
            has_value: self.has_value,
            value: bytes(field, &self.base64)?.into(),
        })
    }
}

/// Wire form of [`DeadLetterFilter`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterForm {
    function: Option<Arc<str>>,
    reason: Option<Arc<str>>,
    since_ms: Option<u64>,
}

impl From<DeadLetterFilter> for FilterForm {
    fn from(filter: DeadLetterFilter) -> Self {
        Self {
            function: filter.function,
            reason: filter.reason,
            since_ms: filter.since_ms,
        }
    }
}

impl From<FilterForm> for DeadLetterFilter {
    fn from(form: FilterForm) -> Self {
        Self {
            function: form.function,
            reason: form.reason,
            since_ms: form.since_ms,
        }
    }
}

/// Wire form of [`DeadLetterChange`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChangeForm {
    Retry,
    Drop,
}

impl From<DeadLetterChange> for ChangeForm {
    fn from(change: DeadLetterChange) -> Self {
        match change {
            DeadLetterChange::Retry => Self::Retry,
            DeadLetterChange::Drop => Self::Drop,
        }
    }
}

impl From<ChangeForm> for DeadLetterChange {
    fn from(form: ChangeForm) -> Self {
        match form {
            ChangeForm::Retry => Self::Retry,
            ChangeForm::Drop => Self::Drop,
        }
    }
}

/// Wire form of [`DeadLetterCursor`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CursorForm {
    next: u64,
    end: u64,
}

impl From<DeadLetterCursor> for CursorForm {
    fn from(DeadLetterCursor { next, end }: DeadLetterCursor) -> Self {
        Self { next, end }
    }
}

impl From<CursorForm> for DeadLetterCursor {
    fn from(CursorForm { next, end }: CursorForm) -> Self {
        Self { next, end }
    }
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Malformed {
    Malformed::Field {
        field,
        reason: reason.into(),
    }
}

/// Converts a number of the wire form, which has 64 bits so that the error names its field.
fn number<T: TryFrom<u64>>(field: &'static str, number: u64) -> Result<T, Malformed> {
    T::try_from(number).map_err(|_| invalid(field, format!("{number} is out of range")))
}

fn message_id(field: &'static str, text: &str) -> Result<MessageId, Malformed> {
    let id = MessageId::parse(text);
    id.ok_or_else(|| invalid(field, "a message id has 32 hexadecimal digits"))
}

fn bytes(field: &'static str, base64: &str) -> Result<Vec<u8>, Malformed> {
    let decoded = STANDARD.decode(base64);
    decoded.map_err(|error| invalid(field, format!("not base64: {error}")))
}
