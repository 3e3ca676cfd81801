//! A whole application in virtual time.

mod outside;
mod world;

use std::time::Duration;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::TypedValue;

pub use self::outside::CallError;
use self::world::{Letter, World};
use super::{Payload, run_batch, wire};
use crate::state::StoredValues;
use crate::{Address, EgressId, FunctionType, Functions, Message, State, Typed, ValueSpec};

/// A run that handles more messages than this without coming to rest has a loop.
const MESSAGES_MAX: usize = 100_000;

/// The functions of an application, their states, mailboxes and timers, in virtual time.
///
/// Time begins at zero and stands still, except in [`advance`](Self::advance) and
/// [`run_until`](Self::run_until). The rules are those of Satchel:
///
/// - Each message is a batch of its own: all of its effects are applied, or none.
/// - Messages of one address to another arrive in the order in which they were sent.
/// - A timer is cancelled by its token and only by the address that set it.
/// - State expires after its last write, or after the last successful invocation of its address.
/// - A message that fails becomes a [`DeadLetter`], and the address handles its next message. With
///   [`attempts`](Self::attempts) it is retried first, with the same idempotency key.
/// - A [`TerminalError`](crate::TerminalError) is not retried.
///
/// A scenario does not know the module file: every egress exists, and a message to a function that
/// is not bound is kept for [`messages_to`](Self::messages_to). It runs one message at a time, so
/// the same test takes the same course every time. A handler that panics fails the test.
#[derive(Debug)]
pub struct Scenario {
    functions: Vec<Functions>,
    attempts_max: u32,
    world: World,
}

/// A delayed message that has not arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingTimer {
    /// Virtual time at which the message arrives.
    pub due: Duration,
    /// Sender, which alone can cancel it.
    pub from: Address,
    /// Receiver.
    pub to: Address,
    /// Content.
    pub message: Payload,
    /// Token to cancel it, if it has one.
    pub token: Option<String>,
}

/// A message whose attempts failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{to} failed after {attempts} attempts: {}: {}", error.kind, error.message)]
pub struct DeadLetter {
    /// Receiver.
    pub to: Address,
    /// Sender, unless the message came from an ingress.
    pub from: Option<Address>,
    /// Content.
    pub message: Payload,
    /// Number of attempts made.
    pub attempts: u32,
    /// Error of the last attempt.
    pub error: BatchError,
}

/// Set-up.
impl Scenario {
    /// An application without state and messages, at time zero.
    pub fn new(functions: Functions) -> Self {
        Self {
            functions: vec![functions],
            attempts_max: 1,
            world: World::default(),
        }
    }

    /// Adds the functions of another handler of the same application.
    ///
    /// # Panics
    ///
    /// When a function type is bound twice.
    #[must_use]
    pub fn with(mut self, functions: Functions) -> Self {
        for function_type in functions.function_types() {
            assert!(
                self.serving(function_type).is_none(),
                "{function_type} is bound to two functions"
            );
        }
        self.functions.push(functions);
        self
    }

    /// Sets the number of attempts of a message before it becomes a dead letter. The default is 1.
    ///
    /// Retries follow at once, without a back-off.
    ///
    /// # Panics
    ///
    /// When `attempts` is 0.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        assert!(attempts > 0, "a message has at least one attempt");
        self.attempts_max = attempts;
        self
    }

    /// Sets a state value of an address.
    ///
    /// An expiration counts from now.
    ///
    /// # Panics
    ///
    /// When the function is not bound or declares no such state, or `value` has no wire form.
    pub fn set_value<T: Typed>(&mut self, address: impl Into<Address>, name: &str, value: &T) {
        let address = address.into();
        self.assert_declared(&address, name);
        let specs = self.specs(&address);
        self.world.write(&address, name, wire(value), &specs);
    }
}

/// Messages, and the course of time.
impl Scenario {
    /// Sends a message without a caller, as an ingress or `/send` does. It is handled by the next
    /// run.
    ///
    /// # Panics
    ///
    /// When `message` has no wire form.
    pub fn send(&mut self, to: impl Into<Address>, message: &impl Message) {
        self.deliver(None, to.into(), wire(message));
    }

    /// Sends a message from another address. It is handled by the next run.
    ///
    /// If `from` is of a function that is not bound, [`messages_to`](Self::messages_to) has the
    /// replies.
    ///
    /// # Panics
    ///
    /// When `message` has no wire form.
    pub fn send_from(
        &mut self,
        from: impl Into<Address>,
        to: impl Into<Address>,
        message: &impl Message,
    ) {
        self.deliver(Some(from.into()), to.into(), wire(message));
    }

    /// Handles messages until none is left at this time. Later timers stay pending.
    ///
    /// # Errors
    ///
    /// The first dead letter of this run. The run comes to rest all the same.
    ///
    /// # Panics
    ///
    /// When a handler panics, or 100,000 messages did not bring the application to rest.
    pub async fn run_to_rest(&mut self) -> Result<(), Box<DeadLetter>> {
        self.run_until(self.now()).await
    }

    /// Lets time pass: timers fire in their order, and the messages between them are handled.
    ///
    /// # Errors
    ///
    /// As [`run_to_rest`](Self::run_to_rest).
    ///
    /// # Panics
    ///
    /// As [`run_to_rest`](Self::run_to_rest).
    pub async fn advance(&mut self, by: Duration) -> Result<(), Box<DeadLetter>> {
        self.run_until(self.now() + by).await
    }

    /// Lets time pass until `time`, which counts from the start.
    ///
    /// # Errors
    ///
    /// As [`run_to_rest`](Self::run_to_rest).
    ///
    /// # Panics
    ///
    /// As [`run_to_rest`](Self::run_to_rest). Also when `time` is in the past.
    pub async fn run_until(&mut self, time: Duration) -> Result<(), Box<DeadLetter>> {
        assert!(
            time >= self.now(),
            "{time:?} is in the past, the time is {:?}",
            self.now()
        );
        let known = self.world.dead_letters.len();
        for _ in 0..MESSAGES_MAX {
            if let Some((address, letter)) = self.world.next_ready() {
                self.handle(address, letter).await;
            } else if let Some(timer) = self.world.next_timer(time) {
                self.deliver_letter(timer.target, timer.letter);
            } else {
                self.world.now = time;
                return match self.world.dead_letters.get(known) {
                    Some(first) => Err(Box::new(first.clone())),
                    None => Ok(()),
                };
            }
        }
        panic!("{MESSAGES_MAX} messages did not bring the application to rest");
    }

    /// Virtual time since the start.
    pub fn now(&self) -> Duration {
        self.world.now
    }

    async fn handle(&mut self, target: Address, letter: Letter) {
        let specs = self.specs(&target);
        let state = self.world.state_of(&target);
        let invocation = letter.to_invocation();
        let answer = run_batch(self.bound(&target), &target, &state, vec![invocation])
            .await
            .and_then(|answer| self.world.checked(&target, answer));
        match answer {
            Ok(answer) => {
                let sent = self.world.apply(&target, answer, &specs);
                for (to, letter) in sent {
                    self.deliver_letter(to, letter);
                }
            }
            Err(error) => self.fail(target, letter, error),
        }
    }

    fn fail(&mut self, target: Address, mut letter: Letter, error: BatchError) {
        letter.failed_attempts += 1;
        match &error.terminal {
            Some(terminal) if letter.is_call() => self.world.reject(&letter, terminal),
            None if letter.failed_attempts < self.attempts_max => {
                self.world.retry(target, letter);
            }
            _ => self.world.give_up(target, letter, error),
        }
    }

    fn deliver(&mut self, from: Option<Address>, to: Address, argument: TypedValue) {
        let letter = self.world.letter(from, argument);
        self.deliver_letter(to, letter);
    }

    fn deliver_letter(&mut self, to: Address, letter: Letter) {
        if self.serving(to.function_type()).is_some() {
            self.world.enqueue(to, letter);
        } else {
            self.world.keep_for_the_test(to, letter);
        }
    }

    fn serving(&self, function_type: &FunctionType) -> Option<&Functions> {
        self.functions
            .iter()
            .find(|functions| functions.state_specs(function_type).is_some())
    }

    #[track_caller]
    fn bound(&self, address: &Address) -> &Functions {
        let function_type = address.function_type();
        match self.serving(function_type) {
            Some(functions) => functions,
            None => panic!("{function_type} is not bound"),
        }
    }

    fn specs(&self, address: &Address) -> Vec<ValueSpec> {
        let specs = self.bound(address).state_specs(address.function_type());
        specs.unwrap_or_default().to_vec()
    }

    #[track_caller]
    fn assert_declared(&self, address: &Address, name: &str) {
        let function_type = address.function_type();
        let specs = self.bound(address).state_specs(function_type);
        assert!(
            specs.is_some_and(|specs| specs.iter().any(|spec| spec.name == name)),
            "{function_type} declares no state {name:?}"
        );
    }
}

/// Results.
impl Scenario {
    /// State of an address at this time. Values that are not set or have expired are absent.
    ///
    /// # Panics
    ///
    /// When the function is not bound, or declares other states than `S`.
    pub fn state<S: State>(&self, address: impl Into<Address>) -> S {
        let address = address.into();
        let function_type = address.function_type();
        let declared = self.bound(&address).state_specs(function_type);
        assert_eq!(
            declared,
            Some(&S::specs()[..]),
            "{function_type} declares other states"
        );
        let mut values = StoredValues::from_wire(self.world.persisted(&address));
        match S::load(&mut values) {
            Ok(state) => state,
            Err(error) => panic!("{address}: {error}"),
        }
    }

    /// One state value of an address at this time.
    ///
    /// # Panics
    ///
    /// When the function is not bound or declares no such state, or the value is of another type.
    pub fn value<T: Typed>(&self, address: impl Into<Address>, name: &str) -> Option<T> {
        let address = address.into();
        self.assert_declared(&address, name);
        let value = self.world.state_of(&address).remove(name)?;
        Some(Payload(value).read())
    }

    /// Addresses that have state at this time, in order.
    pub fn addresses(&self) -> Vec<Address> {
        self.world.addresses()
    }

    /// Values sent to an egress, in order.
    ///
    /// # Panics
    ///
    /// When a value is of another type.
    pub fn egress<M: Message>(&self, egress: impl Into<EgressId>) -> Vec<M> {
        let egress = egress.into();
        let sent = self.world.egressed.iter();
        sent.filter(|(to, _)| *to == egress)
            .map(|(_, value)| value.read())
            .collect()
    }

    /// Messages to an address whose function is not bound, in order.
    ///
    /// # Panics
    ///
    /// When the function is bound, or a message is of another type.
    pub fn messages_to<M: Message>(&self, address: impl Into<Address>) -> Vec<M> {
        let address = address.into();
        assert!(
            self.serving(address.function_type()).is_none(),
            "{} is bound, so its messages are delivered",
            address.function_type()
        );
        self.world.kept_for(&address).map(Payload::read).collect()
    }

    /// Delayed messages that have not arrived, in the order in which they fall due.
    pub fn pending_timers(&self) -> Vec<PendingTimer> {
        self.world.pending_timers()
    }

    /// Messages whose attempts failed, in order.
    pub fn dead_letters(&self) -> &[DeadLetter] {
        &self.world.dead_letters
    }
}
