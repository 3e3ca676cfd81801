//! The interleavings behind each rule of the log, built by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hedging;
mod loading;
mod retention;
mod root;
mod rounds;
mod savepoints;
mod takeover;
