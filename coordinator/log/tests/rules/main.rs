//! The interleavings behind each rule of the log, built by hand; refusals and history.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use satchel_log_simulation::LogForm;

mod ahead;
mod hedging;
mod history;
mod loading;
mod refusals;
mod retention;
mod root;
mod rounds;
mod savepoints;
mod takeover;
mod unpacking;

/// Form of the log in this suite. The suite `in_a_table` has the same tests with the other one.
const LOG: LogForm = LogForm::Objects;
