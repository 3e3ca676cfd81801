//! Wire form of [`Answer`].

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_engine::input::DeadLetterCursor;
use satchel_engine::output::{
    AddressSummary, AddressView, Answer, DeadLetterView, DeadLettersChanged, FlightView,
    MailboxView, MessageView, StateDropped, StateView, TimerView,
};
use serde::{Deserialize, Serialize};

use super::{
    AddressForm, CursorForm, FunctionForm, Malformed, ValueForm, bytes, message_id, number,
};

/// Wire form of [`Answer`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum AnswerForm {
    Accepted,
    Replied(ValueForm),
    Failed {
        dead_letter: String,
        reason: String,
    },
    Rejected {
        code: u64,
        message: String,
    },
    UnknownFunction(FunctionForm),
    TooLarge {
        bytes_max: usize,
    },
    KeyReused,
    Elsewhere {
        partition: u64,
    },
    Overloaded,
    TooManyDeadLetters {
        bytes_max: usize,
    },
    Paused(String),
    Stopping,
    NotFound(String),
    Refused(String),
    Done,
    Address(Box<AddressViewForm>),
    Mailbox(Box<MailboxForm>),
    Addresses(Vec<AddressSummaryForm>),
    DeadLetters(Vec<DeadLetterForm>),
    DeadLettersChanged {
        changed: usize,
        skipped: usize,
        cursor: Option<CursorForm>,
    },
    StateDropped {
        dropped: usize,
        next: Option<u64>,
    },
    Timers(Vec<TimerForm>),
}

impl From<&Answer> for AnswerForm {
    fn from(answer: &Answer) -> Self {
        match answer.clone() {
            Answer::Accepted => Self::Accepted,
            Answer::Replied(value) => Self::Replied(value.into()),
            Answer::Failed {
                dead_letter,
                reason,
            } => Self::Failed {
                dead_letter: dead_letter.to_string(),
                reason,
            },
            Answer::Rejected { code, message } => Self::Rejected {
                code: code.into(),
                message,
            },
            Answer::UnknownFunction(function) => Self::UnknownFunction(function.into()),
            Answer::TooLarge { bytes_max } => Self::TooLarge { bytes_max },
            Answer::KeyReused => Self::KeyReused,
            Answer::Elsewhere { partition } => Self::Elsewhere {
                partition: partition.into(),
            },
            Answer::Overloaded => Self::Overloaded,
            Answer::TooManyDeadLetters { bytes_max } => Self::TooManyDeadLetters { bytes_max },
            Answer::Paused(text) => Self::Paused(text),
            // Only calls are answered that nothing was taken.
            Answer::Stopping | Answer::NotTaken => Self::Stopping,
            Answer::NotFound(text) => Self::NotFound(text),
            Answer::Refused(text) => Self::Refused(text),
            Answer::Done => Self::Done,
            Answer::Address(view) => Self::Address(Box::new((*view).into())),
            Answer::Mailbox(view) => Self::Mailbox(Box::new((*view).into())),
            Answer::Addresses(views) => Self::Addresses(forms(views)),
            Answer::DeadLetters(views) => Self::DeadLetters(forms(views)),
            Answer::DeadLettersChanged(changed) => Self::DeadLettersChanged {
                changed: changed.changed,
                skipped: changed.skipped,
                cursor: changed.cursor.map(CursorForm::from),
            },
            Answer::StateDropped(StateDropped { dropped, next }) => Self::StateDropped {
                dropped,
                next: next.map(u64::from),
            },
            Answer::Timers(views) => Self::Timers(forms(views)),
        }
    }
}

impl TryFrom<AnswerForm> for Answer {
    type Error = Malformed;

    fn try_from(form: AnswerForm) -> Result<Self, Malformed> {
        Ok(match form {
            AnswerForm::Accepted => Self::Accepted,
            AnswerForm::Replied(value) => Self::Replied(value.read("replied")?),
            AnswerForm::Failed {
                dead_letter,
                reason,
            } => Self::Failed {
                dead_letter: message_id("dead_letter", &dead_letter)?,
                reason,
            },
            AnswerForm::Rejected { code, message } => Self::Rejected {
                code: number("code", code)?,
                message,
            },
            AnswerForm::UnknownFunction(function) => {
                Self::UnknownFunction(function.read("unknown_function")?)
            }
            AnswerForm::TooLarge { bytes_max } => Self::TooLarge { bytes_max },
            AnswerForm::KeyReused => Self::KeyReused,
            AnswerForm::Elsewhere { partition } => Self::Elsewhere {
                partition: number("partition", partition)?,
            },
            AnswerForm::Overloaded => Self::Overloaded,
            AnswerForm::TooManyDeadLetters { bytes_max } => Self::TooManyDeadLetters { bytes_max },
            AnswerForm::Paused(text) => Self::Paused(text),
            AnswerForm::Stopping => Self::Stopping,
            AnswerForm::NotFound(text) => Self::NotFound(text),
            AnswerForm::Refused(text) => Self::Refused(text),
            AnswerForm::Done => Self::Done,
            AnswerForm::Address(form) => Self::Address(Box::new((*form).try_into()?)),
            AnswerForm::Mailbox(form) => Self::Mailbox(Box::new((*form).try_into()?)),
            AnswerForm::Addresses(forms) => Self::Addresses(views(forms)?),
            AnswerForm::DeadLetters(forms) => Self::DeadLetters(views(forms)?),
            AnswerForm::DeadLettersChanged {
                changed,
                skipped,
                cursor,
            } => Self::DeadLettersChanged(DeadLettersChanged {
                changed,
                skipped,
                cursor: cursor.map(DeadLetterCursor::from),
            }),
            AnswerForm::StateDropped { dropped, next } => Self::StateDropped(StateDropped {
                dropped,
                next: next.map(|next| number("next", next)).transpose()?,
            }),
            AnswerForm::Timers(forms) => Self::Timers(views(forms)?),
        })
    }
}

fn forms<V, F: From<V>>(views: Vec<V>) -> Vec<F> {
    views.into_iter().map(F::from).collect()
}

fn views<F, V: TryFrom<F, Error = Malformed>>(forms: Vec<F>) -> Result<Vec<V>, Malformed> {
    forms.into_iter().map(V::try_from).collect()
}

/// Wire form of [`AddressView`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressViewForm {
    address: AddressForm,
    state: Vec<StateForm>,
    backlog_messages: usize,
    backlog_bytes: usize,
    in_flight: bool,
    suspended: Option<String>,
    function_stopped: Option<String>,
    failing: Option<FailingForm>,
}

impl From<AddressView> for AddressViewForm {
    fn from(view: AddressView) -> Self {
        Self {
            address: view.address.into(),
            state: forms(view.state),
            backlog_messages: view.backlog_messages,
            backlog_bytes: view.backlog_bytes,
            in_flight: view.in_flight,
            suspended: view.suspended,
            function_stopped: view.function_stopped,
            failing: view.failing.map(FailingForm::from),
        }
    }
}

impl TryFrom<AddressViewForm> for AddressView {
    type Error = Malformed;

    fn try_from(form: AddressViewForm) -> Result<Self, Malformed> {
        Ok(Self {
            address: form.address.read("address")?,
            state: views(form.state)?,
            backlog_messages: form.backlog_messages,
            backlog_bytes: form.backlog_bytes,
            in_flight: form.in_flight,
            suspended: form.suspended,
            function_stopped: form.function_stopped,
            failing: form.failing.map(FailingForm::read).transpose()?,
        })
    }
}

/// Wire form of [`MailboxView`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MailboxForm {
    messages: Vec<MessageForm>,
    more: bool,
    in_flight: Option<FlightForm>,
    next_try_ms: Option<u64>,
    suspended_since_ms: Option<u64>,
    timers: Vec<TimerForm>,
    timers_total: usize,
}

/// Wire form of [`FlightView`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlightForm {
    messages: usize,
    since_ms: u64,
}

/// Wire form of [`MessageView`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageForm {
    number: u64,
    id: String,
    caller: Option<AddressForm>,
    message: ValueForm,
    corrects: Option<Arc<str>>,
}

impl From<MailboxView> for MailboxForm {
    fn from(view: MailboxView) -> Self {
        Self {
            messages: forms(view.messages),
            more: view.more,
            in_flight: view.in_flight.map(|flight| FlightForm {
                messages: flight.messages,
                since_ms: flight.since_ms,
            }),
            next_try_ms: view.next_try_ms,
            suspended_since_ms: view.suspended_since_ms,
            timers: forms(view.timers),
            timers_total: view.timers_total,
        }
    }
}

impl TryFrom<MailboxForm> for MailboxView {
    type Error = Malformed;

    fn try_from(form: MailboxForm) -> Result<Self, Malformed> {
        Ok(Self {
            messages: views(form.messages)?,
            more: form.more,
            in_flight: form.in_flight.map(|flight| FlightView {
                messages: flight.messages,
                since_ms: flight.since_ms,
            }),
            next_try_ms: form.next_try_ms,
            suspended_since_ms: form.suspended_since_ms,
            timers: views(form.timers)?,
            timers_total: form.timers_total,
        })
    }
}

impl From<MessageView> for MessageForm {
    fn from(view: MessageView) -> Self {
        Self {
            number: view.number,
            id: view.id.to_string(),
            caller: view.caller.map(AddressForm::from),
            message: view.message.into(),
            corrects: view.corrects,
        }
    }
}

impl TryFrom<MessageForm> for MessageView {
    type Error = Malformed;

    fn try_from(form: MessageForm) -> Result<Self, Malformed> {
        Ok(Self {
            number: form.number,
            id: message_id("messages.id", &form.id)?,
            caller: form.caller.map(|it| it.read("caller")).transpose()?,
            message: form.message.read("message")?,
            corrects: form.corrects,
        })
    }
}

/// Wire form of failed attempts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailingForm {
    attempts: u64,
    reason: String,
}

impl From<(u32, String)> for FailingForm {
    fn from((attempts, reason): (u32, String)) -> Self {
        Self {
            attempts: attempts.into(),
            reason,
        }
    }
}

impl FailingForm {
    fn read(self) -> Result<(u32, String), Malformed> {
        Ok((number("failing.attempts", self.attempts)?, self.reason))
    }
}

/// Wire form of [`StateView`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateForm {
    name: Arc<str>,
    typename: Arc<str>,
    base64: String,
    expires_at_ms: Option<u64>,
}

impl From<StateView> for StateForm {
    fn from(view: StateView) -> Self {
        Self {
            name: view.name,
            typename: view.typename,
            base64: STANDARD.encode(view.value),
            expires_at_ms: view.expires_at_ms,
        }
    }
}

impl TryFrom<StateForm> for StateView {
    type Error = Malformed;

    fn try_from(form: StateForm) -> Result<Self, Malformed> {
        Ok(Self {
            name: form.name,
            typename: form.typename,
            value: bytes("state.base64", &form.base64)?.into(),
            expires_at_ms: form.expires_at_ms,
        })
    }
}

/// Wire form of [`AddressSummary`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressSummaryForm {
    address: AddressForm,
    states: usize,
    backlog_messages: usize,
    backlog_bytes: usize,
    in_flight: bool,
    suspended: Option<String>,
    failing: Option<FailingForm>,
}

impl From<AddressSummary> for AddressSummaryForm {
    fn from(view: AddressSummary) -> Self {
        Self {
            address: view.address.into(),
            states: view.states,
            backlog_messages: view.backlog_messages,
            backlog_bytes: view.backlog_bytes,
            in_flight: view.in_flight,
            suspended: view.suspended,
            failing: view.failing.map(FailingForm::from),
        }
    }
}

impl TryFrom<AddressSummaryForm> for AddressSummary {
    type Error = Malformed;

    fn try_from(form: AddressSummaryForm) -> Result<Self, Malformed> {
        Ok(Self {
            address: form.address.read("address")?,
            states: form.states,
            backlog_messages: form.backlog_messages,
            backlog_bytes: form.backlog_bytes,
            in_flight: form.in_flight,
            suspended: form.suspended,
            failing: form.failing.map(FailingForm::read).transpose()?,
        })
    }
}

/// Wire form of [`DeadLetterView`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterForm {
    id: String,
    address: Option<AddressForm>,
    source: String,
    message: ValueForm,
    attempts: u64,
    reason: String,
    failed_at_ms: u64,
}

impl From<DeadLetterView> for DeadLetterForm {
    fn from(view: DeadLetterView) -> Self {
        Self {
            id: view.id.to_string(),
            address: view.address.map(AddressForm::from),
            source: view.source,
            message: view.message.into(),
            attempts: view.attempts.into(),
            reason: view.reason,
            failed_at_ms: view.failed_at_ms,
        }
    }
}

impl TryFrom<DeadLetterForm> for DeadLetterView {
    type Error = Malformed;

    fn try_from(form: DeadLetterForm) -> Result<Self, Malformed> {
        let address = form.address.map(|address| address.read("address"));
        Ok(Self {
            id: message_id("id", &form.id)?,
            address: address.transpose()?,
            source: form.source,
            message: form.message.read("message")?,
            attempts: number("attempts", form.attempts)?,
            reason: form.reason,
            failed_at_ms: form.failed_at_ms,
        })
    }
}

/// Wire form of [`TimerView`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimerForm {
    owner: AddressForm,
    due_ms: u64,
    target: AddressForm,
    typename: String,
    token: Option<Arc<str>>,
}

impl From<TimerView> for TimerForm {
    fn from(view: TimerView) -> Self {
        Self {
            owner: view.owner.into(),
            due_ms: view.due_ms,
            target: view.target.into(),
            typename: view.typename,
            token: view.token,
        }
    }
}

impl TryFrom<TimerForm> for TimerView {
    type Error = Malformed;

    fn try_from(form: TimerForm) -> Result<Self, Malformed> {
        Ok(Self {
            owner: form.owner.read("owner")?,
            due_ms: form.due_ms,
            target: form.target.read("target")?,
            typename: form.typename,
            token: form.token,
        })
    }
}
