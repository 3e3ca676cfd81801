//! The rules of the log, its refusals and its history, with the log in a table.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use satchel_log_simulation::LogForm;

#[path = "../rules/ahead.rs"]
mod ahead;
mod deleting;
#[path = "../rules/hedging.rs"]
mod hedging;
#[path = "../rules/history.rs"]
mod history;
#[path = "../rules/loading.rs"]
mod loading;
mod parts;
#[path = "../rules/refusals.rs"]
mod refusals;
#[path = "../rules/retention.rs"]
mod retention;
#[path = "../rules/root.rs"]
mod root;
#[path = "../rules/savepoints.rs"]
mod savepoints;
#[path = "../rules/takeover.rs"]
mod takeover;

/// Takeovers and small commits are items, larger ones are bodies.
const LOG: LogForm = LogForm::Table {
    item_bytes_max: 160,
};
