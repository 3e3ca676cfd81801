//! The real binary as `satchel dev`, as a client and as an offline tool, with real handlers.
//!
//! One test binary for all subjects, because each one links the whole coordinator.
//! `cargo test -p satchel --test dev crashes` runs one subject.
//!
//! Some tests have a long form: `SATCHEL_TEST_KILLS=20`, `SATCHEL_TEST_TAKEOVERS=100`,
//! `SATCHEL_TEST_IDLE_SECONDS=60`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli;
mod crashes;
mod deploys;
mod failing_handlers;
mod formats;
mod kinesis_api;
mod new_project;
mod offline;
mod pages;
mod partitions;
mod ports;
mod replay;
mod savepoints;
mod sources;
mod sql;
mod state;
mod statefun_modules;
mod statefun_python;
mod stories;
mod top;
