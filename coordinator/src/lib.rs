//! The coordinator of Satchel: everything around the pure core.
//!
//! ```text
//!  cli, config, module ─► dev ─► runtime ─► satchel-engine (partition, dispatcher)
//!                          │        ├─► invoker ─► lambda (local processes), HTTP, in-process
//!                          │        ├─► ingress, egress ─► streams (local)
//!                          │        └─► satchel-log ─► store (directory, memory)
//!                          └─► http ─► requests ─► runtime
//! ```
//!
//! `ARCHITECTURE.md` beside this crate has the invariants and the map.

#[cfg(test)]
mod arrows;
mod assemble;
mod bounded;
#[cfg(feature = "aws")]
mod check;
pub mod cli;
pub mod clock;
pub mod config;
mod container;
pub mod cost;
mod destinations;
pub mod dev;
pub mod egress;
pub mod error;
pub mod http;
pub mod ingress;
pub mod invoker;
#[cfg(feature = "kafka")]
mod kafka;
mod log_limit;
pub mod metrics;
pub mod module;
pub mod offline;
pub mod open_files;
#[cfg(feature = "otel")]
mod otel;
#[cfg(not(feature = "otel"))]
#[path = "without_otel.rs"]
mod otel;
#[cfg(feature = "aws")]
mod peer;
mod random;
pub mod readiness;
pub mod replay;
pub mod requests;
#[cfg(feature = "aws")]
pub mod run;
pub mod runtime;
mod servers;
pub mod sources;
mod status;
pub mod store;
mod stories;
mod typed_json;
pub use satchel_local_streams as streams;
