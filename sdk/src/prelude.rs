//! The names that nearly every function needs, for `use satchel_sdk::prelude::*`.
//!
//! ```
//! use satchel_sdk::prelude::*;
//!
//! #[derive(State)]
//! struct Counter { count: Value<i64> }
//!
//! async fn count(ctx: &mut Context<Counter>, add: i64) -> Result<i64> {
//!     let count = ctx.state.count.get_or_default() + add;
//!     ctx.state.count.set(count);
//!     Ok(count)
//! }
//!
//! let functions = Functions::new().bind("example/counter", count);
//! # let _ = functions;
//! ```
//!
//! [`Result`] replaces the standard one: `Result` and `Result<M>` are what handlers return, and
//! `Result<M, E>` is the standard type.

pub use crate::egress::{KafkaRecord, KinesisRecord};
pub use crate::{
    Address, Context, EgressId, Error, Function, FunctionType, Functions, Json, Message, Result,
    State, TerminalError, Value,
};
