//! Memory limits of the real binary.
//!
//! A test binary of its own, because these tests measure a process under a steady load.
//! `SATCHEL_TEST_PRESSURE_SECONDS=600` selects the long form.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod back_pressure;
mod larger_than_memory;
