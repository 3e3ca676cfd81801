//! Write stateful functions for Satchel.
//!
//! A function has a type (`namespace/name`) and any number of instances, each with an id, its own state, and its own messages, which it handles one at a time.
//! It runs wherever it is invoked and keeps nothing itself: its state comes with the messages, and what it did goes back as one
//! transaction.
//!
//! ```
//! use satchel_sdk::{Context, Error, Functions, Message, State, Value};
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
//! async fn greet(ctx: &mut Context<Greeted>, message: Name) -> Result<(), Error> {
//!     let seen = ctx.state.seen.get_or_default() + 1;
//!     ctx.state.seen.set(seen);
//!     ctx.reply(&Greeting { greeting: format!("Hello {}", message.name), seen })?;
//!     Ok(())
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
//! let caller = "example/guest/1".parse().unwrap();
//! let functions = functions();
//! let outcome = Scenario::new(&functions, "example/greeter/alice")
//!     .with_state("seen", &2_i64)
//!     .message_from(&caller, &Name { name: "Alice".into() })
//!     .run()
//!     .await
//!     .unwrap();
//! assert_eq!(
//!     outcome.messages_to::<Greeting>(&caller),
//!     [Greeting { greeting: "Hello Alice".into(), seen: 3 }]
//! );
//! assert_eq!(outcome.state::<i64>("seen"), Some(3));
//! # }
//! ```
//!
//! - Messages: [`Message`] and its derive; StateFun's built-in types, JSON, protobuf, raw bytes; enums.
//! - State: [`State`] and its derive, [`Value`], expiration.
//! - Everything that a function can do: [`Context`].
//! - Functions that hold something: [`Function`].
//! - To serve functions on Lambda or over HTTP: the crate `satchel-function-handler`.
//!
//! The wire is that of Apache Flink Stateful Functions 3.3, so functions written with this crate also run under its runtime; what is then missing is said
//! at each item.

#![forbid(unsafe_code)]

pub mod egress;
pub mod testing;

mod address;
mod context;
mod duration;
mod function;
mod functions;
mod message;
mod state;

pub use address::{Address, EgressId, FunctionType, NameError};
pub use context::{Context, Delayed, NoCaller};
pub use duration::{DurationError, parse_duration};
pub use function::{AsyncFunction, Function};
pub use functions::Functions;
pub use message::{Json, Message, MessageError, Typed};
pub use satchel_protocol as protocol;
pub use satchel_protocol::bundle::BatchError;
pub use satchel_protocol::reqreply::TypedValue;
pub use satchel_sdk_derive::{Message, State};
pub use state::{Changes, Expiration, State, StateError, StoredValues, Value, ValueSpec};

/// What a function fails with: any error, or a text.
///
/// Its text and those of its causes reach the operator.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a function returns.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What the derive macros write calls to; not for other use.
#[doc(hidden)]
pub mod derived {
    pub use crate::message::derived as message;
    pub use crate::state::derived as state;
}
