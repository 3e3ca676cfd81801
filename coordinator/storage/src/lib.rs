//! The seam between the engine, which knows what a fact means, and the log, which makes bytes
//! durable.
//!
//! ```text
//!              ┌──────────────── engine: Partition ────────────────┐
//!  Recovery ──►│ start       Output                          Input │◄─── DecodeJob::run
//!      ▲       └───────────────┼───────────────────────────────▲───┘         ▲
//!      │                       ▼                               │             │
//!  RecoveryFold          Pump::perform                 Pump::on_notice ──────┘
//!      ▲                       │ LogCommand                    ▲
//!      │ entries               ▼                               │ Notice
//!  ┌───┴──────────────────────────── log ──────────────────────┴───┐
//!  └─ takeover ────────────── commits, snapshots, loads ───────────┘
//! ```
//!
//! - [`encode`] turns deltas and bucket images into log entries, and entries back into facts.
//! - [`recovery`] rebuilds a partition from what a takeover reads.
//! - [`pump`] translates between a running partition and its log.
//! - [`fork`] makes a new root from the content of another root or of a file.
//! - [`placement`] translates the placement of a root between its record and the engine.
//!
//! Nothing here spawns, sleeps, reads a clock or performs I/O by itself. Futures run where the
//! caller polls them, and time is an argument. Production, the simulation, benchmarks and fuzz
//! targets run the same code.

#![warn(missing_docs)]

pub mod encode;
pub mod fork;
pub mod placement;
pub mod pump;
pub mod recovery;
