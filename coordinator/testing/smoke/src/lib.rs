//! The smoke scheme: random commands for functions of every language, whose result is known.
//!
//! [`Plan`] makes the commands and their result. [`language`] starts the functions. [`run`] feeds
//! the commands, kills the coordinator, and compares.

mod command;
pub mod language;
mod plan;
mod random;
mod run;

pub use command::Command;
pub use plan::{INSTANCES, Plan, Source};
pub use run::{Report, Size, run};
