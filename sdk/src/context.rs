//! What a function sees of its invocation, and what it can do.

use std::time::Duration;

use satchel_protocol::reqreply::from_function::{self, InvocationResponse};
use satchel_protocol::reqreply::{self, TypedValue};

use crate::Error;
use crate::address::{Address, EgressId};
use crate::message::{Message, MessageError};
use crate::state::{Changes, State, StateError};

/// One invocation: who sent the message, to whom, the state of the address, and everything that the function can do.
///
/// What a function does takes effect only when the whole batch of messages has succeeded, and then all of it at once: messages,
/// timers, egress records and state. A function that fails has done nothing, except what it did to the world by itself (a request
/// to a payment provider, say); for such calls, pass [`idempotency_key`](Self::idempotency_key) on.
#[derive(Debug)]
pub struct Context<S = ()> {
    /// The state of this address; shared by the invocations of a batch.
    pub state: S,
    self_address: Address,
    invocation: Invocation,
    effects: InvocationResponse,
    failure: Option<Error>,
}

/// A message that was just sent with a delay; see [`Context::send_after`].
#[derive(Debug)]
pub struct Delayed<'a> {
    message: Option<&'a mut from_function::DelayedInvocation>,
    failure: &'a mut Option<Error>,
}

/// The message has no caller to reply to: it came from an ingress.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{self_address} cannot reply: this message came from an ingress and has no caller")]
pub struct NoCaller {
    self_address: Address,
}

/// What differs from message to message.
#[derive(Debug, Default)]
struct Invocation {
    /// 1 + the index in the batch.
    cause: u32,
    caller: Option<Address>,
    message_id: String,
    failed_attempts: u32,
    traceparent: String,
}

impl<S> Context<S> {
    /// The address that this invocation is for.
    pub fn self_address(&self) -> &Address {
        &self.self_address
    }

    /// The address that sent the message; `None` for a record of an ingress.
    ///
    /// A request from outside that waits for a reply (`/call`) is an ordinary caller, in the namespace `satchel`.
    pub fn caller(&self) -> Option<&Address> {
        self.invocation.caller.as_ref()
    }

    /// A key that is the same for every attempt of this message and different for every other message: 32 hexadecimal digits.
    ///
    /// Give it to services that deduplicate requests; several different requests of one invocation need a suffix each.
    /// `None` under a runtime other than Satchel, where no such key exists.
    pub fn idempotency_key(&self) -> Option<&str> {
        Some(self.invocation.message_id.as_str()).filter(|id| !id.is_empty())
    }

    /// How many attempts of this message failed before this one. Always 0 under a runtime other than Satchel.
    pub fn failed_attempts(&self) -> u32 {
        self.invocation.failed_attempts
    }

    /// The W3C trace context that the message carries, if it carries one.
    pub fn traceparent(&self) -> Option<&str> {
        Some(self.invocation.traceparent.as_str()).filter(|trace| !trace.is_empty())
    }

    /// Sends a message to a function. Messages from here to one address arrive in the order in which they were sent.
    ///
    /// A message that cannot be encoded fails the invocation, once the function returns.
    pub fn send(&mut self, to: impl Into<Address>, message: &impl Message) {
        if let Some(argument) = self.encode(message) {
            let target = to.into().to_wire();
            self.push_message(target, argument);
        }
    }

    /// Sends a message back to the [`caller`](Self::caller).
    ///
    /// A message that cannot be encoded fails the invocation, once the function returns.
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
        if let Some(argument) = self.encode(message) {
            self.push_message(target, argument);
        }
        Ok(())
    }

    /// Sends a message that arrives after `delay`, rounded up to a millisecond.
    ///
    /// It can be given a token by which this address can [`cancel`](Self::cancel) it:
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
    /// A message that cannot be encoded fails the invocation, once the function returns.
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
    /// Does nothing if there is none, or if it has already arrived.
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

    /// Hands a value to an egress: a [`KinesisRecord`](crate::egress::KinesisRecord), a [`KafkaRecord`](crate::egress::KafkaRecord), or whatever
    /// the egress takes.
    ///
    /// A value that cannot be encoded fails the invocation, once the function returns.
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

/// The side of a batch: one context for all of its invocations.
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

    /// Goes on to the invocation at `index`, and gives its message.
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
        };
        M::from_typed_value(invocation.argument.unwrap_or_default())
    }

    /// What went wrong in an effect of the invocation that has just returned.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Everything that the batch did.
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
    /// Lets this address [`cancel`](Context::cancel) the message by `token`, as long as it has not arrived.
    ///
    /// Tokens belong to the address that sends. As in StateFun, one that is still pending may not be used again. An empty token fails the
    /// invocation.
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

/// Keeps the first failure, which is the one to tell of.
fn fail(failure: &mut Option<Error>, error: impl Into<Error>) {
    if failure.is_none() {
        *failure = Some(error.into());
    }
}

/// Never early: a delay of part of a millisecond is a whole one.
fn millis_rounded_up(delay: Duration) -> i64 {
    i64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}
