//! The real `satchel dev` that is killed, stopped, overtaken and refused, with the greeter's real handler and clients that do what clients
//! should: they repeat a request, under its `Idempotency-Key`, until it is answered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kills;
mod load;
mod refusals;
mod stops;
mod takeovers;
mod watching;
