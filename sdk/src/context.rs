//! The context of an invocation: its message, its state, and its effects.

use std::time::Duration;

use satchel_protocol::reqreply::from_function::{self, InvocationResponse};
use satchel_protocol::reqreply::{self, TypedValue};

use crate::Error;
use crate::address::{Address, EgressId};
use crate::message::{Message, MessageError};
use crate::state::{Changes, State, StateError};

/// One invocation: the sender and the receiver of the message, the state, and the effects.
///
/// Effects (messages, timers, egress records) and state changes are applied when the whole batch of
/// messages has succeeded, and then all at once. A function that fails has no effects. The only
/// exception is what it did outside by itself, such as a request to a payment provider. Pass
/// [`idempotency_key`](Self::idempotency_key) to such services.
///
/// Methods by family:
///
/// - The message: [`self_address`](Self::self_address), [`caller`](Self::caller),
///   [`idempotency_key`](Self::idempotency_key), [`failed_attempts`](Self::failed_attempts),
///   [`traceparent`](Self::traceparent), [`headers`](Self::headers).
/// - Messages: [`send`](Self::send), [`reply`](Self::reply).
/// - Timers: [`send_after`](Self::send_after), [`cancel`](Self::cancel).
/// - Egress: [`egress`](Self::egress).
/// - State: the field [`state`](Self::state).
#[derive(Debug)]
pub struct Context<S = ()> {
    /// State of this address, shared by the invocations of a batch.
    pub state: S,
    self_address: Address,
    invocation: Invocation,
    effects: InvocationResponse,
    failure: Option<Error>,
}

/// A message just sent with a delay; see [`Context::send_after`].
#[derive(Debug)]
pub struct Delayed<'a> {
    message: Option<&'a mut from_function::DelayedInvocation>,
    failure: &'a mut Option<Error>,
}

/// The message came from an ingress, so it has no caller to reply to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{self_address} cannot reply: this message came from an ingress and has no caller")]
pub struct NoCaller {
    self_address: Address,
}

/// Facts of one message.
#[derive(Debug, Default)]
struct Invocation {
    /// 1 + the index in the batch.
    cause: u32,
    caller: Option<Address>,
    message_id: String,
    failed_attempts: u32,
    traceparent: String,
    headers: Vec<reqreply::to_function::Header>,
    /// The function has called [`Context::reply`].
    has_replied: bool,
}

impl<S> Context<S> {
    /// The receiver of the message: the address of this invocation.
    pub fn self_address(&self) -> &Address {
        &self.self_address
    }

    /// The address that sent the message. `None` for a record of an ingress.
    ///
    /// A request from outside that waits for a reply (`/call`) is an ordinary caller, in the
    /// namespace `satchel`.
    pub fn caller(&self) -> Option<&Address> {
        self.invocation.caller.as_ref()
    }

    /// A key of this message, the same at every attempt: 32 hexadecimal digits.
    ///
    /// No other message has the same key. Pass it to services that deduplicate requests. If one
    /// invocation makes several requests, add another suffix for each. `None` under a runtime other
    /// than Satchel, which has no such key.
    pub fn idempotency_key(&self) -> Option<&str> {
        Some(self.invocation.message_id.as_str()).filter(|id| !id.is_empty())
    }

    /// Number of attempts of this message that failed before this one.
    ///
    /// Always 0 under a runtime other than Satchel.
    pub fn failed_attempts(&self) -> u32 {
        self.invocation.failed_attempts
    }

    /// The W3C trace context of the message, if it has one.
    pub fn traceparent(&self) -> Option<&str> {
        Some(self.invocation.traceparent.as_str()).filter(|trace| !trace.is_empty())
    }

    /// The headers of the record that became the message, in its order. Only records of Kafka have
    /// headers, and a name may repeat.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.invocation.headers.iter();
        headers.map(|header| (header.name.as_str(), header.value.as_ref()))
    }

    /// Sends a message to a function.
    ///
    /// Messages from this address to another arrive exactly once, in the order in which they were
    /// sent. A message that cannot be encoded fails the invocation when the function returns.
    pub fn send(&mut self, to: impl Into<Address>, message: &impl Message) {
        if let Some(argument) = self.encode(message) {
            let target = to.into().to_wire();
            self.push_message(target, argument);
        }
    }

    /// Sends a message back to the [`caller`](Self::caller).
    ///
    /// A handler that replies at its end returns the reply instead; see
    /// [`Functions::bind`](crate::Functions::bind). Doing both fails the invocation. For a request
    /// from outside only the first reply counts.
    ///
    /// A message that cannot be encoded fails the invocation when the function returns.
    ///
    /// # Errors
    ///
    /// [`NoCaller`], when the message came from an ingress.
    pub fn reply(&mut self, message: &impl Message) -> Result<(), NoCaller> {
        let Some(caller) = &self.invocation.caller else {
            return Err(NoCaller {
                self_address: self.self_address.clone(),
            });
        };
        let target = caller.to_wire();
        self.invocation.has_replied = true;
        if let Some(argument) = self.encode(message) {
            self.push_message(target, argument);
        }
        Ok(())
    }

    /// Sends the reply that a handler returned. Without a caller, does nothing.
    pub(crate) fn reply_returned(&mut self, reply: TypedValue) -> Result<(), Error> {
        let Some(caller) = &self.invocation.caller else {
            return Ok(());
        };
        if self.invocation.has_replied {
            return Err(format!(
                "{} replied twice: with `ctx.reply` and with the value it returned; \
                 return `Result<()>` or leave out `ctx.reply`",
                self.self_address
            )
            .into());
        }
        let target = caller.to_wire();
        self.push_message(target, reply);
        Ok(())
    }

    /// Sends a message that arrives after `delay`, rounded up to a millisecond.
    ///
    /// With a token, this address can [`cancel`](Self::cancel) it:
    ///
    /// ```
    /// # use satchel_sdk::{Context, FunctionType};
    /// # use std::time::Duration;
    /// # fn remind(ctx: &mut Context) {
    /// let me = ctx.self_address().clone();
    /// ctx.send_after(Duration::from_secs(60), me, &true).with_token("reminder");
    /// # }
    /// ```
    ///
    /// A message that cannot be encoded fails the invocation when the function returns.
    pub fn send_after(
        &mut self,
        delay: Duration,
        to: impl Into<Address>,
        message: &impl Message,
    ) -> Delayed<'_> {
        let argument = self.encode(message);
        let delayed = &mut self.effects.delayed_invocations;
        if argument.is_some() {
            delayed.push(from_function::DelayedInvocation {
                delay_in_ms: millis_rounded_up(delay),
                target: Some(to.into().to_wire()),
                argument,
                is_cancellation_request: false,
                cancellation_token: String::new(),
                cause: self.invocation.cause,
            });
            return Delayed {
                message: delayed.last_mut(),
                failure: &mut self.failure,
            };
        }
        Delayed {
            message: None,
            failure: &mut self.failure,
        }
    }

    /// Cancels a delayed message that this address sent [with this token](Delayed::with_token).
    ///
    /// Does nothing if no such message is pending. An empty token fails the invocation.
    pub fn cancel(&mut self, token: impl Into<String>) {
        let token = token.into();
        if token.is_empty() {
            fail(&mut self.failure, EMPTY_TOKEN);
            return;
        }
        self.effects
            .delayed_invocations
            .push(from_function::DelayedInvocation {
                is_cancellation_request: true,
                cancellation_token: token,
                cause: self.invocation.cause,
                ..Default::default()
            });
    }

    /// Sends a value to an egress: a [`KinesisRecord`](crate::egress::KinesisRecord), a
    /// [`KafkaRecord`](crate::egress::KafkaRecord), or another type that the egress takes.
    ///
    /// A value that cannot be encoded fails the invocation when the function returns.
    pub fn egress(&mut self, egress: impl Into<EgressId>, value: &impl Message) {
        let egress = egress.into();
        if let Some(argument) = self.encode(value) {
            self.effects
                .outgoing_egresses
                .push(from_function::EgressMessage {
                    egress_namespace: egress.namespace().to_owned(),
                    egress_type: egress.name().to_owned(),
                    argument: Some(argument),
                    cause: self.invocation.cause,
                });
        }
    }

    fn push_message(&mut self, target: reqreply::Address, argument: TypedValue) {
        self.effects
            .outgoing_messages
            .push(from_function::Invocation {
                target: Some(target),
                argument: Some(argument),
                cause: self.invocation.cause,
            });
    }

    fn encode(&mut self, message: &impl Message) -> Option<TypedValue> {
        match message.to_typed_value() {
            Ok(value) => Some(value),
            Err(error) => {
                fail(&mut self.failure, error);
                None
            }
        }
    }
}

/// One context serves all invocations of a batch.
impl<S: State> Context<S> {
    pub(crate) fn new(self_address: Address, state: S) -> Self {
        Self {
            state,
            self_address,
            invocation: Invocation::default(),
            effects: InvocationResponse::default(),
            failure: None,
        }
    }

    /// Begins the invocation at `index` and decodes its message.
    pub(crate) fn begin<M: Message>(
        &mut self,
        index: usize,
        invocation: reqreply::to_function::Invocation,
    ) -> Result<M, MessageError> {
        self.invocation = Invocation {
            cause: u32::try_from(index + 1).unwrap_or(u32::MAX),
            caller: invocation
                .caller
                .filter(|caller| *caller != reqreply::Address::default())
                .map(Address::from_wire),
            message_id: invocation.message_id,
            failed_attempts: invocation.failed_attempts,
            traceparent: invocation.traceparent,
            headers: invocation.headers,
            has_replied: false,
        };
        M::from_typed_value(invocation.argument.unwrap_or_default())
    }

    /// Ends an invocation. An effect that had no wire form fails it.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Effects and state changes of the batch.
    pub(crate) fn finish(self) -> Result<InvocationResponse, StateError> {
        let mut changes = Changes::default();
        self.state.changes(&mut changes)?;
        Ok(InvocationResponse {
            state_mutations: changes.into_wire(),
            ..self.effects
        })
    }
}

impl Delayed<'_> {
    /// Lets this address [`cancel`](Context::cancel) the message by `token` until it arrives.
    ///
    /// Tokens belong to the sending address. As in StateFun, a token that is still pending may not
    /// be used again. An empty token fails the invocation.
    pub fn with_token(self, token: impl Into<String>) {
        let token = token.into();
        if token.is_empty() {
            fail(self.failure, EMPTY_TOKEN);
        } else if let Some(message) = self.message {
            message.cancellation_token = token;
        }
    }
}

const EMPTY_TOKEN: &str = "a cancellation token must not be empty";

/// Keeps the first failure, which is the one to report.
fn fail(failure: &mut Option<Error>, error: impl Into<Error>) {
    if failure.is_none() {
        *failure = Some(error.into());
    }
}

/// Rounds up, so that no timer fires early.
fn millis_rounded_up(delay: Duration) -> i64 {
    i64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}
