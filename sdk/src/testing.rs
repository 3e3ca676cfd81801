//! Tests of one function without any server: give it state and messages, and assert on everything that it did.
//!
//! ```
//! use satchel_sdk::testing::Scenario;
//! use satchel_sdk::{Context, FunctionType, Functions, Result};
//! use std::time::Duration;
//!
//! const ALARM: FunctionType = FunctionType::new("example/alarm");
//!
//! async fn snooze(ctx: &mut Context, message: String) -> Result {
//!     let me = ctx.self_address().clone();
//!     ctx.send_after(Duration::from_secs(300), me, &message).with_token("snooze");
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let functions = Functions::new().bind(ALARM, snooze);
//! let outcome = Scenario::new(&functions, "example/alarm/bedroom")
//!     .message(&"wake up".to_owned())
//!     .run()
//!     .await
//!     .unwrap();
//! assert_eq!(outcome.delayed().len(), 1);
//! assert_eq!(outcome.delayed()[0].delay, Duration::from_secs(300));
//! assert_eq!(outcome.delayed()[0].token.as_deref(), Some("snooze"));
//! assert_eq!(outcome.delayed()[0].message.read::<String>(), "wake up");
//! # }
//! ```
//!
//! The batch goes through [`Functions::handle`] as it would in production, encoded and decoded, the handshake for state included.

use std::collections::BTreeMap;
use std::time::Duration;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::from_function::persisted_value_mutation::MutationType;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};
use satchel_protocol::reqreply::to_function::{
    Invocation, InvocationBatchRequest, PersistedValue, Request,
};
use satchel_protocol::reqreply::{self, ToFunction, TypedValue};

use crate::{Address, EgressId, Functions, Message, Typed};

/// One batch for one address, to be run.
#[derive(Debug, Clone)]
pub struct Scenario<'a> {
    functions: &'a Functions,
    address: Address,
    state: BTreeMap<String, TypedValue>,
    messages: Vec<Invocation>,
    messages_before: usize,
}

/// Everything that a successful batch did.
#[derive(Debug, Clone)]
pub struct Outcome<'a> {
    scenario: Scenario<'a>,
    sent: Vec<Sent>,
    delayed: Vec<DelayedMessage>,
    cancelled: Vec<String>,
    egressed: Vec<Egressed>,
    written: Vec<String>,
    cleared: Vec<String>,
}

/// A message that was sent or replied.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// To whom.
    pub to: Address,
    /// What.
    pub message: Payload,
    /// Which message of the batch caused it, counted from 0.
    pub cause: usize,
}

/// A message that was sent with a delay.
#[derive(Debug, Clone, PartialEq)]
pub struct DelayedMessage {
    /// After how long it arrives.
    pub delay: Duration,
    /// To whom.
    pub to: Address,
    /// What.
    pub message: Payload,
    /// By which token it can be cancelled, if by any.
    pub token: Option<String>,
    /// Which message of the batch caused it, counted from 0.
    pub cause: usize,
}

/// A value that was handed to an egress.
#[derive(Debug, Clone, PartialEq)]
pub struct Egressed {
    /// To which.
    pub egress: EgressId,
    /// What.
    pub value: Payload,
    /// Which message of the batch caused it, counted from 0.
    pub cause: usize,
}

/// A value as it went out: a typename and bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload(TypedValue);

impl<'a> Scenario<'a> {
    /// An empty batch for `address` (`namespace/name/id`), which has no state yet.
    ///
    /// # Panics
    ///
    /// When the address has another form, or its function is not bound.
    pub fn new(functions: &'a Functions, address: &str) -> Self {
        let address: Address = match address.parse() {
            Ok(address) => address,
            Err(error) => panic!("{error}"),
        };
        assert!(
            functions.state_specs(address.function_type()).is_some(),
            "{} is not bound; bound are {:?}",
            address.function_type(),
            functions.function_types(),
        );
        Self {
            functions,
            address,
            state: BTreeMap::new(),
            messages: Vec::new(),
            messages_before: 0,
        }
    }

    /// Gives the address a state value.
    ///
    /// # Panics
    ///
    /// When the function declares no such state, or `value` has no wire form.
    #[must_use]
    pub fn with_state<T: Typed>(mut self, name: &str, value: &T) -> Self {
        assert!(
            self.declares(name),
            "{} declares no state {name:?}",
            self.address.function_type()
        );
        self.state.insert(name.to_owned(), wire(value));
        self
    }

    /// Adds a message without a caller, as from an ingress or a `/send`.
    ///
    /// # Panics
    ///
    /// When `message` has no wire form.
    #[must_use]
    pub fn message(self, message: &impl Message) -> Self {
        self.invocation(None, wire(message))
    }

    /// Adds a message from `caller`.
    ///
    /// # Panics
    ///
    /// When `message` has no wire form.
    #[must_use]
    pub fn message_from(self, caller: &Address, message: &impl Message) -> Self {
        self.invocation(Some(caller.to_wire()), wire(message))
    }

    /// Adds JSON of no declared type from `caller`, as from a `/call` without a type.
    #[must_use]
    pub fn json_from(self, caller: &Address, json: &str) -> Self {
        let argument = satchel_protocol::types::typed_value(
            satchel_protocol::types::JSON_TYPENAME,
            json.to_owned(),
        );
        self.invocation(Some(caller.to_wire()), argument)
    }

    /// Makes the message added last one that has failed this many times before.
    ///
    /// # Panics
    ///
    /// When there is no message yet.
    #[must_use]
    pub fn after_failed_attempts(mut self, failed_attempts: u32) -> Self {
        let Some(last) = self.messages.last_mut() else {
            panic!("add the message first")
        };
        last.failed_attempts = failed_attempts;
        self
    }

    /// Runs the batch: one request, and one more if the first was answered by the handshake.
    ///
    /// # Errors
    ///
    /// What [`Functions::handle`] fails with.
    ///
    /// # Panics
    ///
    /// When the function does.
    pub async fn run(self) -> Result<Outcome<'a>, BatchError> {
        let handshake = self.functions.handle(self.request(Vec::new())).await?;
        let response = match handshake.response {
            Some(Response::IncompleteInvocationContext(missing)) => {
                let state = missing
                    .missing_values
                    .into_iter()
                    .map(|spec| PersistedValue {
                        state_value: self.state.get(&spec.state_name).cloned(),
                        state_name: spec.state_name,
                    })
                    .collect();
                self.functions.handle(self.request(state)).await?.response
            }
            response => response,
        };
        match response {
            Some(Response::InvocationResult(result)) => Ok(Outcome::new(self, result)),
            other => panic!("the function asked twice for its state: {other:?}"),
        }
    }

    fn declares(&self, name: &str) -> bool {
        self.functions
            .state_specs(self.address.function_type())
            .is_some_and(|specs| specs.iter().any(|spec| spec.name == name))
    }

    fn invocation(mut self, caller: Option<reqreply::Address>, argument: TypedValue) -> Self {
        let number = self.messages_before + self.messages.len() + 1;
        self.messages.push(Invocation {
            caller,
            argument: Some(argument),
            message_id: format!("{number:032x}"),
            ..Default::default()
        });
        self
    }

    fn request(&self, state: Vec<PersistedValue>) -> ToFunction {
        ToFunction {
            request: Some(Request::Invocation(InvocationBatchRequest {
                target: Some(self.address.to_wire()),
                state,
                invocations: self.messages.clone(),
            })),
        }
    }
}

impl<'a> Outcome<'a> {
    fn new(mut scenario: Scenario<'a>, result: InvocationResponse) -> Self {
        let mut outcome = Self {
            sent: result.outgoing_messages.into_iter().map(Sent::of).collect(),
            delayed: Vec::new(),
            cancelled: Vec::new(),
            egressed: result
                .outgoing_egresses
                .into_iter()
                .map(Egressed::of)
                .collect(),
            written: Vec::new(),
            cleared: Vec::new(),
            scenario: scenario.clone(),
        };
        for delayed in result.delayed_invocations {
            if delayed.is_cancellation_request {
                outcome.cancelled.push(delayed.cancellation_token);
            } else {
                outcome.delayed.push(DelayedMessage::of(delayed));
            }
        }
        for mutation in result.state_mutations {
            let name = mutation.state_name;
            if mutation.mutation_type == i32::from(MutationType::Delete) {
                scenario.state.remove(&name);
                outcome.cleared.push(name);
            } else {
                let value = mutation.state_value.unwrap_or_default();
                scenario.state.insert(name.clone(), value);
                outcome.written.push(name);
            }
        }
        scenario.messages_before += scenario.messages.len();
        scenario.messages.clear();
        outcome.scenario = scenario;
        outcome
    }

    /// Everything sent without a delay, replies included, in order.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// The messages of one type that were sent to `to` without a delay, replies included, in order.
    ///
    /// # Panics
    ///
    /// When a message to `to` is of another type.
    pub fn messages_to<M: Message>(&self, to: &Address) -> Vec<M> {
        self.sent
            .iter()
            .filter(|sent| sent.to == *to)
            .map(|sent| sent.message.read())
            .collect()
    }

    /// Everything sent with a delay, in order.
    pub fn delayed(&self) -> &[DelayedMessage] {
        &self.delayed
    }

    /// The tokens of the delayed messages that were cancelled, in order.
    pub fn cancelled(&self) -> &[String] {
        &self.cancelled
    }

    /// Everything handed to an egress, in order.
    pub fn egressed(&self) -> &[Egressed] {
        &self.egressed
    }

    /// The value of a state after the batch.
    ///
    /// # Panics
    ///
    /// When the function declares no such state, or it is of another type.
    pub fn state<T: Typed>(&self, name: &str) -> Option<T> {
        assert!(
            self.scenario.declares(name),
            "{} declares no state {name:?}",
            self.scenario.address.function_type()
        );
        let value = self.scenario.state.get(name)?;
        Some(Payload(value.clone()).read())
    }

    /// The names of the states that the batch wrote, in the order of their declaration.
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// The names of the states that the batch removed, in the order of their declaration.
    pub fn cleared(&self) -> &[String] {
        &self.cleared
    }

    /// Whether the batch did nothing at all.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
            && self.delayed.is_empty()
            && self.cancelled.is_empty()
            && self.egressed.is_empty()
            && self.written.is_empty()
            && self.cleared.is_empty()
    }

    /// The next batch for the same address, with the state as it is now.
    pub fn then(self) -> Scenario<'a> {
        self.scenario
    }
}

impl Payload {
    /// The value as the type that it was sent as.
    ///
    /// # Panics
    ///
    /// When it is of another type.
    #[track_caller]
    pub fn read<M: Message>(&self) -> M {
        match M::from_typed_value(self.0.clone()) {
            Ok(message) => message,
            Err(error) => panic!("{error}: {:?}", self.0),
        }
    }

    /// Whether it is of this type.
    pub fn is<M: Message>(&self) -> bool {
        let known = M::typenames();
        known.is_empty() || known.contains(&self.0.typename.as_str())
    }

    /// The typename and the bytes.
    pub fn typed_value(&self) -> &TypedValue {
        &self.0
    }
}

impl Sent {
    fn of(sent: reqreply::from_function::Invocation) -> Self {
        Self {
            to: Address::from_wire(sent.target.unwrap_or_default()),
            message: Payload(sent.argument.unwrap_or_default()),
            cause: cause(sent.cause),
        }
    }
}

impl DelayedMessage {
    fn of(delayed: reqreply::from_function::DelayedInvocation) -> Self {
        Self {
            delay: Duration::from_millis(delayed.delay_in_ms.unsigned_abs()),
            to: Address::from_wire(delayed.target.unwrap_or_default()),
            message: Payload(delayed.argument.unwrap_or_default()),
            token: Some(delayed.cancellation_token).filter(|token| !token.is_empty()),
            cause: cause(delayed.cause),
        }
    }
}

impl Egressed {
    fn of(egressed: reqreply::from_function::EgressMessage) -> Self {
        Self {
            egress: EgressId::from_wire(egressed.egress_namespace, egressed.egress_type),
            value: Payload(egressed.argument.unwrap_or_default()),
            cause: cause(egressed.cause),
        }
    }
}

fn cause(one_based: u32) -> usize {
    one_based.saturating_sub(1) as usize
}

#[track_caller]
fn wire(message: &impl Message) -> TypedValue {
    match message.to_typed_value() {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
