//! The interleavings behind each rule of the log, built by hand.

mod root;
mod savepoints;
mod takeover;
