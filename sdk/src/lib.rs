//! Write stateful functions for Satchel.
//!
//! A function has a type (`namespace/name`) and any number of instances. Each instance has an id,
//! its own state, and its own messages, which it handles one at a time. A function runs wherever it
//! is invoked and keeps nothing itself: its state comes with the messages, and its effects and
//! state changes go back as one transaction.
//!
//! ```
//! use satchel_sdk::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize, Message)]
//! #[message(typename = "example/name")]
//! struct Name { name: String }
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, Message)]
//! #[message(typename = "example/greeting")]
//! struct Greeting { greeting: String, seen: i64 }
//!
//! #[derive(State)]
//! struct Greeted { seen: Value<i64> }
//!
//! /// The returned value is the reply to the caller, if there is one.
//! async fn greet(ctx: &mut Context<Greeted>, message: Name) -> Result<Greeting> {
//!     let seen = ctx.state.seen.get_or_default() + 1;
//!     ctx.state.seen.set(seen);
//!     Ok(Greeting { greeting: format!("Hello {}", message.name), seen })
//! }
//!
//! fn functions() -> Functions {
//!     Functions::new().bind("example/greeter", greet)
//! }
//!
//! // And its test, without any server:
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use satchel_sdk::testing::Scenario;
//!
//! let mut app = Scenario::new(functions());
//! let alice: Address = "example/greeter/alice".parse().unwrap();
//! app.set_value(&alice, "seen", &2_i64);
//! let reply: Greeting = app.call(&alice, &Name { name: "Alice".into() }).await.unwrap();
//! assert_eq!(reply, Greeting { greeting: "Hello Alice".into(), seen: 3 });
//! assert_eq!(app.state::<Greeted>(&alice).seen.get(), Some(&3));
//! # }
//! ```
//!
//! - Messages: [`Message`] and its derive; StateFun's built-in types, JSON, protobuf, raw bytes,
//!   enums.
//! - State: [`State`] and its derive, [`Value`], [`Expiration`].
//! - Effects, timers and the facts of a message: [`Context`].
//! - Functions that hold a client or a configuration: [`Function`].
//! - Errors that no retry can repair: [`TerminalError`].
//! - Tests of one function or of several in virtual time: [`testing`].
//! - The usual imports: [`prelude`].
//!
//! The crate `satchel-function-handler` serves functions on Lambda and over HTTP. The directory
//! `examples` has one small program for each task: a timer, egress, state that expires, request and
//! reply, an idempotent call to the outside, a terminal error.
//!
//! The wire protocol is that of Apache Flink Stateful Functions 3.3, so functions written with this
//! crate also run under its runtime. Items that such a runtime does not support say so.

#![forbid(unsafe_code)]

pub mod egress;
pub mod prelude;
pub mod testing;

mod address;
mod context;
mod duration;
mod function;
mod functions;
mod message;
mod state;
mod terminal;

pub use address::{Address, EgressId, FunctionType, NameError};
pub use context::{Context, Delayed, NoCaller};
pub use duration::{DurationError, parse_duration};
pub use function::{AsyncFunction, Function, Reply};
pub use functions::Functions;
pub use message::{Json, Message, MessageError, Typed};
pub use satchel_protocol as protocol;
pub use satchel_protocol::bundle::BatchError;
pub use satchel_protocol::reqreply::TypedValue;
pub use satchel_sdk_derive::{Message, State};
pub use state::{Changes, Expiration, State, StateError, StoredValues, Value, ValueSpec};
pub use terminal::TerminalError;

/// Error of a function: any error, or a text.
///
/// Its text and those of its sources reach the operator.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Result of a function.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Support for the code that the derive macros generate. Not for other use.
#[doc(hidden)]
pub mod derived {
    pub use crate::message::derived as message;
    pub use crate::state::derived as state;
}

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
