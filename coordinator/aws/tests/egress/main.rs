//! Egresses against real servers: the Kinesis API of local streams with injected faults, moto, and
//! a small Lambda server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faulty;
mod kinesis;
mod lambda;
mod outbox;
mod services;
