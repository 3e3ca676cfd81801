//! Tests without any server, of a whole application or of one function.
//!
//! # A whole application
//!
//! [`Scenario`] delivers messages between functions and lets time pass virtually. A test sends a
//! message to one function, lets messages, replies and timers run to rest or to a given time, and
//! then asserts on the states, egress and pending timers of all functions:
//!
//! ```
//! use satchel_sdk::prelude::*;
//! use satchel_sdk::testing::Scenario;
//! use std::time::Duration;
//!
//! #[derive(State)]
//! struct Alarm { rang: Value<i32> }
//!
//! /// Rings five minutes later, and wakes the sleeper.
//! async fn alarm(ctx: &mut Context<Alarm>, message: String) -> Result {
//!     let me = ctx.self_address().clone();
//!     if message == "snooze" {
//!         ctx.send_after(Duration::from_secs(300), me, &"ring".to_owned()).with_token("snooze");
//!     } else {
//!         *ctx.state.rang.get_mut_or_default() += 1;
//!         ctx.send("example/sleeper/bob", &message);
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut app = Scenario::new(Functions::new().bind("example/alarm", alarm));
//! app.send("example/alarm/bedroom", &"snooze".to_owned());
//! app.run_to_rest().await.unwrap();
//! assert_eq!(app.pending_timers()[0].due, Duration::from_secs(300));
//!
//! app.advance(Duration::from_secs(300)).await.unwrap();
//! assert_eq!(app.pending_timers(), []);
//! assert_eq!(app.state::<Alarm>("example/alarm/bedroom").rang.get(), Some(&1));
//! // No function `example/sleeper` is bound, so its messages are kept for the test.
//! assert_eq!(app.messages_to::<String>("example/sleeper/bob"), ["ring"]);
//! # }
//! ```
//!
//! # One batch of one function
//!
//! [`BatchScenario`] is one request: a batch of messages for one address over a given state. Its
//! [`Outcome`] shows the effects and state changes of the batch before anything is delivered:
//!
//! ```
//! use satchel_sdk::prelude::*;
//! use satchel_sdk::testing::BatchScenario;
//! use std::time::Duration;
//!
//! async fn snooze(ctx: &mut Context, message: String) -> Result {
//!     let me = ctx.self_address().clone();
//!     ctx.send_after(Duration::from_secs(300), me, &message).with_token("snooze");
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let functions = Functions::new().bind("example/alarm", snooze);
//! let outcome = BatchScenario::new(&functions, "example/alarm/bedroom")
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
//! Both send every batch through [`Functions::handle`] as a server does: encoded and decoded, the
//! handshake for state included.

use std::collections::BTreeMap;
use std::time::Duration;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};
use satchel_protocol::reqreply::to_function::{
    Invocation, InvocationBatchRequest, PersistedValue, Request,
};
use satchel_protocol::reqreply::{self, ToFunction, TypedValue};

use crate::{Address, EgressId, Functions, Message};

mod batch_scenario;
mod scenario;

pub use batch_scenario::{BatchScenario, Outcome};
pub use scenario::{CallError, DeadLetter, PendingTimer, Scenario};

/// A message that was sent or replied.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Receiver.
    pub to: Address,
    /// Content.
    pub message: Payload,
    /// Index in the batch of the message that caused it, from 0.
    pub cause: usize,
}

/// A message that was sent with a delay.
#[derive(Debug, Clone, PartialEq)]
pub struct DelayedMessage {
    /// Time until it arrives.
    pub delay: Duration,
    /// Receiver.
    pub to: Address,
    /// Content.
    pub message: Payload,
    /// Token to cancel it, if it has one.
    pub token: Option<String>,
    /// Index in the batch of the message that caused it, from 0.
    pub cause: usize,
}

/// A value that was sent to an egress.
#[derive(Debug, Clone, PartialEq)]
pub struct Egressed {
    /// Name of the egress.
    pub egress: EgressId,
    /// Content.
    pub value: Payload,
    /// Index in the batch of the message that caused it, from 0.
    pub cause: usize,
}

/// An encoded value: a typename and bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload(TypedValue);

impl Payload {
    /// Decodes the value.
    ///
    /// # Panics
    ///
    /// When the value is of another type.
    #[track_caller]
    pub fn read<M: Message>(&self) -> M {
        match M::from_typed_value(self.0.clone()) {
            Ok(message) => message,
            Err(error) => panic!("{error}: {:?}", self.0),
        }
    }

    /// True if the value is of this type.
    pub fn is<M: Message>(&self) -> bool {
        let known = M::typenames();
        known.is_empty() || known.contains(&self.0.typename.as_str())
    }

    /// Typename and bytes.
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

/// Serves one batch over `state`, with a second request if the function asks for its states.
async fn run_batch(
    functions: &Functions,
    target: &Address,
    state: &BTreeMap<String, TypedValue>,
    invocations: Vec<Invocation>,
) -> Result<InvocationResponse, BatchError> {
    let request = |state, invocations| ToFunction {
        request: Some(Request::Invocation(InvocationBatchRequest {
            target: Some(target.to_wire()),
            state,
            invocations,
            declarations: Vec::new(),
        })),
    };
    let first = request(Vec::new(), invocations.clone());
    let response = match functions.handle(first).await?.response {
        Some(Response::IncompleteInvocationContext(missing)) => {
            let values = missing
                .missing_values
                .into_iter()
                .map(|spec| PersistedValue {
                    state_value: state.get(&spec.state_name).cloned(),
                    state_name: spec.state_name,
                })
                .collect();
            let second = request(values, invocations);
            functions.handle(second).await?.response
        }
        response => response,
    };
    match response {
        Some(Response::InvocationResult(result)) => Ok(result),
        other => panic!("the function asked twice for its state: {other:?}"),
    }
}

fn cause(one_based: u32) -> usize {
    one_based.saturating_sub(1) as usize
}

#[track_caller]
pub(crate) fn wire(message: &impl Message) -> TypedValue {
    match message.to_typed_value() {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
