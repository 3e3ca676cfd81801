//! One batch of one function.

use std::collections::BTreeMap;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::from_function::InvocationResponse;
use satchel_protocol::reqreply::from_function::persisted_value_mutation::MutationType;
use satchel_protocol::reqreply::to_function::Invocation;
use satchel_protocol::reqreply::{self, TypedValue};

use super::{DelayedMessage, Egressed, Payload, Sent, run_batch, wire};
use crate::{Address, Functions, Message, Typed};

/// One batch for one address, prepared and then run.
#[derive(Debug, Clone)]
pub struct BatchScenario<'a> {
    functions: &'a Functions,
    address: Address,
    state: BTreeMap<String, TypedValue>,
    messages: Vec<Invocation>,
    messages_before: usize,
}

/// Effects and state of a successful batch.
#[derive(Debug, Clone)]
pub struct Outcome<'a> {
    scenario: BatchScenario<'a>,
    sent: Vec<Sent>,
    delayed: Vec<DelayedMessage>,
    cancelled: Vec<String>,
    egressed: Vec<Egressed>,
    written: Vec<String>,
    cleared: Vec<String>,
}

impl<'a> BatchScenario<'a> {
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

    /// Sets a state value of the address.
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

    /// Adds a message without a caller, as an ingress or `/send` does.
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

    /// Adds JSON of no declared type from `caller`, as `/call` without a type does.
    #[must_use]
    pub fn json_from(self, caller: &Address, json: &str) -> Self {
        let argument = satchel_protocol::types::typed_value(
            satchel_protocol::types::JSON_TYPENAME,
            json.to_owned(),
        );
        self.invocation(Some(caller.to_wire()), argument)
    }

    /// Sets the number of failed attempts of the message added last.
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

    /// Runs the batch: one request, and a second one if the first is answered by the handshake.
    ///
    /// # Errors
    ///
    /// Those of [`Functions::handle`].
    ///
    /// # Panics
    ///
    /// When the function panics.
    pub async fn run(self) -> Result<Outcome<'a>, BatchError> {
        let invocations = self.messages.clone();
        let result = run_batch(self.functions, &self.address, &self.state, invocations).await?;
        Ok(Outcome::new(self, result))
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
}

impl<'a> Outcome<'a> {
    fn new(mut scenario: BatchScenario<'a>, result: InvocationResponse) -> Self {
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

    /// Messages sent without a delay, replies included, in order.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// Messages of one type sent to `to` without a delay, replies included, in order.
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

    /// Messages sent with a delay, in order.
    pub fn delayed(&self) -> &[DelayedMessage] {
        &self.delayed
    }

    /// Tokens of the cancelled messages, in order.
    pub fn cancelled(&self) -> &[String] {
        &self.cancelled
    }

    /// Values sent to an egress, in order.
    pub fn egressed(&self) -> &[Egressed] {
        &self.egressed
    }

    /// Value of a state after the batch.
    ///
    /// # Panics
    ///
    /// When the function declares no such state, or the value is of another type.
    pub fn state<T: Typed>(&self, name: &str) -> Option<T> {
        assert!(
            self.scenario.declares(name),
            "{} declares no state {name:?}",
            self.scenario.address.function_type()
        );
        let value = self.scenario.state.get(name)?;
        Some(Payload(value.clone()).read())
    }

    /// Names of the states that the batch wrote, in the order of their declaration.
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// Names of the states that the batch cleared, in the order of their declaration.
    pub fn cleared(&self) -> &[String] {
        &self.cleared
    }

    /// True if the batch had no effects and changed no state.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
            && self.delayed.is_empty()
            && self.cancelled.is_empty()
            && self.egressed.is_empty()
            && self.written.is_empty()
            && self.cleared.is_empty()
    }

    /// The next batch for the same address, with the state after this one.
    pub fn then(self) -> BatchScenario<'a> {
        self.scenario
    }
}
