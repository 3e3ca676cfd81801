//! Egresses against real servers: the Kinesis of local streams with faults in front of it, moto, and a small Lambda.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faulty;
mod kinesis;
mod lambda;
mod outbox;
mod services;
